#include "kernels/cpu/convert.h"
#include "kernels/ops/dropout/dropout.h"

namespace tessera {

void reference(const Dropout&, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  for (std::int64_t i = 0; i < x.shape().elements(); ++i)
    operands.outputs[0].as<float>()[i] = element_f32(x, i);
}

}  // namespace tessera
