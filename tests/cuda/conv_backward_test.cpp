// Convolution's training and backward runs on the GPU against their references.
#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/conv/train/backward.h"
#include "kernels/ops/conv/train/cuda.h"
#include "tests/support/conv_arithmetic.h"
#include "tests/support/conv_operands.h"
#include "tests/support/cuda_backward_check.h"
#include "tests/support/error.h"

namespace tessera::test {
namespace {

using CudaConvBackward = CudaTest;
using test::Padding;
using test::window;

// Weights have a variance of 1 / (c_in k^2), all else of 1. What the weights' gradients held before
// adds a rounding of the result.
BackwardBounds bounds_for(const Conv& op, const Shape& x, const Shape& y, const Arithmetic& a) {
  const auto taps = static_cast<double>(op.window.kernel[0] * op.window.kernel[0]);
  const auto c_in = static_cast<double>(x[3]);
  const auto pixels = static_cast<double>(y.elements(0, 3));
  return {.forward = {sum_error(c_in * taps, 1, a), unit_of(a.y)},
          .input = {sum_error(op.c_out * taps, std::sqrt(op.c_out / c_in), a), unit_of(a.x)},
          .weight = {sum_error(pixels, std::sqrt(pixels), a), 0x1p-23}};
}

void check(const Conv& op, const Shape& x, const Arithmetic& a) {
  SCOPED_TRACE(fmt::format("{} -> {}, kernel {}, padding {}, {}", x.to_string(), op.c_out,
                           op.window.kernel[0], op.window.pads[0], to_string(a)));
  TrainCase<Conv> c{op, {narrow(random(x, 1), a)}, {}};
  const Shape y = infer(op, types(c.inputs))[0].shape;
  const float scale =
      1 / std::sqrt(static_cast<float>(x[3] * op.window.kernel[0] * op.window.kernel[0]));
  c.weights.push_back(
      narrow(random({op.c_out, x[3], op.window.kernel[0], op.window.kernel[0]}, 2, scale), a));
  if (op.bias) c.weights.push_back(random({op.c_out}, 3));
  c.output_gradients.push_back(narrow(random(y, 4), a));
  check_cuda_backward(c, bounds_for(op, x, y, a), {.math = a.math}, {a.x, a.y});
}

TEST_F(CudaConvBackward, ChannelCountsAndTypes) {
  for (const Arithmetic& a : kAll) {
    for (const auto& [c_in, c_out] :
         std::vector<std::pair<int, int>>{{1, 1}, {1, 20}, {3, 8}, {8, 16}, {24, 6}})
      check({.c_out = c_out, .relu = true}, {1, 4, 5, c_in}, a);
  }
}

TEST_F(CudaConvBackward, OneByOne) {
  for (const Arithmetic& a : kAll) {
    for (const int c_in : {1, 16}) check({.c_out = 3, .window = window(1)}, {2, 3, 5, c_in}, a);
  }
  check({.c_out = 8, .window = window(1), .relu = true}, {2, 3, 35, 16}, kBF16);
}

TEST_F(CudaConvBackward, SamePaddingDownToOnePixel) {
  for (const Arithmetic& a : {kF32, kBF16}) {
    for (const auto& [h, w] : std::vector<std::pair<int, int>>{{1, 1}, {1, 2}, {2, 1}, {5, 9}})
      check({.c_out = 8, .window = window(3, Padding::kSame), .bias = false, .relu = true},
            {2, h, w, 8}, a);
  }
}

// Tiles of weights are 64 x 64; for f32 units columns are taps times channels.
TEST_F(CudaConvBackward, ChannelsAroundTheTile) {
  check({.c_out = 72}, {1, 3, 4, 56}, kBF16);
  check({.c_out = 64}, {1, 3, 4, 72}, kBF16);
  check({.c_out = 60}, {1, 3, 4, 68}, kTF32);
  check({.c_out = 65}, {1, 3, 4, 7}, kF32);
  check({.c_out = 63}, {1, 3, 4, 8}, kF32);
}

// A run of pixels is 32 of 16 bits, 16 of f32; a ring has four stages.
TEST_F(CudaConvBackward, PixelsAroundTheRun) {
  for (const int w : {31, 32, 33, 65})
    check({.c_out = 8, .window = window(3, Padding::kSame)}, {1, 2, w, 8}, kF16);
  for (const int w : {15, 16, 17})
    check({.c_out = 2, .window = window(3, Padding::kSame)}, {1, 2, w, 2}, kF32);
  for (const int w : {15, 17, 33})
    check({.c_out = 8, .window = window(3, Padding::kSame)}, {1, 2, w, 4}, kTF32);
}

// More rows than the emulator, of 4 multiprocessors, takes slices; images end inside a slice.
TEST_F(CudaConvBackward, SlicesOfSeveralRows) {
  for (const Arithmetic& a : {kF32, kBF16}) check({.c_out = 8, .relu = true}, {3, 15, 3, 8}, a);
}

// tf32 keeps 11 bits of f32: each factor is rounded by up to 2^-12 of itself times 2, two factors
// add like a random walk to 2^-11 sqrt(2 / 3) of a sum's spread, times 6 for the largest of many.
// The spread is 1 of y and dx, and 3 of dW, a sum over 9 pixels.
TEST_F(CudaConvBackward, TF32RoundsF32Operands) {
  TrainCase<Conv> c{{.c_out = 8}, {random({1, 5, 5, 8}, 1)}, {}};
  c.weights = {random({8, 8, 3, 3}, 2, 1 / std::sqrt(72.0f)), random({8}, 3)};
  check_cuda_backward(c, {{0x1p-8, 0}, {0x1p-8, 0}, {3 * 0x1p-8, 0}}, {.math = Precision::kTf32});
}

// Large values: every product is 2^8 times an ordinary one, so the absolute error is as well.
TEST_F(CudaConvBackward, OneOutlier) {
  for (const Arithmetic& a : {kF32, kBF16}) {
    const Conv op{.c_out = 8};
    TrainCase<Conv> c{op, {narrow(random({1, 5, 5, 8}, 1), a)}, {}};
    c.weights = {narrow(random({8, 8, 3, 3}, 2, 1 / std::sqrt(72.0f)), a), random({8}, 3)};
    c.output_gradients.push_back(narrow(random({1, 3, 3, 8}, 4), a));
    c.inputs[0].view().as<float>()[(2 * 5 + 2) * 8 + 3] = 256;
    c.output_gradients[0].view().as<float>()[(1 * 3 + 1) * 8 + 5] = 256;
    BackwardBounds bounds = bounds_for(op, {1, 5, 5, 8}, {1, 3, 3, 8}, a);
    bounds.forward.absolute *= 256;
    bounds.input.absolute *= 256;
    bounds.weight.absolute *= 256 * 256;
    check_cuda_backward(c, bounds, {.math = a.math}, {a.x, a.y});
  }
}

TEST_F(CudaConvBackward, WhatPassesFuseIsRefused) {
  const std::vector<TensorType> x{{DType::kF32, {1, 9, 9, 3}}};
  CudaSetup setup;
  setup.name = "down1/conv1";
  setup.inputs = x;
  const std::pair<Conv, const char*> cases[] = {
      {{.c_out = 4, .norm = Conv::Norm::kBeforeRelu}, "without the passes"},
      {{.c_out = 4, .pool = true}, "without the passes"},
      {{.c_out = 4, .window = window(3, Padding::kFull)}, "train on the CPU"}};
  for (const auto& one : cases) {
    EXPECT_THAT([&] { cuda_train(one.first, setup); },
                ::testing::ThrowsMessage<Error>(::testing::HasSubstr(one.second)));
    EXPECT_THAT([&] { cuda_backward(one.first, setup); },
                ::testing::ThrowsMessage<Error>(::testing::HasSubstr(one.second)));
  }
  const Conv winograd{.c_out = 4, .technique = Conv::Technique::kWinograd};
  EXPECT_THAT([&] { cuda_train(winograd, setup); },
              ::testing::ThrowsMessage<Error>(::testing::HasSubstr("down1/conv1")));
}

// The choice and the split need no GPU.

ConvWeightGradientShape shape_of(int side, int a_channels, int b_channels, DType a, DType b) {
  return {.n = 2,
          .rows = side,
          .columns = side,
          .b_rows = side + 2,
          .b_columns = side + 2,
          .a_channels = a_channels,
          .b_channels = b_channels,
          .kernel = 3,
          .stride = 1,
          .pad = 0,
          .a_type = a,
          .b_type = b,
          .weights = std::int64_t{9} * a_channels * b_channels};
}

TEST(CudaConvWeightGradient, TechniqueFollowsChannelsTypesAndCapability) {
  const auto choose = [](int a, int b, DType a_type, DType b_type, int capability = 90,
                         Precision math = Precision::kFp32) {
    return choose_conv_weight_gradient(shape_of(9, a, b, a_type, b_type), math, capability);
  };
  constexpr auto kMma = ConvWeightGradientTechnique::kMma,
                 kSimt = ConvWeightGradientTechnique::kSimt;
  EXPECT_EQ(choose(64, 8, DType::kBF16, DType::kBF16), kMma);
  EXPECT_EQ(choose(64, 8, DType::kF16, DType::kF16), kMma);
  EXPECT_EQ(choose(64, 12, DType::kBF16, DType::kBF16), kSimt);
  EXPECT_EQ(choose(12, 64, DType::kBF16, DType::kBF16), kSimt);
  EXPECT_EQ(choose(64, 8, DType::kBF16, DType::kF32), kSimt);
  EXPECT_EQ(choose(64, 8, DType::kF32, DType::kF32), kSimt);
  EXPECT_EQ(choose(64, 4, DType::kF32, DType::kF32, 90, Precision::kTf32), kMma);
  EXPECT_EQ(choose(64, 6, DType::kF32, DType::kF32, 90, Precision::kTf32), kSimt);
  EXPECT_EQ(choose(64, 8, DType::kBF16, DType::kBF16, 75), kSimt);
}

TEST(CudaConvWeightGradient, SlicesCoverAllRowsOnceAndFillTheGpu) {
  constexpr int kMultiprocessors = 132;
  for (const auto technique :
       {ConvWeightGradientTechnique::kMma, ConvWeightGradientTechnique::kSimt}) {
    for (const int side : {1, 7, 28, 570}) {
      for (const int channels : {1, 64, 512}) {
        const ConvWeightGradientShape shape =
            shape_of(side, channels, channels, DType::kBF16, DType::kBF16);
        const ConvWeightGradientSplit split =
            split_conv_weight_gradient(shape, technique, kMultiprocessors);
        const std::int64_t rows = 2 * side;
        EXPECT_GE(split.slices * split.slice_rows, rows);
        EXPECT_LT((split.slices - 1) * split.slice_rows, rows);
        if (side == 570 && channels == 64) {
          EXPECT_GE(split.slices * 3, kMultiprocessors);
        }
      }
    }
  }
}

}  // namespace
}  // namespace tessera::test
