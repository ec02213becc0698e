// Convolution on Hopper's tensor cores against its reference, and its promise of bytes. Emulated,
// a tile takes some 20 milliseconds: shapes are few and small.
#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/conv/conv.h"
#include "kernels/ops/conv/cuda.h"
#include "kernels/ops/conv/cuda_host.h"
#include "tests/support/conv_arithmetic.h"
#include "tests/support/conv_operands.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using test::Padding;
using test::window;
using Norm = Conv::Norm;
using ::testing::HasSubstr;

// Kernels of sm_90a run on nothing else.
class CudaConvWgmma : public CudaTest {
 protected:
  void SetUp() override {
    CudaTest::SetUp();
    if (!IsSkipped() && (traits_of(CudaRun()).capability != 90 || !has_conv_wgmma()))
      GTEST_SKIP() << "needs compute capability 9.0 and a build for sm_90a";
  }
};

std::vector<ConvTile> tiles() {
  std::vector<ConvTile> list;
  for (const ConvTile tile : kConvTiles)
    if (arithmetic_of(tile) == ConvArithmetic::kWgmma) list.push_back(tile);
  return list;
}

struct Case {
  Conv op;
  std::vector<Tensor> inputs, weights;
  Bound bound;
};

// Values are exact in every type, so that products are.
Case case_of(Conv op, const std::vector<Shape>& shapes, const Arithmetic& a) {
  op.dtype = a.y;
  Case c{op, {}, {}, {}};
  unsigned seed = 1;
  for (const Shape& shape : shapes)
    c.inputs.push_back(narrow(random(shape, seed++), a).rounded_to(a.x));
  c.weights = weights_for(op, c.inputs);
  c.weights[0] = narrow(c.weights[0], a);
  // A norm after ReLU multiplies by up to 5; what is added or activated behind has been rounded.
  const auto terms = static_cast<double>(c.weights[0].type().shape.elements(1, 4));
  const double unit = unit_of(a.y);
  const bool behind = !op.epilogue.is_empty();
  c.bound = {sum_error(terms, 1, a) * (op.norm == Norm::kNone ? 1 : 5) + (behind ? 6 * unit : 0),
             behind ? 2 * unit : unit};
  return c;
}

std::vector<Tensor> run_with(const Case& c, ConvTile tile) {
  const auto make = [&](const CudaSetup& setup) { return cuda_with_tile(c.op, setup, tile); };
  return run_cuda_step(make, infer(c.op, types(c.inputs)), c.inputs, c.weights, {});
}

void check(const Case& c, ConvTile tile) {
  SCOPED_TRACE(
      fmt::format("{}: {} -> {}", name_of(tile), c.inputs[0].type().to_string(), c.op.c_out));
  expect_close(run_with(c, tile), run_reference(c.op, c.inputs, c.weights), c.bound, "output");
}

TEST_F(CudaConvWgmma, IsChosenAndEveryTileGivesItsBytes) {
  const Case c = case_of({.c_out = 64,
                          .window = window(3, Padding::kSame),
                          .relu = true,
                          .norm = Norm::kAfterRelu,
                          .pool = true},
                         {{1, 34, 7, 64}}, kBF16);
  const std::vector<Tensor> chosen = run_cuda(c.op, c.inputs, c.weights);
  expect_close(chosen, run_reference(c.op, c.inputs, c.weights), c.bound, "output");
  for (const ConvTile tile : tiles()) {
    const std::vector<Tensor> y = run_with(c, tile);
    for (std::size_t i = 0; i < y.size(); ++i)
      EXPECT_TRUE(y[i].same_bytes(chosen[i])) << name_of(tile) << ", output " << i;
  }
}

