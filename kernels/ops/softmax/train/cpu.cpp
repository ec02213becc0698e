// Backward of Softmax: two short loops per pixel. Memory binds; losses on logits avoid it.
#include "kernels/cpu/pieces.h"
#include "kernels/ops/softmax/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Softmax&, Types) {
  return {.inputs = {false}, .outputs = {true}, .extra = {}};
}

BackwardStep cpu_backward(const Softmax& op, const CpuSetup& setup) {
  const Shape shape = infer(op, setup.inputs)[0].shape;
  const std::int64_t c = shape[-1], pixels = shape.elements() / c;
  const auto run = [c, pixels, threads = setup.threads](const BackwardOperands& operands,
                                                        std::byte*) {
    const TensorView* gradient = wanted(operands.input_gradients, 0);
    if (gradient == nullptr) return;
    const auto* y = operands.outputs[0].as<float>();
    const auto* dy = operands.output_gradients[0].as<float>();
    auto* dx = gradient->as<float>();
    for_each_piece(threads, pixels, [=](std::int64_t begin, std::int64_t end) {
      for (std::int64_t first = begin * c; first < end * c; first += c) {
        float mean = 0;
        for (std::int64_t i = first; i < first + c; ++i) mean += dy[i] * y[i];
        for (std::int64_t i = first; i < first + c; ++i) dx[i] = y[i] * (dy[i] - mean);
      }
    });
  };
  return {0, run};
}

}  // namespace tessera
