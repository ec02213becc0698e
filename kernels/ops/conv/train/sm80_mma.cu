// The gradient of a convolution's weight on tensor cores:
//
//   sums[slice, tap, i, j] =
//       sum over the slice's pixels of a[y, x, i] b[s y + ky - pad, s x + kx - pad, j]
//
// Layouts as cuda.h says; a and b of one type. A block makes 64 channels of a by 64 of b
// for one row of taps, of a slice of image rows. A run of pixels of a, and those of b that its taps
// meet, with their halo, lie in shared memory as they lie in memory, channels side by side, and
// serve all taps of the row through shifted addresses. The reduction runs over pixels, so both
// operands are read transposed: 16-bit ones by ldmatrix.trans, f32 word by word, to be rounded to
// tf32. A ring of four stages is filled by cp.async. Roofline: tensor cores from about 64 channels;
// L2 where maps are narrower than a run. Share of it: not measured yet.
// Oracle: train/reference.cpp.
#include "kernels/ops/conv/train/cuda_device.cuh"

namespace tessera {

namespace {

constexpr int kThreads = 128;
constexpr int kTile = kConvWeightTile;
constexpr int kStages = 4;
constexpr int kChunk = 16;     // bytes that one cp.async copies, and one row of an 8x8 matrix
constexpr int kWarpTile = 32;  // channels of a by channels of b, of one warp
constexpr int kAcross = kTile / kWarpTile;
constexpr int kFragments = kWarpTile / 16, kOctets = kWarpTile / 8;
static_assert(kAcross * kAcross * 32 == kThreads);

template <class T>
struct Elements16 {  // of 16 bytes, and what follows from their number
  static constexpr int kCount = kChunk / static_cast<int>(sizeof(T));
  static constexpr int kPixels = 4 * kCount;  // of a, of one stage: 32, or 16 of f32
  static constexpr int kDepth = 2 * kCount;   // pixels of one mma
  static constexpr int kLineChunks = kTile / kCount;
};

// The channels of one pixel in shared memory. 16-bit: 128 bytes, whose chunks are exchanged so that
// eight lines, kStride apart, put equal chunks into the 8 different quads of banks. f32: 256 bytes
// and a pad, so that eight words of four lines, kStride apart, lie in 32 different banks.
template <class T, int kStride>
__device__ int place_of(int line, int chunk) {
  constexpr int kBytes = kTile * static_cast<int>(sizeof(T));
  if constexpr (sizeof(T) == sizeof(float)) {
    constexpr int kPad = 8 / kStride * static_cast<int>(sizeof(float));
    return line * (kBytes + kPad) + chunk * kChunk;
  } else {
    constexpr int kQuads = kBytes / kChunk;
    static_assert(kQuads == 8);
    return line * kBytes + (chunk ^ (line / kStride & (kQuads - 1))) * kChunk;
  }
}

template <class T, int kKernel, int kStride>
struct Stage {
  static constexpr int kPixels = Elements16<T>::kPixels;
  static constexpr int kBPixels = kStride * (kPixels - 1) + kKernel;
  static constexpr int kMostPad = sizeof(T) == sizeof(float) ? 32 : 0;  // bytes of a line
  static constexpr int kLine = kTile * static_cast<int>(sizeof(T)) + kMostPad;
  static constexpr int kABytes = kPixels * kLine;
  static constexpr int kBytes = kABytes + kBPixels * kLine;
};

// 16 channels by one mma's pixels of a, from line `first` on.
template <class T>
__device__ void load_left(const std::byte* s_a, int first, int channel, int lane,
                          std::uint32_t (&fragment)[4]) {
  if constexpr (sizeof(T) == sizeof(float)) {
    const std::byte* word = s_a + (channel + lane / 4) * static_cast<int>(sizeof(float));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const std::byte* from = word + place_of<T, 1>(first + lane % 4 + i / 2 * 4, i % 2 * 2);
      fragment[i] = ptx::to_tf32(*reinterpret_cast<const float*>(from));
    }
  } else {
    ptx::ldmatrix_x4_trans(fragment, s_a + place_of<T, 1>(first + lane / 16 * 8 + lane % 8,
                                                          channel / 8 + lane / 8 % 2));
  }
}

// 16 channels by one mma's pixels of b, kStride apart: the fragments of channels 0-7 and 8-15.
template <class T, int kStride>
__device__ void load_right(const std::byte* s_b, int pixel, int shift, int channel, int lane,
                           std::uint32_t (&fragments)[2][2]) {
  if constexpr (sizeof(T) == sizeof(float)) {
    const std::byte* word = s_b + (channel + lane / 4) * static_cast<int>(sizeof(float));
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int line = kStride * (pixel + lane % 4 + i % 2 * 4) + shift;
      const std::byte* from = word + place_of<T, kStride>(line, i / 2 * 2);
      fragments[i / 2][i % 2] = ptx::to_tf32(*reinterpret_cast<const float*>(from));
    }
  } else {
    std::uint32_t all[4];
    const int line = kStride * (pixel + lane % 16) + shift;
    ptx::ldmatrix_x4_trans(all, s_b + place_of<T, kStride>(line, channel / 8 + lane / 16));
    fragments[0][0] = all[0], fragments[0][1] = all[1];
    fragments[1][0] = all[2], fragments[1][1] = all[3];
  }
}

