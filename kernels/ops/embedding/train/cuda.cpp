#include "kernels/ops/embedding/train/cuda.h"

#include <limits>

#include "kernels/check.h"
#include "kernels/cuda/training.h"
#include "kernels/ops/embedding/cuda.h"
#include "kernels/ops/embedding/train/backward.h"

namespace tessera {

TrainStep cuda_train(const Embedding& op, const CudaSetup& setup) {
  const std::int64_t count = infer(op, setup.inputs)[0].shape.elements() / op.features;
  return {0, [op, count, stream = setup.stream](const TrainOperands& operands, std::byte*) {
            if (count == 0) return;
            const TensorView& table = operands.weights[0];
            embedding_cuda(
                {table.pointer, operands.inputs[0].as<std::int32_t>(),
                 operands.outputs[0].as<float>(), count, op.words, op.features, table.type.dtype},
                stream);
          }};
}

BackwardStep cuda_backward(const Embedding& op, const CudaSetup& setup) {
  infer(op, setup.inputs);
  const std::int64_t count = setup.inputs[0].shape.elements();
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  require(count <= kMost,
          "the embedding's backward run on CUDA takes at most {} ids, but got {}: use a smaller "
          "batch",
          kMost, setup.inputs[0]);
  const auto part = [](std::int64_t elements) {
    return in_whole_parts(static_cast<std::size_t>(elements) * sizeof(float));
  };
  const std::size_t places = part(count);
  const std::size_t offsets = part(kEmbeddingDigits * embedding_units(count));
  const std::size_t ends = part(embedding_segments(count) * op.features);
  const auto run = [=, stream = setup.stream](const BackwardOperands& operands,
                                              std::byte* scratch) {
    const TensorView* gradient = wanted(operands.weight_gradients, 0);
    if (gradient == nullptr || count == 0) return;
    const auto ids_at = [&](std::size_t at) {
      return reinterpret_cast<std::int32_t*>(scratch + at);
    };
    const std::size_t heads = 4 * places + offsets;
    embedding_backward_cuda({.ids = operands.inputs[0].as<std::int32_t>(),
                             .dy = operands.output_gradients[0].as<float>(),
                             .gradient = gradient->as<float>(),
                             .count = count,
                             .words = op.words,
                             .features = op.features,
                             .keys = {ids_at(0), ids_at(places)},
                             .places = {ids_at(2 * places), ids_at(3 * places)},
                             .offsets = ids_at(4 * places),
                             .heads = reinterpret_cast<float*>(scratch + heads),
                             .tails = reinterpret_cast<float*>(scratch + heads + ends)},
                            stream);
  };
  return {4 * places + offsets + 2 * ends, run};
}

}  // namespace tessera
