// The forward run of batch normalisation in training (formulas: backward.h), in the three kernels
// of training.cuh.
//
// The first makes a mean and the squared deviations from it, joined in pairs (Chan, Golub & LeVeque
// 1979), so that neither large means nor many rows cost accuracy; the second updates the running
// statistics.
// Roofline: memory, x twice and y; about 5 operations an element and pass. Share of it: not
// measured yet.
// Oracle: train/reference.cpp.
#include <cmath>

#include "kernels/ops/batch_norm/train/sums.cuh"

namespace tessera {

namespace {

// Means and squared deviations from them.
struct JoinMoments {
  template <int kCount>
  __device__ void operator()(Partial<kCount>& into, const Partial<kCount>& other) const {
    if (other.rows == 0.0f) return;
    const float part = other.rows * ptx::rcp_approx(into.rows + other.rows);
    const float between = into.rows * part;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      const float apart = other.first[k] - into.first[k];
      into.first[k] = fmaf(apart, part, into.first[k]);
      into.second[k] += fmaf(apart * apart, between, other.second[k]);
    }
    into.rows += other.rows;
  }
};

template <class T, int kCount>
__global__ void __launch_bounds__(kBatchNormThreads)
    batch_norm_statistics_kernel(const T* __restrict__ x, float* __restrict__ partial,
                                 const BatchNormTiling tiling) {
  const Share share = share_of<kCount>(tiling, blockIdx.x);
  Partial<kCount> mine = {};
  if (share.active) {
    const auto add = [&](std::int64_t, const auto& values) {
      constexpr int kRows = std::decay_t<decltype(values)>::kRows;
      Partial<kCount> some;
      some.rows = kRows;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        float sum = 0, squares = 0;
#pragma unroll
        for (int row = 0; row < kRows; ++row) sum += values.at[row][k];
        const float mean = sum * (1.0f / kRows);
#pragma unroll
        for (int row = 0; row < kRows; ++row)
          squares = fmaf(values.at[row][k] - mean, values.at[row][k] - mean, squares);
        some.first[k] = mean;
        some.second[k] = squares;
      }
      JoinMoments()(mine, some);
    };
    for_each_row<kCount>(share, add, x);
  }
  store_slice(tiling, share, mine, JoinMoments(), partial);
}

__global__ void __launch_bounds__(kFinishWarps* kWarp)
    batch_norm_finish_statistics_kernel(const BatchNormTrainArgs args) {
  const BatchNormTiling& tiling = args.tiling;
  const Slices slices(tiling, args.partial);
  const std::int64_t channel = slices.channel, lane = slices.lane;
  if (channel == tiling.c) return;
  const float *means = slices.first, *deviations = slices.second;
  const auto n = static_cast<double>(tiling.rows);
  double sum = 0, squares = 0;
#pragma unroll 4
  for (std::int64_t i = lane; i < tiling.slices; i += kWarp)
    sum += static_cast<double>(rows_of_slice(tiling, i)) * means[i];
  const double center = sum_of_warp_in_double(sum) / n;
#pragma unroll 4
  for (std::int64_t i = lane; i < tiling.slices; i += kWarp) {
    const double off = means[i] - center;
    squares += deviations[i] + static_cast<double>(rows_of_slice(tiling, i)) * off * off;
  }
  squares = sum_of_warp_in_double(squares);
  if (lane != 0) return;
  const double inverse = 1 / sqrt(squares / n + args.eps);
  args.mean[channel] = static_cast<float>(center);
  args.inverse[channel] = static_cast<float>(inverse);
  args.scale[channel] = static_cast<float>(args.gamma[channel] * inverse);
  const double mean = args.running_mean[channel], variance = args.running_var[channel];
  args.running_mean[channel] = static_cast<float>(mean + args.momentum * (center - mean));
  args.running_var[channel] =
      static_cast<float>(variance + args.momentum * (squares / (n - 1) - variance));
}

// y = (x - mean) scale + beta
template <class T, int kCount>
__global__ void __launch_bounds__(kBatchNormThreads)
    batch_norm_train_kernel(const T* __restrict__ x, const float* __restrict__ mean,
                            const float* __restrict__ scale, const float* __restrict__ beta,
                            T* __restrict__ y, const BatchNormTiling tiling) {
  const Share share = share_of<kCount>(tiling, block_from_behind());
  if (!share.active) return;
  float center[kCount], factor[kCount], offset[kCount];
  load_channels(mean, share.channel, center);
  load_channels(scale, share.channel, factor);
  load_channels(beta, share.channel, offset);
  const auto map = [&](std::int64_t element, auto values) {
#pragma unroll
    for (int row = 0; row < values.kRows; ++row) {
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        values.at[row][k] = fmaf(values.at[row][k] - center[k], factor[k], offset[k]);
      store_elements(values.at[row], y + element + row * share.step);
    }
  };
  for_each_row<kCount>(share, map, x);
}

}  // namespace

void batch_norm_train_cuda(const BatchNormTrainArgs& args, CudaStream stream) {
  const BatchNormTiling& tiling = args.tiling;
  with_group(args.dtype, tiling.width, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kCount = decltype(group)::value;
    const T* x = static_cast<const T*>(args.x);
    simt::launch(batch_norm_statistics_kernel<T, kCount>, grid_of(tiling), dim3(kBatchNormThreads),
                 0, stream, x, args.partial, tiling);
    simt::launch(batch_norm_finish_statistics_kernel, finish_grid_of(tiling),
                 dim3(kFinishWarps * kWarp), 0, stream, args);
    simt::launch(batch_norm_train_kernel<T, kCount>, grid_of(tiling), dim3(kBatchNormThreads), 0,
                 stream, x, static_cast<const float*>(args.mean),
                 static_cast<const float*>(args.scale), args.beta, static_cast<T*>(args.y), tiling);
  });
}

}  // namespace tessera
