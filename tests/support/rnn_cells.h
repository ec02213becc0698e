// What the tests of BiRnn on both devices share.
#pragma once

#include <gmock/gmock.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/ops/rnn/rnn.h"
#include "tests/support/backward_check.h"

namespace tessera::test {

inline std::string name_of_cell(const BiRnn& op) {
  return fmt::format("{} of {} units, {}, reset_after {}",
                     op.cell == BiRnn::Cell::kLstm ? "LSTM" : "GRU", op.units,
                     op.gate == BiRnn::Gate::kSigmoid ? "sigmoid" : "hard_sigmoid", op.reset_after);
}

// Matrices of norm below 2, so that gates are of order one and neither saturate nor vanish.
inline std::vector<Tensor> weights_of(const BiRnn& op, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> weights;
  unsigned seed = 10;
  for (const Parameter& p : parameters(op, types(inputs))) {
    const float columns = p.shape.rank() == 2 ? static_cast<float>(p.shape[-1]) : 4.0f;
    const float scale = p.name == "embedding" ? 1.0f : 1.0f / std::sqrt(columns);
    weights.push_back(random(p.shape, ++seed, scale));
  }
  return weights;
}

// One step's gates are sums of features + units + 2 terms and its functions add 4 ULP each. The
// slopes of the gates (1/4, hard 1/5) and a recurrent matrix of norm below 2 keep an error from
// growing from step to step, so that t steps add up at most t times one step's.
inline Bound exact_bound(const BiRnn& op, std::int64_t features, std::int64_t t) {
  return sum_bound((features + op.units + 2 + 5 * 4) * t);
}

// Six sequences, one empty, of up to 9 steps of 6 features.
inline std::vector<Tensor> ragged_sequences() {
  return {random({2, 3, 9, 6}, 1), Tensor::of_ids({2, 3}, {0, 9, 1, 8, 9, 4})};
}

// Of their outputs with 20 units.
inline void expect_zeros_past_the_lengths(const std::vector<float>& y) {
  const auto steps = [&](std::ptrdiff_t first, std::ptrdiff_t last) {
    return std::vector(y.begin() + first * 40, y.begin() + last * 40);
  };
  EXPECT_THAT(steps(0, 9), testing::Each(0.0f));
  EXPECT_THAT(steps(19, 27), testing::Each(0.0f));
}

// A sequence of length n, padded or not, has the same outputs: also the backward ones. `run` gives
// the outputs of a cell, which is unmasked here, for its inputs.
template <class Run>
void expect_padding_changes_nothing(BiRnn op, const Run& run) {
  const std::vector<float> x = random({3, 8}, 1).values();
  const std::vector<float> expected = run(op, {Tensor::of({1, 3, 8}, x)});
  std::vector<float> padded = x;
  padded.resize(7 * 8, NAN);
  op.masked = true;
  std::vector<float> y = run(op, {Tensor::of({1, 7, 8}, padded), Tensor::of_ids({1}, {3})});
  y.resize(expected.size());
  EXPECT_THAT(y, testing::ElementsAreArray(expected)) << name_of_cell(op);
}

// Three sequences of 5 steps; NaN in sequence 1, step 2.
inline std::vector<Tensor> sequences_with_nan() {
  std::vector<float> x = random({3, 5, 4}, 1).values();
  x[(5 + 2) * 4] = NAN;
  return {Tensor::of({3, 5, 4}, x)};
}

// In their outputs with 17 units.
inline void expect_nan_in_its_sequence_and_direction(const std::vector<float>& y) {
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t sequence = i / (5 * 34), step = i / 34 % 5;
    const bool backward = i % 34 >= 17;
    const bool expected = sequence == 1 && (backward ? step <= 2 : step >= 2);
    ASSERT_EQ(std::isnan(y[i]), expected) << i;
  }
}

inline std::vector<Tensor> large_sequences() {
  std::vector<float> x = random({4, 3, 2}, 1, 1e6f).values();
  x[7] = 1e30f;
  return {Tensor::of({4, 3, 2}, x)};
}

// ---- Training

inline std::vector<BiRnn> trained_cells(int units, bool masked) {
  using Cell = BiRnn::Cell;
  using Gate = BiRnn::Gate;
  std::vector<BiRnn> list{{.cell = Cell::kLstm},
                          {.cell = Cell::kGru},
                          {.cell = Cell::kGru, .reset_after = false},
                          {.cell = Cell::kLstm, .gate = Gate::kHardSigmoid},
                          {.cell = Cell::kGru, .gate = Gate::kHardSigmoid, .reset_after = false}};
  for (BiRnn& op : list) {
    op.units = units;
    op.masked = masked;
  }
  return list;
}

inline constexpr float kRnnWeightScale = 0.3f;

inline TrainCase<BiRnn> case_of(const BiRnn& op, const std::vector<std::int32_t>& lengths,
                                std::int64_t t, std::int64_t features,
                                float scale = kRnnWeightScale) {
  const auto rows = static_cast<std::int64_t>(lengths.size());
  TrainCase<BiRnn> c{op, {random({rows, t, features}, 50)}, {}};
  if (op.masked) c.inputs.push_back(Tensor::of_ids({rows}, lengths));
  for (const Parameter& p : parameters(op, types(c.inputs)))
    c.weights.push_back(random(p.shape, 60 + static_cast<unsigned>(c.weights.size()), scale));
  return c;
}

// Each step adds the rounding of its two products, and, since |s'| <= 1/4 and |U| is below one,
// errors of earlier steps fade rather than grow; gradients of weights sum over all steps.
inline BackwardBounds exact_bounds_of(const TrainCase<BiRnn>& c) {
  const Shape& x = c.inputs[0].type().shape;
  const double terms = static_cast<double>(x[-2]) * static_cast<double>(x[-1] + c.op.units + 8);
  const double steps = static_cast<double>(x[0] * x[1]);
  const double error = 16 * 0x1p-24 * std::sqrt(terms + 16);
  return {.forward = {error, 0x1p-21},
          .input = {4 * error, 0x1p-20},
          .weight = {8 * error * std::sqrt(steps), 0x1p-20}};
}

}  // namespace tessera::test
