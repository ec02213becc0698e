// Each element of dx is a product of its own, so any cut into pieces gives the same bytes.
#include "kernels/ops/reduce/train/backward.h"

#include "kernels/cpu/pieces.h"
#include "kernels/strides.h"

namespace tessera {

namespace {

bool is_sum(const Reduce& op) {
  return op.kind == Reduce::Kind::kSum || op.kind == Reduce::Kind::kMean;
}

void share_out(const Reduce& op, const BackwardOperands& operands, int threads) {
  const TensorView* dx = wanted(operands.input_gradients, 0);
  if (dx == nullptr) return;
  const Shape& x = dx->shape();
  const Shape kept = reduced_shape(op, x);
  const std::array<Strides, 1> strides{broadcast_strides(kept, x)};
  const auto* dy = operands.output_gradients[0].as<const float>();
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  const auto *from = operands.inputs[0].as<const float>(),
             *result = operands.outputs[0].as<const float>();
  const auto is_result = [&](std::int64_t i, std::int64_t to) {
    return is_sum(op) || from[i] == result[to];
  };
  const bool whole = op.kind == Reduce::Kind::kMean;
  std::vector<double> sharers(at(kept.elements()),
                              whole ? static_cast<double>(x.elements() / kept.elements()) : 1);
  if (!is_sum(op)) {
    std::fill(sharers.begin(), sharers.end(), 0.0);
    walk(x, strides, [&](std::int64_t i, const auto& to) {
      sharers[at(to[0])] += is_result(i, to[0]) ? 1 : 0;
    });
  }
  for_each_piece(threads, x.elements(), [&](std::int64_t first, std::int64_t end) {
    walk(x, strides, first, end, [&](std::int64_t i, const auto& to) {
      dx->as<float>()[i] =
          is_result(i, to[0]) ? static_cast<float>(dy[to[0]] / sharers[at(to[0])]) : 0.0f;
    });
  });
}

}  // namespace

Saved saved_for_backward(const Reduce& op, Types inputs) {
  infer(op, inputs);
  return {.inputs = {!is_sum(op)}, .outputs = {!is_sum(op)}, .extra = {}};
}

void backward_reference(const Reduce& op, const BackwardOperands& operands) {
  share_out(op, operands, 1);
}

BackwardStep cpu_backward(const Reduce& op, const CpuSetup& setup) {
  return {0, [op, threads = setup.threads](const BackwardOperands& operands, std::byte*) {
            share_out(op, operands, threads);
          }};
}

}  // namespace tessera
