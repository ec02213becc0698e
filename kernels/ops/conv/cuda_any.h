// Convolutions of any window, stride, dilation and groups on CUDA, and transposed ones, which are
// some of them for each place within a stride: what their launchers take, and which technique a
// problem gets.
#pragma once

#include <array>
#include <functional>
#include <memory>

#include "kernels/ops/conv/cuda.h"

namespace tessera {

class DeviceBuffer;

// Best first.
enum class AnyConvTechnique : std::uint8_t {
  kMma128x64,  // tensor cores: pixels x channels of a block
  kFma64x64,   // f32 multiply-adds: a product of matrices for each group
  kFmaChannel  // f32 multiply-adds: a thread for each channel, or four, of each pixel
};
std::string_view name_of(AnyConvTechnique technique);  // "any mma 128x64"

struct AnyConvChoice {
  struct Rejection {
    AnyConvTechnique technique;
    std::string reason;
  };
  AnyConvTechnique technique;
  std::vector<Rejection> rejected;  // those before it
};
// Depends on channels, groups, types, math and capability alone, since these give other bytes.
AnyConvChoice choose_any_conv(const ConvProblem& problem);

// Along rows or columns: tap k of pixel i reads i stride + first + k step of the joined map. Pixel
// i is y's i spread + offset, of `size`.
struct AnyConvAxis {
  int taps, stride, first, step;
  int spread, offset, size;
};

// `conv` says the rest: n images of ho x wo pixels that are made. Its kernel, pads and pooled are
// not read.
struct AnyConvArgs {
  ConvArgs conv;
  AnyConvAxis axes[2];
  int groups;
};
// Whether kernels can count the pixels and steps of a sum, in 32 bits.
bool is_countable(const AnyConvArgs& args);

// Type and channels as conv_mma_cuda takes them; one group.
void any_conv_mma_cuda(const AnyConvArgs& args, CudaStream stream);
// f32 multiply-adds, any types and channels; of several groups, one source.
void any_conv_fma_cuda(const AnyConvArgs& args, CudaStream stream);
void any_conv_channel_cuda(const AnyConvArgs& args, CudaStream stream);

// Layouts of `weight`, of kh x kw taps:
// kMma128x64:   that of conv_mma_cuda
// kFma64x64:    (groups, k rounded up to kAnyConvDepth, c_out / groups rounded up to kConvQuad) of
//               f32, where k runs over sources, then taps, then channels of the source and group
// kFmaChannel:  (kh kw, c_in / groups, c_out rounded up to kConvQuad) of f32
inline constexpr int kAnyConvDepth = 16;

// Weight of output channel `o`, channel `i` of the joined input's group, tap (ky, kx).
using AnyConvWeight = std::function<double(std::int64_t o, std::int64_t i, int ky, int kx)>;

// The weights in the technique's layout, made once and kept under `key`; `open` is asked for them
// where they are not there yet.
std::shared_ptr<const DeviceBuffer> pack_any_conv(const AnyConvArgs& args,
                                                  AnyConvTechnique technique,
                                                  const std::string& key, const CudaSetup& setup,
                                                  const std::function<AnyConvWeight()>& open);

void any_conv_cuda(const AnyConvArgs& args, AnyConvTechnique technique, CudaStream stream);

}  // namespace tessera
