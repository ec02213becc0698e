#include "kernels/cpu/convert.h"
#include "kernels/ops/activation/formulas.h"

namespace tessera {

void reference(const Activation& op, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const bool learns = op.kind == Activation::Kind::kPrelu;
  for (std::int64_t i = 0; i < x.shape().elements(); ++i) {
    double learned = 0;
    if (learns)
      learned = element_f32(operands.weights[0], i % operands.weights[0].shape().elements());
    operands.outputs[0].as<float>()[i] =
        static_cast<float>(activate(op, element_f32(x, i), learned));
  }
}

}  // namespace tessera
