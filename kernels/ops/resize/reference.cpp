#include "kernels/cpu/convert.h"
#include "kernels/ops/resize/resize.h"

namespace tessera {

void reference(const Resize& op, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const std::int64_t h = x.shape()[1], w = x.shape()[2], c = x.shape()[3];
  const TensorView& y = operands.outputs[0];
  Resize to = op;
  if (operands.inputs.size() > 1)
    to.sizes = {static_cast<int>(y.shape()[1]), static_cast<int>(y.shape()[2])};
  const std::vector<ResizeTaps> rows = resize_taps(to, 0, h), columns = resize_taps(to, 1, w);
  auto* out = y.as<float>();
  for (std::int64_t n = 0; n < x.shape()[0]; ++n) {
    for (const ResizeTaps& row : rows) {
      for (const ResizeTaps& column : columns) {
        for (std::int64_t k = 0; k < c; ++k) {
          double sum = 0;
          for (std::size_t a = 0; a < static_cast<std::size_t>(row.count); ++a)
            for (std::size_t b = 0; b < static_cast<std::size_t>(column.count); ++b)
              sum += row.weight[a] * column.weight[b] *
                     element_f32(x, ((n * h + row.index[a]) * w + column.index[b]) * c + k);
          *out++ = static_cast<float>(sum);
        }
      }
    }
  }
}

}  // namespace tessera
