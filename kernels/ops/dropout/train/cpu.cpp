// Dropout in training on the CPU: flat loops over pieces. Philox takes about 40 multiplications for
// four elements, which binds forward; memory binds backward.
#include <bit>

#include "kernels/cpu/pieces.h"
#include "kernels/ops/dropout/train/backward.h"
#include "kernels/ops/dropout/train/philox.h"

namespace tessera {

namespace {

void require_f32(const Dropout& op, Types inputs) {
  infer(op, inputs);
  require(inputs[0].dtype == DType::kF32, "dropout: in training it is f32, not {}", inputs[0]);
}

}  // namespace

Saved saved_for_backward(const Dropout& op, Types inputs) {
  infer(op, inputs);
  return {.inputs = {false}, .outputs = {false}, .extra = {{DType::kU8, inputs[0].shape}}};
}

TrainStep cpu_train(const Dropout& op, const CpuSetup& setup) {
  require_f32(op, setup.inputs);
  const std::int64_t count = setup.inputs[0].shape.elements();
  const auto run = [op, count, threads = setup.threads](const TrainOperands& operands, std::byte*) {
    constexpr std::int64_t kWords = 4;
    const std::uint64_t threshold = dropout_threshold(op);
    const float scale = dropout_scale(op);
    const auto* x = operands.inputs[0].as<float>();
    auto* y = operands.outputs[0].as<float>();
    auto* mask = operands.saved[0].as<std::uint8_t>();
    const RandomStream random = operands.random;
    for_each_piece(threads, (count + kWords - 1) / kWords,
                   [=](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t block = begin; block < end; ++block) {
                       const auto words =
                           philox(random.seed, random.stream, static_cast<std::uint64_t>(block));
                       const std::int64_t first = block * kWords;
                       for (std::int64_t i = first; i < std::min(count, first + kWords); ++i) {
                         const bool keep = words[static_cast<std::size_t>(i - first)] >= threshold;
                         const auto bits = std::bit_cast<std::uint32_t>(x[i] * scale);
                         mask[i] = keep;
                         y[i] = std::bit_cast<float>(bits & (0u - keep));
                       }
                     }
                   });
  };
  return {0, run};
}

BackwardStep cpu_backward(const Dropout& op, const CpuSetup& setup) {
  require_f32(op, setup.inputs);
  const std::int64_t count = setup.inputs[0].shape.elements();
  const auto run = [op, count, threads = setup.threads](const BackwardOperands& operands,
                                                        std::byte*) {
    const TensorView* gradient = wanted(operands.input_gradients, 0);
    if (gradient == nullptr) return;
    const float scale = dropout_scale(op);
    const auto* dy = operands.output_gradients[0].as<float>();
    const auto* mask = operands.saved[0].as<std::uint8_t>();
    auto* dx = gradient->as<float>();
    for_each_piece(threads, count, [=](std::int64_t first, std::int64_t end) {
      for (std::int64_t i = first; i < end; ++i) {
        // A mask of bits: a choice by value becomes a jump, which guesses wrong every other time.
        const auto bits = std::bit_cast<std::uint32_t>(dy[i] * scale);
        dx[i] = std::bit_cast<float>(bits & (0u - mask[i]));
      }
    });
  };
  return {0, run};
}

}  // namespace tessera
