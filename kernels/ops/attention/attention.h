// Attention pooling with a context vector (Yang et al. 2016, equations 5-7 and 8-10):
//
//   u_t = tanh(W x_t + b),  e_t = u_t . u,  a_t = exp(e_t) / (sum_t exp(e_t) + eps),
//   s = sum_t a_t x_t
//
// (with `tanh_score`, e_t = tanh(u_t . u), as uvipen's widespread code has it) computed with the
// maximum m of e subtracted and eps scaled by exp(-m): the same numbers, no NaN.
// With `dense`, x is first mapped by a dense layer without activation (D, c):
//
//   u_t = tanh(W (D x_t + c) + b),  s = sum_t a_t (D x_t + c)
//
// inputs:  x (..., t, d), f32; lengths (...), i32, if masked: steps t >= length take no part and
//          get weight 0; a length of 0 gives s = 0
// weights: weight (a, d), bias (a), context (a); with `dense`, weight (a, dense units), and last
//          dense/weight (dense units, d), dense/bias (dense units) if it has one
// outputs: s (..., d; with `dense` its units), f32; a (..., t), f32
#pragma once

#include <optional>

#include "kernels/operator.h"
#include "kernels/ops/linear/linear.h"

namespace tessera {

struct Attention {
  static constexpr std::string_view kName = "attention";
  int units = 0;  // a
  bool masked = true;
  double eps = 1e-7;  // Keras' epsilon, as the tutorial adds it
  bool tanh_score = false;
  std::optional<Linear> dense = std::nullopt;

  bool operator==(const Attention&) const = default;
};

void fields(auto&& visit, Of<Attention> auto& op) {
  visit("units", op.units, Range{1, 1 << 16});
  visit("masked", op.masked);
  visit("eps", op.eps, Range{0, 1});
  visit("tanh_score", op.tanh_score);
}
std::vector<TensorType> infer(const Attention& op, Types inputs);
std::vector<Parameter> parameters(const Attention& op, Types inputs);
Cost cost(const Attention& op, Types inputs);
Extent extent(const Attention& op, const Along& along, std::span<const Interval> wanted);
Attention part(const Attention& op, const Along& along, Extent& piece);
void reference(const Attention& op, const Operands& operands);

}  // namespace tessera
