// Batch normalisation at inference: y = gamma (x - mean) / sqrt(var + eps) + beta, per channel
// (Ioffe & Szegedy 2015), which is one affine map per channel.
//
// inputs:  x (..., c)         weights: weight (c) = gamma, bias (c) = beta, running_mean (c),
// outputs: y (..., c)                  running_var (c)
#pragma once

#include "kernels/operator.h"

namespace tessera {

struct BatchNorm {
  static constexpr std::string_view kName = "batch_norm";
  double eps = 1e-5;
  double momentum = 0.1;  // of the running statistics, in training

  bool operator==(const BatchNorm&) const = default;
};

// y = scale x + shift with the same meaning; computed in double.
struct Affine {
  std::vector<double> scale;  // (c)
  std::vector<double> shift;  // (c)
};
// `weights` are the four of BatchNorm, in order.
Affine affine_of(const BatchNorm& op, std::span<const TensorView> weights);

void fields(auto&& visit, Of<BatchNorm> auto& op) {
  visit("eps", op.eps, Range{kAboveZero, 1});
  visit("momentum", op.momentum, Range{0, 1});
}
std::vector<TensorType> infer(const BatchNorm& op, Types inputs);
std::vector<Parameter> parameters(const BatchNorm& op, Types inputs);
Cost cost(const BatchNorm& op, Types inputs);
Extent extent(const BatchNorm& op, const Along& along, std::span<const Interval> wanted);
BatchNorm part(const BatchNorm& op, const Along& along, Extent& piece);
void reference(const BatchNorm& op, const Operands& operands);

}  // namespace tessera