// Channels that fill no block, tiles of channels behind the first, and a ring that goes round.
TEST_F(CudaConvWgmma, ChannelsAroundTheBlocks) {
  check(case_of({.c_out = 136}, {{1, 5, 10, 72}}, kF16), ConvTile::kWgmma64x128);
  check(case_of({.c_out = 67, .pool = true}, {{1, 4, 5, 136}}, kBF16), ConvTile::kWgmma448x64);
  check(case_of({.c_out = 7, .window = window(3, Padding::kFull)}, {{1, 1, 2, 72}}, kBF16),
        ConvTile::kWgmma128x128);
}

TEST_F(CudaConvWgmma, TwoSources) {
  for (const auto align : {CropConcat::Align::kCropSkip, CropConcat::Align::kPadUp})
    check(case_of({.c_out = 65,
                   .window = window(3, Padding::kSame),
                   .concat = CropConcat{align, align == CropConcat::Align::kCropSkip}},
                  {{1, 9, 10, 72}, {1, 6, 7, 64}}, kBF16),
          ConvTile::kWgmma64x128);
}

// What lies around the crop is not padding: NaN there must not be seen.
TEST_F(CudaConvWgmma, PixelsOutsideTheCropAreNotRead) {
  std::vector<float> skip(8 * 9 * 64, NAN);
  for (std::size_t i = 0; i < 4 * 5 * 64; ++i)
    skip[((2 + i / 320) * 9 + 2 + i / 64 % 5) * 64 + i % 64] = 0.5f;
  Case c = case_of({.c_out = 64,
                    .window = window(3, Padding::kSame),
                    .concat = CropConcat{CropConcat::Align::kCropSkip, true}},
                   {{1, 8, 9, 64}, {1, 4, 5, 64}}, kBF16);
  c.inputs[0] = Tensor::of({1, 8, 9, 64}, skip).rounded_to(DType::kBF16);
  check(c, ConvTile::kWgmma64x128);
}

TEST_F(CudaConvWgmma, Epilogues) {
  const auto behind = [](bool residual, std::optional<Activation::Kind> kind) {
    Epilogue e{.residual = residual};
    if (kind) e.activation = Activation{.kind = *kind};
    return e;
  };
  using Kind = Activation::Kind;
  check(case_of({.c_out = 72, .epilogue = behind(true, Kind::kRelu), .pool = true},
                {{1, 6, 7, 64}, {1, 4, 5, 72}}, kBF16),
        ConvTile::kWgmma64x128);
  check(case_of({.c_out = 65, .epilogue = behind(false, Kind::kPrelu)}, {{1, 5, 4, 64}}, kF16),
        ConvTile::kWgmma64x128);
}

// A pair has one tile too many where pixels are odd, several channels, and weights that stay or
// not.
TEST_F(CudaConvWgmma, PairsOfBlocks) {
  check(case_of({.c_out = 136, .pool = true}, {{1, 10, 22, 72}}, kBF16),
        ConvTile::kWgmmaPair64x128);
  check(case_of({.c_out = 64, .window = window(3, Padding::kSame), .relu = true}, {{1, 6, 72, 64}},
                kF16),
        ConvTile::kWgmmaPair448x64);
  check(case_of({.c_out = 67}, {{1, 5, 6, 136}}, kBF16), ConvTile::kWgmmaPair416x64);
  Epilogue added{.residual = true};
  added.activation = Activation{.kind = Activation::Kind::kRelu};
  check(case_of({.c_out = 72, .epilogue = added, .pool = true}, {{3, 6, 7, 64}, {3, 4, 5, 72}},
                kBF16),
        ConvTile::kWgmmaPair128x128);
}

TEST_F(CudaConvWgmma, BytesDoNotDependOnSizePlaceOrBatch) {
  const Case c = case_of({.c_out = 64, .relu = true}, {{2, 10, 11, 64}}, kF16);
  const Tensor whole = run_cuda(c.op, c.inputs, c.weights)[0];
  for (const auto& [top, left, h, w] :
       std::vector<std::array<int, 4>>{{3, 5, 3, 3}, {1, 2, 9, 7}}) {
    const Tensor tile = run_cuda(c.op, {window(c.inputs[0], top, left, h, w)}, c.weights)[0];
    EXPECT_TRUE(tile.same_bytes(window(whole, top, left, h - 2, w - 2))) << top << ", " << left;
  }
  check_cuda_batch(c.op, c.inputs, c.weights);
}

