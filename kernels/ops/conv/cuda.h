// The CUDA path of Conv: what its launchers take, and which technique and tile a problem gets.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/cuda/stream.h"
#include "kernels/ops/activation/curve.h"
#include "kernels/precision.h"
#include "kernels/tensor.h"

namespace tessera {

struct Conv;
struct CudaSetup;
struct Step;

// Pixels of a block's output tile and its output channels; tiles start at even rows and columns, so
// that every 2x2 window of `pooled` lies inside one. Best first among equals. A pair is a cluster
// of two blocks, which have a tile each and share the reads of weights.
enum class ConvTile : std::uint8_t {
  kWgmma256x128,  // 32 x 8 pixels
  kWgmma224x128,  // 28 x 8
  kWgmma208x128,  // 26 x 8
  kWgmma176x128,  // 22 x 8
  kWgmma160x128,  // 20 x 8
  kWgmma128x128,  // 16 x 8
  kWgmma64x128,   //  8 x 8
  kWgmma512x64,   // 32 x 16
  kWgmma448x64,   // 28 x 16
  kWgmma416x64,   // 26 x 16
  kWgmmaPair256x128,
  kWgmmaPair224x128,
  kWgmmaPair208x128,
  kWgmmaPair176x128,
  kWgmmaPair160x128,
  kWgmmaPair128x128,
  kWgmmaPair64x128,
  kWgmmaPair512x64,
  kWgmmaPair448x64,
  kWgmmaPair416x64,
  kMma128x128,  //  8 x 16
  kMma256x64,   // 16 x 16
  kMma256x32,   // 16 x 16
  kMma64x64,    //  8 x 8
  kFma128x64,   //  8 x 16
  kFma256x16,   // 16 x 16
};
inline constexpr std::array kConvTiles{
    ConvTile::kWgmma256x128,     ConvTile::kWgmma224x128,     ConvTile::kWgmma208x128,
    ConvTile::kWgmma176x128,     ConvTile::kWgmma160x128,     ConvTile::kWgmma128x128,
    ConvTile::kWgmma64x128,      ConvTile::kWgmma512x64,      ConvTile::kWgmma448x64,
    ConvTile::kWgmma416x64,      ConvTile::kWgmmaPair256x128, ConvTile::kWgmmaPair224x128,
    ConvTile::kWgmmaPair208x128, ConvTile::kWgmmaPair176x128, ConvTile::kWgmmaPair160x128,
    ConvTile::kWgmmaPair128x128, ConvTile::kWgmmaPair64x128,  ConvTile::kWgmmaPair512x64,
    ConvTile::kWgmmaPair448x64,  ConvTile::kWgmmaPair416x64,  ConvTile::kMma128x128,
    ConvTile::kMma256x64,        ConvTile::kMma256x32,        ConvTile::kMma64x64,
    ConvTile::kFma128x64,        ConvTile::kFma256x16};
// Tiles of one arithmetic give equal bytes.
enum class ConvArithmetic : std::uint8_t { kFma, kMma, kWgmma };
ConvArithmetic arithmetic_of(ConvTile tile);
std::string_view name_of(ConvTile tile);  // "mma 128x128"

// What a choice depends on.
struct ConvProblem {
  std::int64_t n = 0, ho = 0, wo = 0;
  int c_out = 0;
  std::vector<std::int64_t> c_in;  // of each source
  DType x = DType::kF32, y = DType::kF32;
  Precision math{};
  int capability = 0;
  int multiprocessors = 0;
  int groups = 1;
  int kernel = 1;      // of a square window
  bool wgmma = false;  // this build has kernels for sm_90a
};

struct ConvChoice {
  struct Rejection {
    ConvTile tile;
    std::string reason;
  };
  ConvTile tile;
  std::vector<Rejection> rejected;  // all the others

  std::string to_string() const;  // a line for the tile chosen and one for each rejection
};

// How fast a tile is on one multiprocessor: `full`, products per clock relative to the best tile of
// its arithmetic, with as many blocks as it holds; `alone`, the part of the tile's limit that one
// block by itself reaches. By place in kConvTiles.
struct ConvRate {
  double full, alone;
};
using ConvRates = std::array<ConvRate, kConvTiles.size()>;
const ConvRates& conv_model_rates();
// Measured ones (cuda_rates.inc) where there are any, else the model's.
const ConvRates& conv_rates();

// A launch that was timed, with `products` for each element of its output.
struct ConvTiming {
  ConvProblem problem;
  ConvTile tile;
  double products, seconds;
};
// What timings say. A tile with fewer than three keeps the model's rate.
ConvRates fit_conv_rates(const std::vector<ConvTiming>& timings);

// Products are made by Hopper's tensor cores (wgmma), by those of all GPUs (mma) or by f32 units
// (fma); which of them depends on kernel, channel counts, types, math and capability alone. The
// size of the image, the batch and the number of multiprocessors choose among the tiles of one
// arithmetic, and those give equal bytes.
ConvChoice choose_conv(const ConvProblem& problem, const ConvRates& rates = conv_rates());

// The step of `cuda` with a tile chosen by the caller, who must take one whose arithmetic is
// choose_conv's.
Step cuda_with_tile(const Conv& op, const CudaSetup& setup, ConvTile tile);

struct ConvArgs {
  // A tensor (n, rows, pitch, c) that holds channels of the joined input. Pixel (y, x) of the
  // joined map is its pixel y * pitch + x + origin if [row_begin, row_end) and [column_begin,
  // column_end) contain it, and zero if not.
  struct Source {
    const void* x;
    std::int64_t image;  // pixels of one image
    std::int64_t pitch, origin;
    int row_begin, row_end, column_begin, column_end;
    int c;
  };
  Source sources[2];  // in channel order
  int source_count;
  const void* weight;  // as the technique's file says
  const float* bias;   // (c_out rounded up to kConvQuad)
  const float* scale;  // the same, of a norm after ReLU; null without one
  const float* shift;
  void* y;       // (n, ho, wo, c_out)
  void* pooled;  // (n, ho / 2, wo / 2, c_out) or null
  int n, ho, wo, c_out;
  int kernel;     // 1, 3, or 2, which the gradient of a transposed convolution takes
  int top, left;  // pads
  bool relu;
  // What an epilogue adds before ReLU, and the slopes (c_out) of a leaky one in its place, or null.
  // Neither goes with a norm after ReLU.
  Residual residual;
  const float* slopes;
  DType x_type, y_type;
};

// Tensor cores: x_type = y_type; every source's channels fill whole 16 bytes; capability 80.
void conv_mma_cuda(const ConvArgs& args, ConvTile tile, CudaStream stream);

// Hopper's tensor cores: the same, for kernels of 3 and 16 bits; capability 90.
void conv_wgmma_cuda(const ConvArgs& args, ConvTile tile, CudaStream stream);
bool has_conv_wgmma();  // whether this build can run it

// f32 multiply-adds, any types and channels.
void conv_fma_cuda(const ConvArgs& args, ConvTile tile, CudaStream stream);

// Layouts of `weight`. A block of channels never crosses from one source to the next.
// mma:  (blocks, k * k, c_out, kConvLineBytes / size of an element), zero past a source's channels;
// wgmma: the same with kConvWgmmaLineBytes;
// fma: (c_in, k * k, c_out rounded up to kConvQuad) of f32, zero past c_out.
inline constexpr int kConvLineBytes = 64;
inline constexpr int kConvWgmmaLineBytes = 128;
inline constexpr int kConvQuad = 4;

}  // namespace tessera
