// The CUDA path of ConvTranspose: what its launchers take, and which technique and tile a problem
// gets.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/stream.h"
#include "kernels/precision.h"
#include "kernels/tensor.h"

namespace tessera {

struct ConvTranspose;
struct CudaSetup;
struct Step;

// Input pixels and output channels of a block. Best first.
enum class ConvTransposeTile : std::uint8_t { kMma128x128, kMma128x64, kFma128x64 };
inline constexpr std::array kConvTransposeTiles{
    ConvTransposeTile::kMma128x128, ConvTransposeTile::kMma128x64, ConvTransposeTile::kFma128x64};
std::string_view name_of(ConvTransposeTile tile);  // "mma 128x128"

// What a choice depends on.
struct ConvTransposeProblem {
  std::int64_t pixels = 0;  // of x, all images
  std::int64_t c_in = 0, c_out = 0;
  DType x = DType::kF32;
  Precision math{};
  int capability = 0;
  int multiprocessors = 0;
};

struct ConvTransposeChoice {
  struct Rejection {
    ConvTransposeTile tile;
    std::string reason;
  };
  ConvTransposeTile tile;
  std::vector<Rejection> rejected;  // those before it
};

// Products are made by tensor cores (mma) or by f32 units (fma); which of them depends on
// channels, type, math and capability alone. The number of pixels and of multiprocessors chooses
// among tiles that give equal bytes.
ConvTransposeChoice choose_conv_transpose(const ConvTransposeProblem& problem);

// The step of `cuda` with a tile chosen by the caller, who must take one whose arithmetic is
// choose_conv_transpose's.
Step cuda_with_tile(const ConvTranspose& op, const CudaSetup& setup, ConvTransposeTile tile);

// An output pixel of parity (a, b) = p / 2, p % 2 is made of the input pixel (i, j) and, with a 3x3
// kernel and an odd coordinate, of its neighbour behind: the taps of each of the four parities.
struct ParityTaps {
  int rows, columns;  // of input pixels
  int first;          // taps of the parities before it
};
constexpr ParityTaps parity_taps(int kernel, int parity) {
  if (kernel == 2) return {1, 1, parity};
  return {1 + parity / 2, 1 + parity % 2, parity == 0 ? 0 : 2 * parity - 1};
}
static_assert(parity_taps(3, 3).first + 4 == 3 * 3 && parity_taps(2, 3).first + 1 == 2 * 2);
inline constexpr int kParities = 4;

struct ConvTransposeArgs {
  const void* x;        // (n, h, w, c_in)
  const void* weight;   // as the technique's file says
  const float* bias;    // (c_out)
  void* y;              // (n, 2h, 2w, c_out)
  std::int64_t pixels;  // n h w
  int h, w, c_in, c_out;
  ParityTaps taps[kParities];
  bool relu;
  DType x_type, y_type;
};

// Tensor cores: channels of x fill whole 16 bytes; capability 80.
void conv_transpose_mma_cuda(const ConvTransposeArgs& args, ConvTransposeTile tile,
                             CudaStream stream);

// f32 multiply-adds, any types and channels.
void conv_transpose_fma_cuda(const ConvTransposeArgs& args, CudaStream stream);

// Layouts of `weight`, taps in the order of parities and, within one, of input rows and columns:
// mma:  (taps, lines of c_in, c_out, kConvTransposeLineBytes / size of an element), zero past c_in;
// fma: (taps, c_in rounded up to kConvTransposeDepth, c_out rounded up to kConvTransposeQuad) f32.
inline constexpr int kConvTransposeLineBytes = 64;
inline constexpr int kConvTransposeDepth = 16;
inline constexpr int kConvTransposeQuad = 4;

}  // namespace tessera
