// The transposed convolution's training and backward runs on the GPU against their references.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/ops/conv_transpose/train/backward.h"
#include "tests/support/conv_arithmetic.h"
#include "tests/support/cuda_backward_check.h"

namespace tessera::test {
namespace {

using CudaConvTransposeBackward = CudaTest;

// Weights have a variance of 1 / (c_in k^2 / 4): an output meets a quarter of the taps. All else
// has one of 1. The sum for the bias runs over the 4 outputs of each pixel. What the weights'
// gradients held before adds a rounding of the result.
void check(const ConvTranspose& op, const Shape& x, const Arithmetic& a) {
  SCOPED_TRACE(
      fmt::format("{} -> {}, kernel {}, {}", x.to_string(), op.c_out, op.kernel, to_string(a)));
  TrainCase<ConvTranspose> c{op, {narrow(random(x, 1), a)}, {}};
  const double taps = op.kernel * op.kernel, terms = static_cast<double>(x[3]) * taps / 4;
  const auto scale = static_cast<float>(1 / std::sqrt(terms));
  c.weights.push_back(narrow(random({x[3], op.c_out, op.kernel, op.kernel}, 2, scale), a));
  if (op.bias) c.weights.push_back(random({op.c_out}, 3));
  c.output_gradients.push_back(narrow(random(infer(op, types(c.inputs))[0].shape, 4), a));
  const double back = op.c_out * taps, pixels = 4 * static_cast<double>(x.elements(0, 3));
  const BackwardBounds bounds{
      .forward = {sum_error(terms, 2, a), unit_of(a.y)},  // up to 4 taps of 9: 2 x spread
      .input = {sum_error(back, std::sqrt(back / terms), a), unit_of(a.x)},
      .weight = {sum_error(pixels, std::sqrt(pixels), a), 0x1p-23}};
  check_cuda_backward(c, bounds, {.math = a.math}, {a.x, a.y});
}

TEST_F(CudaConvTransposeBackward, ChannelCountsAndTypes) {
  for (const Arithmetic& a : kAll) {
    for (const int kernel : {2, 3}) {
      for (const auto& [c_in, c_out] :
           std::vector<std::pair<int, int>>{{1, 1}, {3, 6}, {8, 4}, {16, 8}})
        check({.c_out = c_out, .kernel = kernel, .relu = true}, {1, 2, 3, c_in}, a);
    }
  }
}

TEST_F(CudaConvTransposeBackward, WithoutBiasDownToOnePixel) {
  for (const Arithmetic& a : {kF32, kBF16}) {
    for (const int kernel : {2, 3}) {
      for (const auto& [h, w] : std::vector<std::pair<int, int>>{{1, 1}, {1, 2}, {3, 1}})
        check({.c_out = 8, .kernel = kernel, .bias = false}, {2, h, w, 8}, a);
    }
  }
}

// A run of pixels is 32 of 16 bits, 16 of f32.
TEST_F(CudaConvTransposeBackward, PixelsAroundTheRun) {
  for (const int w : {31, 33}) check({.c_out = 8, .kernel = 3}, {1, 2, w, 8}, kF16);
  check({.c_out = 8}, {1, 2, 65, 8}, kBF16);
  for (const int w : {15, 17}) check({.c_out = 2, .kernel = 3}, {1, 2, w, 2}, kF32);
  for (const int w : {15, 17}) check({.c_out = 4, .kernel = 3}, {1, 2, w, 8}, kTF32);
}

TEST_F(CudaConvTransposeBackward, ChannelsAroundTheTile) {
  check({.c_out = 40}, {1, 2, 3, 72}, kBF16);
  check({.c_out = 72, .kernel = 3, .relu = true}, {1, 3, 2, 16}, kBF16);
  check({.c_out = 33}, {1, 2, 3, 65}, kF32);
}

}  // namespace
}  // namespace tessera::test
