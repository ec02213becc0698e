#include "kernels/attention/attention.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using testing::Each;

using CudaAttention = CudaTest;

struct Precision {
  const char* name;
  CudaMath math;
  double unit;  // relative error of a rounded operand
};

constexpr Precision kF32{"f32", CudaMath::kF32, 0};
constexpr Precision kPrecisions[] = {kF32,
                                     {"tf32", CudaMath::kTF32, 0x1p-11},
                                     {"bf16", CudaMath::kBF16, 0x1p-8},
                                     {"f16", CudaMath::kF16, 0x1p-11}};

// As the CPU's tests have them: sums of order one.
std::vector<Tensor> weights_of(const Attention& op, std::int64_t d) {
  const std::int64_t width = op.dense ? op.dense->units : d;
  const auto scale = [](std::int64_t terms) { return 1.0f / std::sqrt(static_cast<float>(terms)); };
  std::vector<Tensor> weights{random({op.units, width}, 2, scale(width)),
                              random({op.units}, 3, 0.5f), random({op.units}, 4, scale(op.units))};
  if (op.dense) {
    weights.push_back(random({op.dense->units, d}, 5, scale(d)));
    if (op.dense->bias) weights.push_back(random({op.dense->units}, 6, 0.5f));
  }
  return weights;
}

// In f32, W x + b rounds like a sum of d + 1 terms, tanh adds 4 ULP, the context's product is a sum
// of `units` terms; exp makes the score's absolute error the weights' relative one; the weighted
// sum over t steps of order one adds t more. A folded dense layer rounds once more and adds the
// d + 1 terms of the sums.
// Rounded operands make W x, a sum of order one, off by 6 standard deviations of 2 units (see
// linear_test.cpp), the context's product averages that over units of independent errors, and
// weights, below 1, are off by as much relatively.
Bound bound_of(const Precision& p, const Attention& op, std::int64_t d, std::int64_t t) {
  Bound bound = sum_bound(2 * (d + 2 + 4 + op.units) + t + (op.dense ? d + 1 : 0));
  if (p.math != CudaMath::kF32) bound.absolute = 4 * bound.absolute + 6 * 2 * p.unit;
  return bound;
}

void check(const Precision& p, const Attention& op, const std::vector<Tensor>& inputs) {
  const Shape& x = inputs[0].type().shape;
  SCOPED_TRACE(fmt::format("{}, {} units on {}", p.name, op.units, x.to_string()));
  check_cuda(op, inputs, weights_of(op, x[-1]), bound_of(p, op, x[-1], x[-2]), {.math = p.math});
}

TEST_F(CudaAttention, MatchesTheReferenceAtTileEdges) {
  for (const Precision& p : kPrecisions) {
    for (const std::int64_t t : {1, 15, 17}) {
      // Units around the slices of 64; columns around the features of a tile and runs of 4.
      for (const auto& [units, d] : {std::pair{1, 3}, {63, 16}, {64, 20}, {65, 64}, {17, 131}})
        check(p, {.units = units, .masked = false}, {random({2, t, d}, 1)});
    }
  }
}

TEST_F(CudaAttention, LongSequencesAndManyColumns) {
  check(kF32, {.units = 3, .masked = false}, {random({1, 520, 6}, 1)});
  check(kF32, {.units = 3, .masked = false}, {random({1, 9, 520}, 1)});
}

TEST_F(CudaAttention, BothTilesGiveTheSameBytes) {
  const Attention op{.units = 70};
  const std::vector<Tensor> inputs{random({3, 50, 36}, 1), Tensor::of_ids({3}, {50, 0, 33})};
  const std::vector<Tensor> weights = weights_of(op, 36);
  for (const Precision& p : kPrecisions) {
    std::vector<std::vector<Tensor>> results;
    for (const int multiprocessors : {1, 1000}) {  // one: blocks of many steps fill it
      const auto make = [&](CudaSetup setup) {
        setup.traits.multiprocessors = multiprocessors;
        return cuda(op, setup);
      };
      results.push_back(
          run_cuda_step(make, infer(op, types(inputs)), inputs, weights, {.math = p.math}));
    }
    const std::vector<Tensor> expected = run_reference(op, inputs, weights);
    for (const std::size_t i : {0, 1}) {
      EXPECT_TRUE(results[0][i].same_bytes(results[1][i])) << p.name;
      expect_close(results[0][i], expected[i], bound_of(p, op, 36, 50));
    }
  }
}

