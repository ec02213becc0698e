#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/ops/softmax/softmax.h"

namespace tessera {

void reference(const Softmax&, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const std::int64_t c = x.shape()[-1];
  for (std::int64_t first = 0; first < x.shape().elements(); first += c) {
    double largest = -INFINITY, sum = 0;
    for (std::int64_t i = first; i < first + c; ++i)
      largest = std::fmax(largest, element_f32(x, i));
    for (std::int64_t i = first; i < first + c; ++i) sum += std::exp(element_f32(x, i) - largest);
    for (std::int64_t i = first; i < first + c; ++i)
      operands.outputs[0].as<float>()[i] =
          static_cast<float>(std::exp(element_f32(x, i) - largest) / sum);
  }
}

}  // namespace tessera
