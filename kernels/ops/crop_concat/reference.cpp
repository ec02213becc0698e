#include "kernels/cpu/convert.h"
#include "kernels/ops/crop_concat/crop_concat.h"

namespace tessera {

void reference(const CropConcat& op, const Operands& operands) {
  const std::array<TensorType, 2> types{operands.inputs[0].type, operands.inputs[1].type};
  const TensorView& y = operands.outputs[0];
  float* out = y.as<float>();
  for (std::int64_t n = 0; n < y.shape()[0]; ++n) {
    for (std::int64_t i = 0; i < y.shape()[1]; ++i) {
      for (std::int64_t j = 0; j < y.shape()[2]; ++j) {
        for (const ConcatSource& source : concat_sources(op, types)) {
          const TensorView& x = operands.inputs[source.input];
          const std::int64_t h = x.shape()[1], w = x.shape()[2], c = x.shape()[3];
          const std::int64_t row = i + source.dy, column = j + source.dx;
          const bool inside = row >= 0 && row < h && column >= 0 && column < w;
          for (std::int64_t k = 0; k < c; ++k)
            *out++ = inside ? element_f32(x, ((n * h + row) * w + column) * c + k) : 0.0f;
        }
      }
    }
  }
}

}  // namespace tessera
