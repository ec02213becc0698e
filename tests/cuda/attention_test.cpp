#include "kernels/ops/attention/attention.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/attention_cases.h"
#include "tests/support/cuda_check.h"
#include "tests/support/precision.h"

namespace tessera::test {
namespace {

using testing::Each;

using CudaAttention = CudaTest;

// In f32, W x + b rounds like a sum of d + 1 terms, tanh adds 4 ULP, the context's product is a sum
// of `units` terms; exp makes the score's absolute error the weights' relative one; the weighted
// sum over t steps of order one adds t more. A folded dense layer rounds once more and adds the
// d + 1 terms of the sums.
// Rounded operands make W x, a sum of order one, off by 6 standard deviations of 2 units (see
// linear_test.cpp), the context's product averages that over units of independent errors, and
// weights, below 1, are off by as much relatively.
Bound bound_of(const ProductPrecision& p, const Attention& op, std::int64_t d, std::int64_t t) {
  Bound bound = sum_bound(2 * (d + 2 + 4 + op.units) + t + (op.dense ? d + 1 : 0));
  if (p.math != Precision::kFp32) bound.absolute = 4 * bound.absolute + 6 * 2 * p.unit;
  return bound;
}

void check(const ProductPrecision& p, const Attention& op, const std::vector<Tensor>& inputs) {
  const Shape& x = inputs[0].type().shape;
  SCOPED_TRACE(fmt::format("{}, {} units on {}", p.name, op.units, x.to_string()));
  check_cuda(op, inputs, weights_of(op, x[-1]), bound_of(p, op, x[-1], x[-2]), {.math = p.math});
}

TEST_F(CudaAttention, MatchesTheReferenceAtTileEdges) {
  for (const ProductPrecision& p : kPrecisions) {
    for (const std::int64_t t : {1, 15, 17}) {
      // Units around the slices of 64; columns around the features of a tile and runs of 4.
      for (const auto& [units, d] : {std::pair{1, 3}, {63, 16}, {64, 20}, {65, 64}, {17, 131}})
        check(p, {.units = units, .masked = false}, {random({2, t, d}, 1)});
    }
  }
}

TEST_F(CudaAttention, LongSequencesAndManyColumns) {
  check(kExact, {.units = 3, .masked = false}, {random({1, 520, 6}, 1)});
  check(kExact, {.units = 3, .masked = false}, {random({1, 9, 520}, 1)});
}

TEST_F(CudaAttention, BothTilesGiveTheSameBytes) {
  const Attention op{.units = 70};
  const std::vector<Tensor> inputs{random({3, 50, 36}, 1), Tensor::of_ids({3}, {50, 0, 33})};
  const std::vector<Tensor> weights = weights_of(op, 36);
  for (const ProductPrecision& p : kPrecisions) {
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
  for (const ProductPrecision& p : kPrecisions) {
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
  AttentionCase c = masked_dense_case();
  for (Tensor& w : c.weights) w = w.rounded_to(DType::kBF16);
  check_cuda(c.op, c.inputs, c.weights, bound_of(kExact, c.op, 70, 30));
  const std::vector<float> s = run_cuda(c.op, c.inputs, c.weights)[0].values();
  EXPECT_THAT(std::vector(s.begin(), s.begin() + 33), Each(0.0f));
}

TEST_F(CudaAttention, RaggedLengthsInAnyRank) {
  const AttentionCase c = ragged_case(22);
  for (const ProductPrecision& p : kPrecisions) {
    check(p, c.op, c.inputs);
    expect_zeros_past_the_lengths(run_cuda(c.op, c.inputs, c.weights, {.math = p.math}), 22);
  }
}

TEST_F(CudaAttention, PaddingIsNotRead) {
  const AttentionCase c = padded_case();
  for (const ProductPrecision& p : kPrecisions) {
    const auto y = run_cuda(c.op, c.inputs, c.weights, {.math = p.math});
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
  for (const ProductPrecision& p : kPrecisions) {
    for (const bool dense : {false, true}) {
      Attention op{.units = 20};
      if (dense) op.dense = Linear{.units = 9};
      check_cuda_batch(op, {random({4, 11, 30}, 1), Tensor::of_ids({4}, {11, 3, 0, 7})},
                       weights_of(op, 30), {.math = p.math});
    }
  }
}

// Outputs of a case_of_scores.
std::vector<Tensor> run_scores(const std::vector<float>& signs, float context, double eps) {
  const AttentionCase c = case_of_scores(signs, context, eps);
  const auto t = static_cast<std::int64_t>(signs.size());
  check_cuda(c.op, c.inputs, c.weights, bound_of(kExact, c.op, 1, t));
  return run_cuda(c.op, c.inputs, c.weights);
}

TEST_F(CudaAttention, HugeScoresGiveNumbers) {
  expect_numbers_of_huge_scores(run_scores);
}

TEST_F(CudaAttention, EpsIsScaledWithTheMaximum) {
  // Scores of -16: exp(-16) = 1.125e-7, so a = 1.125e-7 / (2 x 1.125e-7 + 1e-7) = 0.3462. The
  // logarithm of eps, 16.1, is rounded to f32: 1e-6 of eps's share.
  const double e = std::exp(-16.0), expected = e / (2 * e + 1e-7);
  for (const float a : run_scores({-1, -1}, 16.0f, 1e-7)[1].values())
    EXPECT_NEAR(a, expected, 3e-7);
}

TEST_F(CudaAttention, NanGivesNanInItsSequenceAlone) {
  const AttentionCase c = nan_case();
  for (const ProductPrecision& p : kPrecisions)
    expect_nan_in_the_first_sequence(run_cuda(c.op, c.inputs, c.weights, {.math = p.math}));
}

// An infinity saturates tanh; units that pad the last slice must not turn it into NaN.
TEST_F(CudaAttention, InfinitySaturatesAScore) {
  const Attention op{.units = 1, .masked = false};
  for (const ProductPrecision& p : kPrecisions) {
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
