#include <algorithm>
#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/ops/upsample/upsample.h"

namespace tessera {

namespace {

// Where output `i` along an axis of `extent` inputs lies, in inputs.
double source(std::int64_t i, std::int64_t extent, bool align_corners) {
  const auto position = static_cast<double>(i);
  if (align_corners)
    return position * static_cast<double>(extent - 1) / static_cast<double>(2 * extent - 1);
  return std::max(position / 2 - 0.25, 0.0);
}

}  // namespace

void reference(const Upsample& op, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const TensorView& y = operands.outputs[0];
  const std::int64_t h = x.shape()[1], w = x.shape()[2], c = x.shape()[3];
  const UpsampleAxis rows = upsample_axis(op, 0, h), columns = upsample_axis(op, 1, w);
  float* out = y.as<float>();
  for (std::int64_t n = 0; n < y.shape()[0]; ++n) {
    for (std::int64_t i = 0; i < y.shape()[1]; ++i) {
      for (std::int64_t j = 0; j < y.shape()[2]; ++j) {
        const double row = source(rows.first + i, rows.whole, op.align_corners);
        const double column = source(columns.first + j, columns.whole, op.align_corners);
        const auto top = static_cast<std::int64_t>(row), left = static_cast<std::int64_t>(column);
        const double down = row - std::floor(row), right = column - std::floor(column);
        for (std::int64_t k = 0; k < c; ++k) {
          const auto at = [&](std::int64_t dy, std::int64_t dx) {
            const std::int64_t p = std::min(top + dy, rows.whole - 1) - rows.before;
            const std::int64_t q = std::min(left + dx, columns.whole - 1) - columns.before;
            return static_cast<double>(element_f32(x, ((n * h + p) * w + q) * c + k));
          };
          *out++ = static_cast<float>((1 - down) * ((1 - right) * at(0, 0) + right * at(0, 1)) +
                                      down * ((1 - right) * at(1, 0) + right * at(1, 1)));
        }
      }
    }
  }
}

}  // namespace tessera
