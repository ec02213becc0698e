// What the tests of losses on both devices share.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "kernels/train/loss/loss.h"
#include "tests/support/backward_check.h"

namespace tessera::test {

struct LossProblem {
  Loss op;
  Tensor logits, labels;
  Tensor weights = {}, class_weights = {};  // rank 0: none
  double scale = 1;
};

struct LossOutcome {
  LossResult found;
  Tensor gradient;
};

inline LossOperands operands_of(const LossProblem& p, const Tensor& gradient) {
  const auto floats = [](const Tensor& tensor) {
    return tensor.type().shape.rank() > 0 ? tensor.view().as<float>() : nullptr;
  };
  return {p.logits.view(),
          p.labels.view(),
          floats(p.weights),
          floats(p.class_weights),
          gradient.view().as<float>(),
          p.scale};
}

inline LossOutcome by_reference(const LossProblem& p) {
  LossOutcome outcome{{}, gradient_like(p.logits)};
  outcome.found = reference(p.op, operands_of(p, outcome.gradient));
  return outcome;
}

// NaN equals NaN.
inline void expect_equal(const LossResult& a, const LossResult& b) {
  EXPECT_EQ(std::isnan(a.loss), std::isnan(b.loss));
  EXPECT_TRUE(a.loss == b.loss || std::isnan(a.loss)) << a.loss << " and " << b.loss;
  EXPECT_EQ(a.counted, b.counted);
  EXPECT_EQ(a.correct, b.correct);
}

// Exponentials, logarithms and quotients within a few ULP each, sums of c of them, on values below
// 20; gradients are products of those with weights whose sum divides them.
inline void expect_near_reference(const LossProblem& p, const LossOutcome& outcome) {
  const LossOutcome expected = by_reference(p);
  const double c = static_cast<double>(p.logits.type().shape[-1]);
  const double value = expected.found.loss;
  EXPECT_NEAR(outcome.found.loss, value, (64 + 2 * c) * 0x1p-24 * (1 + value));
  EXPECT_EQ(outcome.found.counted, expected.found.counted);
  EXPECT_EQ(outcome.found.correct, expected.found.correct);
  double largest = 0;
  for (const float gradient : expected.gradient.values())
    largest = std::max<double>(largest, std::abs(gradient));
  expect_close(outcome.gradient, expected.gradient, {(64 + 4 * c) * 0x1p-24 * largest, 0});
}

// Every fifth is `ignored`, if there is such a label.
inline Tensor labels_of(Shape shape, int classes, std::optional<int> ignored,
                        DType dtype = DType::kI32) {
  Tensor labels({dtype, shape});
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    const bool skip = ignored && i % 5 == 0;
    const int label = skip ? *ignored : static_cast<int>((i * i + i / 3) % classes);
    if (dtype == DType::kU8) {
      labels.view().as<std::uint8_t>()[i] = static_cast<std::uint8_t>(label);
    } else {
      labels.view().as<std::int32_t>()[i] = label;
    }
  }
  return labels;
}

inline std::vector<Loss> losses() {
  return {{},
          {.cross_entropy = 0, .dice = 1},
          {.cross_entropy = 0.5, .dice = 2, .smooth = 0.25, .ignored = 255},
          {.mean = Loss::Mean::kElements, .ignored = 255}};
}

inline std::vector<LossProblem> problems_of_large_logits() {
  return {{{.cross_entropy = 1, .dice = 1},
           Tensor::of({3, 2}, {1e4f, -1e4f, -1e30f, 1e30f, 0, 80}),
           Tensor::of_ids({3}, {1, 1, 0})},
          {{}, Tensor::of({4, 1}, {1e4f, -1e4f, 90, -90}), Tensor::of_ids({4}, {0, 1, 1, 0})}};
}

// Right, wrong, the first of equals twice, ignored, weight 0: 4 count, of which 2 are correct.
inline LossProblem problem_to_count() {
  return {{.ignored = 255},
          Tensor::of({6, 3}, {0, 2, 1, 0, 2, 1, 5, 5, 0, 5, 0, 5, 9, 0, 0, 9, 0, 0}),
          Tensor::of_ids({6}, {1, 2, 0, 2, 255, 0}),
          Tensor::of({6}, {1, 1, 0.5f, 1, 1, 0})};
}

}  // namespace tessera::test
