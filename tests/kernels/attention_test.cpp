#include "kernels/ops/attention/attention.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/attention_cases.h"
#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::ThrowsMessage;

// W x + b rounds like a sum of d + 1 terms, tanh adds 4 ULP, the context's product is a sum of
// `units` terms; exp makes the score's absolute error the weights' relative one. The weighted sum
// over t steps of order one adds t more.
Bound bound_of(int units, std::int64_t d, std::int64_t t) {
  return sum_bound(2 * (d + 1 + 4 + units) + t);
}

TEST(Attention, MatchesTheReferenceAtTileAndVectorEdges) {
  for_each_target([] {
    for (const std::int64_t t : {1, 2, 23, 24, 25, 60}) {
      for (const int units : {1, 15, 16, 17, 64, 100}) {
        const std::int64_t d = units == 17 ? 129 : units == 16 ? 128 : 2 * units + 1;
        SCOPED_TRACE(fmt::format("t {}, {} units, d {}", t, units, d));
        const Attention op{.units = units, .masked = false};
        check_cpu(op, {random({2, t, d}, 1)}, weights_of(op, d), bound_of(units, d, t));
      }
    }
  });
}

// The folded matrix and bias round once more each, and the layer of the sums adds d + 1 terms.
Bound dense_bound_of(const Attention& op, std::int64_t d, std::int64_t t) {
  return sum_bound(2 * (d + 2 + 4 + op.units) + t + d + 1);
}

TEST(Attention, ADenseLayerInFrontIsFolded) {
  for_each_target([] {
    for (const std::int64_t t : {1, 24, 61}) {
      for (const int units : {1, 16, 17, 100}) {
        for (const bool bias : {true, false}) {
          const std::int64_t d = units == 16 ? 128 : 2 * units + 1;
          const Attention op{.units = units,
                             .masked = false,
                             .dense = Linear{.units = units + units / 2, .bias = bias}};
          SCOPED_TRACE(fmt::format("t {}, {} units, d {}, bias {}", t, units, d, bias));
          check_cpu(op, {random({3, t, d}, 1)}, weights_of(op, d), dense_bound_of(op, d, t));
        }
      }
    }
  });
}

TEST(Attention, ADenseLayerInFrontWithMaskAndBf16Weights) {
  AttentionCase c = masked_dense_case();
  check_cpu(c.op, c.inputs, c.weights, dense_bound_of(c.op, 70, 30));
  const auto y = run_cpu(c.op, c.inputs, c.weights, 2)[0];
  EXPECT_EQ(y.type().shape, (Shape{2, 3, 33}));
  const std::vector<float> s = y.values();
  EXPECT_THAT(std::vector(s.begin(), s.begin() + 33), Each(0.0f));
  for (Tensor& w : c.weights) w = w.rounded_to(DType::kBF16);
  check_cpu(c.op, c.inputs, c.weights, dense_bound_of(c.op, 70, 30));
}

TEST(Attention, ParametersOfADenseLayerComeLast) {
  const TensorType x{DType::kF32, {2, 3, 4}};
  const Attention op{.units = 5, .masked = false, .dense = Linear{.units = 7}};
  const auto list = parameters(op, {&x, 1});
  ASSERT_EQ(list.size(), 5u);
  EXPECT_EQ(list[0].shape, (Shape{5, 7}));
  EXPECT_EQ(list[3].name, "dense/weight");
  EXPECT_EQ(list[3].shape, (Shape{7, 4}));
  EXPECT_EQ(list[4].name, "dense/bias");
  EXPECT_EQ(list[4].shape, (Shape{7}));
  // 6 steps of 5 x 4 (folded), 5 (context) and 4 (sum) multiply-adds; 2 sums through 7 x 4.
  EXPECT_EQ(cost(op, {&x, 1}).flops, 2 * (6 * (5 * 4 + 5 + 4) + 2 * 7 * 4));
}

TEST(Attention, RaggedLengthsInAnyRank) {
  const AttentionCase c = ragged_case(70);
  check_cpu(c.op, c.inputs, c.weights, bound_of(50, 70, 30));
  expect_zeros_past_the_lengths(run_cpu(c.op, c.inputs, c.weights, 2), 70);
}

TEST(Attention, PaddingIsNotRead) {
  const AttentionCase c = padded_case();
  const auto y = run_cpu(c.op, c.inputs, c.weights, 1);
  for (const float s : y[0].values()) EXPECT_NEAR(s, 0.25f, 1e-6f);
}

