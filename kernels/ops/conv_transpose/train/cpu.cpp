// Backward of ConvTranspose on the CPU.
//
// The k outputs that a pixel of x reaches in one output row lie side by side, k c_out floats, and
// those of the next pixel begin 2 c_out floats further. So each row of taps is one product over the
// pixels of a row, with g as a matrix whose rows have that stride and, for 3x3, overlap:
//   dx (w, c_in)       += g_row (w, k c_out) W_ky^T (k c_out, c_in)
//   dW_ky (c_in, k c_out) += x_row^T (c_in, w) g_row (w, k c_out)
// With 3x3 the first tap of the first pixel falls off: g is copied behind one pixel and one row of
// zeros. Rows of dx are tasks of their own; rows of dW are dealt to kSlots sums, whose number
// depends on shapes alone and which are added in order.
// Roofline: arithmetic from about 64 channels on.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/conv_transpose/train/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/gemm_transposed-inl.h"
#include "kernels/ops/conv_transpose/train/backward.h"

#ifndef TESSERA_KERNELS_CONV_TRANSPOSE_BACKWARD_ONCE
#define TESSERA_KERNELS_CONV_TRANSPOSE_BACKWARD_ONCE
namespace tessera {
namespace {

struct TransposeGradientPlan {
  std::int64_t n = 0, h = 0, w = 0, c_in = 0, c_out = 0, kernel = 2;
  std::int64_t slots = 0;

