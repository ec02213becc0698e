// What the tests of Attention on both devices share.
#pragma once

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/ops/attention/attention.h"
#include "tests/support/backward_check.h"

namespace tessera::test {

// Sums of order one.
inline std::vector<Tensor> weights_of(const Attention& op, std::int64_t d) {
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

struct AttentionCase {
  Attention op;
  std::vector<Tensor> inputs, weights;
};

inline AttentionCase ragged_case(std::int64_t d) {
  const Attention op{.units = 50};
  const Tensor lengths = Tensor::of_ids({2, 3}, {0, 30, 1, 24, 25, 7});
  return {op, {random({2, 3, 30, d}, 1), lengths}, weights_of(op, d)};
}

inline void expect_zeros_past_the_lengths(const std::vector<Tensor>& y, std::ptrdiff_t d) {
  using testing::Each;
  const std::vector<float> sum = y[0].values(), a = y[1].values();
  EXPECT_THAT(std::vector(sum.begin(), sum.begin() + d), Each(0.0f));
  EXPECT_THAT(std::vector(a.begin(), a.begin() + 30), Each(0.0f));
  EXPECT_THAT(std::vector(a.begin() + 61, a.begin() + 90), Each(0.0f));
}

// eps = 0.5 keeps the sum of the weights well below 1: the dense bias must be scaled by it.
inline AttentionCase masked_dense_case() {
  const Attention op{.units = 50, .eps = 0.5, .dense = Linear{.units = 33}};
  const Tensor lengths = Tensor::of_ids({2, 3}, {0, 30, 1, 24, 25, 7});
  std::vector<float> x = random({2, 3, 30, 70}, 1).values();
  std::fill_n(x.begin(), 30 * 70, NAN);  // behind a length of 0: not read
  return {op, {Tensor::of({2, 3, 30, 70}, x), lengths}, weights_of(op, 70)};
}

// Two steps of 0.25, then NaN behind the length.
inline AttentionCase padded_case() {
  const Attention op{.units = 8};
  std::vector<float> x(4 * 8, 0.25f);
  std::fill(x.begin() + 16, x.end(), NAN);
  return {op, {Tensor::of({1, 4, 8}, x), Tensor::of_ids({1}, {2})}, weights_of(op, 8)};
}

// One unit with tanh saturated to +-1: the scores are exactly +-context.
inline AttentionCase case_of_scores(const std::vector<float>& signs, float context, double eps) {
  const auto t = static_cast<std::int64_t>(signs.size());
  return {{.units = 1, .masked = false, .eps = eps},
          {Tensor::of({1, t, 1}, signs)},
          {Tensor::of({1, 1}, {100.0f}), Tensor::of({1}, {0.0f}), Tensor::of({1}, {context})}};
}

// `run_scores` gives the outputs of a case_of_scores.
template <class Run>
void expect_numbers_of_huge_scores(const Run& run_scores) {
  using testing::Each;
  // +1e4 against -1e4: exp(1e4) itself would overflow.
  EXPECT_THAT(run_scores({1, -1, 1, -1}, 1e4f, 1e-7)[1].values(),
              testing::ElementsAre(0.5f, 0.0f, 0.5f, 0.0f));
  // All -1e4: exp(-1e4) is nothing against eps, so the formula gives weights of 0 ...
  EXPECT_THAT(run_scores({-1, -1, -1}, 1e4f, 1e-7)[1].values(), Each(0.0f));
  // ... and a plain softmax without eps.
  EXPECT_THAT(run_scores({-1, -1, -1, -1}, 1e4f, 0)[1].values(), Each(0.25f));
}

// NaN in the first of two sequences.
inline AttentionCase nan_case() {
  const Attention op{.units = 20, .masked = false};
  std::vector<float> x = random({2, 10, 30}, 1).values();
  x[5 * 30 + 3] = NAN;
  return {op, {Tensor::of({2, 10, 30}, x)}, weights_of(op, 30)};
}

inline void expect_nan_in_the_first_sequence(const std::vector<Tensor>& y) {
  const std::vector<float> s = y[0].values(), a = y[1].values();
  for (std::size_t i = 0; i < s.size(); ++i) EXPECT_EQ(std::isnan(s[i]), i < 30) << i;
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(std::isnan(a[i]), i < 10) << i;
}

// ---- Training

inline TrainCase<Attention> case_of(const Attention& op, const std::vector<std::int32_t>& lengths,
                                    std::int64_t t, std::int64_t d) {
  const auto rows = static_cast<std::int64_t>(lengths.size());
  TrainCase<Attention> c{op, {random({rows, t, d}, 70)}, {}};
  if (op.masked) c.inputs.push_back(Tensor::of_ids({rows}, lengths));
  for (const Parameter& p : parameters(op, types(c.inputs))) {
    const std::int64_t terms = p.shape.rank() > 1 ? p.shape[1] : 1;
    c.weights.push_back(random(p.shape, 80 + static_cast<unsigned>(c.weights.size()),
                               1 / std::sqrt(static_cast<float>(terms))));
  }
  return c;
}

// In f32, scores are sums over `units` of context u, whose u errs by the rounding of d products;
// exp turns their absolute error into a relative one of a, and da multiplies it with sums over d.
inline BackwardBounds exact_bounds_of(const TrainCase<Attention>& c) {
  const Shape& x = c.inputs[0].type().shape;
  const double width =
      static_cast<double>(c.op.dense ? c.op.dense->units : 0) + static_cast<double>(x[-1]);
  const double error =
      16 * 0x1p-24 * std::sqrt(width + 16) * std::sqrt(static_cast<double>(c.op.units) + 4);
  const double steps = static_cast<double>(x[0] * x[1]);
  return {.forward = {error, 0x1p-20},
          .input = {error * std::sqrt(width), 0x1p-20},
          .weight = {error * std::sqrt(width * (steps + 4)), 0x1p-20}};
}

}  // namespace tessera::test
