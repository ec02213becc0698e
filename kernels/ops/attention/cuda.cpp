#include "kernels/ops/attention/cuda.h"

#include <cmath>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/attention/attention.h"
#include "kernels/ops/attention/fold.h"
#include "kernels/ops/linear/cuda_weights.h"

namespace tessera {

namespace {

std::shared_ptr<const DeviceBuffer> pack_f32(const CudaSetup& setup, const std::string& name,
                                             const TensorView& tensor) {
  const auto elements = static_cast<std::size_t>(tensor.shape().elements());
  return setup.packed->get(setup.name + name, elements * sizeof(float), [&](std::byte* to) {
    const std::vector<float> values = to_f32(tensor);
    std::memcpy(to, values.data(), elements * sizeof(float));
  });
}

const float* floats(const std::shared_ptr<const DeviceBuffer>& buffer) {
  return buffer ? reinterpret_cast<const float*>(buffer->get()) : nullptr;
}

}  // namespace

Step cuda(const Attention& op, const CudaSetup& setup) {
  infer(op, setup.inputs);
  if (op.tanh_score) return {};
  const Shape shape = setup.inputs[0].shape;
  constexpr std::int64_t kMost = 0x7fffffff;
  require(shape[-2] <= kMost && shape[-1] <= kMost,
          "attention on CUDA takes at most {} steps of {} floats, but got {}: cut the sequences",
          kMost, kMost, setup.inputs[0]);
  const int t = static_cast<int>(shape[-2]), d = static_cast<int>(shape[-1]);
  const std::int64_t sequences = shape.elements(0, shape.rank() - 2), steps = sequences * t;

  const GemmWeights scores =
      gemm_weights(setup, "scores", op.units, d, setup.math,
                   [&](std::vector<float>& matrix, std::vector<float>& bias) {
                     AttentionWeights folded = folded_weights(op, setup.weights);
                     matrix = std::move(folded.weight);
                     bias = std::move(folded.bias);
                   });
  const auto context = pack_f32(setup, "/context", setup.weights[2]);
  std::shared_ptr<const DeviceBuffer> dense, dense_bias;
  if (op.dense) {
    dense = pack_f32(setup, "/dense", setup.weights[3]);
    const auto bytes = static_cast<std::size_t>(op.dense->units) * sizeof(float);
    dense_bias = op.dense->bias
                     ? pack_f32(setup, "/dense bias", setup.weights[4])
                     : setup.packed->get(setup.name + "/dense bias", bytes,
                                         [&](std::byte* to) { std::memset(to, 0, bytes); });
  }

  const int slices = attention_slices(op.units);
  const auto shares_bytes = static_cast<std::size_t>(slices * steps) * sizeof(float);
  const std::size_t sums_bytes =
      op.dense ? static_cast<std::size_t>(sequences * d) * sizeof(float) : 0;
  const GemmRows tile = choose_gemm_rows(steps, op.units, setup.traits.multiprocessors);
  const auto run = [=, stream = setup.stream](const Operands& operands, std::byte* scratch) {
    if (sequences == 0) return;
    const auto* x = operands.inputs[0].as<float>();
    const auto* lengths = op.masked ? operands.inputs[1].as<std::int32_t>() : nullptr;
    auto* shares = reinterpret_cast<float*>(scratch);
    auto* s = operands.outputs[0].as<float>();
    attention_scores_cuda({.product = {.x = x,
                                       .map = {.lengths = lengths, .t = t},
                                       .w = scores.matrix->get(),
                                       .bias = floats(scores.bias),
                                       .y = shares,
                                       .rows = steps,
                                       .features = d,
                                       .units = op.units},
                           .context = floats(context),
                           .u = nullptr},
                          scores.layout.rounding, tile, stream);
    attention_pool_cuda({.x = x,
                         .lengths = lengths,
                         .shares = shares,
                         .sums = op.dense ? reinterpret_cast<float*>(scratch + shares_bytes) : s,
                         .a = operands.outputs[1].as<float>(),
                         .sequences = sequences,
                         .t = t,
                         .d = d,
                         .slices = slices,
                         .has_eps = op.eps > 0,
                         .log_eps = op.eps > 0 ? static_cast<float>(std::log(op.eps)) : 0,
                         .dense = floats(dense),
                         .dense_bias = floats(dense_bias),
                         .s = s,
                         .dense_units = op.dense ? op.dense->units : 0,
                         .u = nullptr,
                         .units = op.units},
                        stream);
  };
  return {shares_bytes + sums_bytes, run};
}

}  // namespace tessera
