#include <cmath>

#include "kernels/ops/binary/binary.h"
#include "kernels/strides.h"

namespace tessera {

namespace {

double combine(Binary::Kind kind, double a, double b) {
  switch (kind) {
    case Binary::Kind::kAdd:
      return a + b;
    case Binary::Kind::kSub:
      return a - b;
    case Binary::Kind::kMul:
      return a * b;
    case Binary::Kind::kDiv:
      return a / b;
    case Binary::Kind::kMin:
      return a < b || std::isnan(a) ? a : b;
    case Binary::Kind::kMax:
      return a > b || std::isnan(a) ? a : b;
  }
  return a;
}

}  // namespace

void reference(const Binary& op, const Operands& operands) {
  const TensorView &y = operands.outputs[0], &x = operands.inputs[0];
  const TensorView& other = op.constant.empty() ? operands.inputs[1] : operands.weights[0];
  const TensorView &a = op.reversed ? other : x, &b = op.reversed ? x : other;
  const std::array strides{broadcast_strides(a.shape(), y.shape()),
                           broadcast_strides(b.shape(), y.shape())};
  walk(y.shape(), strides, [&](std::int64_t i, const auto& from) {
    y.as<float>()[i] =
        static_cast<float>(combine(op.kind, element_f32(a, from[0]), element_f32(b, from[1])));
  });
}

}  // namespace tessera
