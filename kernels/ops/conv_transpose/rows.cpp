// Transposed convolution of any window:  y[i stride + k dilation - pad] += W[k] x[i],  f32.
//
// An output row is the sum of those rows of taps that some row of x reaches it with. Each is one
// product of a row of x, (w, c_in), with all taps of a row of the kernel, (c_in, kw c_out), whose
// results are then added to the pixels that they belong to. A row of products is wanted by one
// output row alone, so nothing is computed twice. Roofline: arithmetic from some 16 channels on.
//
// The sum's order is tap, channel, whatever the place: bytes do not depend on h, w, n or threads.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/conv_transpose/rows.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <functional>
#include <memory>
#include <vector>

#include "kernels/cpu/gemm-inl.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "kernels/ops/conv_transpose/rows.h"
#include "kernels/tensor.h"

#ifndef TESSERA_KERNELS_CONV_TRANSPOSE_ROWS_ONCE
#define TESSERA_KERNELS_CONV_TRANSPOSE_ROWS_ONCE
namespace tessera {
namespace {

struct TransposeRows {
  Window window;
  Shape x, y;
  std::int64_t groups = 1;
  bool relu = false;
  std::vector<float> bias;                       // (c_out)
  std::shared_ptr<const AlignedBuffer> weights;  // by group and row of taps

  std::int64_t c_in() const { return x[3] / groups; }  // of a group
  std::int64_t c_out() const { return y[3] / groups; }
  std::int64_t taps() const { return window.kernel[1]; }  // of a row
  std::size_t columns() const { return static_cast<std::size_t>(taps() * c_out()); }
  std::size_t scratch_bytes() const {  // of a thread, in whole lines
    const std::size_t floats = static_cast<std::size_t>(x[2]) * columns();
    return (floats * sizeof(float) + 63) / 64 * 64;
  }
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

std::size_t transpose_rows_packed_size(std::size_t k, std::size_t n) {
  return gemm_packed_size(k, n);
}

void transpose_rows_pack(std::size_t k, std::size_t n,
                         const std::function<float(std::size_t, std::size_t)>& at, float* packed) {
  gemm_pack(k, n, at, packed);
}

void add_to(const float* from, float* to, std::size_t count) {
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(hn::Add(load(from + i), load(to + i)), to + i);
  if (const std::size_t rest = count - i; rest > 0)
    store_first(hn::Add(load_first(from + i, rest), load_first(to + i, rest)), to + i, rest);
}

// Output row `index` of all images.
void transpose_rows_row(const TransposeRows& plan, const float* x, float* y, std::int64_t index,
                        float* products) {
  const Window& window = plan.window;
  const std::int64_t h = plan.x[1], w = plan.x[2], wo = plan.y[2], c_out = plan.y[3];
  const std::int64_t n = index / plan.y[1], oy = index % plan.y[1], group_out = plan.c_out();
  const auto c_in = static_cast<std::size_t>(plan.c_in());
  const std::size_t packed = gemm_packed_size(c_in, plan.columns());
  const auto* weights = reinterpret_cast<const float*>(plan.weights->get());
  float* row = y + index * wo * c_out;
  for (std::int64_t ox = 0; ox < wo; ++ox)
    std::copy(plan.bias.begin(), plan.bias.end(), row + ox * c_out);
  for (std::int64_t ky = 0; ky < window.kernel[0]; ++ky) {
    const std::int64_t steps = oy + window.before(0) - ky * window.dilation[0];
    if (steps < 0 || steps % window.stride[0] != 0 || steps / window.stride[0] >= h) continue;
    const float* from = x + (n * h + steps / window.stride[0]) * w * plan.x[3];
    for (std::int64_t group = 0; group < plan.groups; ++group) {
      const auto matrix = static_cast<std::size_t>(group * window.kernel[0] + ky);
      gemm(from + group * plan.c_in(), static_cast<std::size_t>(plan.x[3]),
           weights + matrix * packed, static_cast<std::size_t>(w), c_in, plan.columns(), products,
           plan.columns());
      for (std::int64_t kx = 0; kx < plan.taps(); ++kx) {
        for (std::int64_t ix = 0; ix < w; ++ix) {
          const std::int64_t ox =
              ix * window.stride[1] + kx * window.dilation[1] - window.before(1);
          if (ox < 0 || ox >= wo) continue;
          add_to(products + (ix * plan.taps() + kx) * group_out,
                 row + ox * c_out + group * group_out, static_cast<std::size_t>(group_out));
        }
      }
    }
  }
  if (!plan.relu) return;
  for (std::int64_t i = 0; i < wo * c_out; ++i) row[i] = row[i] < 0 ? 0.0f : row[i];
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(transpose_rows_packed_size);
HWY_EXPORT(transpose_rows_pack);
HWY_EXPORT(transpose_rows_row);

Step conv_transpose_rows(const ConvTranspose& op, const CpuSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  if (y.dtype != DType::kF32 || setup.inputs[0].dtype != DType::kF32) return {};
  auto plan = std::make_shared<TransposeRows>();
  plan->window = window_of(op);
  plan->x = setup.inputs[0].shape;
  plan->y = y.shape;
  plan->groups = op.groups;
  plan->relu = op.relu;
  plan->bias.assign(static_cast<std::size_t>(op.c_out), 0.0f);
  for (std::int64_t o = 0; op.bias && o < op.c_out; ++o)
    plan->bias[static_cast<std::size_t>(o)] = element_f32(setup.weights[1], o);
  const auto c_in = static_cast<std::size_t>(plan->c_in());
  const std::size_t size = HWY_DYNAMIC_DISPATCH(transpose_rows_packed_size)(c_in, plan->columns());
  const std::int64_t kh = plan->window.kernel[0];
  plan->weights = setup.packed->get(
      setup.name + "/transpose rows",
      size * static_cast<std::size_t>(op.groups * kh) * sizeof(float), [&](std::byte* to) {
        const std::vector<float> weight =
            to_f32(setup.weights[0]);  // (c_in, c_out / groups, kh, kw)
        for (std::int64_t matrix = 0; matrix < op.groups * kh; ++matrix) {
          const auto at = [&](std::size_t row, std::size_t column) {
            const std::int64_t i = matrix / kh * plan->c_in() + static_cast<std::int64_t>(row);
            const std::int64_t o = static_cast<std::int64_t>(column) % plan->c_out();
            const std::int64_t kx = static_cast<std::int64_t>(column) / plan->c_out();
            const std::int64_t tap = matrix % kh * plan->taps() + kx;
            return weight[static_cast<std::size_t>((i * plan->c_out() + o) * kh * plan->taps() +
                                                   tap)];
          };
          HWY_DYNAMIC_DISPATCH(transpose_rows_pack)
          (c_in, plan->columns(), at,
           reinterpret_cast<float*>(to) + static_cast<std::size_t>(matrix) * size);
        }
      });
  const std::size_t bytes = plan->scratch_bytes();
  const int threads = setup.threads;
  return {bytes * static_cast<std::size_t>(threads),
          [plan, threads, bytes](const Operands& operands, std::byte* scratch) {
            parallel_for(threads, plan->y[0] * plan->y[1], [&](std::int64_t row, int slot) {
              auto* products =
                  reinterpret_cast<float*>(scratch + static_cast<std::size_t>(slot) * bytes);
              HWY_DYNAMIC_DISPATCH(transpose_rows_row)
              (*plan, operands.inputs[0].as<const float>(), operands.outputs[0].as<float>(), row,
               products);
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
