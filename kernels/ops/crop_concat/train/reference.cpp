#include "kernels/ops/crop_concat/train/backward.h"

namespace tessera {

void backward_reference(const CropConcat& op, const BackwardOperands& operands) {
  const std::array<TensorType, 2> types{operands.inputs[0].type, operands.inputs[1].type};
  const TensorView& dy = operands.output_gradients[0];
  std::int64_t channel = 0;  // of dy, where the source begins
  for (const ConcatSource& source : concat_sources(op, types)) {
    const Shape& x = types[source.input].shape;
    const std::int64_t h = x[1], w = x[2], c = x[3];
    if (const TensorView* dx = wanted(operands.input_gradients, source.input)) {
      for (std::int64_t index = 0; index < x.elements(); ++index) {
        const std::int64_t k = index % c, column = index / c % w - source.dx;
        const std::int64_t row = index / (c * w) % h - source.dy, n = index / (c * w * h);
        const bool inside =
            row >= 0 && row < dy.shape()[1] && column >= 0 && column < dy.shape()[2];
        const std::int64_t pixel = (n * dy.shape()[1] + row) * dy.shape()[2] + column;
        dx->as<float>()[index] =
            inside ? dy.as<float>()[pixel * dy.shape()[3] + channel + k] : 0.0f;
      }
    }
    channel += c;
  }
}

}  // namespace tessera
