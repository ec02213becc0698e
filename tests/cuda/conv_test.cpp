// Convolution on the GPU against its reference, and the promise that a pixel's bytes depend on
// neither the image's size, nor its place, nor the batch, nor the tile that a block makes.
#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/conv/conv.h"
#include "kernels/ops/conv/cuda.h"
#include "tests/support/conv_arithmetic.h"
#include "tests/support/conv_operands.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaConv = CudaTest;
using test::Padding;
using test::window;
using Norm = Conv::Norm;
using ::testing::HasSubstr;

constexpr Arithmetic kF16ToF32{DType::kF16, DType::kF32};
const std::vector<Arithmetic> kForward{kF32, kTF32, kBF16, kF16, kF32ToBF16, kF16ToF32};

CudaRun run_of(const Arithmetic& a) {
  return {.math = a.math};
}

Conv with(Conv op, const Arithmetic& a) {
  op.dtype = a.y;
  return op;
}

// Values whose products are exact, stored as x is.
Tensor exact(const Tensor& tensor, const Arithmetic& a) {
  return narrow(tensor, a).rounded_to(a.x);
}

std::vector<Tensor> weights_for(const Conv& op, const std::vector<Tensor>& inputs,
                                const Arithmetic& a) {
  std::vector<Tensor> weights = test::weights_for(op, inputs);
  weights[0] = exact(weights[0], a);
  return weights;
}

// With operands from `exact` every product is exact, and their sums have a spread of 1. A norm
// multiplies by gamma / sqrt(var + eps), below 5 in these draws. Before ReLU it is folded into the
// weights, which bf16 rounds again by up to 2^-8, f16 and tf32 by 2^-11: 2^-8 / sqrt(3) of a sum
// of spread 1, times 6 for the largest of many.
Bound bound_for(const Conv& op, std::int64_t c_in, const Arithmetic& a) {
  const double gain = op.norm == Norm::kNone ? 1 : 5;
  const double terms = static_cast<double>(c_in * op.window.kernel[0] * op.window.kernel[0]);
  double absolute = sum_error(terms, 1, a);
  if (op.norm == Norm::kBeforeRelu && on_tensor_cores(a))
    absolute += a.x == DType::kBF16 ? 0x1p-6 : 0x1p-9;
  return {gain * absolute, unit_of(a.y)};
}

void check(Conv op, std::vector<Tensor> inputs, const Arithmetic& a) {
  op = with(op, a);
  for (Tensor& input : inputs) input = exact(input, a);
  const std::vector<Tensor> weights = weights_for(op, inputs, a);
  SCOPED_TRACE(fmt::format("{} -> {}, kernel {}, {}", inputs[0].type().to_string(), op.c_out,
                           op.window.kernel[0], to_string(a)));
  check_cuda(op, inputs, weights, bound_for(op, weights[0].type().shape[1], a), run_of(a));
}

TEST_F(CudaConv, ChannelCounts) {
  for (const Arithmetic& a : kForward) {
    for (const auto& [c_in, c_out] : std::vector<std::pair<int, int>>{{1, 1},
                                                                      {1, 64},
                                                                      {2, 7},
                                                                      {3, 16},
                                                                      {4, 33},
                                                                      {5, 2},
                                                                      {8, 64},
                                                                      {16, 16},
                                                                      {24, 72},
                                                                      {40, 7},
                                                                      {40, 33}}) {
      check({.c_out = c_out, .relu = true}, {random({1, 5, 7, c_in}, 1)}, a);
    }
  }
}

TEST_F(CudaConv, LongReduction) {
  for (const Arithmetic& a : {kF32, kTF32, kBF16, kF16})
    check({.c_out = 20}, {random({1, 4, 5, 200}, 5)}, a);
}

TEST_F(CudaConv, OneByOne) {
  for (const Arithmetic& a : kForward) {
    for (const int c_in : {1, 3, 16, 72, 200})  // one to more blocks than the ring has stages
      check({.c_out = 3, .window = window(1)}, {random({2, 3, 11, c_in}, 4)}, a);
  }
}