template <class T>
__device__ void multiply_add(float (&sum)[4], const std::uint32_t (&left)[4],
                             const std::uint32_t (&right)[2]) {
  if constexpr (std::is_same_v<T, float>) {
    ptx::mma_m16n8k8_tf32(sum, left, right, sum);
  } else {
    ptx::mma_m16n8k16<T>(sum, left, right, sum);
  }
}

template <class T, int kKernel, int kStride>
__global__ void __launch_bounds__(kThreads, kConvWeightBlocks)
    conv_weight_gradient_mma_kernel(const __grid_constant__ ConvWeightGradientArgs args) {
  using Buffer = Stage<T, kKernel, kStride>;
  constexpr int kPixels = Buffer::kPixels, kLineChunks = Elements16<T>::kLineChunks;
  constexpr int kPerChunk = Elements16<T>::kCount, kDepth = Elements16<T>::kDepth;
  SIMT_DYN_SHARED(std::byte, s_stages, 128);
  const ConvWeightGradientShape& shape = args.shape;
  const T* a = static_cast<const T*>(args.a);
  const T* b = static_cast<const T*>(args.b);

  // Neighbouring blocks make different sums of the same pixels, which then come from L2.
  const auto a_tiles = static_cast<unsigned>((shape.a_channels + kTile - 1) / kTile);
  const auto b_tiles = static_cast<unsigned>((shape.b_channels + kTile - 1) / kTile);
  unsigned tile = blockIdx.x;
  const int ky = static_cast<int>(tile % kKernel);
  tile /= kKernel;
  const int b_first = static_cast<int>(tile % b_tiles) * kTile;
  tile /= b_tiles;
  const int a_first = static_cast<int>(tile % a_tiles) * kTile;
  const std::int64_t slice = tile / a_tiles;
  const SliceRows rows = rows_of_slice(args, slice);

  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  PixelRun<kPixels> run(shape, rows.begin);
  // A thread copies one chunk of every kLines-th line.
  constexpr int kLines = kThreads / kLineChunks;
  const int chunk = thread % kLineChunks, first_line = thread / kLineChunks;
  const int a_channel = a_first + chunk * kPerChunk, b_channel = b_first + chunk * kPerChunk;
  // Copies the next pixels, zeros where there are none, and closes the group. Its loops stay loops:
  // the addresses of all their lines at once take more registers than the sums leave.
  const auto begin_copies = [&](int stage) {
    if (run.row < rows.end) {
      std::byte* s_a = s_stages + stage * Buffer::kBytes;
      const T* from = a + (run.row * shape.columns + run.column) * shape.a_channels + a_channel;
      const int a_left = a_channel < shape.a_channels ? shape.columns - run.column : 0;
#pragma unroll 1
      for (int line = first_line; line < kPixels; line += kLines) {
        const bool exists = line < a_left;
        ptx::cp_async<kChunk>(s_a + place_of<T, 1>(line, chunk),
                              exists ? from + std::int64_t{line} * shape.a_channels : a,
                              exists ? kChunk : 0);
      }
      std::byte* s_b = s_a + Buffer::kABytes;
      const int y = run.y * kStride + ky - shape.pad, column = run.column * kStride - shape.pad;
      from = b +
             ((std::int64_t{run.image} * shape.b_rows + y) * shape.b_columns + column) *
                 shape.b_channels +
             b_channel;
      const bool row_exists = y >= 0 && y < shape.b_rows && b_channel < shape.b_channels;
#pragma unroll 1
      for (int line = first_line; line < Buffer::kBPixels; line += kLines) {
        const bool exists = row_exists && column + line >= 0 && column + line < shape.b_columns;
        ptx::cp_async<kChunk>(s_b + place_of<T, kStride>(line, chunk),
                              exists ? from + std::int64_t{line} * shape.b_channels : b,
                              exists ? kChunk : 0);
      }
      run.advance(shape);
    }
    ptx::cp_async_commit();
  };

  const int a_warp = warp / kAcross * kWarpTile, b_warp = warp % kAcross * kWarpTile;
  float sums[kKernel][kFragments][kOctets][4] = {};
  const int per_row = (shape.columns + kPixels - 1) / kPixels;
  // 2^31 runs of pixels would exceed any memory.
  const int steps = static_cast<int>(rows.end - rows.begin) * per_row;
  for (int i = 0; i < kStages - 1; ++i) begin_copies(i);
  int stage = 0;
  for (int step = 0; step < steps; ++step) {
    ptx::cp_async_wait<kStages - 2>();
    // Puts all threads' copies for this step before its reads, and the reads of the step before it
    // ahead of the copies that begin now, into the stage it has left.
    __syncthreads();
    begin_copies((stage + kStages - 1) % kStages);
    const std::byte* s_a = s_stages + stage * Buffer::kBytes;
    const std::byte* s_b = s_a + Buffer::kABytes;
    stage = (stage + 1) % kStages;
#pragma unroll
    for (int first = 0; first < kPixels; first += kDepth) {
      std::uint32_t left[kFragments][4];
#pragma unroll
      for (int i = 0; i < kFragments; ++i) load_left<T>(s_a, first, a_warp + i * 16, lane, left[i]);
#pragma unroll
      for (int kx = 0; kx < kKernel; ++kx) {
#pragma unroll
        for (int j = 0; j < kOctets; j += 2) {
          std::uint32_t right[2][2];
          load_right<T, kStride>(s_b, first, kx, b_warp + j * 8, lane, right);
#pragma unroll
          for (int i = 0; i < kFragments; ++i) {
            multiply_add<T>(sums[kx][i][j], left[i], right[0]);
            multiply_add<T>(sums[kx][i][j + 1], left[i], right[1]);
          }
        }
      }
    }
  }

  // Channels of b fill whole chunks: a pair of columns exists or does not.
  float* to = args.sums + slice * shape.weights;
  const int row = a_first + a_warp + lane / 4;
  const int column = b_first + b_warp + lane % 4 * 2;
#pragma unroll
  for (int kx = 0; kx < kKernel; ++kx) {
    const std::int64_t tap_row = std::int64_t{ky * kKernel + kx} * shape.a_channels;
#pragma unroll
    for (int i = 0; i < kFragments; ++i) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int channel = row + i * 16 + half * 8;
        if (channel >= shape.a_channels) continue;
#pragma unroll
        for (int j = 0; j < kOctets; ++j) {
          if (column + j * 8 >= shape.b_channels) continue;
          const float* pair = sums[kx][i][j] + 2 * half;
          *reinterpret_cast<float2*>(to + (tap_row + channel) * shape.b_channels + column +
                                     j * 8) = {pair[0], pair[1]};
        }
      }
    }
  }
}

