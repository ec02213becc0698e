// Where both operands have y's shape, as a residual sum does, the CPU takes flat loops, which
// memory bounds. What broadcasts is summed by one thread, element by element.
#include "kernels/ops/binary/train/backward.h"
#include "kernels/cpu/pieces.h"
#include "kernels/strides.h"

namespace tessera {

namespace {

using Kind = Binary::Kind;

// dy's factor for each operand.
std::array<double, 2> binary_derivatives(Kind kind, double a, double b) {
  switch (kind) {
    case Kind::kAdd:
      return {1, 1};
    case Kind::kSub:
      return {1, -1};
    case Kind::kMul:
      return {b, a};
    case Kind::kDiv:
      return {1 / b, -a / (b * b)};
    case Kind::kMin:
      return {a < b ? 1.0 : a == b ? 0.5 : 0.0, b < a ? 1.0 : a == b ? 0.5 : 0.0};
    case Kind::kMax:
      return {a > b ? 1.0 : a == b ? 0.5 : 0.0, b > a ? 1.0 : a == b ? 0.5 : 0.0};
  }
  return {0, 0};
}

bool is_linear(const Binary& op) {
  return op.kind == Kind::kAdd || op.kind == Kind::kSub;
}

// An operand, and where its gradient goes.
struct BinarySide {
  TensorView value;  // its pointer may be null where the operator is linear
  const TensorView* gradient = nullptr;
  bool added = false;  // of a weight
};

std::array<BinarySide, 2> sides_of(const Binary& op, const BackwardOperands& operands) {
  std::array<BinarySide, 2> sides{
      BinarySide{operands.inputs[0], wanted(operands.input_gradients, 0)}, {}};
  if (op.constant.empty())
    sides[1] = {operands.inputs[1], wanted(operands.input_gradients, 1)};
  else
    sides[1] = {operands.weights[0], wanted(operands.weight_gradients, 0), true};
  if (!op.constant.empty() && op.reversed) std::swap(sides[0], sides[1]);
  return sides;
}

double value_at(const BinarySide& side, std::int64_t i) {
  return side.value.pointer == nullptr ? 0 : side.value.as<const float>()[i];
}

void by_elements(const Binary& op, const BackwardOperands& operands) {
  const std::array<BinarySide, 2> sides = sides_of(op, operands);
  const TensorView& dy = operands.output_gradients[0];
  const Shape& y = dy.shape();
  std::array<std::vector<double>, 2> sums;
  std::array<Strides, 2> strides{};
  for (const std::size_t i : {0u, 1u}) {
    sums[i].resize(static_cast<std::size_t>(sides[i].value.shape().elements()));
    strides[i] = broadcast_strides(sides[i].value.shape(), y);
  }
  walk(y, strides, [&](std::int64_t at, const std::array<std::int64_t, 2>& from) {
    const std::array<double, 2> factors =
        binary_derivatives(op.kind, value_at(sides[0], from[0]), value_at(sides[1], from[1]));
    for (const std::size_t i : {0u, 1u})
      sums[i][static_cast<std::size_t>(from[i])] += factors[i] * dy.as<const float>()[at];
  });
  for (const std::size_t i : {0u, 1u}) {
    if (sides[i].gradient == nullptr) continue;
    auto* to = sides[i].gradient->as<float>();
    for (std::size_t k = 0; k < sums[i].size(); ++k)
      to[k] = static_cast<float>(sides[i].added ? to[k] + sums[i][k] : sums[i][k]);
  }
}

}  // namespace

Saved saved_for_backward(const Binary& op, Types inputs) {
  infer(op, inputs);
  return {
      .inputs = std::vector<bool>(inputs.size(), !is_linear(op)), .outputs = {false}, .extra = {}};
}

void backward_reference(const Binary& op, const BackwardOperands& operands) {
  by_elements(op, operands);
}

BackwardStep cpu_backward(const Binary& op, const CpuSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  const std::array<TensorType, 2> types = operand_types(op, setup.inputs);
  const bool whole = op.constant.empty() && types[0].shape == y.shape && types[1].shape == y.shape;
  const auto run = [op, whole, count = y.shape.elements(), threads = setup.threads](
                       const BackwardOperands& operands, std::byte*) {
    if (!whole) return by_elements(op, operands);
    const std::array<BinarySide, 2> sides = sides_of(op, operands);
    const auto* dy = operands.output_gradients[0].as<const float>();
    for_each_piece(threads, count, [&](std::int64_t first, std::int64_t end) {
      for (const std::size_t side : {0u, 1u}) {
        if (sides[side].gradient == nullptr) continue;
        auto* to = sides[side].gradient->as<float>();
        if (is_linear(op)) {
          const float factor = side == 1 && op.kind == Kind::kSub ? -1.0f : 1.0f;
          for (std::int64_t i = first; i < end; ++i) to[i] = factor * dy[i];
          continue;
        }
        for (std::int64_t i = first; i < end; ++i)
          to[i] = static_cast<float>(dy[i] * binary_derivatives(op.kind, value_at(sides[0], i),
                                                                value_at(sides[1], i))[side]);
      }
    });
  };
  return {0, run};
}

}  // namespace tessera