TEST_F(CudaConv, PaddingDownToOnePixel) {
  for (const Arithmetic& a : {kF32, kBF16}) {
    for (const Padding padding : {Padding::kSame, Padding::kFull}) {
      for (const auto& [h, w] :
           std::vector<std::pair<int, int>>{{1, 1}, {1, 2}, {2, 1}, {4, 4}, {9, 17}}) {
        check({.c_out = 18, .window = window(3, padding)}, {random({2, h, w, 8}, 3)}, a);
      }
      check({.c_out = 5, .window = window(3, padding)}, {random({1, 1, 3, 3}, 3)}, a);
    }
  }
}

TEST_F(CudaConv, NormsBiasAndPooling) {
  for (const Arithmetic& a : {kF32, kTF32, kBF16, kF16}) {
    for (const Norm norm : {Norm::kNone, Norm::kBeforeRelu, Norm::kAfterRelu}) {
      for (const bool bias : {false, true}) {
        Conv op{.c_out = 24, .bias = bias, .relu = true, .norm = norm, .pool = true};
        check(op, {random({2, 7, 10, 8}, 6)}, a);
        op.window = window(3, Padding::kSame);
        check(op, {random({1, 5, 7, 8}, 7)}, a);
      }
    }
  }
}

TEST_F(CudaConv, PoolsOddChannelsAndTypes) {
  for (const Arithmetic& a : kForward)
    check({.c_out = 7, .pool = true}, {random({1, 9, 8, 8}, 6)}, a);
}

struct Joined {
  CropConcat concat;
  Shape skip, up;
};
const std::vector<Joined> kJoined{
    {{CropConcat::Align::kCropSkip, true}, {2, 10, 9, 8}, {2, 6, 6, 16}},
    {{CropConcat::Align::kCropSkip, false}, {1, 7, 12, 40}, {1, 4, 5, 8}},
    {{CropConcat::Align::kCropSkip, true}, {1, 5, 5, 3}, {1, 5, 5, 10}},
    {{CropConcat::Align::kPadUp, true}, {2, 7, 9, 8}, {2, 6, 6, 24}},
    {{CropConcat::Align::kPadUp, false}, {1, 9, 6, 5}, {1, 4, 6, 6}}};

TEST_F(CudaConv, TwoSources) {
  for (const Arithmetic& a : {kF32, kTF32, kBF16, kF16}) {
    for (const Joined& joined : kJoined) {
      for (const Padding padding : {Padding::kValid, Padding::kSame}) {
        SCOPED_TRACE(fmt::format("align {}", static_cast<int>(joined.concat.align)));
        check({.c_out = 21, .window = window(3, padding), .concat = joined.concat},
              {random(joined.skip, 8), random(joined.up, 9)}, a);
      }
    }
  }
}

// What lies around the crop is not padding: NaN there must not be seen.
TEST_F(CudaConv, PixelsOutsideTheCropAreNotRead) {
  const CropConcat concat{CropConcat::Align::kCropSkip, true};
  for (const Arithmetic& a : {kF32, kBF16}) {
    std::vector<float> skip(1 * 8 * 9 * 8, NAN);
    for (std::size_t i = 0; i < 4 * 5 * 8; ++i)
      skip[((2 + i / 40) * 9 + 2 + i / 8 % 5) * 8 + i % 8] = 0.5f;
    check({.c_out = 8, .window = window(3, Padding::kSame), .concat = concat},
          {Tensor::of({1, 8, 9, 8}, skip), random({1, 4, 5, 8}, 9)}, a);
  }
}

// tf32 keeps 11 bits of f32: each factor is rounded by up to 2^-12 of itself times 2, two factors
// add like a random walk to 2^-11 sqrt(2 / 3) of y's spread of 1, times 6 for the largest of many.
TEST_F(CudaConv, TF32RoundsF32Operands) {
  const Conv op{.c_out = 16};
  const Tensor x = random({1, 6, 8, 24}, 10);
  const std::vector<Tensor> weights{random({16, 24, 3, 3}, 11, 1 / std::sqrt(216.0f)),
                                    random({16}, 12)};
  for (const Precision math : {Precision::kTf32, Precision::kBf16, Precision::kFp16}) {
    check_cuda(op, {x}, weights, {0x1p-8, 0}, {.math = math});
    EXPECT_FALSE(run_cuda(op, {x}, weights, {.math = math})[0].same_bytes(
        run_cuda(op, {x}, weights, {.math = Precision::kFp32})[0]));
  }
}

