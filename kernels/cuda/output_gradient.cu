// The gradient of a layer's output, masked where its ReLU cut, and its sums for the bias:
//
//   masked[r, c] = y[r, c] <= 0 ? 0 : gradient[r, c],   bias_gradient[c] += sum over r of masked[r,
//   c]
//
// Layouts: (rows, channels). A block takes a slice of rows and up to 32 vectors of 16 bytes of
// channels: its threads lie side by side over the vectors and one below the other over the rows,
// each sums its rows, and a tree adds the threads of a column; slices are added in order by a
// second kernel. A sum is thus a tree of short runs (32 rows or so), and its error that of a run.
// Roofline: memory, 3 passes over the gradient with a mask. Share of it: not measured yet.
// Oracle: kernels/cpu/output_gradient.h.
#include "kernels/cuda/output_gradient.h"

#include "kernels/cuda/element.cuh"

namespace tessera {

namespace {

constexpr int kThreads = 256;
constexpr int kMostAcross = 32;                     // vectors of channels of a block
constexpr std::int64_t kSliceElements = 32 * 1024;  // of a slice, at least
constexpr std::int64_t kMostSlices = 1024;          // more would only lengthen the second sum
constexpr int kFinishAcross = 32, kFinishDown = 8;  // threads of the second kernel
constexpr unsigned kMostGridRows = 0xffff;

std::int64_t rows_of_slice(std::int64_t rows, std::int64_t channels) {
  const std::int64_t even = (rows + kMostSlices - 1) / kMostSlices;
  const std::int64_t enough = (kSliceElements + channels - 1) / channels;
  return even > enough ? even : enough;
}

std::int64_t slices_of(std::int64_t rows, std::int64_t channels) {
  if (rows <= 0 || channels <= 0) return 0;
  const std::int64_t slice = rows_of_slice(rows, channels);
  return (rows + slice - 1) / slice;
}

// across: a power of two, vectors of kCount channels that a block takes at once.
template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    output_gradient_kernel(const OutputGradientArgs args, std::int64_t slice, int across) {
  SIMT_SHARED(float, s_sums, [kThreads * kCount]);
  const int thread = static_cast<int>(threadIdx.x);
  const int down = kThreads / across, column = thread % across, row = thread / across;
  const std::int64_t begin = blockIdx.x * slice;
  const std::int64_t end = begin + slice < args.rows ? begin + slice : args.rows;
  const auto* gradient = static_cast<const T*>(args.gradient);
  const auto* y = static_cast<const T*>(args.y);
  auto* masked = static_cast<T*>(args.masked);

  const std::int64_t step = std::int64_t{gridDim.y} * across * kCount;
  for (std::int64_t first = std::int64_t{blockIdx.y} * across * kCount; first < args.channels;
       first += step) {
    const std::int64_t channel = first + column * kCount;
    float sums[kCount] = {};
    if (channel < args.channels) {
      for (std::int64_t r = begin + row; r < end; r += down) {
        const std::int64_t at = r * args.channels + channel;
        float values[kCount];
        load_elements(gradient + at, values);
        if (y != nullptr) {
          float outputs[kCount];
          load_elements(y + at, outputs);
#pragma unroll
          for (int i = 0; i < kCount; ++i)
            if (outputs[i] <= 0.0f) values[i] = 0.0f;
        }
        if (masked != nullptr) store_elements(values, masked + at);
#pragma unroll
        for (int i = 0; i < kCount; ++i) sums[i] += values[i];
      }
    }
    if (args.bias_gradient == nullptr) continue;

    // The sums of a column of threads: halves are added to halves.
    __syncthreads();  // puts the reads of the channels before ahead of the writes that follow
#pragma unroll
    for (int i = 0; i < kCount; ++i) s_sums[i * kThreads + thread] = sums[i];
    for (int half = down / 2; half > 0; half /= 2) {
      __syncthreads();  // puts the writes of the sums before their reads
      if (row < half) {
#pragma unroll
        for (int i = 0; i < kCount; ++i)
          s_sums[i * kThreads + thread] += s_sums[i * kThreads + thread + half * across];
      }
    }
    if (row == 0 && channel < args.channels) {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        args.partial[blockIdx.x * args.channels + channel + i] = s_sums[i * kThreads + thread];
    }
  }
}

// bias_gradient[c] += sum over slices of partial[slice, c].
__global__ void __launch_bounds__(kFinishAcross* kFinishDown)
    add_slices_kernel(const OutputGradientArgs args, std::int64_t slices) {
  SIMT_SHARED(float, s_sums, [kFinishDown][kFinishAcross]);
  const int column = static_cast<int>(threadIdx.x), row = static_cast<int>(threadIdx.y);
  const std::int64_t channel = std::int64_t{blockIdx.x} * kFinishAcross + column;
  float sum = 0.0f;
  if (channel < args.channels) {
    for (std::int64_t slice = row; slice < slices; slice += kFinishDown)
      sum += args.partial[slice * args.channels + channel];
  }
  s_sums[row][column] = sum;
  __syncthreads();  // puts the writes of the rows' sums before their reads
  if (row > 0 || channel >= args.channels) return;
#pragma unroll
  for (int i = 1; i < kFinishDown; ++i) sum += s_sums[i][column];
  args.bias_gradient[channel] += sum;
}

template <class T, int kCount>
void launch(const OutputGradientArgs& args, CudaStream stream) {
  const std::int64_t vectors = args.channels / kCount;
  int across = 1;
  while (across < kMostAcross && across < vectors) across *= 2;
  const std::int64_t groups = (vectors + across - 1) / across;
  const dim3 grid(static_cast<unsigned>(slices_of(args.rows, args.channels)),
                  groups < kMostGridRows ? static_cast<unsigned>(groups) : kMostGridRows);
  simt::launch(output_gradient_kernel<T, kCount>, grid, dim3(kThreads), 0, stream, args,
               rows_of_slice(args.rows, args.channels), across);
}

bool is_aligned(const void* pointer) {
  constexpr std::uintptr_t kVectorBytes = 16;
  return reinterpret_cast<std::uintptr_t>(pointer) % kVectorBytes == 0;  // null is
}

}  // namespace

std::size_t output_gradient_scratch(std::int64_t rows, std::int64_t channels) {
  return static_cast<std::size_t>(slices_of(rows, channels) * channels) * sizeof(float);
}

void output_gradient_cuda(const OutputGradientArgs& args, CudaStream stream) {
  if (args.masked == nullptr && args.bias_gradient == nullptr) return;
  const std::int64_t slices = slices_of(args.rows, args.channels);
  if (slices == 0) return;
  with_element(args.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int kWide = 16 / static_cast<int>(sizeof(T));
    const bool wide = args.channels % kWide == 0 && is_aligned(args.gradient) &&
                      is_aligned(args.y) && is_aligned(args.masked);
    if (wide) {
      launch<T, kWide>(args, stream);
    } else {
      launch<T, 1>(args, stream);
    }
  });
  if (args.bias_gradient == nullptr) return;
  const auto blocks = static_cast<unsigned>((args.channels + kFinishAcross - 1) / kFinishAcross);
  simt::launch(add_slices_kernel, dim3(blocks), dim3(kFinishAcross, kFinishDown), 0, stream, args,
               slices);
}

}  // namespace tessera
