// Transposed convolution on the GPU: by tensor cores and by f32 units, and the promise that a
// pixel's bytes depend on neither the image's size, nor its place, nor the batch, nor the tile.
#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "kernels/ops/conv_transpose/cuda.h"
#include "tests/support/conv_operands.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaConvTranspose = CudaTest;
using Tile = ConvTransposeTile;

// What x is stored as, and how it is multiplied.
struct ProductPrecision {
  DType dtype;
  Precision math;
};
constexpr ProductPrecision kPrecisions[] = {{DType::kF32, Precision::kFp32},
                                            {DType::kF32, Precision::kTf32},
                                            {DType::kBF16, Precision::kBf16},
                                            {DType::kF16, Precision::kFp16}};

// A chain of at most 4 c_in products rounds partial sums of order at most 4. Operands rounded to
// 2^-9 (bf16) or 2^-11 (f16, TF32) each make a random walk to twice that of y's spread of 1, times
// 8 for the largest of many. Then y is rounded to its own type.
Bound bound_for(const ConvTranspose& op, std::int64_t c_in, const ProductPrecision& precision) {
  Bound bound{4 * 0x1p-24 * (std::sqrt(4.0 * static_cast<double>(c_in)) + 4), 8 * 0x1p-24};
  if (precision.dtype == DType::kBF16) {
    bound.absolute += 0x1p-5;
  } else if (precision.math != Precision::kFp32) {
    bound.absolute += 0x1p-7;
  }
  if (op.dtype == DType::kBF16) bound.relative += 0x1p-8;
  if (op.dtype == DType::kF16) bound.relative += 0x1p-11, bound.absolute += 0x1p-25;
  return bound;
}

void check(ConvTranspose op, Shape shape) {
  for (const ProductPrecision& precision : kPrecisions) {
    for (const int kernel : {2, 3}) {
      op.kernel = kernel;
      op.dtype = precision.dtype;
      SCOPED_TRACE(fmt::format("{} {} -> {}, kernel {}, math {}", name_of(op.dtype),
                               shape.to_string(), op.c_out, kernel,
                               static_cast<int>(precision.math)));
      check_cuda(op, {random(shape, 1).rounded_to(precision.dtype)}, weights_for(op, shape[3]),
                 bound_for(op, shape[3], precision), {.math = precision.math});
    }
  }
}

// Channels around a copy of 16 bytes, a line of 64, and tiles of 64 and 128.
TEST_F(CudaConvTranspose, ChannelCountsAroundTiles) {
  for (const auto& [c_in, c_out] :
       std::vector<std::pair<int, int>>{{1, 1}, {8, 5}, {15, 17}, {24, 63}, {32, 65}, {72, 20}})
    check({.c_out = c_out, .relu = true}, {1, 3, 5, c_in});
}

// Pixels around a tile of 128, and the smallest.
TEST_F(CudaConvTranspose, SizesAroundTiles) {
  for (const auto& [n, h, w] :
       std::vector<std::array<int, 3>>{{1, 1, 1}, {3, 2, 1}, {1, 1, 128}, {3, 43, 1}})
    check({.c_out = 8, .bias = n != 1}, {n, h, w, 8});
}

TEST_F(CudaConvTranspose, OutputMayHaveAnotherType) {
  for (const ProductPrecision& precision : kPrecisions) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      for (const int c_out : {12, 7}) {
        const ConvTranspose op{.c_out = c_out, .dtype = dtype};
        check_cuda(op, {random({1, 3, 4, 16}, 2).rounded_to(precision.dtype)}, weights_for(op, 16),
                   bound_for(op, 16, precision), {.math = precision.math});
      }
    }
  }
}

// Pixel by pixel: the output of a 3x3 kernel of ones counts the taps that meet there.
TEST_F(CudaConvTranspose, CountsTaps) {
  const std::vector<float> counts{1, 2, 1, 1, 2, 4, 2, 2, 1, 2, 1, 1, 1, 2, 1, 1};
  const ConvTranspose op{.c_out = 1, .kernel = 3, .bias = false};
  for (const int c_in : {1, 4}) {  // by f32 units, by tensor cores
    std::vector<float> x(static_cast<std::size_t>(4 * c_in), 0.0f);
    for (std::size_t pixel = 0; pixel < 4; ++pixel) x[pixel * static_cast<std::size_t>(c_in)] = 1;
    const Tensor weight =
        Tensor::of({c_in, 1, 3, 3}, std::vector<float>(static_cast<std::size_t>(9 * c_in), 1.0f));
    EXPECT_EQ(
        run_cuda(op, {Tensor::of({1, 2, 2, c_in}, x)}, {weight}, {.math = Precision::kTf32})[0]
            .values(),
        counts);
  }
}