// Values between two tf32 numbers go to the nearer one, ties away from zero, as weights do on the
// host; truncation would bias every sum.
TEST_F(CudaConv, TF32RoundsToNearest) {
  const Conv op{.c_out = 1, .window = window(1), .bias = false};
  const std::vector<float> x{1 + 0x1.8p-11f,  0, 0, 0, 1 + 0x1p-11f, 0, 0, 0,
                             -1 - 0x0.8p-11f, 0, 0, 0};
  const Tensor weight = Tensor::of({1, 4, 1, 1}, {1 + 0x1.8p-11f, 0, 0, 0});
  const float w = 1 + 0x1p-10f;
  EXPECT_EQ(
      run_cuda(op, {Tensor::of({1, 1, 3, 4}, x)}, {weight}, {.math = Precision::kTf32})[0].values(),
      (std::vector<float>{w * w, w * w, -w}));
}

// Large values: every product is 2^8 times an ordinary one, so the absolute error is as well.
TEST_F(CudaConv, AnOutlierStaysInItsWindow) {
  for (const Arithmetic& a : {kF32, kTF32, kBF16, kF16}) {
    Tensor x = random({1, 9, 9, 8}, 13);
    x.view().as<float>()[(4 * 9 + 4) * 8 + 3] = 256;
    const Conv op = with({.c_out = 16}, a);
    const std::vector<Tensor> inputs{exact(x, a)}, weights = weights_for(op, inputs, a);
    Bound bound = bound_for(op, 8, a);
    bound.absolute *= 256;
    check_cuda(op, inputs, weights, bound, run_of(a));
  }
}

TEST_F(CudaConv, NanReachesExactlyThePixelsThatSeeIt) {
  for (const Arithmetic& a : {kF32, kTF32, kBF16, kF16}) {
    const Conv op = with({.c_out = 3, .relu = true, .norm = Norm::kAfterRelu, .pool = true}, a);
    Tensor x = random({1, 12, 12, 8}, 12);
    x.view().as<float>()[(5 * 12 + 5) * 8] = NAN;
    const std::vector<Tensor> inputs{exact(x, a)};
    const auto y = run_cuda(op, inputs, weights_for(op, inputs, a), run_of(a));
    const std::vector<float> values = y[0].values(), pooled = y[1].values();
    for (int i = 0; i < 10; ++i) {
      for (int j = 0; j < 10; ++j) {
        const bool sees = i >= 3 && i < 6 && j >= 3 && j < 6;
        const bool window_sees = i / 2 >= 1 && i / 2 < 3 && j / 2 >= 1 && j / 2 < 3;
        const auto at = [](const std::vector<float>& from, int pixel) {
          return std::isnan(from[static_cast<std::size_t>(pixel * 3)]);
        };
        EXPECT_EQ(at(values, i * 10 + j), sees) << to_string(a) << ": " << i << ", " << j;
        EXPECT_EQ(at(pooled, i / 2 * 5 + j / 2), window_sees) << i << ", " << j;
      }
    }
  }
}

TEST_F(CudaConv, BytesDoNotDependOnSizeOrPlace) {
  for (const Arithmetic& a : {kF32, kTF32, kBF16, kF16}) {
    for (const int kernel : {1, 3}) {
      const Conv op = with({.c_out = 24, .window = window(kernel), .relu = true}, a);
      const Tensor x = exact(random({1, 18, 19, 8}, 13), a);
      const std::vector<Tensor> weights = weights_for(op, {x}, a);
      const Tensor whole = run_cuda(op, {x}, weights, run_of(a))[0];
      for (const auto& [top, left, h, w] : std::vector<std::array<int, 4>>{
               {3, 5, 3, 3}, {1, 2, 9, 7}, {0, 4, 18, 15}, {7, 0, 11, 18}}) {
        const Tensor tile = run_cuda(op, {window(x, top, left, h, w)}, weights, run_of(a))[0];
        const int side = kernel - 1;
        EXPECT_TRUE(tile.same_bytes(window(whole, top, left, h - side, w - side)))
            << to_string(a) << ", kernel " << kernel << ": " << h << "x" << w << " at " << top
            << ", " << left;
      }
    }
  }
}