TEST(Attention, ASequenceAloneHasTheBytesItHasAmongMany) {
  const Attention op{.units = 50};
  const Tensor x = random({5, 26, 60}, 1);
  const Tensor lengths = Tensor::of_ids({5}, {26, 3, 25, 0, 12});
  const auto all = run_cpu(op, {x, lengths}, weights_of(op, 60), 2);
  const std::vector<float> values = x.values(), s = all[0].values(), a = all[1].values();
  for (std::size_t i = 0; i < 5; ++i) {
    const Tensor one =
        Tensor::of({1, 26, 60}, {values.begin() + static_cast<std::ptrdiff_t>(i * 26 * 60),
                                 values.begin() + static_cast<std::ptrdiff_t>((i + 1) * 26 * 60)});
    const Tensor length = Tensor::of_ids({1}, {lengths.view().as<std::int32_t>()[i]});
    const auto alone = run_cpu(op, {one, length}, weights_of(op, 60), 1);
    EXPECT_THAT(alone[0].values(), testing::ElementsAreArray(&s[i * 60], 60));
    EXPECT_THAT(alone[1].values(), testing::ElementsAreArray(&a[i * 26], 26));
  }
}

// Outputs of a case_of_scores.
std::vector<Tensor> run_scores(const std::vector<float>& signs, float context, double eps) {
  const AttentionCase c = case_of_scores(signs, context, eps);
  check_cpu(c.op, c.inputs, c.weights, bound_of(1, 1, static_cast<std::int64_t>(signs.size())));
  return run_cpu(c.op, c.inputs, c.weights, 1);
}

TEST(Attention, HugeScoresGiveNumbers) {
  expect_numbers_of_huge_scores(run_scores);
}

TEST(Attention, EpsIsScaledWithTheMaximum) {
  // Scores of -16: exp(-16) = 1.125e-7, so a = 1.125e-7 / (2 x 1.125e-7 + 1e-7) = 0.3462.
  const double e = std::exp(-16.0), expected = e / (2 * e + 1e-7);
  for (const float a : run_scores({-1, -1}, 16.0f, 1e-7)[1].values())
    EXPECT_NEAR(a, expected, 1e-7);
}

TEST(Attention, EqualScoresGiveTheMean) {
  const auto y = run_scores({1, 1, 1, 1, 1}, 3.0f, 0);
  EXPECT_THAT(y[1].values(), Each(0.2f));
  EXPECT_FLOAT_EQ(y[0].values()[0], 1.0f);
}

TEST(Attention, NanGivesNanInItsSequenceAlone) {
  const AttentionCase c = nan_case();
  for (const int threads : {1, 2})
    expect_nan_in_the_first_sequence(run_cpu(c.op, c.inputs, c.weights, threads));
}

TEST(Attention, ReadsBf16Weights) {
  const Attention op{.units = 30, .masked = false};
  std::vector<Tensor> weights = weights_of(op, 40);
  for (Tensor& w : weights) w = w.rounded_to(DType::kBF16);
  check_cpu(op, {random({3, 7, 40}, 1)}, weights, bound_of(30, 40, 7));
}

TEST(Attention, WrongInputsAreErrors) {
  const auto infer_of = [](const Attention& op, std::vector<TensorType> inputs) {
    return [op, inputs] { infer(op, inputs); };
  };
  const TensorType x{DType::kF32, {2, 3, 4}}, lengths{DType::kI32, {2}};
  EXPECT_THAT(infer_of({.units = 0}, {x, lengths}), ThrowsMessage<Error>(HasSubstr("not 0")));
  EXPECT_THAT(infer_of({.units = 1}, {x}), ThrowsMessage<Error>(HasSubstr("found 1")));
  EXPECT_THAT(infer_of({.units = 1, .masked = false}, {x, lengths}),
              ThrowsMessage<Error>(HasSubstr("found 2")));
  EXPECT_THAT(infer_of({.units = 1}, {x, {DType::kI32, {3}}}),
              ThrowsMessage<Error>(AllOf(HasSubstr("i32 (2)"), HasSubstr("i32 (3)"))));
  EXPECT_THAT(infer_of({.units = 1, .masked = false}, {{DType::kF32, {4}}}),
              ThrowsMessage<Error>(HasSubstr("f32 (4)")));
  EXPECT_THAT(infer_of({.units = 1, .masked = false}, {{DType::kF32, {2, 0, 4}}}),
              ThrowsMessage<Error>(HasSubstr("(2, 0, 4)")));
  EXPECT_THAT(infer_of({.units = 1, .masked = false, .dense = Linear{}}, {x}),
              ThrowsMessage<Error>(HasSubstr("not 0")));
  EXPECT_THAT(infer_of({.units = 1, .masked = false, .eps = NAN}, {x}),
              ThrowsMessage<Error>(HasSubstr("nan")));
}

TEST(Attention, ALengthBeyondTheStepsIsNamed) {
  const Attention op{.units = 4};
  for (const std::int32_t bad : {-1, 4}) {
    const std::vector<Tensor> inputs{random({2, 3, 5}, 1), Tensor::of_ids({2}, {3, bad})};
    const auto message = AllOf(HasSubstr("length " + std::to_string(bad)), HasSubstr("sequence 1"));
    EXPECT_THAT([&] { run_cpu(op, inputs, weights_of(op, 5), 2); }, ThrowsMessage<Error>(message));
    EXPECT_THAT([&] { run_reference(op, inputs, weights_of(op, 5)); },
                ThrowsMessage<Error>(message));
  }
}

}  // namespace
}  // namespace tessera::test
