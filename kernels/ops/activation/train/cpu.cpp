// Backward of Activation: one flat loop, which the compiler vectorises. Memory binds.
#include "kernels/check.h"
#include "kernels/cpu/pieces.h"
#include "kernels/ops/activation/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Activation& op, Types) {
  require(is_relu_or_sigmoid(op),
          "activation: training knows relu and sigmoid alone, not kind {}; train with one of them",
          names_of(op.kind)[static_cast<std::size_t>(op.kind)]);
  return {.inputs = {false}, .outputs = {true}, .extra = {}};
}

BackwardStep cpu_backward(const Activation& op, const CpuSetup& setup) {
  const std::int64_t count = infer(op, setup.inputs)[0].shape.elements();
  const auto run = [count, kind = op.kind, threads = setup.threads](
                       const BackwardOperands& operands, std::byte*) {
    const TensorView* gradient = wanted(operands.input_gradients, 0);
    if (gradient == nullptr) return;
    const float *dy = operands.output_gradients[0].as<float>(),
                *y = operands.outputs[0].as<float>();
    auto* dx = gradient->as<float>();
    for_each_piece(threads, count, [=](std::int64_t first, std::int64_t end) {
      if (kind == Activation::Kind::kRelu) {
        for (std::int64_t i = first; i < end; ++i) {
          const float gradient_i = dy[i];  // read in any case: a select, not a jump
          dx[i] = y[i] <= 0 ? 0.0f : gradient_i;
        }
      } else {
        for (std::int64_t i = first; i < end; ++i) dx[i] = dy[i] * (y[i] * (1 - y[i]));
      }
    });
  };
  return {0, run};
}

}  // namespace tessera
