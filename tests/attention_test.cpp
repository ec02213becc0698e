#include "kernels/attention/attention.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::ThrowsMessage;

std::vector<Tensor> weights_of(int units, std::int64_t d) {
  return {random({units, d}, 2, 1.0f / std::sqrt(static_cast<float>(d))), random({units}, 3, 0.5f),
          random({units}, 4, 1.0f / std::sqrt(static_cast<float>(units)))};
}

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
        check_cpu(Attention{.units = units, .masked = false}, {random({2, t, d}, 1)},
                  weights_of(units, d), bound_of(units, d, t));
      }
    }
  });
}

// Weights as above, for a dense layer of `width` units in front.
std::vector<Tensor> dense_weights_of(const Attention& op, std::int64_t d) {
  std::vector<Tensor> weights = weights_of(op.units, op.dense->units);
  weights.push_back(random({op.dense->units, d}, 5, 1.0f / std::sqrt(static_cast<float>(d))));
  if (op.dense->bias) weights.push_back(random({op.dense->units}, 6, 0.5f));
  return weights;
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
          check_cpu(op, {random({3, t, d}, 1)}, dense_weights_of(op, d), dense_bound_of(op, d, t));
        }
      }
    }
  });
}

TEST(Attention, ADenseLayerInFrontWithMaskAndBf16Weights) {
  // eps = 0.5 keeps the sum of the weights well below 1: the dense bias must be scaled by it.
  const Attention op{.units = 50, .eps = 0.5, .dense = Linear{.units = 33}};
  const Tensor lengths = Tensor::of_ids({2, 3}, {0, 30, 1, 24, 25, 7});
  std::vector<float> x = random({2, 3, 30, 70}, 1).values();
  std::fill_n(x.begin(), 30 * 70, NAN);  // behind a length of 0: not read
  const std::vector<Tensor> inputs{Tensor::of({2, 3, 30, 70}, x), lengths};
  std::vector<Tensor> weights = dense_weights_of(op, 70);
  check_cpu(op, inputs, weights, dense_bound_of(op, 70, 30));
  const auto y = run_cpu(op, inputs, weights, 2)[0];
  EXPECT_EQ(y.type().shape, (Shape{2, 3, 33}));
  const std::vector<float> s = y.values();
  EXPECT_THAT(std::vector(s.begin(), s.begin() + 33), Each(0.0f));
  for (Tensor& w : weights) w = w.rounded_to(DType::kBF16);
  check_cpu(op, inputs, weights, dense_bound_of(op, 70, 30));
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
  const Attention op{.units = 50};
  const Tensor x = random({2, 3, 30, 70}, 1);
  const Tensor lengths = Tensor::of_ids({2, 3}, {0, 30, 1, 24, 25, 7});
  check_cpu(op, {x, lengths}, weights_of(50, 70), bound_of(50, 70, 30));
  const auto y = run_cpu(op, {x, lengths}, weights_of(50, 70), 2);
  const std::vector<float> sum = y[0].values(), a = y[1].values();
  EXPECT_THAT(std::vector(sum.begin(), sum.begin() + 70), Each(0.0f));
  EXPECT_THAT(std::vector(a.begin(), a.begin() + 30), Each(0.0f));
  EXPECT_THAT(std::vector(a.begin() + 61, a.begin() + 90), Each(0.0f));
}

TEST(Attention, PaddingIsNotRead) {
  const Attention op{.units = 8};
  std::vector<float> x(4 * 8, 0.25f);
  std::fill(x.begin() + 16, x.end(), NAN);
  const auto y =
      run_cpu(op, {Tensor::of({1, 4, 8}, x), Tensor::of_ids({1}, {2})}, weights_of(8, 8), 1);
  for (const float s : y[0].values()) EXPECT_NEAR(s, 0.25f, 1e-6f);
}

