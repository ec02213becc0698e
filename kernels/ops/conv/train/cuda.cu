// The gradient of a convolution's weight by f32 multiply-adds:
//
//   sums[slice, tap, i, j] = sum over the slice's pixels of a[y, x, i] b[s y + ky - pad, s x + kx -
//   pad, j]
//
// Layouts as cuda.h says; any types and channels. An implicit matrix product whose rows
// are channels of a, whose columns are taps times channels of b, and whose reduction runs over
// pixels. A block makes 64 x 64 sums of a slice of image rows: 16 pixels at a time go through
// registers, where any type becomes f32, into one of two buffers in shared memory; a thread has the
// sums of 8 x 4. A second kernel adds the slices in order and writes the model file's layout.
// Roofline: f32 units from about 16 channels on both sides, memory below. Share of it: not measured
// yet. Oracle: train/reference.cpp.
#include "kernels/ops/conv/train/cuda_device.cuh"

namespace tessera {

namespace {

constexpr int kThreads = 128;
constexpr int kTile = kConvWeightTile;
constexpr int kDepth = 16;  // pixels of a stage
constexpr int kQuad = 4;    // elements that a thread brings together, and columns of its sums
constexpr int kRows = 8;    // of a thread's sums
constexpr int kQuadsAcross = kTile / kQuad;
constexpr int kPixelsPerPass = kThreads / kQuadsAcross;
constexpr int kPasses = kDepth / kPixelsPerPass;
static_assert(kTile / kRows * kQuadsAcross == kThreads);
static_assert(kPasses * kPixelsPerPass == kDepth);

using Run = PixelRun<kDepth>;

// The four columns of the product that a thread brings of b, and has sums of.
struct Columns {
  int channel[kQuad];  // of b; negative past the last column
  int tap[kQuad];
  int row_shift[kQuad], column_shift[kQuad];  // of b's pixel

  __device__ Columns(const ConvWeightGradientShape& shape, int first) {
    const int taps = shape.kernel * shape.kernel;
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      tap[i] = (first + i) / shape.b_channels;
      channel[i] = tap[i] < taps ? (first + i) % shape.b_channels : -1;
      row_shift[i] = tap[i] / shape.kernel - shape.pad;
      column_shift[i] = tap[i] % shape.kernel - shape.pad;
    }
  }
};

// Index of the first channel of b's pixel that belongs to pixel (run, column) of a; negative where
// there is none.
__device__ std::int64_t b_index(const ConvWeightGradientShape& shape, const Run& run, int column,
                                int row_shift, int column_shift) {
  const int y = run.y * shape.stride + row_shift, x = column * shape.stride + column_shift;
  if (y < 0 || y >= shape.b_rows || x < 0 || x >= shape.b_columns) return -1;
  return ((std::int64_t{run.image} * shape.b_rows + y) * shape.b_columns + x) * shape.b_channels;
}

template <class A>
__device__ void load_a(const ConvWeightGradientArgs& args, const Run& run, int column, int channel,
                       float (&to)[kQuad]) {
  const ConvWeightGradientShape& shape = args.shape;
#pragma unroll
  for (float& value : to) value = 0.0f;
  if (column >= shape.columns || channel >= shape.a_channels) return;
  const A* a = static_cast<const A*>(args.a) +
               (run.row * shape.columns + column) * shape.a_channels + channel;
  if (shape.a_channels % kQuad == 0) {
    load_elements(a, to);
  } else {
#pragma unroll
    for (int i = 0; i < kQuad; ++i)
      if (channel + i < shape.a_channels) to[i] = to_float(a[i]);
  }
}

template <class B>
__device__ void load_b(const ConvWeightGradientArgs& args, const Run& run, int column,
                       const Columns& columns, float (&to)[kQuad]) {
  const ConvWeightGradientShape& shape = args.shape;
  const B* b = static_cast<const B*>(args.b);
#pragma unroll
  for (float& value : to) value = 0.0f;
  if (column >= shape.columns) return;
  if (shape.b_channels % kQuad == 0) {  // all four are of one tap
    const std::int64_t index =
        b_index(shape, run, column, columns.row_shift[0], columns.column_shift[0]);
    if (columns.channel[0] >= 0 && index >= 0) load_elements(b + index + columns.channel[0], to);
  } else {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      const std::int64_t index =
          b_index(shape, run, column, columns.row_shift[i], columns.column_shift[i]);
      if (columns.channel[i] >= 0 && index >= 0) to[i] = to_float(b[index + columns.channel[i]]);
    }
  }
}

__device__ void write_quad(const float (&from)[kQuad], float* to) {
  *reinterpret_cast<float4*>(to) = {from[0], from[1], from[2], from[3]};
}