TEST_F(CudaConv, RowOfABatchIsThatRowAlone) {
  for (const Arithmetic& a : {kF32, kBF16}) {
    const Conv op = with(
        {.c_out = 40, .window = window(3, Padding::kSame), .concat = CropConcat{}, .pool = true},
        a);
    const std::vector<Tensor> inputs{exact(random({3, 9, 11, 8}, 14), a),
                                     exact(random({3, 7, 10, 16}, 15), a)};
    check_cuda_batch(op, inputs, weights_for(op, inputs, a), run_of(a));
  }
}

std::vector<ConvTile> tiles_of(const Arithmetic& a) {
  if (a.x == DType::kF32 && a.math == Precision::kFp32)
    return {ConvTile::kFma128x64, ConvTile::kFma256x16};
  return {ConvTile::kMma128x128, ConvTile::kMma256x64, ConvTile::kMma256x32, ConvTile::kMma64x64};
}

std::vector<Tensor> run_with_tile(const Conv& op, const std::vector<Tensor>& inputs,
                                  const std::vector<Tensor>& weights, ConvTile tile,
                                  const Arithmetic& a) {
  const auto make = [&](const CudaSetup& setup) { return cuda_with_tile(op, setup, tile); };
  return run_cuda_step(make, infer(op, types(inputs)), inputs, weights, run_of(a));
}

void expect_same_bytes_of_every_tile(Conv op, const Shape& x, const Arithmetic& a) {
  op = with(op, a);
  const std::vector<Tensor> inputs{exact(random(x, 16), a)};
  const std::vector<Tensor> weights = weights_for(op, inputs, a);
  const std::vector<Tensor> expected = run_cuda(op, inputs, weights, run_of(a));
  for (const ConvTile tile : tiles_of(a)) {
    const std::vector<Tensor> y = run_with_tile(op, inputs, weights, tile, a);
    for (std::size_t i = 0; i < y.size(); ++i)
      EXPECT_TRUE(y[i].same_bytes(expected[i]))
          << name_of(tile) << ", " << to_string(a) << ", " << x.to_string() << " -> " << op.c_out
          << ", kernel " << op.window.kernel[0] << ", output " << i;
  }
}

// Extents of y around those of the tiles, 8 and 16, and channels around theirs.
TEST_F(CudaConv, EveryTileGivesTheBytesOfTheChosenOne) {
  Conv op{
      .window = window(3, Padding::kSame), .relu = true, .norm = Norm::kAfterRelu, .pool = true};
  for (const Arithmetic& a : {kF32, kBF16}) {
    for (const auto& [h, w, c_in, c_out] : std::vector<std::array<int, 4>>{
             {7, 15, 8, 16}, {8, 16, 8, 15}, {9, 17, 8, 17}, {16, 7, 8, 65}}) {
      op.c_out = c_out, op.window = window(3);
      expect_same_bytes_of_every_tile(op, {1, h, w, c_in}, a);
    }
  }
  for (const Arithmetic& a : {kF32, kTF32, kBF16, kF16}) {
    op.c_out = 136, op.window = window(1);
    expect_same_bytes_of_every_tile(op, {1, 17, 9, 8}, a);
    op.c_out = 24, op.window = window(3);
    expect_same_bytes_of_every_tile(op, {1, 6, 8, 40}, a);
  }
}

TEST_F(CudaConv, EveryTileReadsTwoSources) {
  for (const Arithmetic& a : {kF32, kTF32, kBF16}) {
    const Conv op = with({.c_out = 24,
                          .window = window(3, Padding::kSame),
                          .concat = CropConcat{CropConcat::Align::kPadUp}},
                         a);
    const std::vector<Tensor> inputs{exact(random({1, 6, 10, 8}, 17), a),
                                     exact(random({1, 5, 7, 40}, 18), a)};
    const std::vector<Tensor> weights = weights_for(op, inputs, a);
    const std::vector<Tensor> reference = run_reference(op, inputs, weights);
    for (const ConvTile tile : tiles_of(a)) {
      SCOPED_TRACE(fmt::format("{}, {}", name_of(tile), to_string(a)));
      expect_close(run_with_tile(op, inputs, weights, tile, a)[0], reference[0],
                   bound_for(op, 48, a));
    }
  }
}

