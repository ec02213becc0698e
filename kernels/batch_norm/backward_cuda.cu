// Batch normalisation in training, forward and backward; the formulas are in backward.h.
//
// Layout: x, y, dy, dx (rows, c). Three kernels each way. The first cuts the rows into slices and
// sums them up: forward a mean and the squared deviations from it, joined in pairs (Chan, Golub &
// LeVeque 1979), so that neither large means nor many rows cost accuracy; backward the sums of dy
// and of dy (x - mean). The second joins the slices' results in double, a warp for each channel,
// and updates statistics or weight gradients. The third maps every element.
// A thread keeps to 16 bytes of channels, whose coefficients stay in its registers, and has four
// rows under way; a block's threads lie side by side over channels, then rows, so warps cross whole
// sectors for any c. All sums have an order that depends on the extents alone.
// Roofline: memory, x twice and y forward, x and dy twice and dx backward; about 5 operations an
// element and pass. Share of it: not measured yet.
// Oracle: backward_reference.cpp.
#include <cmath>
#include <type_traits>

#include "kernels/batch_norm/backward_cuda.h"
#include "kernels/cuda/classes.cuh"
#include "kernels/cuda/element.cuh"

namespace tessera {

namespace {

constexpr int kThreads = 256;
constexpr int kMostGroups = 64;  // of a block: more would leave up to half of its threads idle
constexpr int kUnroll = 4;       // rows that a thread has under way
constexpr int kFinishWarps = 4;  // channels that a block of the second kernel makes

// ---- What a thread works on

struct Share {
  bool active;           // has it any channels?
  int lane;              // of the block's
  int rows;              // that it takes
  std::int64_t slice;    // its block's
  std::int64_t channel;  // the first of its group
  std::int64_t first;    // element (first row, channel)
  std::int64_t step;     // elements from one of its rows to the next
};

__device__ int rows_of_slice(const BatchNormTiling& tiling, std::int64_t slice) {
  const std::int64_t left = tiling.rows - slice * tiling.extent;
  return left < tiling.extent ? static_cast<int>(left) : tiling.extent;
}

template <int kCount>
__device__ Share share_of(const BatchNormTiling& tiling, unsigned block) {
  const auto tiles = static_cast<unsigned>(tiling.tiles);
  const std::int64_t slice = block / tiles, tile = block % tiles;
  const int lane = static_cast<int>(threadIdx.x) / tiling.groups;
  const std::int64_t group =
      tile * tiling.groups + (static_cast<int>(threadIdx.x) - lane * tiling.groups);
  const std::int64_t channel = group * kCount;
  const int rows = rows_of_slice(tiling, slice);
  return {lane < tiling.lanes && channel < tiling.c,
          lane,
          lane < rows ? (rows - lane + tiling.lanes - 1) / tiling.lanes : 0,
          slice,
          channel,
          (slice * tiling.extent + lane) * tiling.c + channel,
          tiling.lanes * tiling.c};
}

template <int kValue>
using Constant = std::integral_constant<int, kValue>;

// body(rows, element) for the thread's rows: `rows` (a Constant, kUnroll or 1) of them from that
// element on, `step` elements apart.
template <class Body>
__device__ void for_each_row(const Share& share, const Body& body) {
  std::int64_t element = share.first;
  int left = share.rows;
  for (; left >= kUnroll; left -= kUnroll) {
    body(Constant<kUnroll>(), element);
    element += kUnroll * share.step;
  }
  for (; left > 0; --left) {
    body(Constant<1>(), element);
    element += share.step;
  }
}

template <int kCount>
__device__ void load_channels(const float* from, std::int64_t channel, float (&to)[kCount]) {
#pragma unroll
  for (int k = 0; k < kCount; ++k) to[k] = from[channel + k];
}

template <int kRows, int kCount, class T>
__device__ void load_rows(const T* from, std::int64_t step, float (&to)[kRows][kCount]) {
#pragma unroll
  for (int row = 0; row < kRows; ++row) load_elements(from + row * step, to[row]);
}

// ---- Sums over a block's rows

// Two numbers a channel that several rows have been reduced to. Where they are sums, `rows` is of
// no use.
template <int kCount>
struct Partial {
  float rows;
  float first[kCount], second[kCount];
};

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

// Joins the results of all lanes, halving their number, and stores lane 0's as the slice's. Every
// thread of the block calls it.
template <int kCount, class Join>
__device__ void store_slice(const BatchNormTiling& tiling, const Share& share,
                            Partial<kCount>& mine, const Join& join, float* partial) {
  SIMT_SHARED(float, s_first, [kCount * kThreads]);
  SIMT_SHARED(float, s_second, [kCount * kThreads]);
  SIMT_SHARED(float, s_rows, [kThreads]);
  const int thread = static_cast<int>(threadIdx.x);
  for (int live = tiling.lanes; live > 1;) {
    const int half = (live + 1) / 2;
    if (share.active && share.lane >= half && share.lane < live) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        s_first[k * kThreads + thread] = mine.first[k];
        s_second[k * kThreads + thread] = mine.second[k];
      }
      s_rows[thread] = mine.rows;
    }
    // The upper lanes' stores above before the lower ones' loads below. No lane stores twice, so
    // that the next round cannot overwrite what this one reads.
    __syncthreads();
    if (share.active && share.lane + half < live) {
      const int from = thread + half * tiling.groups;
      Partial<kCount> other;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        other.first[k] = s_first[k * kThreads + from];
        other.second[k] = s_second[k * kThreads + from];
      }
      other.rows = s_rows[from];
      join(mine, other);
    }
    live = half;
  }
  if (!share.active || share.lane != 0) return;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    float* to = partial + (share.channel + k) * tiling.slices + share.slice;
    to[0] = mine.first[k];
    to[tiling.c * tiling.slices] = mine.second[k];
  }
}