TEST_F(CudaAttention, ADenseLayerInFrontIsFolded) {
  for (const Precision& p : kPrecisions) {
    for (const int units : {1, 17}) {
      for (const bool bias : {true, false}) {
        check(p,
              {.units = units,
               .masked = false,
               .dense = Linear{.units = units + units / 2, .bias = bias}},
              {random({3, 12, 2 * units + 2}, 1)});
      }
    }
  }
}

TEST_F(CudaAttention, ADenseLayerInFrontWithMaskAndBf16Weights) {
  // eps = 0.5 keeps the sum of the weights well below 1: the dense bias must be scaled by it.
  const Attention op{.units = 50, .eps = 0.5, .dense = Linear{.units = 33}};
  const Tensor lengths = Tensor::of_ids({2, 3}, {0, 30, 1, 24, 25, 7});
  std::vector<float> x = random({2, 3, 30, 70}, 1).values();
  std::fill_n(x.begin(), 30 * 70, NAN);  // behind a length of 0: not read
  const std::vector<Tensor> inputs{Tensor::of({2, 3, 30, 70}, x), lengths};
  std::vector<Tensor> weights = weights_of(op, 70);
  for (Tensor& w : weights) w = w.rounded_to(DType::kBF16);
  check_cuda(op, inputs, weights, bound_of(kF32, op, 70, 30));
  const std::vector<float> s = run_cuda(op, inputs, weights)[0].values();
  EXPECT_THAT(std::vector(s.begin(), s.begin() + 33), Each(0.0f));
}

TEST_F(CudaAttention, RaggedLengthsInAnyRank) {
  const Attention op{.units = 50};
  const std::vector<Tensor> inputs{random({2, 3, 30, 22}, 1),
                                   Tensor::of_ids({2, 3}, {0, 30, 1, 24, 25, 7})};
  for (const Precision& p : kPrecisions) {
    check(p, op, inputs);
    const auto y = run_cuda(op, inputs, weights_of(op, 22), {.math = p.math});
    const std::vector<float> sum = y[0].values(), a = y[1].values();
    EXPECT_THAT(std::vector(sum.begin(), sum.begin() + 22), Each(0.0f));
    EXPECT_THAT(std::vector(a.begin(), a.begin() + 30), Each(0.0f));
    EXPECT_THAT(std::vector(a.begin() + 61, a.begin() + 90), Each(0.0f));
  }
}

TEST_F(CudaAttention, PaddingIsNotRead) {
  const Attention op{.units = 8};
  std::vector<float> x(4 * 8, 0.25f);
  std::fill(x.begin() + 16, x.end(), NAN);
  for (const Precision& p : kPrecisions) {
    const auto y = run_cuda(op, {Tensor::of({1, 4, 8}, x), Tensor::of_ids({1}, {2})},
                            weights_of(op, 8), {.math = p.math});
    for (const float s : y[0].values()) EXPECT_NEAR(s, 0.25f, 1e-6f);
  }
}

// The host refuses such lengths; the kernels still read and write nothing outside.
TEST_F(CudaAttention, WrongLengthsAreClamped) {
  const Attention op{.units = 5};
  const Tensor x = random({2, 3, 4}, 1);
  const std::vector<Tensor> weights = weights_of(op, 4);
  const auto wrong = run_cuda(op, {x, Tensor::of_ids({2}, {1 << 30, -1})}, weights);
  const auto right = run_cuda(op, {x, Tensor::of_ids({2}, {3, 0})}, weights);
  for (const std::size_t i : {0, 1}) EXPECT_TRUE(wrong[i].same_bytes(right[i]));
}