TEST_F(CudaConv, WinogradIsRefused) {
  const Conv op{.c_out = 4, .technique = Conv::Technique::kWinograd};
  const std::vector<TensorType> x{{DType::kF32, {1, 9, 9, 3}}};
  CudaSetup setup;
  setup.name = "down1/conv1";
  setup.inputs = x;
  EXPECT_THAT([&] { cuda(op, setup); }, ::testing::ThrowsMessage<Error>(HasSubstr("down1/conv1")));
}

// The choice needs no GPU.

ConvProblem problem(std::int64_t side, int c_in, int c_out, const Arithmetic& a) {
  return {.n = 1,
          .ho = side,
          .wo = side,
          .c_out = c_out,
          .c_in = {c_in},
          .x = a.x,
          .y = a.y,
          .math = a.math,
          .capability = 90,
          .multiprocessors = 132};
}

// Of the model, whatever was measured since.
ConvChoice choose_by_model(const ConvProblem& p) {
  return choose_conv(p, conv_model_rates());
}

std::string reason_against(ConvTile tile, const ConvProblem& p) {
  for (const ConvChoice::Rejection& rejection : choose_by_model(p).rejected)
    if (rejection.tile == tile) return rejection.reason;
  return "chosen";
}

TEST(CudaConvChoice, NamesAReasonAgainstEveryOtherTile) {
  for (const Arithmetic& a : kForward) {
    for (const int c : {3, 64}) {
      const ConvChoice choice = choose_conv(problem(100, c, 64, a));
      EXPECT_EQ(choice.rejected.size(), kConvTiles.size() - 1);
      for (const ConvChoice::Rejection& rejection : choice.rejected) {
        EXPECT_NE(rejection.tile, choice.tile);
        EXPECT_THAT(choice.to_string(), HasSubstr(fmt::format("not {}: {}", name_of(rejection.tile),
                                                              rejection.reason)));
      }
      EXPECT_THAT(choice.to_string(), ::testing::StartsWith(std::string(name_of(choice.tile))));
    }
  }
}

TEST(CudaConvChoice, ArithmeticFollowsChannelsTypesMathAndCapability) {
  const auto against_mma = [](const ConvProblem& p) {
    return reason_against(ConvTile::kMma128x128, p);
  };
  const auto against_fma = [](const ConvProblem& p) {
    return reason_against(ConvTile::kFma128x64, p);
  };
  EXPECT_THAT(against_mma(problem(100, 64, 64, kF32)), HasSubstr("math is f32"));
  EXPECT_THAT(against_mma(problem(100, 64, 64, kF32ToBF16)), HasSubstr("x is f32 and y is bf16"));
  EXPECT_THAT(against_mma(problem(100, 12, 64, kBF16)),
              HasSubstr("multiple of 8 in bf16, but is 12"));
  EXPECT_THAT(against_mma(problem(100, 6, 64, kTF32)), HasSubstr("multiple of 4 in f32, but is 6"));
  ConvProblem p = problem(100, 64, 64, kBF16);
  EXPECT_THAT(against_fma(p), HasSubstr("multiply bf16 exactly"));
  p.c_in = {64, 20};
  EXPECT_THAT(against_mma(p), HasSubstr("but is 20"));
  p.c_in = {64, 64}, p.capability = 75;
  EXPECT_THAT(against_mma(p), HasSubstr("the GPU has 7.5"));
  EXPECT_THAT(against_fma(problem(100, 64, 64, kTF32)), HasSubstr("math is tf32"));
}