  std::int64_t pad() const { return kernel == 3 ? 1 : 0; }
  std::int64_t columns() const { return kernel * c_out; }  // of one row of taps
  std::int64_t weights() const { return c_in * kernel * columns(); }
  // g, with its zeros: floats of a row and of an image.
  std::int64_t row() const { return (2 * w + pad()) * c_out; }
  std::int64_t image() const { return (2 * h + pad()) * row(); }
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

std::size_t gradient_packed_size(const TransposeGradientPlan& plan) {
  return static_cast<std::size_t>(plan.kernel) *
         gemm_packed_size(static_cast<std::size_t>(plan.columns()),
                          static_cast<std::size_t>(plan.c_in));
}

// W of the row of taps `ky`, transposed and packed.
void gradient_pack(const TransposeGradientPlan& plan, const float* weight, std::int64_t ky,
                   float* packed) {
  const auto columns = static_cast<std::size_t>(plan.columns());
  const auto c_in = static_cast<std::size_t>(plan.c_in);
  const auto c_out = static_cast<std::size_t>(plan.c_out);
  const auto k = static_cast<std::size_t>(plan.kernel);
  gemm_pack(
      columns, c_in,
      [&](std::size_t row, std::size_t i) {
        return weight[((i * c_out + row % c_out) * k + static_cast<std::size_t>(ky)) * k +
                      row / c_out];
      },
      packed + static_cast<std::size_t>(ky) * gemm_packed_size(columns, c_in));
}

// One row of dx from the rows of g that begin at `g`.
void data_row(const TransposeGradientPlan& plan, const float* packed, const float* g, float* dx) {
  const auto columns = static_cast<std::size_t>(plan.columns());
  const auto c_in = static_cast<std::size_t>(plan.c_in);
  for (std::int64_t ky = 0; ky < plan.kernel; ++ky)
    gemm(g + ky * plan.row(), static_cast<std::size_t>(2 * plan.c_out),
         packed + static_cast<std::size_t>(ky) * gemm_packed_size(columns, c_in),
         static_cast<std::size_t>(plan.w), columns, c_in, dx, c_in, {nullptr, ky != 0});
}

// sums (k, c_in, k c_out) += one row of x and the rows of g that it reaches.
void weight_row(const TransposeGradientPlan& plan, const float* x, const float* g, float* sums) {
  const auto columns = static_cast<std::size_t>(plan.columns());
  const auto c_in = static_cast<std::size_t>(plan.c_in);
  for (std::int64_t ky = 0; ky < plan.kernel; ++ky)
    gemm_transposed({x, c_in}, {g + ky * plan.row(), static_cast<std::size_t>(2 * plan.c_out)},
                    static_cast<std::size_t>(plan.w), c_in, columns,
                    sums + static_cast<std::size_t>(ky) * c_in * columns, columns);
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cstring>

#include "kernels/check.h"
#include "kernels/cpu/output_gradient.h"
#include "kernels/cpu/parallel.h"
#include "kernels/ops/conv/conv.h"
#include "kernels/ops/conv/train/window_gradient.h"

namespace tessera {

HWY_EXPORT(gradient_packed_size);
HWY_EXPORT(gradient_pack);
HWY_EXPORT(data_row);
HWY_EXPORT(weight_row);

namespace {

constexpr std::int64_t kSlots = 16;
constexpr std::int64_t kMostSlotFloats = (32 << 20) / sizeof(float);  // of all slots together
constexpr std::size_t kAlignment = 64;

std::size_t aligned(std::size_t floats) {
  return (floats * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment;
}

// g behind its zeros: (n, 2h + 1, 2w + 1, c_out).
void pad(const TransposeGradientPlan& plan, int threads, const float* g, float* padded) {
  const std::int64_t rows = 2 * plan.h + 1, width = 2 * plan.w * plan.c_out;
  parallel_for(threads, plan.n * rows, [&](std::int64_t index) {
    const std::int64_t n = index / rows, row = index % rows;
    float* to = padded + index * plan.row();
    if (row == 0) {
      std::fill_n(to, plan.row(), 0.0f);
      return;
    }
    std::fill_n(to, plan.c_out, 0.0f);
    std::memcpy(to + plan.c_out, g + (n * 2 * plan.h + row - 1) * width,
                static_cast<std::size_t>(width) * sizeof(float));
  });
}

void weight_gradient(const TransposeGradientPlan& plan, int threads, const float* x, const float* g,
                     float* sums, float* dw) {
  parallel_for(threads, plan.slots, [&](std::int64_t slot) {
    float* own = sums + slot * plan.weights();
    std::fill_n(own, plan.weights(), 0.0f);
    for (std::int64_t row = slot; row < plan.n * plan.h; row += plan.slots) {
      HWY_DYNAMIC_DISPATCH(weight_row)
      (plan, x + row * plan.w * plan.c_in,
       g + row / plan.h * plan.image() + row % plan.h * 2 * plan.row(), own);
    }
  });
  const std::int64_t k = plan.kernel;
  parallel_for(threads, plan.c_in, [&](std::int64_t i) {
    for (std::int64_t o = 0; o < plan.c_out; ++o) {
      for (std::int64_t tap = 0; tap < k * k; ++tap) {
        const float* from = sums + ((tap / k * plan.c_in + i) * k + tap % k) * plan.c_out + o;
        float sum = *from;
        for (std::int64_t slot = 1; slot < plan.slots; ++slot) sum += from[slot * plan.weights()];
        dw[(i * plan.c_out + o) * k * k + tap] += sum;
      }
    }
  });
}

}  // namespace

Saved saved_for_backward(const ConvTranspose& op, Types inputs) {
  infer(op, inputs);
  return {.inputs = {true}, .outputs = {op.relu}, .extra = {}};
}

void require_f32_training(const ConvTranspose& op, Types inputs) {
  saved_for_backward(op, inputs);
  require(op.dtype == DType::kF32 && inputs[0].dtype == DType::kF32,
          "conv_transpose: in training it is f32, not {} from {}", name_of(op.dtype), inputs[0]);
}

namespace {

// Any window: x takes the place of a convolution's output, g that of its input.
BackwardStep window_backward(const ConvTranspose& op, const CpuSetup& setup) {
  const Shape x = setup.inputs[0].shape, y = infer(op, setup.inputs)[0].shape;
  const Window window = window_of(op);
  const int threads = setup.threads;
  const OutputGradient output(y.elements(0, 3), y[3], op.relu, threads);
  const WindowGradient weights{window, op.groups, x[0], y[1], y[2], y[3], x[1], x[2], x[3]};
  const Conv data{
      .c_out = static_cast<int>(x[3]), .window = window, .groups = op.groups, .bias = false};
  const std::vector<TensorType> gradient_type{{DType::kF32, y}};
  const std::size_t parts_at = (output.scratch_bytes() + kAlignment - 1) / kAlignment * kAlignment;
  const TrainStep convolution =
      cpu_train(data, {setup.name, gradient_type, setup.weights.first(1), threads, nullptr});
  const auto run = [=, bias = op.bias](const BackwardOperands& operands, std::byte* scratch) {
    const TensorView* db = bias ? wanted(operands.weight_gradients, 1) : nullptr;
    const float* g =
        output.run(operands.output_gradients[0].as<float>(), operands.outputs[0].as<float>(),
                   db != nullptr ? db->as<float>() : nullptr, scratch);
    if (const TensorView* dw = wanted(operands.weight_gradients, 0))
      add_window_gradient(weights, threads, g, operands.inputs[0].as<float>(), dw->as<float>(),
                          scratch + parts_at);
    if (const TensorView* dx = wanted(operands.input_gradients, 0)) {
      const TensorView view{const_cast<float*>(g), gradient_type[0]};
      convolution.run({{&view, 1}, operands.weights.first(1), {dx, 1}, {}, {}}, scratch + parts_at);
    }
  };
  return {parts_at + std::max(window_gradient_scratch(weights), convolution.scratch_bytes), run};
}

}  // namespace

BackwardStep cpu_backward(const ConvTranspose& op, const CpuSetup& setup) {
  require_f32_training(op, setup.inputs);
  if (!is_doubling(op)) return window_backward(op, setup);
  const Shape& x = setup.inputs[0].shape;
  TransposeGradientPlan plan{x[0], x[1], x[2], x[3], op.c_out, op.kernel};
  plan.slots = std::min(
      {kSlots, plan.n * plan.h, std::max<std::int64_t>(1, kMostSlotFloats / plan.weights())});
  const int threads = setup.threads;
  const OutputGradient output(plan.n * 4 * plan.h * plan.w, plan.c_out, op.relu, threads);
  const std::size_t padded_at = (output.scratch_bytes() + kAlignment - 1) / kAlignment * kAlignment;
  const std::size_t packed_at =
      padded_at + (plan.pad() > 0 ? aligned(static_cast<std::size_t>(plan.n * plan.image())) : 0);
  const std::size_t sums_at = packed_at + aligned(HWY_DYNAMIC_DISPATCH(gradient_packed_size)(plan));
  const std::size_t total =
      sums_at + aligned(static_cast<std::size_t>(plan.slots * plan.weights()));

  const auto run = [=, bias = op.bias](const BackwardOperands& operands, std::byte* scratch) {
    const TensorView* db = bias ? wanted(operands.weight_gradients, 1) : nullptr;
    const float* g =
        output.run(operands.output_gradients[0].as<float>(), operands.outputs[0].as<float>(),
                   db != nullptr ? db->as<float>() : nullptr, scratch);
    if (plan.pad() > 0) {
      auto* padded = reinterpret_cast<float*>(scratch + padded_at);
      pad(plan, threads, g, padded);
      g = padded;
    }
    if (const TensorView* dw = wanted(operands.weight_gradients, 0))
      weight_gradient(plan, threads, operands.inputs[0].as<float>(), g,
                      reinterpret_cast<float*>(scratch + sums_at), dw->as<float>());
    if (const TensorView* dx = wanted(operands.input_gradients, 0)) {
      auto* packed = reinterpret_cast<float*>(scratch + packed_at);
      parallel_for(threads, plan.kernel, [&](std::int64_t ky) {
        HWY_DYNAMIC_DISPATCH(gradient_pack)(plan, operands.weights[0].as<float>(), ky, packed);
      });
      parallel_for(threads, plan.n * plan.h, [&](std::int64_t row) {
        HWY_DYNAMIC_DISPATCH(data_row)
        (plan, packed, g + row / plan.h * plan.image() + row % plan.h * 2 * plan.row(),
         dx->as<float>() + row * plan.w * plan.c_in);
      });
    }
  };
  return {total, run};
}

}  // namespace tessera
#endif  // HWY_ONCE
