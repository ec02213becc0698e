// Backward of Embedding: a scatter-add whose order is that of the places, whoever does it.
//
// Each task owns a range of the features and adds all places to it: a row of the table is written
// by as many tasks as there are ranges, each in its own columns, so nothing is added twice, nothing
// atomically, and there is nothing to sort. Ranges are whole cache lines. Memory binds: the rows of
// dy are read once, those of the table's gradient as often as their word occurs.
#include "kernels/cpu/parallel.h"
#include "kernels/ops/embedding/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Embedding&, Types) {
  return {.inputs = {true}, .outputs = {false}, .extra = {}};
}

BackwardStep cpu_backward(const Embedding& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  const std::int64_t count = setup.inputs[0].shape.elements();
  const auto run = [op, count, threads = setup.threads](const BackwardOperands& operands,
                                                        std::byte*) {
    constexpr std::int64_t kLine = 16;  // floats
    const TensorView* gradient = wanted(operands.weight_gradients, 0);
    if (gradient == nullptr) return;
    require_ids(op, operands.inputs[0]);
    const auto* ids = operands.inputs[0].as<std::int32_t>();
    const auto* dy = operands.output_gradients[0].as<float>();
    auto* table = gradient->as<float>();
    const std::int64_t features = op.features, lines = (features + kLine - 1) / kLine;
    const std::int64_t width = (lines + threads - 1) / threads * kLine;
    parallel_for(threads, (features + width - 1) / width, [=](std::int64_t range) {
      const std::int64_t begin = range * width, end = std::min(features, begin + width);
      for (std::int64_t i = 0; i < count; ++i) {
        const float* from = dy + i * features;
        float* to = table + ids[i] * features;
        for (std::int64_t j = begin; j < end; ++j) to[j] += from[j];
      }
    });
  };
  return {0, run};
}

}  // namespace tessera
