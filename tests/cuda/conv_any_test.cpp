// Convolutions of any window, stride, dilation and groups, transposed ones, and what is fused
// behind a convolution, on the GPU against their references.
#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/conv/cuda_any.h"
#include "tests/support/conv_arithmetic.h"
#include "tests/support/conv_operands.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaAnyConv = CudaTest;
using test::Padding;
using test::window;
using ::testing::HasSubstr;

const std::vector<Window> kWindows{
    square(7, 3, 2),
    square(2, 0, 2),
    square(1, 0, 2),
    {.kernel = {1, 5}, .stride = {1, 3}, .dilation = {1, 2}, .pads = {0, 0, 4, 3}},
    {.kernel = {3, 3}, .stride = {1, 1}, .dilation = {2, 4}, .pads = {2, 2, 4, 4}},
    {.kernel = {3, 2}, .stride = {2, 1}, .dilation = {1, 1}, .pads = {-1, 1, 1, -2}}};

Tensor exact_values(const Tensor& tensor, const Arithmetic& a) {
  return narrow(tensor, a).rounded_to(a.x);
}

// As tests/cuda/conv_test.cpp derives it: sums of exact products of spread 1. What is fused behind
// them rounds once more, and in 16 bits the sum before it, of at most 6 with a residual, may have
// been rounded; activations have slopes of at most 1.1, and prelu's of a few here.
Bound bound_of(const std::vector<Tensor>& weights, const Arithmetic& a, bool epilogue) {
  const double terms = static_cast<double>(weights[0].type().shape.elements(1, 4));
  const double unit = unit_of(a.y);
  return {(sum_error(terms, 1, a) + (epilogue ? 6 * unit : 0)) * (epilogue ? 3 : 1),
          epilogue ? 2 * unit : unit};
}

void check(Conv op, const Shape& x, const Arithmetic& a) {
  op.dtype = a.y;
  std::vector<Tensor> inputs{exact_values(random(x, 1), a)};
  if (op.epilogue.residual) {
    Conv alone = op;
    alone.epilogue = {};
    const Shape y = infer(alone, types(inputs))[0].shape;
    inputs.push_back(exact_values(random(y, 2), a).rounded_to(a.y));
  }
  std::vector<Tensor> weights = weights_for(op, inputs);
  weights[0] = exact_values(weights[0], a);
  SCOPED_TRACE(fmt::format("{} -> {} in {} groups, kernel {}x{}, {}", inputs[0].type().to_string(),
                           op.c_out, op.groups, op.window.kernel[0], op.window.kernel[1],
                           to_string(a)));
  check_cuda(op, inputs, weights, bound_of(weights, a, !op.epilogue.is_empty()), {.math = a.math});
}

TEST_F(CudaAnyConv, EveryWindowOverChannelsAndTypes) {
  for (const Window& w : kWindows) {
    for (const int c : {1, 3, 5})
      check({.c_out = c + 2, .window = w, .relu = true}, {2, 9, 11, c}, kF32);
    check({.c_out = 66, .window = w}, {1, 9, 12, 8}, kF32);
    for (const Arithmetic& a : {kTF32, kBF16, kF16})
      check({.c_out = 18, .window = w, .relu = true}, {2, 9, 11, 40}, a);
  }
  for (const Arithmetic& a : {kBF16, kF16, kF32ToBF16, kBF16ToF32})
    check({.c_out = 7, .window = square(3, 1, 2)}, {1, 7, 8, 3}, a);
  check({.c_out = 72, .window = square(3, 1, 2)}, {1, 23, 25, 64}, kBF16);  // three blocks down
}

TEST_F(CudaAnyConv, Groups) {
  struct Groups {
    int groups, c_in, c_out;
  };
  for (const auto& [groups, c_in, c_out] : std::vector<Groups>{
           {3, 9, 6}, {2, 8, 72}, {2, 6, 70}, {5, 5, 15}, {5, 5, 5}, {8, 8, 8}, {64, 64, 64}}) {
    for (const Window& w : {same(3), square(1), kWindows[3]}) {
      for (const Arithmetic& a : {kF32, kBF16})
        check({.c_out = c_out, .window = w, .groups = groups, .relu = true}, {2, 5, 9, c_in}, a);
    }
  }
}

