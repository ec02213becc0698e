#include "kernels/ops/attention/train/cuda.h"

#include <cmath>
#include <limits>

#include "kernels/check.h"
#include "kernels/cuda/step.h"
#include "kernels/ops/attention/cuda.h"
#include "kernels/ops/attention/train/backward.h"
#include "kernels/ops/linear/cuda_weights.h"
#include "kernels/ops/linear/train/backward.h"

namespace tessera {

namespace {

// The extents of z, which is x or what the dense layer makes of it.
struct Extents {
  std::int64_t sequences, rows;
  int t, width, units;
};

Extents extents_of(const Attention& op, const CudaSetup& setup) {
  infer(op, setup.inputs);
  const Shape& x = setup.inputs[0].shape;
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  require(x[-2] <= kMost && x[-1] <= kMost,
          "attention on CUDA takes at most {} steps of {} floats, but got {}: cut the sequences",
          kMost, kMost, setup.inputs[0]);
  Extents extents{};
  extents.sequences = x.elements(0, x.rank() - 2);
  extents.rows = extents.sequences * x[-2];
  extents.t = static_cast<int>(x[-2]);
  extents.width = op.dense ? op.dense->units : static_cast<int>(x[-1]);
  extents.units = op.units;
  return extents;
}

// What the dense layer is told; the views that it gets are those behind the scorer's three.
constexpr std::size_t kScorerWeights = 3;

CudaSetup dense_setup(const CudaSetup& setup) {
  CudaSetup dense = setup;
  dense.name = setup.name + "/dense";
  dense.inputs = setup.inputs.first(1);
  return dense;
}

template <class T>
std::span<const T> of_dense(std::span<const T> list) {
  return list.size() > kScorerWeights ? list.subspan(kScorerWeights) : std::span<const T>();
}

std::size_t floats(std::int64_t count) {
  return in_whole_parts(static_cast<std::size_t>(count) * sizeof(float));
}

}  // namespace

TrainStep cuda_train(const Attention& op, const CudaSetup& setup) {
  const Extents e = extents_of(op, setup);
  const RepackedWeight packed = repacked_weight(setup, e.units, e.width, false);
  const int slices = attention_slices(e.units);
  const GemmRows block = choose_gemm_rows(e.rows, e.units, setup.traits.multiprocessors);
  TrainStep dense;
  if (op.dense) dense = cuda_train(*op.dense, dense_setup(setup));
  // W and the shares of the scores, once the dense layer is done with its scratch.
  const std::size_t shares_at = packed.bytes();
  const std::size_t bytes = std::max(dense.scratch_bytes, shares_at + floats(slices * e.rows));
  const auto run = [=, stream = setup.stream](const TrainOperands& operands, std::byte* scratch) {
    if (e.rows == 0) return;
    TensorView z = operands.inputs[0];
    if (op.dense) {
      z = operands.saved[1];
      dense.run({operands.inputs.first(1), of_dense(operands.weights), {&z, 1}, {}, {}}, scratch);
    }
    packed.pack(operands.weights[0], scratch, stream);
    const auto* lengths = op.masked ? operands.inputs[1].as<std::int32_t>() : nullptr;
    auto* shares = reinterpret_cast<float*>(scratch + shares_at);
    auto* u = operands.saved[0].as<float>();
    attention_scores_cuda({.product = {.x = z.as<float>(),
                                       .map = {.lengths = lengths, .t = e.t},
                                       .w = scratch,
                                       .bias = operands.weights[1].as<float>(),
                                       .y = shares,
                                       .rows = e.rows,
                                       .features = e.width,
                                       .units = e.units},
                           .context = operands.weights[2].as<float>(),
                           .u = u},
                          packed.layout.rounding, block, stream);
    attention_pool_cuda({.x = z.as<float>(),
                         .lengths = lengths,
                         .shares = shares,
                         .sums = operands.outputs[0].as<float>(),
                         .a = operands.outputs[1].as<float>(),
                         .sequences = e.sequences,
                         .t = e.t,
                         .d = e.width,
                         .slices = slices,
                         .has_eps = op.eps > 0,
                         .log_eps = op.eps > 0 ? static_cast<float>(std::log(op.eps)) : 0,
                         .dense = nullptr,
                         .dense_bias = nullptr,
                         .s = nullptr,
                         .dense_units = 0,
                         .u = u,
                         .units = e.units},
                        stream);
  };
  return {bytes, run};
}

BackwardStep cuda_backward(const Attention& op, const CudaSetup& setup) {
  const Extents e = extents_of(op, setup);
  const RepackedWeight packed = repacked_weight(setup, e.units, e.width, true);
  const GemmRows block = choose_gemm_rows(e.rows, e.width, setup.traits.multiprocessors);
  BackwardStep dense;
  if (op.dense) dense = cuda_backward(*op.dense, dense_setup(setup));
  const std::size_t de_at = packed.bytes(), dp_at = de_at + floats(e.rows);
  const std::size_t dz_at = dp_at + floats(e.rows * e.units);
  // The sums over rows: of the slopes, of W's gradient, of the dense layer's, one after the other.
  const std::size_t sums_at = dz_at + (op.dense ? floats(e.rows * e.width) : 0);
  const std::size_t sums =
      std::max({attention_slope_scratch(e.rows, e.units),
                gemm_sum_scratch(e.rows, e.units, e.width), dense.scratch_bytes});
  const auto run = [=, stream = setup.stream](const BackwardOperands& operands,
                                              std::byte* scratch) {
    if (e.rows == 0) return;
    const auto gradient = [&](std::size_t i) {
      const TensorView* to = wanted(operands.weight_gradients, i);
      return to != nullptr ? to->as<float>() : nullptr;
    };
    const auto* lengths = op.masked ? operands.inputs[1].as<std::int32_t>() : nullptr;
    const TensorView& z = op.dense ? operands.saved[1] : operands.inputs[0];
    const auto* a = operands.outputs[1].as<float>();
    const auto* ds = operands.output_gradients[0].as<float>();
    auto *de = reinterpret_cast<float*>(scratch + de_at),
         *dp = reinterpret_cast<float*>(scratch + dp_at);
    attention_score_gradient_cuda({.z = z.as<float>(),
                                   .a = a,
                                   .ds = ds,
                                   .da = operands.output_gradients[1].as<float>(),
                                   .lengths = lengths,
                                   .de = de,
                                   .sequences = e.sequences,
                                   .t = e.t,
                                   .width = e.width},
                                  stream);
    attention_slope_cuda({.de = de,
                          .u = operands.saved[0].as<float>(),
                          .context = operands.weights[2].as<float>(),
                          .dp = dp,
                          .bias_gradient = gradient(1),
                          .context_gradient = gradient(2),
                          .partial = reinterpret_cast<float*>(scratch + sums_at),
                          .rows = e.rows,
                          .units = e.units},
                         stream);
    if (float* dw = gradient(0)) {
      gemm_sum_cuda({.a = dp,
                     .b = z.as<float>(),
                     .sum = dw,
                     .scratch = scratch + sums_at,
                     .rows = e.rows,
                     .a_pitch = e.units,
                     .b_pitch = e.width,
                     .sum_pitch = e.width,
                     .m = e.units,
                     .n = e.width,
                     .lengths = lengths,
                     .t = e.t,
                     .b_delay = 0},
                    packed.layout.rounding, stream);
    }

    const TensorView* dx = wanted(operands.input_gradients, 0);
    const bool dense_wants = op.dense && (gradient(kScorerWeights) != nullptr ||
                                          gradient(kScorerWeights + 1) != nullptr);
    if (dx == nullptr && !dense_wants) return;
    const TensorView dz{op.dense ? scratch + dz_at : dx->pointer, z.type};
    packed.pack(operands.weights[0], scratch, stream);
    gemm_cuda({.x = dp,
               .map = {.lengths = lengths, .t = e.t},
               .w = scratch,
               .bias = nullptr,
               .y = dz.as<float>(),
               .rows = e.rows,
               .features = e.units,
               .units = e.width},
              packed.layout.rounding, block, stream);
    attention_pool_gradient_cuda({.a = a,
                                  .ds = ds,
                                  .lengths = lengths,
                                  .dz = dz.as<float>(),
                                  .sequences = e.sequences,
                                  .t = e.t,
                                  .width = e.width},
                                 stream);
    if (!op.dense) return;
    dense.run({.inputs = operands.inputs.first(1),
               .weights = of_dense(operands.weights),
               .outputs = {},
               .saved = {},
               .output_gradients = {&dz, 1},
               .input_gradients = operands.input_gradients.first(
                   std::min<std::size_t>(1, operands.input_gradients.size())),
               .weight_gradients = of_dense(operands.weight_gradients)},
              scratch + sums_at);
  };
  return {sums_at + sums, run};
}

}  // namespace tessera
