// Transposed convolution of stride 2 in f32:  y[2 i - p + k] += W[k] x[i].
//
// Layout: x (n, h, w, c_in), y (n, 2h, 2w, c_out), W (taps, c_in, c_out) f32. Output pixels of one
// parity are a matrix product: rows are input pixels, the reduction runs over the parity's taps (1;
// of a 3x3 kernel 1, 2, 2, 4) and c_in. 16 channels at a time go through registers, where any type
// becomes f32, into one of two buffers in shared memory; a thread has the sums of 8 pixels by 4
// channels.
// Roofline: 2 c_in c_out taps operations an input pixel for c_in + 4 c_out elements moved:
// with 2x2, 4 bytes an element and c_out = c_in / 2, f32 units bind from c_in of about 50. Share of
// it: not measured yet.
// Oracle: reference.cpp. The order of a sum is tap, channel, whatever the place: bytes do not
// depend on n, h or w.
#include "kernels/ops/conv_transpose/cuda_device.cuh"

namespace tessera {

namespace {

constexpr int kPixels = 128, kChannels = 64;  // of a block
constexpr int kDepth = kConvTransposeDepth;   // channels of x at a time
constexpr int kThreads = 256;
constexpr int kThreadPixels = 8, kQuad = kConvTransposeQuad;  // of a thread's sums
constexpr int kWarpPixels = 32, kWarpChannels = 32;
constexpr int kLanesAcross = kWarpChannels / kQuad, kLanesDown = 32 / kLanesAcross;
constexpr int kAcross = kChannels / kWarpChannels;  // warps along channels
constexpr int kLoad = kPixels * kDepth / kThreads;  // channels of x that a thread brings
constexpr int kLoadsPerPixel = kDepth / kLoad;
constexpr int kPitch = kDepth + 4;  // of s_x: 4 pixels in sequence start in different banks
static_assert(kLanesDown * kThreadPixels == kWarpPixels);
static_assert(kPixels / kWarpPixels * kAcross * 32 == kThreads);
static_assert(kDepth * kChannels == kThreads * kQuad && kLoad == 8);

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    conv_transpose_fma_kernel(const __grid_constant__ ConvTransposeArgs args) {
  constexpr int kVector = 16 / sizeof(T);
  SIMT_SHARED(float4, s_x_quads, [2][kPixels * kPitch / kQuad]);
  SIMT_SHARED(float4, s_w_quads, [2][kDepth * kChannels / kQuad]);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const BlockPlace place = block_place(args, kPixels, kChannels);
  const ParityTaps taps = args.taps[place.parity];
  const Pixel first = pixel_at(args, place.pixel);

  // What this thread brings: some channels of one pixel, four columns of one row of W.
  const int load_pixel = thread / kLoadsPerPixel, load_channel = thread % kLoadsPerPixel * kLoad;
  const PixelSource<T> source = pixel_source<T>(args, first, load_pixel, place.pixel + load_pixel);
  const int row = thread / (kChannels / kQuad), column = thread % (kChannels / kQuad) * kQuad;
  const int padded = (args.c_out + kQuad - 1) / kQuad * kQuad;
  const int blocks = (args.c_in + kDepth - 1) / kDepth;
  const bool has_column = place.channel + column < padded;
  const float* weight = static_cast<const float*>(args.weight) +
                        (std::int64_t{taps.first} * blocks * kDepth + row) * padded +
                        place.channel + column;
  float next_x[kLoad], next_w[kQuad] = {};

  // The next tiles to load: a tap's row and column, then a block of channels.
  int tap_row = 0, tap_column = 0, block = 0;
  const auto load_next = [&] {
    const int channel = block * kDepth + load_channel;
    const int count = source.has(tap_row, tap_column) ? args.c_in - channel : 0;
    const T* x = source.x + (std::int64_t{tap_row} * args.w + tap_column) * args.c_in + channel;
    if (count >= kLoad && args.c_in % kVector == 0) {
#pragma unroll
      for (int i = 0; i < kLoad; i += kVector) {
        float values[kVector];
        load_elements(x + i, values);
#pragma unroll
        for (int j = 0; j < kVector; ++j) next_x[i + j] = values[j];
      }
    } else {
#pragma unroll
      for (int i = 0; i < kLoad; ++i) next_x[i] = i < count ? to_float(x[i]) : 0.0f;
    }
    if (has_column) load_elements(weight, next_w);
    weight += std::int64_t{kDepth} * padded;
    if (++block < blocks) return;
    block = 0;
    if (++tap_column < taps.columns) return;
    tap_column = 0;
    ++tap_row;
  };
  const auto store_next = [&](int buffer) {
    float4* s_x = s_x_quads[buffer] + (load_pixel * kPitch + load_channel) / kQuad;
#pragma unroll
    for (int i = 0; i < kLoad; i += kQuad)
      s_x[i / kQuad] = {next_x[i], next_x[i + 1], next_x[i + 2], next_x[i + 3]};
    s_w_quads[buffer][thread] = {next_w[0], next_w[1], next_w[2], next_w[3]};
  };

  // Multiply.
  const int pixel = warp / kAcross * kWarpPixels + lane / kLanesAcross;  // then every kLanesDown-th
  const int channel = warp % kAcross * kWarpChannels + lane % kLanesAcross * kQuad;
  float sums[kThreadPixels][kQuad] = {};
  const int steps = taps.rows * taps.columns * blocks;
  load_next();
  store_next(0);
  __syncthreads();  // the first tiles before they are read below
  for (int step = 0; step < steps; ++step) {
    const bool more = step + 1 < steps;
    if (more) load_next();
    const float4* s_x = s_x_quads[step % 2];
    const float4* s_w = s_w_quads[step % 2];
#pragma unroll
    for (int k = 0; k < kDepth; k += kQuad) {
      float w[kQuad][kQuad];
#pragma unroll
      for (int i = 0; i < kQuad; ++i)
        load_elements(reinterpret_cast<const float*>(s_w) + (k + i) * kChannels + channel, w[i]);
#pragma unroll
      for (int p = 0; p < kThreadPixels; ++p) {
        float x[kQuad];
        load_elements(reinterpret_cast<const float*>(s_x) + (pixel + p * kLanesDown) * kPitch + k,
                      x);
#pragma unroll
        for (int i = 0; i < kQuad; ++i) {
#pragma unroll
          for (int j = 0; j < kQuad; ++j) sums[p][j] = fmaf(x[i], w[i][j], sums[p][j]);
        }
      }
    }
    if (more) store_next((step + 1) % 2);
    __syncthreads();  // the next tiles before they are read; this step's reads before the step
                      // after the next overwrites them
  }

  // Epilogue.
#pragma unroll
  for (int p = 0; p < kThreadPixels; ++p) {
    const int steps_behind = pixel + p * kLanesDown;
    if (place.pixel + steps_behind >= args.pixels || place.channel + channel >= args.c_out)
      continue;
    store_sums(args, output_index(args, pixel_behind(args, first, steps_behind), place.parity),
               place.channel + channel, sums[p]);
  }
}

}  // namespace

void conv_transpose_fma_cuda(const ConvTransposeArgs& args, CudaStream stream) {
  with_element(args.x_type, [&](auto element) {
    simt::launch(conv_transpose_fma_kernel<decltype(element)>, block_grid(args, kPixels, kChannels),
                 dim3(kThreads), 0, stream, args);
  });
}

}  // namespace tessera
