#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/ops/argmax/argmax.h"

namespace tessera {

void reference(const Argmax&, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const std::int64_t c = x.shape()[-1];
  for (std::int64_t pixel = 0; pixel < x.shape().elements() / c; ++pixel) {
    std::int64_t best = 0;
    if (c == 1) best = element_f32(x, pixel) > 0.5f ? 1 : 0;
    for (std::int64_t k = 1; k < c; ++k) {
      const float value = element_f32(x, pixel * c + k);
      const float largest = element_f32(x, pixel * c + best);
      if (value > largest || (std::isnan(largest) && !std::isnan(value))) best = k;
    }
    operands.outputs[0].as<std::uint8_t>()[pixel] = static_cast<std::uint8_t>(best);
  }
}

}  // namespace tessera
