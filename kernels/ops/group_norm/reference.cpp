#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/ops/group_norm/group_norm.h"

namespace tessera {

void reference(const GroupNorm& op, const Operands& operands) {
  const TensorView& x = operands.inputs[0];
  const std::int64_t n = x.shape()[0], c = x.shape()[-1], groups = op.groups == 0 ? c : op.groups;
  const std::int64_t pixels = x.shape().elements(1, x.shape().rank() - 1), width = c / groups;
  for (std::int64_t image = 0; image < n; ++image) {
    for (std::int64_t group = 0; group < groups; ++group) {
      const auto for_each = [&](const auto& body) {
        for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
          for (std::int64_t k = group * width; k < (group + 1) * width; ++k)
            body((image * pixels + pixel) * c + k, k);
      };
      const auto count = static_cast<double>(pixels * width);
      double mean = 0, variance = 0;
      for_each([&](std::int64_t i, std::int64_t) { mean += element_f32(x, i) / count; });
      for_each([&](std::int64_t i, std::int64_t) {
        variance += (element_f32(x, i) - mean) * (element_f32(x, i) - mean) / count;
      });
      for_each([&](std::int64_t i, std::int64_t k) {
        double y = (element_f32(x, i) - mean) / std::sqrt(variance + op.eps);
        if (op.affine)
          y = y * element_f32(operands.weights[0], k) + element_f32(operands.weights[1], k);
        operands.outputs[0].as<float>()[i] =
            static_cast<float>(reference_epilogue(op.epilogue, operands, i, y));
      });
    }
  }
}

}  // namespace tessera