TEST(Attention, ASequenceAloneHasTheBytesItHasAmongMany) {
  const Attention op{.units = 50};
  const Tensor x = random({5, 26, 60}, 1);
  const Tensor lengths = Tensor::of_ids({5}, {26, 3, 25, 0, 12});
  const auto all = run_cpu(op, {x, lengths}, weights_of(50, 60), 2);
  const std::vector<float> values = x.values(), s = all[0].values(), a = all[1].values();
  for (std::size_t i = 0; i < 5; ++i) {
    const Tensor one =
        Tensor::of({1, 26, 60}, {values.begin() + static_cast<std::ptrdiff_t>(i * 26 * 60),
                                 values.begin() + static_cast<std::ptrdiff_t>((i + 1) * 26 * 60)});
    const Tensor length = Tensor::of_ids({1}, {lengths.view().as<std::int32_t>()[i]});
    const auto alone = run_cpu(op, {one, length}, weights_of(50, 60), 1);
    EXPECT_THAT(alone[0].values(), testing::ElementsAreArray(&s[i * 60], 60));
    EXPECT_THAT(alone[1].values(), testing::ElementsAreArray(&a[i * 26], 26));
  }
}

// One unit with tanh saturated to +-1: the scores are exactly +-context.
std::vector<Tensor> run_scores(const std::vector<float>& signs, float context, double eps) {
  const auto t = static_cast<std::int64_t>(signs.size());
  const std::vector<Tensor> inputs{Tensor::of({1, t, 1}, signs)};
  const std::vector<Tensor> weights{Tensor::of({1, 1}, {100.0f}), Tensor::of({1}, {0.0f}),
                                    Tensor::of({1}, {context})};
  const Attention op{.units = 1, .masked = false, .eps = eps};
  check_cpu(op, inputs, weights, bound_of(1, 1, t));
  return run_cpu(op, inputs, weights, 1);
}

TEST(Attention, HugeScoresGiveNumbers) {
  // +1e4 against -1e4: exp(1e4) itself would overflow.
  EXPECT_THAT(run_scores({1, -1, 1, -1}, 1e4f, 1e-7)[1].values(),
              testing::ElementsAre(0.5f, 0.0f, 0.5f, 0.0f));
  // All -1e4: exp(-1e4) is nothing against eps, so the formula gives weights of 0 ...
  EXPECT_THAT(run_scores({-1, -1, -1}, 1e4f, 1e-7)[1].values(), Each(0.0f));
  // ... and a plain softmax without eps.
  EXPECT_THAT(run_scores({-1, -1, -1, -1}, 1e4f, 0)[1].values(), Each(0.25f));
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
  const Attention op{.units = 20, .masked = false};
  std::vector<float> x = random({2, 10, 30}, 1).values();
  x[5 * 30 + 3] = NAN;
  for (const int threads : {1, 2}) {
    const auto y = run_cpu(op, {Tensor::of({2, 10, 30}, x)}, weights_of(20, 30), threads);
    const std::vector<float> s = y[0].values(), a = y[1].values();
    for (std::size_t i = 0; i < s.size(); ++i) EXPECT_EQ(std::isnan(s[i]), i < 30) << i;
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(std::isnan(a[i]), i < 10) << i;
  }
}

TEST(Attention, ReadsBf16Weights) {
  std::vector<Tensor> weights;
  for (const Tensor& w : weights_of(30, 40)) weights.push_back(w.rounded_to(DType::kBF16));
  check_cpu(Attention{.units = 30, .masked = false}, {random({3, 7, 40}, 1)}, weights,
            bound_of(30, 40, 7));
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
    EXPECT_THAT([&] { run_cpu(op, inputs, weights_of(4, 5), 2); }, ThrowsMessage<Error>(message));
    EXPECT_THAT([&] { run_reference(op, inputs, weights_of(4, 5)); },
                ThrowsMessage<Error>(message));
  }
}

}  // namespace
}  // namespace tessera::test
