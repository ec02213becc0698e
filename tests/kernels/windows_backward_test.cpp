// Operators of imported networks in training: any window, residual sums, norms of an image, sizes.
#include <gmock/gmock.h>

#include "tests/support/backward_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::random;
using test::Tensor;
using test::TrainCase;

constexpr double kUlp = 0x1p-24;  // of a value of order one

template <class Op>
TrainCase<Op> case_of(Op op, std::vector<Tensor> inputs) {
  TrainCase<Op> c{op, std::move(inputs), {}};
  for (const Parameter& parameter : parameters(op, test::types(c.inputs)))
    c.weights.push_back(
        random(parameter.shape, 40 + static_cast<unsigned>(c.weights.size()), 0.3f));
  return c;
}

Window window(std::array<int, 2> kernel, std::array<int, 2> stride, std::array<int, 2> dilation,
              std::array<int, 4> pads) {
  return {.kernel = kernel, .stride = stride, .dilation = dilation, .pads = pads};
}

// Sums of up to 600 products.
constexpr test::BackwardBounds kSums{.forward = {600 * kUlp, 16 * kUlp},
                                     .input = {600 * kUlp, 16 * kUlp},
                                     .weight = {1200 * kUlp, 16 * kUlp}};

std::vector<Conv> windows() {
  return {{.c_out = 6, .window = square(3, 1, 2)},
          {.c_out = 6, .window = square(7, 3, 2), .bias = false},
          {.c_out = 6, .window = square(1, 0, 2), .relu = true},
          {.c_out = 6, .window = window({3, 3}, {1, 1}, {2, 3}, {2, 2, 3, 3})},
          {.c_out = 6, .window = square(3, 1), .groups = 2},
          {.c_out = 8, .window = square(3, 1, 2), .groups = 4, .bias = false},
          {.c_out = 6, .window = window({2, 3}, {1, 2}, {1, 1}, {1, 0, 0, 2})},
          {.c_out = 6, .window = window({2, 2}, {3, 2}, {1, 1}, {-1, -1, 0, -1})},
          {.c_out = 6, .window = window({1, 1}, {1, 1}, {1, 1}, {2, 2, 2, 2})}};
}

TEST(WindowBackward, ConvMatchesTheReference) {
  for (const Conv& op : windows()) {
    SCOPED_TRACE(fmt::format("{}x{} of stride {}, {} groups", op.window.kernel[0],
                             op.window.kernel[1], op.window.stride[0], op.groups));
    test::check_backward(case_of(op, {random({2, 11, 9, 4}, 1)}), kSums);
    if (!op.relu) test::check_finite_differences(case_of(op, {random({1, 5, 6, 4}, 2)}));
  }
  test::for_each_target([] {
    test::check_backward(
        case_of(Conv{.c_out = 21, .window = square(3, 1, 2)}, {random({1, 12, 37, 19}, 3)}), kSums);
  });
}

TEST(WindowBackward, ConvTransposeMatchesTheReference) {
  for (const auto& [w, groups] : {std::pair{window({4, 4}, {4, 4}, {1, 1}, {0, 0, 0, 0}), 1},
                                  {window({4, 4}, {2, 2}, {1, 1}, {1, 1, 1, 1}), 2},
                                  {window({1, 2}, {1, 2}, {1, 1}, {0, 0, 0, 0}), 1},
                                  {window({3, 3}, {3, 3}, {1, 1}, {1, -1, 1, 0}), 1},
                                  {window({1, 1}, {2, 2}, {1, 1}, {0, -1, 0, -1}), 4}}) {
    const ConvTranspose op{.c_out = 8, .kernel = 0, .window = w, .groups = groups};
    SCOPED_TRACE(fmt::format("{}x{} of stride {}", w.kernel[0], w.kernel[1], w.stride[0]));
    test::check_backward(case_of(op, {random({2, 6, 5, 4}, 4)}), kSums);
    test::check_finite_differences(case_of(op, {random({1, 3, 3, 4}, 5)}));
  }
}

TEST(ActivationBackward, EveryKindMatchesTheReferenceAndDifferences) {
  constexpr auto kNames = names_of(Activation::Kind());
  for (std::size_t i = 0; i < kNames.size(); ++i) {
    SCOPED_TRACE(kNames[i]);
    const Activation op{.kind = static_cast<Activation::Kind>(i)};
    const auto large = case_of(op, {random({3, 8000, 5}, 6)});
    // Slopes sum up 12,000 products in another order.
    test::check_backward(large, {.forward = {16 * kUlp, 8 * kUlp},
                                 .input = {16 * kUlp, 16 * kUlp},
                                 .weight = {2e-3, 1e-6}});
    // Without kinks nearby: differences reach 2^-6 to both sides.
    TrainCase<Activation> smooth = case_of(op, {random({2, 3, 5}, 7)});
    for (std::int64_t k = 0; k < 30; ++k) {
      float& x = smooth.inputs[0].view().as<float>()[k];
      if (std::abs(x) < 0.05f) x = 0.1f;
    }
    test::check_finite_differences(smooth, 4e-3);
  }
}

