// Borders around a tensor: a constant, its mirror image without the edge (reflect), or its edge
// repeated (ONNX Pad; torch.nn.functional.pad).
//
// inputs:  x (...), floats     outputs: y, of x's type
#pragma once

#include <array>

#include "kernels/operator.h"

namespace tessera {

struct Pad {
  static constexpr std::string_view kName = "pad";
  enum class Mode : std::uint8_t { kConstant, kReflect, kEdge };
  Mode mode = Mode::kConstant;
  // Elements before each axis, then behind each axis; a negative number leaves elements out.
  std::vector<int> pads = {};
  double value = 0;  // of constant

  bool operator==(const Pad&) const = default;
};

constexpr std::array<std::string_view, 3> names_of(Pad::Mode) {
  return {"constant", "reflect", "edge"};
}
void fields(auto&& visit, Of<Pad> auto& op) {
  visit("mode", op.mode);
  visit("pads", op.pads, Range{-(1 << 24), 1 << 24});
  visit("value", op.value, Range{-kNoLimit, kNoLimit});
}
std::vector<TensorType> infer(const Pad& op, Types inputs);
std::vector<Parameter> parameters(const Pad& op, Types inputs);
Cost cost(const Pad& op, Types inputs);
Extent extent(const Pad& op, const Along& along, std::span<const Interval> wanted);
Pad part(const Pad& op, const Along& along, Extent& piece);
void reference(const Pad& op, const Operands& operands);

}  // namespace tessera