// The choice needs no GPU.

ConvProblem problem(std::int64_t side, std::vector<std::int64_t> c_in, int c_out,
                    const Arithmetic& a = kBF16) {
  return {.n = 1,
          .ho = side,
          .wo = side,
          .c_out = c_out,
          .c_in = std::move(c_in),
          .x = a.x,
          .y = a.y,
          .math = a.math,
          .capability = 90,
          .multiprocessors = 132,
          .kernel = 3,
          .wgmma = true};
}

std::string reason_against(ConvTile tile, const ConvProblem& p) {
  for (const ConvChoice::Rejection& rejection : choose_conv(p, conv_model_rates()).rejected)
    if (rejection.tile == tile) return rejection.reason;
  return "chosen";
}

TEST(CudaConvWgmmaChoice, FollowsKernelChannelsTypeGpuAndBuild) {
  const auto against = [](const ConvProblem& p) {
    return reason_against(ConvTile::kWgmma64x128, p);
  };
  ConvProblem p = problem(100, {64}, 64);
  EXPECT_EQ(arithmetic_of(choose_conv(p).tile), ConvArithmetic::kWgmma);
  EXPECT_THAT(reason_against(ConvTile::kMma128x128, p), HasSubstr("faster on this GPU"));
  EXPECT_THAT(reason_against(ConvTile::kFma128x64, p), HasSubstr("multiply bf16 exactly"));
  p.capability = 100;
  EXPECT_THAT(against(p), HasSubstr("the GPU has 10.0"));
  p.capability = 90, p.wgmma = false;
  EXPECT_THAT(against(p), HasSubstr("build for sm_90a"));
  p.wgmma = true, p.kernel = 1;
  EXPECT_THAT(against(p), HasSubstr("window of 3, not of 1"));
  EXPECT_THAT(against(problem(100, {64}, 64, kTF32)), HasSubstr("but x is f32"));
  EXPECT_THAT(against(problem(100, {64}, 64, kF32)), HasSubstr("math is f32"));
  EXPECT_THAT(against(problem(100, {60}, 64)), HasSubstr("multiple of 8"));
  // Half of the blocks of 64 channels would be zeros; mma has 62% of wgmma's rate.
  EXPECT_THAT(against(problem(100, {32}, 64)), HasSubstr("50% of that is asked for"));
  EXPECT_THAT(against(problem(100, {64}, 32)), HasSubstr("50% of that is asked for"));
  EXPECT_EQ(arithmetic_of(choose_conv(problem(100, {48}, 64)).tile), ConvArithmetic::kWgmma);
  EXPECT_EQ(arithmetic_of(choose_conv(problem(3, {64, 128}, 96)).tile), ConvArithmetic::kWgmma);
}

TEST(CudaConvWgmmaChoice, TileFollowsSize) {
  const auto chosen = [](const ConvProblem& p) { return choose_conv(p, conv_model_rates()).tile; };
  // Five rounds of tiles of 512 pixels, or six of 416: those are fewer.
  EXPECT_EQ(chosen(problem(568, {64}, 64)), ConvTile::kWgmmaPair416x64);
  // Three rounds with either; those of 208 pixels are smaller.
  EXPECT_EQ(chosen(problem(280, {128}, 128)), ConvTile::kWgmmaPair208x128);
  // One round with any tile: the smallest makes the fewest products, and loses half of its rate.
  EXPECT_EQ(chosen(problem(30, {512}, 1024)), ConvTile::kWgmmaPair64x128);
  EXPECT_EQ(chosen(problem(28, {1024}, 1024)), ConvTile::kWgmmaPair64x128);
  EXPECT_EQ(chosen(problem(52, {512}, 512)), ConvTile::kWgmmaPair128x128);
}

}  // namespace
}  // namespace tessera::test