TEST_F(CudaAttention, RowOfABatchIsThatRowAlone) {
  for (const Precision& p : kPrecisions) {
    for (const bool dense : {false, true}) {
      Attention op{.units = 20};
      if (dense) op.dense = Linear{.units = 9};
      check_cuda_batch(op, {random({4, 11, 30}, 1), Tensor::of_ids({4}, {11, 3, 0, 7})},
                       weights_of(op, 30), {.math = p.math});
    }
  }
}

// One unit with tanh saturated to +-1: the scores are exactly +-context.
std::vector<Tensor> run_scores(const std::vector<float>& signs, float context, double eps) {
  const auto t = static_cast<std::int64_t>(signs.size());
  const std::vector<Tensor> inputs{Tensor::of({1, t, 1}, signs)};
  const std::vector<Tensor> weights{Tensor::of({1, 1}, {100.0f}), Tensor::of({1}, {0.0f}),
                                    Tensor::of({1}, {context})};
  const Attention op{.units = 1, .masked = false, .eps = eps};
  check_cuda(op, inputs, weights, bound_of(kF32, op, 1, t));
  return run_cuda(op, inputs, weights);
}

TEST_F(CudaAttention, HugeScoresGiveNumbers) {
  // +1e4 against -1e4: exp(1e4) itself would overflow.
  EXPECT_THAT(run_scores({1, -1, 1, -1}, 1e4f, 1e-7)[1].values(),
              testing::ElementsAre(0.5f, 0.0f, 0.5f, 0.0f));
  // All -1e4: exp(-1e4) is nothing against eps, so the formula gives weights of 0 ...
  EXPECT_THAT(run_scores({-1, -1, -1}, 1e4f, 1e-7)[1].values(), Each(0.0f));
  // ... and a plain softmax without eps.
  EXPECT_THAT(run_scores({-1, -1, -1, -1}, 1e4f, 0)[1].values(), Each(0.25f));
}

TEST_F(CudaAttention, EpsIsScaledWithTheMaximum) {
  // Scores of -16: exp(-16) = 1.125e-7, so a = 1.125e-7 / (2 x 1.125e-7 + 1e-7) = 0.3462. The
  // logarithm of eps, 16.1, is rounded to f32: 1e-6 of eps's share.
  const double e = std::exp(-16.0), expected = e / (2 * e + 1e-7);
  for (const float a : run_scores({-1, -1}, 16.0f, 1e-7)[1].values())
    EXPECT_NEAR(a, expected, 3e-7);
}

TEST_F(CudaAttention, NanGivesNanInItsSequenceAlone) {
  const Attention op{.units = 20, .masked = false};
  std::vector<float> x = random({2, 10, 30}, 1).values();
  x[5 * 30 + 3] = NAN;
  for (const Precision& p : kPrecisions) {
    const auto y = run_cuda(op, {Tensor::of({2, 10, 30}, x)}, weights_of(op, 30), {.math = p.math});
    const std::vector<float> s = y[0].values(), a = y[1].values();
    for (std::size_t i = 0; i < s.size(); ++i) EXPECT_EQ(std::isnan(s[i]), i < 30) << i;
    for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(std::isnan(a[i]), i < 10) << i;
  }
}

// An infinity saturates tanh; units that pad the last slice must not turn it into NaN.
TEST_F(CudaAttention, InfinitySaturatesAScore) {
  const Attention op{.units = 1, .masked = false};
  for (const Precision& p : kPrecisions) {
    const auto a =
        run_cuda(op, {Tensor::of({1, 2, 1}, {INFINITY, -1.0f})},
                 {Tensor::of({1, 1}, {100.0f}), Tensor::of({1}, {0.0f}), Tensor::of({1}, {0.0f})},
                 {.math = p.math})[1]
            .values();
    for (const float weight : a) EXPECT_NEAR(weight, 0.5f, 1e-6f) << p.name;
  }
}

}  // namespace
}  // namespace tessera::test
