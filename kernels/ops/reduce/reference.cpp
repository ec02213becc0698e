#include <cmath>
#include <limits>

#include "kernels/ops/reduce/reduce.h"
#include "kernels/strides.h"

namespace tessera {

void reference(const Reduce& op, const Operands& operands) {
  using Kind = Reduce::Kind;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const TensorView& x = operands.inputs[0];
  const Shape kept = reduced_shape(op, x.shape());
  const double start = op.kind == Kind::kMax ? -kInfinity : op.kind == Kind::kMin ? kInfinity : 0;
  std::vector<double> folded(static_cast<std::size_t>(kept.elements()), start);
  walk(x.shape(), std::array<Strides, 1>{broadcast_strides(kept, x.shape())},
       [&](std::int64_t i, const auto& to) {
         double& y = folded[static_cast<std::size_t>(to[0])];
         const double value = element_f32(x, i);
         if (op.kind == Kind::kMean || op.kind == Kind::kSum) {
           y += value;
         } else if (std::isnan(value) || (op.kind == Kind::kMax ? value > y : value < y)) {
           y = value;
         }
       });
  const auto count = static_cast<double>(x.shape().elements() / kept.elements());
  for (std::size_t i = 0; i < folded.size(); ++i)
    operands.outputs[0].as<float>()[i] =
        static_cast<float>(op.kind == Kind::kMean ? folded[i] / count : folded[i]);
}

}  // namespace tessera