TEST(BinaryBackward, MatchesTheReference) {
  for (const auto kind : {Binary::Kind::kAdd, Binary::Kind::kSub, Binary::Kind::kMul,
                          Binary::Kind::kDiv, Binary::Kind::kMin, Binary::Kind::kMax}) {
    SCOPED_TRACE(names_of(kind)[static_cast<std::size_t>(kind)]);
    Tensor divisor = random({2, 30, 40, 9}, 9);
    for (std::int64_t i = 0; i < divisor.type().shape.elements(); ++i)
      divisor.view().as<float>()[i] = 1.5f + std::abs(divisor.view().as<float>()[i]);
    const test::BackwardBounds bounds{
        .forward = {4 * kUlp, 4 * kUlp}, .input = {4 * kUlp, 4 * kUlp}, .weight = {}};
    test::check_backward(case_of(Binary{kind}, {random({2, 30, 40, 9}, 8), divisor}), bounds);
    const bool smooth = kind != Binary::Kind::kMin && kind != Binary::Kind::kMax;
    if (!smooth) continue;
    const Tensor b = Tensor::of({3}, {1.5f, -2, 3});
    test::check_finite_differences(case_of(Binary{kind}, {random({2, 4, 3}, 10), b}));
  }
  // Of equals each gets half.
  TrainCase<Binary> c =
      case_of(Binary{Binary::Kind::kMax}, {Tensor::of({2}, {1, 2}), Tensor::of({2}, {1, 3})});
  c.output_gradients = {Tensor::of({2}, {4, 5})};
  const auto forward = test::train_by_reference(c);
  const auto gradients = test::backward_on_cpu(c, forward, 1);
  EXPECT_EQ(gradients.inputs[0].values(), (std::vector<float>{2, 0}));
  EXPECT_EQ(gradients.inputs[1].values(), (std::vector<float>{2, 5}));
}

TEST(ConcatBackward, MatchesTheReferenceExactly) {
  for (const int axis : {0, 1, -1})
    test::check_backward(
        case_of(Concat{axis}, {random({2, 3, 4, 5}, 11), random({2, 3, 4, 5}, 12)}), {});
}

// Two of its kinds of means meet in each gradient; z is of order 4 at most.
TEST(GroupNormBackward, MatchesTheReferenceAndDifferences) {
  for (const int groups : {0, 1, 3}) {
    for (const bool affine : {true, false}) {
      SCOPED_TRACE(fmt::format("{} groups", groups));
      const GroupNorm op{.groups = groups, .affine = affine};
      test::check_backward(case_of(op, {random({2, 13, 7, 36}, 13)}),
                           {.forward = {64 * kUlp, 16 * kUlp},
                            .input = {64 * kUlp, 16 * kUlp},
                            .weight = {1024 * kUlp, 16 * kUlp}});
      test::check_finite_differences(case_of(op, {random({2, 3, 4, 6}, 14)}), 4e-3);
    }
  }
}

TEST(ResizeBackward, MatchesTheReferenceAndDifferences) {
  using Mode = Resize::Mode;
  using Coordinates = Resize::Coordinates;
  for (const Mode mode : {Mode::kNearest, Mode::kLinear, Mode::kCubic}) {
    for (const Coordinates place :
         {Coordinates::kHalfPixel, Coordinates::kAsymmetric, Coordinates::kAlignCorners}) {
      Resize op{.mode = mode, .coordinates = place, .scale_h = 2, .scale_w = 1.5};
      test::check_backward(
          case_of(op, {random({2, 5, 6, 70}, 15)}),
          {.forward = {32 * kUlp, 16 * kUlp}, .input = {128 * kUlp, 16 * kUlp}, .weight = {}});
      test::check_finite_differences(case_of(op, {random({1, 3, 4, 2}, 16)}));
    }
  }
  // The map that tells the size has no part in the answer.
  const Resize to{.mode = Mode::kLinear};
  const auto c = case_of(to, {random({1, 2, 3, 4}, 17), random({1, 5, 4, 1}, 18)});
  const auto gradients = test::backward_on_cpu(c, test::train_by_reference(c), 2);
  EXPECT_THAT(gradients.inputs[1].values(), testing::Each(0.0f));
}

TEST(WindowBackward, MaxPoolMatchesTheReference) {
  for (const auto& [op, h, w] : {std::tuple{MaxPool{square(3, 1, 2)}, 9, 8},
                                 {MaxPool{square(3, 1, 1)}, 5, 6},
                                 {MaxPool{square(3, 0, 2), true}, 6, 7}}) {
    // Sums of up to 9 gradients.
    test::check_backward(case_of(op, {random({2, h, w, 19}, 19)}),
                         {.forward = {}, .input = {32 * kUlp, 0}, .weight = {}});
  }
}

TEST(WindowBackward, AvgPoolMatchesTheReference) {
  for (const bool counts : {true, false}) {
    for (const auto& [window, ceil_mode] :
         {std::pair{square(3, 1, 2), false}, {square(2, 0, 2), true}, {square(3, 1), false}}) {
      const AvgPool op{window, ceil_mode, counts};
      test::check_backward(case_of(op, {random({2, 9, 8, 70}, 20)}),
                           {.forward = {16 * kUlp, 0}, .input = {32 * kUlp, 0}, .weight = {}});
      test::check_finite_differences(case_of(op, {random({1, 5, 6, 3}, 21)}));
    }
  }
}

TEST(ReduceBackward, MatchesTheReferenceAndDifferences) {
  for (const auto kind : {Reduce::Kind::kMean, Reduce::Kind::kSum}) {
    const Reduce op{kind, {1, 2}};
    test::check_backward(case_of(op, {random({2, 150, 160, 9}, 22)}),
                         {.forward = {64 * kUlp, 64 * kUlp}, .input = {}, .weight = {}});
    test::check_finite_differences(case_of(op, {random({2, 3, 4, 5}, 23)}));
  }
  for (const auto kind : {Reduce::Kind::kMax, Reduce::Kind::kMin})
    test::check_backward(case_of(Reduce{kind, {1, 2}}, {random({2, 15, 16, 9}, 24)}), {});
}

}  // namespace
}  // namespace tessera