TEST_F(CudaConvTranspose, NanPassesReluAndStaysInItsPixels) {
  for (const ProductPrecision& precision : kPrecisions) {
    for (const int kernel : {2, 3}) {
      const ConvTranspose op{.c_out = 2, .kernel = kernel, .relu = true, .dtype = precision.dtype};
      std::vector<float> values = random({1, 3, 3, 8}, 4).values();
      values[4 * 8 + 3] = NAN;  // pixel (1, 1) reaches rows and columns 2 and 3; 1 too if 3x3
      const Tensor x = Tensor::of({1, 3, 3, 8}, values).rounded_to(precision.dtype);
      const std::vector<float> y =
          run_cuda(op, {x}, weights_for(op, 8), {.math = precision.math})[0].values();
      const std::size_t first = kernel == 2 ? 2 : 1;
      for (std::size_t i = 0; i < y.size(); ++i) {
        const std::size_t row = i / 12, column = i / 2 % 6;
        EXPECT_EQ(std::isnan(y[i]), row >= first && row <= 3 && column >= first && column <= 3)
            << i;
      }
    }
  }
}

TEST_F(CudaConvTranspose, LargeValuesAndAnOutlier) {
  for (const ProductPrecision& precision : {kPrecisions[0], kPrecisions[1]}) {
    ConvTranspose op{.c_out = 3, .bias = false};
    std::vector<float> values(2 * 8, 1.0f);
    values[0] = 1e30f;
    std::vector<float> weight(8 * 3 * 4, 1.0f);
    const std::vector<float> y =
        run_cuda(op, {Tensor::of({1, 1, 2, 8}, values)}, {Tensor::of({8, 3, 2, 2}, weight)},
                 {.math = precision.math})[0]
            .values();
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (i / 3 % 4 < 2) {
        EXPECT_NEAR(y[i], 1e30f, 1e30f * 0x1p-10f);
      } else {
        EXPECT_EQ(y[i], 8.0f);
      }
    }
  }
}

Tensor run_with_tile(const ConvTranspose& op, const Tensor& x, const std::vector<Tensor>& weights,
                     Tile tile) {
  const auto make = [&](const CudaSetup& setup) { return cuda_with_tile(op, setup, tile); };
  return run_cuda_step(make, infer(op, types({x})), {x}, weights, {.math = Precision::kTf32})[0];
}

TEST_F(CudaConvTranspose, TilesOfOneArithmeticGiveEqualBytes) {
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const int kernel : {2, 3}) {
      const ConvTranspose op{.c_out = 72, .kernel = kernel, .dtype = dtype};
      const Tensor x = random({1, 10, 13, 24}, 5).rounded_to(dtype);
      const std::vector<Tensor> weights = weights_for(op, 24);
      const Tensor wide = run_with_tile(op, x, weights, Tile::kMma128x128);
      EXPECT_TRUE(wide.same_bytes(run_with_tile(op, x, weights, Tile::kMma128x64)));
      expect_close(wide, run_reference(op, {x}, weights)[0],
                   bound_for(op, 24, {dtype, Precision::kTf32}));
    }
  }
}