// Of several groups, and of strides, the two maps that are joined lie in memory of their own.
TEST_F(CudaAnyConv, TwoSources) {
  for (const Arithmetic& a : {kF32, kBF16}) {
    for (const int groups : {1, 6}) {
      for (const CropConcat::Align align :
           {CropConcat::Align::kCropSkip, CropConcat::Align::kPadUp}) {
        Conv op{.c_out = 12, .window = square(3, 1, 2), .groups = groups};
        op.concat = CropConcat{align, align == CropConcat::Align::kPadUp};
        op.dtype = a.y;
        const std::vector<Tensor> inputs{exact_values(random({2, 9, 8, 8}, 3), a),
                                         exact_values(random({2, 7, 6, 16}, 4), a)};
        std::vector<Tensor> weights = weights_for(op, inputs);
        weights[0] = exact_values(weights[0], a);
        check_cuda(op, inputs, weights, bound_of(weights, a, false), {.math = a.math});
      }
    }
  }
}

Epilogue epilogue(bool residual, std::optional<Activation::Kind> kind) {
  Epilogue e{.residual = residual};
  if (kind) e.activation = Activation{.kind = *kind};
  return e;
}

// Behind each of the kernels: a sum with another map, an activation, a pool.
TEST_F(CudaAnyConv, ResidualsAndActivations) {
  using Kind = Activation::Kind;
  for (const Arithmetic& a : {kF32, kTF32, kBF16, kF16}) {
    for (const Window& w : {same(3), square(1), square(3, 1, 2)}) {
      for (const auto& kind : {std::optional<Kind>(),
                               {Kind::kLeakyRelu},
                               {Kind::kPrelu},
                               {Kind::kSilu},
                               {Kind::kRelu}}) {
        for (const bool residual : {false, true})
          check({.c_out = 12, .window = w, .epilogue = epilogue(residual, kind)}, {1, 6, 9, 8}, a);
      }
      check({.c_out = 7, .window = w, .epilogue = epilogue(true, Kind::kPrelu), .pool = true},
            {2, 5, 9, 8}, a);
      check({.c_out = 8, .window = w, .relu = true, .epilogue = epilogue(true, {})}, {1, 5, 9, 8},
            a);
      check({.c_out = 8, .window = w, .epilogue = epilogue(false, Kind::kElu), .pool = true},
            {1, 5, 9, 8}, a);
    }
    check(
        {.c_out = 10, .window = same(3), .groups = 5, .epilogue = epilogue(true, Kind::kLeakyRelu)},
        {1, 5, 9, 5}, a);
  }
}

// A piece of a map adds pixels of a residual that holds more.
TEST_F(CudaAnyConv, AResidualMayBeLarger) {
  for (const Arithmetic& a : {kF32, kBF16}) {
    for (const Window& w : {same(3), square(3, 1, 2)}) {
      Conv op{.c_out = 8, .window = w, .epilogue = epilogue(true, Activation::Kind::kLeakyRelu)};
      op.epilogue.offset = {1, 2}, op.dtype = a.y;
      const std::vector<Tensor> inputs{exact_values(random({2, 6, 8, 8}, 1), a),
                                       exact_values(random({2, 9, 13, 8}, 2), a)};
      std::vector<Tensor> weights = weights_for(op, inputs);
      weights[0] = exact_values(weights[0], a);
      check_cuda(op, inputs, weights, bound_of(weights, a, true), {.math = a.math});
    }
  }
}

TEST_F(CudaAnyConv, NormsAreFolded) {
  for (const Conv::Norm norm : {Conv::Norm::kBeforeRelu, Conv::Norm::kAfterRelu}) {
    const Conv op{.c_out = 9,
                  .window = square(3, 1, 2),
                  .bias = false,
                  .relu = true,
                  .norm = norm,
                  .pool = true};
    const std::vector<Tensor> inputs{random({1, 9, 10, 5}, 6)};
    // gamma / sqrt(var + eps) is below 5.
    check_cuda(op, inputs, weights_for(op, inputs), {5 * sum_error(45, 1, kF32), 0x1p-21});
  }
}

// Bytes of a pixel depend neither on its place, nor on the image's size, nor on its batch.
TEST_F(CudaAnyConv, BytesDoNotDependOnSizePlaceOrBatch) {
  for (const Arithmetic& a : {kF32, kBF16}) {
    for (const int groups : {1, 8}) {
      Conv op{.c_out = 24, .window = square(3, 0, 2), .groups = groups, .relu = true};
      op.dtype = a.y;
      const Tensor x = exact_values(random({3, 17, 19, 8}, 13), a);
      std::vector<Tensor> weights = weights_for(op, {x});
      const Tensor whole = run_cuda(op, {x}, weights)[0];
      const Tensor piece = run_cuda(op, {window(x, 4, 6, 9, 11)}, weights)[0];
      EXPECT_TRUE(piece.same_bytes(window(whole, 2, 3, 4, 5))) << to_string(a);
      check_cuda_batch(op, {x}, weights);
    }
  }
}

