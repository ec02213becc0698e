// Element-wise activation.
//
// inputs:  x (...)     outputs: y (...), same type
#pragma once

#include <array>

#include "kernels/operator.h"

namespace tessera {

struct Activation {
  static constexpr std::string_view kName = "activation";
  enum class Kind : std::uint8_t { kRelu, kSigmoid };
  Kind kind = Kind::kRelu;

  bool operator==(const Activation&) const = default;
};

constexpr std::array<std::string_view, 2> names_of(Activation::Kind) {
  return {"relu", "sigmoid"};
}
void fields(auto&& visit, Of<Activation> auto& op) {
  visit("kind", op.kind);
}
std::vector<TensorType> infer(const Activation& op, Types inputs);
std::vector<Parameter> parameters(const Activation& op, Types inputs);
Cost cost(const Activation& op, Types inputs);
Extent extent(const Activation& op, const Along& along, std::span<const Interval> wanted);
Activation part(const Activation& op, const Along& along, Extent& piece);
void reference(const Activation& op, const Operands& operands);

}  // namespace tessera