template <class A, class B>
__global__ void __launch_bounds__(kThreads, kConvWeightBlocks)
    conv_weight_gradient_fma_kernel(const __grid_constant__ ConvWeightGradientArgs args) {
  struct alignas(16) Buffers {
    float a[2][kDepth][kTile], b[2][kDepth][kTile];
  };
  SIMT_SHARED(Buffers, s_buffers, [1]);
  const ConvWeightGradientShape& shape = args.shape;
  const int taps = shape.kernel * shape.kernel;

  // Neighbouring blocks make different sums of the same pixels, which then come from L2.
  const auto a_tiles = static_cast<unsigned>((shape.a_channels + kTile - 1) / kTile);
  const auto b_tiles = static_cast<unsigned>((taps * shape.b_channels + kTile - 1) / kTile);
  const int a_first = static_cast<int>(blockIdx.x % a_tiles) * kTile;
  const int b_first = static_cast<int>(blockIdx.x / a_tiles % b_tiles) * kTile;
  const std::int64_t slice = blockIdx.x / (a_tiles * b_tiles);
  const SliceRows rows = rows_of_slice(args, slice);

  const int thread = static_cast<int>(threadIdx.x);
  const int quad = thread % kQuadsAcross * kQuad, pixel = thread / kQuadsAcross;
  const int row = thread / kQuadsAcross * kRows;
  const Columns columns(shape, b_first + quad);

  float next_a[kPasses][kQuad], next_b[kPasses][kQuad];
  const auto load_next = [&](const Run& run) {
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      const int column = run.column + pixel + i * kPixelsPerPass;
      load_a<A>(args, run, column, a_first + quad, next_a[i]);
      load_b<B>(args, run, column, columns, next_b[i]);
    }
  };
  const auto store_next = [&](int buffer) {
#pragma unroll
    for (int i = 0; i < kPasses; ++i) {
      write_quad(next_a[i], s_buffers[0].a[buffer][pixel + i * kPixelsPerPass] + quad);
      write_quad(next_b[i], s_buffers[0].b[buffer][pixel + i * kPixelsPerPass] + quad);
    }
  };

  float sums[kRows][kQuad] = {};
  Run run(shape, rows.begin);
  load_next(run);
  store_next(0);
  __syncthreads();  // puts the writes of the first pixels before their reads
  for (int buffer = 0; run.row < rows.end; buffer ^= 1) {
    run.advance(shape);
    const bool more = run.row < rows.end;
    if (more) load_next(run);
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      float a[kRows], b[kQuad];
#pragma unroll
      for (int i = 0; i < kRows; i += kQuad) {
        const float4 four = *reinterpret_cast<const float4*>(s_buffers[0].a[buffer][k] + row + i);
        a[i] = four.x, a[i + 1] = four.y, a[i + 2] = four.z, a[i + 3] = four.w;
      }
      load_elements(s_buffers[0].b[buffer][k] + quad, b);
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
#pragma unroll
        for (int j = 0; j < kQuad; ++j) sums[i][j] = fmaf(a[i], b[j], sums[i][j]);
      }
    }
    if (more) store_next(buffer ^ 1);
    // Puts the writes of the next pixels before their reads, and this buffer's reads before the
    // writes of the pixels after them.
    __syncthreads();
  }

  float* to = args.sums + slice * shape.weights;
#pragma unroll
  for (int i = 0; i < kRows; ++i) {
    const int channel = a_first + row + i;
#pragma unroll
    for (int j = 0; j < kQuad; ++j) {
      if (channel < shape.a_channels && columns.channel[j] >= 0)
        to[(std::int64_t{columns.tap[j]} * shape.a_channels + channel) * shape.b_channels +
           columns.channel[j]] = sums[i][j];
    }
  }
}

// ---- The sum of all slices

constexpr int kAddThreads = 256;
constexpr int kAddDown = 8;  // threads that share the slices of one weight, where there are many

// down: a power of two, 1 to kAddDown.
__global__ void __launch_bounds__(kAddThreads)
    add_slices_kernel(const __grid_constant__ ConvWeightGradientArgs args, int down) {
  SIMT_SHARED(float, s_sums, [kAddThreads]);
  const ConvWeightGradientShape& shape = args.shape;
  const int thread = static_cast<int>(threadIdx.x), across = kAddThreads / down;
  const int taps = shape.kernel * shape.kernel;
  const std::int64_t weights = shape.weights;
  const std::int64_t index = std::int64_t{blockIdx.x} * across + thread % across;
  float sum = 0.0f;
  if (index < weights) {
    for (std::int64_t slice = thread / across; slice < args.split.slices; slice += down)
      sum += args.sums[slice * weights + index];
  }
  s_sums[thread] = sum;
  __syncthreads();  // puts the writes of the threads' sums before their reads
  if (thread >= across || index >= weights) return;
  for (int i = 1; i < down; ++i) sum += s_sums[i * across + thread];
  const std::int64_t pairs = std::int64_t{shape.a_channels} * shape.b_channels;
  args.weight_gradient[index % pairs * taps + index / pairs] += sum;
}

}  // namespace

void conv_weight_gradient_fma_cuda(const ConvWeightGradientArgs& args, CudaStream stream) {
  const ConvWeightGradientShape& shape = args.shape;
  const auto tiles = [](std::int64_t extent) { return (extent + kTile - 1) / kTile; };
  const std::int64_t taps = std::int64_t{shape.kernel} * shape.kernel;
  const std::int64_t blocks =
      args.split.slices * tiles(shape.a_channels) * tiles(taps * shape.b_channels);
  with_element(shape.a_type, [&](auto a) {
    with_element(shape.b_type, [&](auto b) {
      simt::launch(conv_weight_gradient_fma_kernel<decltype(a), decltype(b)>,
                   dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream, args);
    });
  });
}

void add_conv_weight_slices_cuda(const ConvWeightGradientArgs& args, CudaStream stream) {
  int down = 1;
  while (down < kAddDown && 2 * down <= args.split.slices) down *= 2;
  const std::int64_t across = kAddThreads / down;
  const std::int64_t blocks = (args.shape.weights + across - 1) / across;
  simt::launch(add_slices_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kAddThreads), 0, stream,
               args, down);
}

}  // namespace tessera