TEST_F(CudaAnyConv, NanReachesExactlyThePixelsThatSeeIt) {
  for (const Arithmetic& a : {kF32, kBF16}) {
    Conv op{.c_out = 3, .window = square(3, 1, 2), .relu = true};
    op.epilogue.residual = true, op.dtype = a.y;
    Tensor x = random({1, 11, 11, 8}, 12);
    x.view().as<float>()[(4 * 11 + 5) * 8] = NAN;  // seen by row 2, columns 2 and 3
    const std::vector<Tensor> inputs{exact_values(x, a), exact_values(random({1, 6, 6, 3}, 13), a)};
    const auto y = run_cuda(op, inputs, weights_for(op, inputs))[0].values();
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::size_t row = i / 18, column = i / 3 % 6;
      EXPECT_EQ(std::isnan(y[i]), row == 2 && (column == 2 || column == 3)) << i;
    }
  }
}

TEST(CudaAnyConvChoice, SaysWhatIsAgainstTheOthers) {
  ConvProblem p{.n = 1,
                .ho = 8,
                .wo = 8,
                .c_out = 64,
                .c_in = {64},
                .x = DType::kBF16,
                .y = DType::kBF16,
                .math = Precision::kBf16,
                .capability = 90};
  EXPECT_EQ(choose_any_conv(p).technique, AnyConvTechnique::kMma128x64);
  p.c_in = {3};
  EXPECT_EQ(choose_any_conv(p).technique, AnyConvTechnique::kFma64x64);
  EXPECT_THAT(choose_any_conv(p).rejected.at(0).reason, HasSubstr("multiple of 8"));
  p.c_in = {64}, p.groups = 2;
  EXPECT_EQ(choose_any_conv(p).technique, AnyConvTechnique::kFma64x64);
  EXPECT_THAT(choose_any_conv(p).rejected.at(0).reason, HasSubstr("there are 2"));
  p.groups = 64;
  EXPECT_EQ(choose_any_conv(p).technique, AnyConvTechnique::kFmaChannel);
  EXPECT_THAT(choose_any_conv(p).rejected.at(1).reason, HasSubstr("which has 1"));
}

using CudaAnyConvTranspose = CudaTest;

TEST_F(CudaAnyConvTranspose, AgreesWithTheReference) {
  Window wide = square(4, 1, 2), uneven = square(3, 0, 2), apart = square(2, 0, 3);
  uneven.pads = {0, 1, 1, -1}, uneven.dilation = {1, 2};
  for (const Window& w : {wide, uneven, apart, square(3, 1), square(1, 0, 2),
                          Window{.kernel = {1, 2}, .stride = {1, 2}}}) {
    for (const auto& [c_in, c_out, groups] :
         {std::array{1, 1, 1}, {6, 4, 2}, {17, 5, 1}, {5, 5, 5}, {16, 66, 1}}) {
      for (const Arithmetic& a : {kF32, kTF32, kBF16}) {
        ConvTranspose op = conv_transpose_of(c_out, w, groups);
        op.relu = true, op.dtype = a.y;
        ASSERT_FALSE(is_doubling(op));
        const Tensor x = exact_values(random({2, 4, 5, c_in}, 1), a);
        std::vector<Tensor> weights;
        for (const Parameter& p : parameters(op, std::vector{x.type()}))
          weights.push_back(exact_values(random(p.shape, 7, 0.3f), a).rounded_to(DType::kF32));
        SCOPED_TRACE(fmt::format("{}x{} of stride {}, {} -> {} in {} groups, {}", w.kernel[0],
                                 w.kernel[1], w.stride[1], c_in, c_out, groups, to_string(a)));
        const double terms = static_cast<double>(c_in) / groups * w.kernel[0] * w.kernel[1];
        check_cuda(op, {x}, weights,
                   {sum_error(terms, 0.3 * std::sqrt(terms) + 1, a), unit_of(a.y)},
                   {.math = a.math});
      }
    }
  }
}

TEST_F(CudaAnyConvTranspose, RowOfABatchIsThatRowAlone) {
  const ConvTranspose op = conv_transpose_of(8, square(4, 1, 2));
  check_cuda_batch(op, {random({3, 5, 4, 8}, 1)}, {random({8, 8, 4, 4}, 2, 0.2f), random({8}, 3)});
}

}  // namespace
}  // namespace tessera::test
