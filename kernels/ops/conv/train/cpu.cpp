// Backward of Conv on the CPU: orders the parts.
//
// dx is a convolution again, of g with the rotated weights: the forward techniques compute it, with
// the padding that restores x's size. dW has techniques of its own. Winograd's take both from
// kWinogradFewestChannels channels on each side on, as the forward pass does; below, its transforms
// cost more than they save.
#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/output_gradient.h"
#include "kernels/cpu/parallel.h"
#include "kernels/ops/conv/train/backward.h"
#include "kernels/ops/conv/train/window_gradient.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"

namespace tessera {

namespace {

constexpr std::int64_t kWinogradFewestChannels = 16;
constexpr std::size_t kAlignment = 64;

std::size_t aligned(std::size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

// The convolution of g that gives dx.
Conv data_gradient_of(const Conv& op, const ConvGeometry& g, bool winograd) {
  Conv conv;
  conv.c_out = static_cast<int>(g.c_in);
  conv.window = square(op.window.kernel[0], op.window.kernel[0] - 1 - op.window.pads[0]);
  conv.bias = false;
  conv.technique = winograd ? Conv::Technique::kWinograd : Conv::Technique::kDirect;
  return conv;
}

// (c_in, c_out, k, k) from (c_out, c_in, k, k), each filter rotated by 180 degrees.
void rotate(const Conv& op, const ConvGeometry& g, const float* weight, int threads,
            float* rotated) {
  const std::int64_t taps = op.window.kernel[0] * op.window.kernel[0];
  parallel_for(threads, g.c_in, [&](std::int64_t i) {
    float* to = rotated + i * g.c_out * taps;
    for (std::int64_t o = 0; o < g.c_out; ++o) {
      const float* from = weight + (o * g.c_in + i) * taps;
      for (std::int64_t k = 0; k < taps; ++k) *to++ = from[taps - 1 - k];
    }
  });
}

}  // namespace

bool is_plain(const Conv& op) {
  const Window& w = op.window;
  const int k = w.kernel[0];
  return w.is_square(k) && w.is_dense() && w.has_even_pads() && w.pads[0] >= 0 &&
         2 * w.pads[0] < k && op.groups == 1;
}

void require_plain(const Conv& op) {
  require(
      is_plain(op),
      "conv: a GPU trains k x k of stride 1, valid or same, without groups, not {}x{} of stride "
      "{}x{}; train on the CPU",
      op.window.kernel[0], op.window.kernel[1], op.window.stride[0], op.window.stride[1]);
}

Saved saved_for_backward(const Conv& op, Types inputs) {
  require(op.norm == Conv::Norm::kNone && !op.concat && !op.pool && inputs.size() == 1,
          kConvTrainingTerms);
  return {.inputs = {true}, .outputs = {op.relu}, .extra = {}};
}

namespace {

WindowGradient window_gradient_of(const Conv& op, const ConvGeometry& g) {
  return {op.window, op.groups, g.n, g.h, g.w, g.c_in, g.ho, g.wo, g.c_out};
}

// Any window: dx is the transposed convolution of g with the same weights, cut or extended to x.
BackwardStep window_backward(const Conv& op, const ConvGeometry& g, const CpuSetup& setup) {
  const int threads = setup.threads;
  const OutputGradient output(g.n * g.ho * g.wo, g.c_out, op.relu, threads);
  const WindowGradient weights = window_gradient_of(op, g);
  ConvTranspose data{.c_out = static_cast<int>(g.c_in),
                     .kernel = 0,
                     .bias = false,
                     .window = op.window,
                     .groups = op.groups};
  for (const std::size_t axis : {0u, 1u}) {
    const std::int64_t made =
        ((axis == 0 ? g.ho : g.wo) - 1) * op.window.stride[axis] + op.window.reach(axis);
    data.window.pads[2 * axis + 1] =
        static_cast<int>(made - op.window.before(axis) - (axis == 0 ? g.h : g.w));
  }
  const std::vector<TensorType> gradient_type{{DType::kF32, {g.n, g.ho, g.wo, g.c_out}}};
  const std::size_t parts_at = aligned(output.scratch_bytes());
  const TrainStep transposed =
      cpu_train(data, {setup.name, gradient_type, setup.weights.first(1), threads, nullptr});
  const auto run = [=](const BackwardOperands& operands, std::byte* scratch) {
    const TensorView* db = op.bias ? wanted(operands.weight_gradients, 1) : nullptr;
    const float* gradient =
        output.run(operands.output_gradients[0].as<float>(), operands.outputs[0].as<float>(),
                   db != nullptr ? db->as<float>() : nullptr, scratch);
    if (const TensorView* dw = wanted(operands.weight_gradients, 0))
      add_window_gradient(weights, threads, operands.inputs[0].as<float>(), gradient,
                          dw->as<float>(), scratch + parts_at);
    if (const TensorView* dx = wanted(operands.input_gradients, 0)) {
      const TensorView view{const_cast<float*>(gradient), gradient_type[0]};
      transposed.run({{&view, 1}, operands.weights.first(1), {dx, 1}, {}, {}}, scratch + parts_at);
    }
  };
  return {parts_at + std::max(window_gradient_scratch(weights), transposed.scratch_bytes), run};
}

}  // namespace

BackwardStep cpu_backward(const Conv& op, const CpuSetup& setup) {
  saved_for_backward(op, setup.inputs);
  require(op.dtype == DType::kF32 && setup.inputs[0].dtype == DType::kF32, kConvTrainingTerms);
  const ConvGeometry g = geometry_of(op, setup.inputs);
  if (!is_plain(op)) return window_backward(op, g, setup);
  const bool winograd =
      op.window.is_square(3) && std::min(g.c_in, g.c_out) >= kWinogradFewestChannels;
  const int threads = setup.threads;
  const OutputGradient output(g.n * g.ho * g.wo, g.c_out, op.relu, threads);
  const ConvWeightGradient weights = winograd ? conv_winograd_weight_gradient(g, threads)
                                              : conv_direct_weight_gradient(op, g, threads);

  const Conv data = data_gradient_of(op, g, winograd);
  const std::vector<TensorType> gradient_type{{DType::kF32, {g.n, g.ho, g.wo, g.c_out}}};
  const TensorType rotated_type = {DType::kF32,
                                   {g.c_in, g.c_out, op.window.kernel[0], op.window.kernel[0]}};
  // Scratch of a step depends on shapes alone; any weights will do to learn it.
  const std::vector<float> zeros(static_cast<std::size_t>(rotated_type.shape.elements()));
  const TensorView any{const_cast<float*>(zeros.data()), rotated_type};
  PackedWeights first;
  const std::size_t data_scratch =
      aligned(cpu(data, {setup.name, gradient_type, {&any, 1}, threads, &first}).scratch_bytes);

  const std::size_t rotated_at = aligned(output.scratch_bytes());
  const std::size_t parts_at = rotated_at + aligned(rotated_type.bytes());
  const auto run = [=, name = setup.name](const BackwardOperands& operands, std::byte* scratch) {
    const TensorView* db = op.bias ? wanted(operands.weight_gradients, 1) : nullptr;
    const float* gradient =
        output.run(operands.output_gradients[0].as<float>(), operands.outputs[0].as<float>(),
                   db != nullptr ? db->as<float>() : nullptr, scratch);
    if (const TensorView* dw = wanted(operands.weight_gradients, 0))
      weights.run(operands.inputs[0], gradient, dw->as<float>(), scratch + parts_at);
    if (const TensorView* dx = wanted(operands.input_gradients, 0)) {
      const TensorView rotated{scratch + rotated_at, rotated_type};
      rotate(op, g, operands.weights[0].as<float>(), threads, rotated.as<float>());
      PackedWeights packed(scratch + parts_at + data_scratch);
      const Step step = cpu(data, {name, gradient_type, {&rotated, 1}, threads, &packed});
      const TensorView view{const_cast<float*>(gradient), gradient_type[0]};
      step.run({{&view, 1}, {&rotated, 1}, {dx, 1}}, scratch + parts_at);
    }
  };
  return {parts_at + std::max(weights.scratch_bytes, data_scratch + first.packed_scratch()), run};
}

}  // namespace tessera