// ---- First kernels

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    batch_norm_statistics_kernel(const T* __restrict__ x, float* __restrict__ partial,
                                 const BatchNormTiling tiling) {
  const Share share = share_of<kCount>(tiling, blockIdx.x);
  Partial<kCount> mine = {};
  if (share.active) {
    for_each_row(share, [&](auto count, std::int64_t element) {
      constexpr int kRows = decltype(count)::value;
      float values[kRows][kCount];
      load_rows(x + element, share.step, values);
      Partial<kCount> some;
      some.rows = kRows;
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        float sum = 0, squares = 0;
#pragma unroll
        for (int row = 0; row < kRows; ++row) sum += values[row][k];
        const float mean = sum * (1.0f / kRows);
#pragma unroll
        for (int row = 0; row < kRows; ++row)
          squares = fmaf(values[row][k] - mean, values[row][k] - mean, squares);
        some.first[k] = mean;
        some.second[k] = squares;
      }
      JoinMoments()(mine, some);
    });
  }
  store_slice(tiling, share, mine, JoinMoments(), partial);
}

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    batch_norm_gradient_sums_kernel(const T* __restrict__ x, const T* __restrict__ dy,
                                    const float* __restrict__ mean, float* __restrict__ partial,
                                    const BatchNormTiling tiling) {
  const Share share = share_of<kCount>(tiling, blockIdx.x);
  Partial<kCount> mine = {};
  if (share.active) {
    float center[kCount];
    load_channels(mean, share.channel, center);
    for_each_row(share, [&](auto count, std::int64_t element) {
      constexpr int kRows = decltype(count)::value;
      float values[kRows][kCount], gradients[kRows][kCount];
      load_rows(x + element, share.step, values);
      load_rows(dy + element, share.step, gradients);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        float sum = 0, product = 0;
#pragma unroll
        for (int row = 0; row < kRows; ++row) {
          sum += gradients[row][k];
          product = fmaf(gradients[row][k], values[row][k] - center[k], product);
        }
        mine.first[k] += sum;
        mine.second[k] += product;
      }
    });
  }
  store_slice(tiling, share, mine, JoinSums(), partial);
}

// ---- Second kernels

// In one fixed order, the same in every lane.
__device__ double sum_of_warp_in_double(double value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2)
    value += __shfl_xor_sync(kWholeWarp, value, distance);
  return value;
}

// The channel of this warp; c where it has none.
__device__ std::int64_t channel_of_warp(std::int64_t c) {
  const std::int64_t channel = std::int64_t{blockIdx.x} * kFinishWarps + threadIdx.x / kWarp;
  return channel < c ? channel : c;
}

__global__ void __launch_bounds__(kFinishWarps* kWarp)
    batch_norm_finish_statistics_kernel(const BatchNormTrainArgs args) {
  const BatchNormTiling& tiling = args.tiling;
  const std::int64_t channel = channel_of_warp(tiling.c), lane = threadIdx.x % kWarp;
  if (channel == tiling.c) return;
  const float* means = args.partial + channel * tiling.slices;
  const float* deviations = means + tiling.c * tiling.slices;
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

__global__ void __launch_bounds__(kFinishWarps* kWarp)
    batch_norm_finish_gradient_kernel(const BatchNormBackwardArgs args) {
  const BatchNormTiling& tiling = args.tiling;
  const std::int64_t channel = channel_of_warp(tiling.c), lane = threadIdx.x % kWarp;
  if (channel == tiling.c) return;
  const float* sums = args.partial + channel * tiling.slices;
  const float* products = sums + tiling.c * tiling.slices;
  double sum = 0, product = 0;
#pragma unroll 4
  for (std::int64_t i = lane; i < tiling.slices; i += kWarp) {
    sum += sums[i];
    product += products[i];
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

// ---- Third kernels

// What the first kernel read last may still be in L2.
__device__ unsigned block_from_behind() {
  return gridDim.x - 1 - blockIdx.x;
}

// y = (x - mean) scale + beta
template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    batch_norm_train_kernel(const T* __restrict__ x, const float* __restrict__ mean,
                            const float* __restrict__ scale, const float* __restrict__ beta,
                            T* __restrict__ y, const BatchNormTiling tiling) {
  const Share share = share_of<kCount>(tiling, block_from_behind());
  if (!share.active) return;
  float center[kCount], factor[kCount], offset[kCount];
  load_channels(mean, share.channel, center);
  load_channels(scale, share.channel, factor);
  load_channels(beta, share.channel, offset);
  for_each_row(share, [&](auto count, std::int64_t element) {
    constexpr int kRows = decltype(count)::value;
    float values[kRows][kCount];
    load_rows(x + element, share.step, values);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        values[row][k] = fmaf(values[row][k] - center[k], factor[k], offset[k]);
      store_elements(values[row], y + element + row * share.step);
    }
  });
}

// dx = scale (dy - offset - (x - mean) slope); factors: scale, offset, slope
template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
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
  for_each_row(share, [&](auto count, std::int64_t element) {
    constexpr int kRows = decltype(count)::value;
    float values[kRows][kCount], gradients[kRows][kCount];
    load_rows(x + element, share.step, values);
    load_rows(dy + element, share.step, gradients);
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const float rest = gradients[row][k] - offset[k];
        gradients[row][k] = scale[k] * fmaf(center[k] - values[row][k], slope[k], rest);
      }
      store_elements(gradients[row], dx + element + row * share.step);
    }
  });
}

