#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/ops/concat/train/backward.h"

namespace tessera {

namespace {

// Both paths copy the same bytes.
void divide_concat(const Concat& op, int threads, const BackwardOperands& operands) {
  const TensorView& dy = operands.output_gradients[0];
  const Shape& y = dy.shape();
  const int axis = op.axis < 0 ? op.axis + y.rank() : op.axis;
  const std::int64_t rows = y.elements(0, axis), inner = y.elements(axis + 1, y.rank());
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < operands.inputs.size(); ++i) {
    const std::int64_t part = operands.inputs[i].shape()[axis] * inner;
    if (const TensorView* dx = wanted(operands.input_gradients, i))
      parallel_for(threads, rows, [&](std::int64_t row) {
        std::memcpy(dx->as<float>() + row * part, dy.as<float>() + row * y[axis] * inner + begin,
                    static_cast<std::size_t>(part) * sizeof(float));
      });
    begin += part;
  }
}

}  // namespace

Saved saved_for_backward(const Concat& op, Types inputs) {
  infer(op, inputs);
  return {.inputs = std::vector<bool>(inputs.size()), .outputs = {false}, .extra = {}};
}

void backward_reference(const Concat& op, const BackwardOperands& operands) {
  divide_concat(op, 1, operands);
}

BackwardStep cpu_backward(const Concat& op, const CpuSetup& setup) {
  return {0, [op, threads = setup.threads](const BackwardOperands& operands, std::byte*) {
            divide_concat(op, threads, operands);
          }};
}

}  // namespace tessera