TEST(CudaConvChoice, TileFollowsSizeWithinOneArithmetic) {
  EXPECT_EQ(choose_by_model(problem(568, 64, 64, kBF16)).tile, ConvTile::kMma256x64);
  EXPECT_EQ(choose_by_model(problem(280, 128, 128, kBF16)).tile, ConvTile::kMma128x128);
  EXPECT_EQ(choose_by_model(problem(568, 32, 32, kBF16)).tile, ConvTile::kMma256x32);
  EXPECT_EQ(choose_by_model(problem(28, 512, 512, kBF16)).tile, ConvTile::kMma64x64);
  EXPECT_EQ(choose_by_model(problem(570, 1, 64, kF32ToBF16)).tile, ConvTile::kFma128x64);
  EXPECT_EQ(choose_by_model(problem(388, 64, 2, kF32)).tile, ConvTile::kFma256x16);
  EXPECT_THAT(reason_against(ConvTile::kMma128x128, problem(28, 512, 512, kBF16)),
              HasSubstr("32 blocks on 132 multiprocessors"));
}

TEST(CudaConvChoice, RatesAreFittedFromTimings) {
  // Timings of a GPU whose rates are known, by the model that the choice has of a multiprocessor:
  // whole rounds of resident blocks, then the rest.
  struct Known {
    ConvTile tile;
    int resident, block;
    ConvRate rate;
  };
  const Known known[] = {{ConvTile::kMma128x128, 2, 128 * 128, {1.0, 0.6}},
                         {ConvTile::kMma64x64, 4, 64 * 64, {0.5, 0.3}}};
  constexpr double kProducts = 576, kRate = 1e12;
  std::vector<ConvTiming> timings;
  for (const Known& k : known) {
    for (const std::int64_t side : {32, 64, 96, 128, 192, 256}) {
      const ConvProblem p = problem(side, 64, 128, kBF16);
      const std::int64_t blocks = side * side * 128 / k.block, most = (blocks + 131) / 132;
      const auto busy = [&](std::int64_t b) {
        return 1 - std::pow(1 - k.rate.alone, static_cast<double>(b));
      };
      double units = static_cast<double>(most / k.resident * k.resident);
      const std::int64_t rest = most % k.resident;
      if (rest > 0) units += static_cast<double>(rest) * busy(k.resident) / busy(rest);
      const double noise = side % 64 == 0 ? 1.01 : 0.99;
      timings.push_back(
          {p, k.tile, kProducts, noise * kProducts * k.block * units / (kRate * k.rate.full)});
    }
  }
  const ConvRates rates = fit_conv_rates(timings), model = conv_model_rates();
  for (const Known& k : known) {
    const ConvRate& rate = rates[static_cast<std::size_t>(k.tile)];
    EXPECT_NEAR(rate.full, k.rate.full, 0.03) << name_of(k.tile);
    EXPECT_NEAR(rate.alone, k.rate.alone, 0.11) << name_of(k.tile);
  }
  // What was not timed stays as it was.
  const auto fma = static_cast<std::size_t>(ConvTile::kFma128x64);
  EXPECT_EQ(rates[fma].full, model[fma].full);
  EXPECT_EQ(rates[fma].alone, model[fma].alone);
}

TEST(CudaConvChoice, BlocksOnOneMultiprocessorShareIt) {
  // 66 x 66 x 512 is 648 blocks of 64x64: four at once on a multiprocessor, then the fifth by
  // itself, which fills a third of it. The 180 of 128x128 are two at once at most.
  const ConvProblem p = problem(66, 256, 512, kBF16);
  EXPECT_EQ(choose_by_model(p).tile, ConvTile::kMma128x128);
  EXPECT_THAT(reason_against(ConvTile::kMma64x64, p),
              HasSubstr("648 blocks on 132 multiprocessors of 4 blocks each"));
  // A pair takes as long as two after each other if one block fills a multiprocessor by itself, and
  // less if it does not; so what measurements say of `alone` decides.
  ConvRates rates = conv_model_rates();
  for (ConvRate& rate : rates) rate.alone = 1;
  EXPECT_EQ(choose_conv(p, rates).tile, ConvTile::kMma64x64);
  rates = conv_model_rates();
  rates[static_cast<std::size_t>(ConvTile::kMma256x32)].full = 10;
  EXPECT_EQ(choose_conv(p, rates).tile, ConvTile::kMma256x32);
}

}  // namespace
}  // namespace tessera::test