template <class T, int kKernel, int kStride>
void launch(const ConvWeightGradientArgs& args, CudaStream stream) {
  const auto tiles = [](std::int64_t extent) { return (extent + kTile - 1) / kTile; };
  const std::int64_t blocks =
      args.split.slices * tiles(args.shape.a_channels) * tiles(args.shape.b_channels) * kKernel;
  simt::launch(conv_weight_gradient_mma_kernel<T, kKernel, kStride>,
               dim3(static_cast<unsigned>(blocks)), dim3(kThreads),
               kStages * Stage<T, kKernel, kStride>::kBytes, stream, args);
}

template <class T>
void launch_shape(const ConvWeightGradientArgs& args, CudaStream stream) {
  if (args.shape.stride == 1) {
    return args.shape.kernel == 3 ? launch<T, 3, 1>(args, stream) : launch<T, 1, 1>(args, stream);
  }
  return args.shape.kernel == 3 ? launch<T, 3, 2>(args, stream) : launch<T, 2, 2>(args, stream);
}

}  // namespace

void conv_weight_gradient_mma_cuda(const ConvWeightGradientArgs& args, CudaStream stream) {
  with_element(args.shape.a_type,
               [&](auto element) { launch_shape<decltype(element)>(args, stream); });
}

}  // namespace tessera
