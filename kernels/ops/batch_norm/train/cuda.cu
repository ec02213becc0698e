// The backward run of batch normalisation in training (formulas: backward.h), in the three kernels
// of training.cuh.
//
// The first makes the sums of dy and of dy (x - mean), the second the gradients of the weights.
// Roofline: memory, x and dy twice and dx; about 5 operations an element and pass. Share of it: not
// measured yet.
// Oracle: train/reference.cpp.
#include "kernels/ops/batch_norm/train/sums.cuh"

namespace tessera {

namespace {

struct JoinSums {
  template <int kCount>
  __device__ void operator()(Partial<kCount>& into, const Partial<kCount>& other) const {
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      into.first[k] += other.first[k];
      into.second[k] += other.second[k];
    }
  }
};

template <class T, int kCount>
__global__ void __launch_bounds__(kBatchNormThreads)
    batch_norm_gradient_sums_kernel(const T* __restrict__ x, const T* __restrict__ dy,
                                    const float* __restrict__ mean, float* __restrict__ partial,
                                    const BatchNormTiling tiling) {
  const Share share = share_of<kCount>(tiling, blockIdx.x);
  Partial<kCount> mine = {};
  if (share.active) {
    float center[kCount];
    load_channels(mean, share.channel, center);
    const auto add = [&](std::int64_t, const auto& values, const auto& gradients) {
      constexpr int kRows = std::decay_t<decltype(values)>::kRows;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        float sum = 0, product = 0;
#pragma unroll
        for (int row = 0; row < kRows; ++row) {
          sum += gradients.at[row][k];
          product = fmaf(gradients.at[row][k], values.at[row][k] - center[k], product);
        }
        mine.first[k] += sum;
        mine.second[k] += product;
      }
    };
    for_each_row<kCount>(share, add, x, dy);
  }
  store_slice(tiling, share, mine, JoinSums(), partial);
}

__global__ void __launch_bounds__(kFinishWarps* kWarp)
    batch_norm_finish_gradient_kernel(const BatchNormBackwardArgs args) {
  const BatchNormTiling& tiling = args.tiling;
  const Slices slices(tiling, args.partial);
  const std::int64_t channel = slices.channel, lane = slices.lane;
  if (channel == tiling.c) return;
  double sum = 0, product = 0;
#pragma unroll 4
  for (std::int64_t i = lane; i < tiling.slices; i += kWarp) {
    sum += slices.first[i];
    product += slices.second[i];
  }
  sum = sum_of_warp_in_double(sum);
  product = sum_of_warp_in_double(product);
  if (lane != 0) return;
  const double inverse = args.inverse[channel], n = static_cast<double>(tiling.rows);
  if (args.dgamma != nullptr)
    args.dgamma[channel] = static_cast<float>(args.dgamma[channel] + product * inverse);
  if (args.dbeta != nullptr) args.dbeta[channel] = static_cast<float>(args.dbeta[channel] + sum);
  float* factors = args.factors + channel;
  factors[0] = static_cast<float>(args.gamma[channel] * inverse);
  factors[tiling.c] = static_cast<float>(sum / n);
  factors[2 * tiling.c] = static_cast<float>(product * inverse * inverse / n);
}

// dx = scale (dy - offset - (x - mean) slope); factors: scale, offset, slope
template <class T, int kCount>
__global__ void __launch_bounds__(kBatchNormThreads)
    batch_norm_gradient_kernel(const T* __restrict__ x, const T* __restrict__ dy,
                               const float* __restrict__ mean, const float* __restrict__ factors,
                               T* __restrict__ dx, const BatchNormTiling tiling) {
  const Share share = share_of<kCount>(tiling, block_from_behind());
  if (!share.active) return;
  float center[kCount], scale[kCount], offset[kCount], slope[kCount];
  load_channels(mean, share.channel, center);
  load_channels(factors, share.channel, scale);
  load_channels(factors + tiling.c, share.channel, offset);
  load_channels(factors + 2 * tiling.c, share.channel, slope);
  const auto map = [&](std::int64_t element, const auto& values, auto gradients) {
#pragma unroll
    for (int row = 0; row < gradients.kRows; ++row) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const float rest = gradients.at[row][k] - offset[k];
        gradients.at[row][k] = scale[k] * fmaf(center[k] - values.at[row][k], slope[k], rest);
      }
      store_elements(gradients.at[row], dx + element + row * share.step);
    }
  };
  for_each_row<kCount>(share, map, x, dy);
}

}  // namespace

void batch_norm_backward_cuda(const BatchNormBackwardArgs& args, CudaStream stream) {
  const BatchNormTiling& tiling = args.tiling;
  with_group(args.dtype, tiling.width, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kCount = decltype(group)::value;
    const T *x = static_cast<const T*>(args.x), *dy = static_cast<const T*>(args.dy);
    simt::launch(batch_norm_gradient_sums_kernel<T, kCount>, grid_of(tiling),
                 dim3(kBatchNormThreads), 0, stream, x, dy, args.mean, args.partial, tiling);
    simt::launch(batch_norm_finish_gradient_kernel, finish_grid_of(tiling),
                 dim3(kFinishWarps * kWarp), 0, stream, args);
    if (args.dx == nullptr) return;
    simt::launch(batch_norm_gradient_kernel<T, kCount>, grid_of(tiling), dim3(kBatchNormThreads), 0,
                 stream, x, dy, args.mean, static_cast<const float*>(args.factors),
                 static_cast<T*>(args.dx), tiling);
  });
}

}  // namespace tessera