// ---- Launchers

// Calls body(T(), Constant<width>()): the type of the elements and the channels of a group.
template <class Body>
void with_group(DType dtype, int width, const Body& body) {
  with_element(dtype, [&](auto element) {
    constexpr int kWide = 16 / sizeof(element);
    if (width == kWide) {
      body(element, Constant<kWide>());
    } else {
      body(element, Constant<1>());
    }
  });
}

dim3 grid_of(const BatchNormTiling& tiling) {
  return dim3(static_cast<unsigned>(tiling.tiles * tiling.slices));
}
dim3 finish_grid_of(const BatchNormTiling& tiling) {
  return dim3(static_cast<unsigned>((tiling.c + kFinishWarps - 1) / kFinishWarps));
}

}  // namespace

BatchNormTiling batch_norm_tiling(std::int64_t rows, std::int64_t c, int width) {
  constexpr std::int64_t kEnoughBlocks = 1024;                         // fill the largest device
  constexpr std::int64_t kFewestRows = 4 * kUnroll, kMostRows = 1024;  // of a thread, in one sum
  const auto ceil_div = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
  BatchNormTiling tiling{};
  tiling.rows = rows;
  tiling.c = c;
  tiling.width = width;
  const std::int64_t all_groups = c / width;
  tiling.tiles = ceil_div(all_groups, kMostGroups);
  tiling.groups = static_cast<int>(ceil_div(all_groups, tiling.tiles));
  tiling.lanes = kThreads / tiling.groups;
  std::int64_t slices = ceil_div(kEnoughBlocks, tiling.tiles);
  const std::int64_t most = ceil_div(rows, tiling.lanes * kFewestRows);
  const std::int64_t least = ceil_div(rows, tiling.lanes * kMostRows);
  if (slices > most) slices = most;
  if (slices < least) slices = least;
  tiling.extent = static_cast<int>(ceil_div(rows, slices));
  tiling.slices = ceil_div(rows, tiling.extent);
  return tiling;
}

void batch_norm_train_cuda(const BatchNormTrainArgs& args, CudaStream stream) {
  const BatchNormTiling& tiling = args.tiling;
  with_group(args.dtype, tiling.width, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kCount = decltype(group)::value;
    const T* x = static_cast<const T*>(args.x);
    simt::launch(batch_norm_statistics_kernel<T, kCount>, grid_of(tiling), dim3(kThreads), 0,
                 stream, x, args.partial, tiling);
    simt::launch(batch_norm_finish_statistics_kernel, finish_grid_of(tiling),
                 dim3(kFinishWarps * kWarp), 0, stream, args);
    simt::launch(batch_norm_train_kernel<T, kCount>, grid_of(tiling), dim3(kThreads), 0, stream, x,
                 static_cast<const float*>(args.mean), static_cast<const float*>(args.scale),
                 args.beta, static_cast<T*>(args.y), tiling);
  });
}

void batch_norm_backward_cuda(const BatchNormBackwardArgs& args, CudaStream stream) {
  const BatchNormTiling& tiling = args.tiling;
  with_group(args.dtype, tiling.width, [&](auto element, auto group) {
    using T = decltype(element);
    constexpr int kCount = decltype(group)::value;
    const T *x = static_cast<const T*>(args.x), *dy = static_cast<const T*>(args.dy);
    simt::launch(batch_norm_gradient_sums_kernel<T, kCount>, grid_of(tiling), dim3(kThreads), 0,
                 stream, x, dy, args.mean, args.partial, tiling);
    simt::launch(batch_norm_finish_gradient_kernel, finish_grid_of(tiling),
                 dim3(kFinishWarps * kWarp), 0, stream, args);
    if (args.dx == nullptr) return;
    simt::launch(batch_norm_gradient_kernel<T, kCount>, grid_of(tiling), dim3(kThreads), 0, stream,
                 x, dy, args.mean, static_cast<const float*>(args.factors),
                 static_cast<T*>(args.dx), tiling);
  });
}

}  // namespace tessera