// A cut of x gives the bytes of the same place of y; the last row and column of a 3x3 kernel's cut
// lack their neighbours.
TEST_F(CudaConvTranspose, BytesDoNotDependOnSizePlaceOrBatch) {
  constexpr std::int64_t kRows = 5, kColumns = 29, kChannels = 16;
  struct Window {
    std::int64_t n, y, x, h, w;
  };
  for (const ProductPrecision& precision : kPrecisions) {
    for (const int kernel : {2, 3}) {
      const ConvTranspose op{.c_out = 12, .kernel = kernel, .dtype = precision.dtype};
      const Tensor x = random({2, kRows, kColumns, kChannels}, 5).rounded_to(op.dtype);
      const std::vector<Tensor> weights = weights_for(op, kChannels);
      const CudaRun run{.math = precision.math};
      const Tensor whole = run_cuda(op, {x}, weights, run)[0];
      for (const Window& at :
           {Window{0, 0, 0, kRows, kColumns}, {1, 1, 5, 4, 8}, {0, 4, 28, 1, 1}}) {
        const std::size_t pixel = kChannels * size_of(op.dtype);
        Tensor cut({op.dtype, {1, at.h, at.w, kChannels}});
        for (std::int64_t row = 0; row < at.h; ++row) {
          const std::int64_t from = (at.n * kRows + at.y + row) * kColumns + at.x;
          std::memcpy(cut.view().as<std::byte>() + static_cast<std::size_t>(row * at.w) * pixel,
                      x.view().as<std::byte>() + static_cast<std::size_t>(from) * pixel,
                      static_cast<std::size_t>(at.w) * pixel);
        }
        const Tensor tile = run_cuda(op, {cut}, weights, run)[0];
        const std::size_t out = static_cast<std::size_t>(op.c_out) * size_of(op.dtype);
        const bool bottom = at.y + at.h == kRows, right = at.x + at.w == kColumns;
        const std::int64_t rows = 2 * at.h - (kernel == 3 && !bottom ? 1 : 0);
        const std::int64_t columns = 2 * at.w - (kernel == 3 && !right ? 1 : 0);
        for (std::int64_t row = 0; row < rows; ++row) {
          const std::int64_t there = (at.n * 2 * kRows + 2 * at.y + row) * 2 * kColumns + 2 * at.x;
          EXPECT_EQ(
              std::memcmp(
                  tile.view().as<std::byte>() + static_cast<std::size_t>(row * 2 * at.w) * out,
                  whole.view().as<std::byte>() + static_cast<std::size_t>(there) * out,
                  static_cast<std::size_t>(columns) * out),
              0)
              << name_of(op.dtype) << ", kernel " << kernel << ", row " << row;
        }
      }
    }
  }
}

TEST_F(CudaConvTranspose, TakesWeightsOfOtherTypes) {
  const ConvTranspose op{.c_out = 6};
  std::vector<Tensor> narrow;
  for (const Tensor& weight : weights_for(op, 5)) narrow.push_back(weight.rounded_to(DType::kBF16));
  check_cuda(op, {random({1, 3, 4, 5}, 6)}, narrow, bound_for(op, 5, kPrecisions[0]));
}

// The choice is a pure function: these run without a GPU.
constexpr ConvTransposeProblem kDeep{784, 1024, 512, DType::kBF16, Precision::kBf16, 80, 108};

TEST(ConvTransposeChoice, TakesTheWidestTileThatFits) {
  ConvTransposeProblem problem = kDeep;
  problem.pixels = 8 * 784;
  EXPECT_EQ(choose_conv_transpose(problem).tile, Tile::kMma128x128);
  EXPECT_TRUE(choose_conv_transpose(problem).rejected.empty());
  problem.c_out = 192;
  EXPECT_EQ(choose_conv_transpose(problem).tile, Tile::kMma128x64);
  EXPECT_THAT(choose_conv_transpose(problem).rejected[0].reason, testing::HasSubstr("256"));
}

TEST(ConvTransposeChoice, FewPixelsTakeMoreBlocks) {
  const ConvTransposeChoice choice = choose_conv_transpose(kDeep);
  EXPECT_EQ(choice.tile, Tile::kMma128x64);
  EXPECT_THAT(choice.rejected[0].reason, testing::HasSubstr("112 blocks"));
}

TEST(ConvTransposeChoice, SaysWhyTensorCoresDoNotFit) {
  const auto reason = [](const ConvTransposeProblem& problem) {
    const ConvTransposeChoice choice = choose_conv_transpose(problem);
    EXPECT_EQ(choice.tile, Tile::kFma128x64);
    EXPECT_EQ(choice.rejected.size(), 2u);
    return choice.rejected.back().reason;
  };
  ConvTransposeProblem problem = kDeep;
  problem.c_in = 1023;
  EXPECT_THAT(reason(problem), testing::HasSubstr("a pixel has 2046"));
  problem = kDeep;
  problem.capability = 75;
  EXPECT_THAT(reason(problem), testing::HasSubstr("7.5"));
  problem = kDeep;
  problem.x = DType::kF32;
  problem.math = Precision::kFp32;
  EXPECT_THAT(reason(problem), testing::HasSubstr("TF32"));
}

}  // namespace
}  // namespace tessera::test
