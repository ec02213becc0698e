// Backward of Activation: one flat loop, which the compiler vectorises for ReLU, leaky ReLU and
// sigmoid, whose bound is memory; the others take the derivative in double, element by element.
#include <vector>

#include "kernels/check.h"
#include "kernels/cpu/pieces.h"
#include "kernels/ops/activation/train/backward.h"
#include "kernels/ops/activation/train/derivative.h"

namespace tessera {

namespace {

// dx of [first, end); `given` is y of ReLU and sigmoid, x of the others.
void differentiate(const Activation& op, const float* slopes, std::int64_t count,
                   const float* given, const float* dy, float* dx, std::int64_t first,
                   std::int64_t end) {
  switch (op.kind) {
    case Activation::Kind::kRelu:
      for (std::int64_t i = first; i < end; ++i) {
        const float gradient = dy[i];  // read in any case: a select, not a jump
        dx[i] = given[i] <= 0 ? 0.0f : gradient;
      }
      return;
    case Activation::Kind::kSigmoid:
      for (std::int64_t i = first; i < end; ++i) dx[i] = dy[i] * (given[i] * (1 - given[i]));
      return;
    case Activation::Kind::kLeakyRelu: {
      const auto slope = static_cast<float>(op.slope);
      for (std::int64_t i = first; i < end; ++i) dx[i] = dy[i] * (given[i] < 0 ? slope : 1.0f);
      return;
    }
    default:
      for (std::int64_t i = first; i < end; ++i)
        dx[i] = static_cast<float>(
            dy[i] * activation_derivative(op, given[i], slopes == nullptr ? 0 : slopes[i % count]));
  }
}

}  // namespace

Saved saved_for_backward(const Activation& op, Types) {
  const bool by_output = is_relu_or_sigmoid(op);
  return {.inputs = {!by_output}, .outputs = {by_output}, .extra = {}};
}

BackwardStep cpu_backward(const Activation& op, const CpuSetup& setup) {
  const std::int64_t count = infer(op, setup.inputs)[0].shape.elements();
  const auto run = [count, op, threads = setup.threads](const BackwardOperands& operands,
                                                        std::byte*) {
    const auto* dy = operands.output_gradients[0].as<float>();
    const auto* given =
        is_relu_or_sigmoid(op) ? operands.outputs[0].as<float>() : operands.inputs[0].as<float>();
    const bool learned = op.kind == Activation::Kind::kPrelu;
    const float* slopes = learned ? operands.weights[0].as<float>() : nullptr;
    const std::int64_t slope_count = learned ? operands.weights[0].shape().elements() : 1;
    if (const TensorView* dx = wanted(operands.input_gradients, 0))
      for_each_piece(threads, count, [&](std::int64_t first, std::int64_t end) {
        differentiate(op, slopes, slope_count, given, dy, dx->as<float>(), first, end);
      });
    const TensorView* dw = learned ? wanted(operands.weight_gradients, 0) : nullptr;
    if (dw == nullptr) return;
    std::vector<double> sums(static_cast<std::size_t>(slope_count));
    for (std::int64_t i = 0; i < count; ++i)
      if (given[i] < 0)
        sums[static_cast<std::size_t>(i % slope_count)] += static_cast<double>(dy[i]) * given[i];
    for (std::int64_t i = 0; i < slope_count; ++i)
      dw->as<float>()[i] += static_cast<float>(sums[static_cast<std::size_t>(i)]);
  };
  return {0, run};
}

}  // namespace tessera
