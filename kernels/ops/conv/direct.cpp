// Direct convolution:  y = affine(max(W * x + bias, 0)), any window, f32 or bf16.
//
// Layout: x, y (n, h, w, c). A block of y's pixels is one task: its input window is gathered into a
// dense patch, in which the k pixels under a filter row are one run of k c_in numbers and the runs
// of neighbouring pixels overlap. So W * x is k matrix products per row of pixels, with A's row
// stride c_in (times the stride) and no im2col; columns that are dilated are a product each; the
// sums stay in L2 until bias, ReLU, affine and 2x2 pooling are done. Roofline: arithmetic binds
// from about 16 channels on, 18 c_in operations per output; memory below.
//
// Of groups, the patch is sorted by group first, and each is a convolution of its own; a filter for
// each channel (depthwise) is no product: vectors run over the channels. Both compute in f32.
// So do up to 4 outputs (the heads of networks), of which a product would leave most of a vector
// empty: there vectors run along the run of numbers under a filter row.
//
// oneDNN's brgconv is as fast, but it orders the sum over c_in >= 512 by the size of the image
// (version 2.6): a tile would not have the bytes of the whole. Here the order is filter row, filter
// column, channel, always. bf16 without AVX512-BF16: the same in f32, rounded at the end.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/conv/direct.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <cstring>

#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/gemm_bf16.h"
#include "kernels/cpu/step.h"
#include "kernels/ops/activation/epilogue-inl.h"
#include "kernels/ops/conv/blocks.h"
#include "kernels/ops/conv/fold.h"
#include "kernels/ops/conv/output-inl.h"
#include "kernels/ops/conv/patch.h"

#ifndef TESSERA_KERNELS_CONV_DIRECT_ONCE
#define TESSERA_KERNELS_CONV_DIRECT_ONCE
namespace tessera {
namespace {

constexpr std::int64_t kMostNarrow = 4;
constexpr std::size_t kNarrowLanes = 16;  // of the widest vector, to which runs are padded

struct DirectPlan {
  ConvGeometry geometry;
  ConvEpilogue epilogue;
  std::int64_t taps = 0;  // products of a row of pixels for one filter row: 1, or one a column
  std::size_t groups = 1;
  bool depthwise = false;  // as many groups as input and output channels
  bool narrow = false;     // up to kMostNarrow outputs
  bool pool = false;
  DType compute = DType::kF32;                   // of patch and packed weights
  std::int64_t rows = 0, columns = 0;            // pixels of a block of y; even where pooled
  std::size_t channels = 0;                      // of a patch pixel
  std::size_t sums = 0;                          // of a pixel: c_out padded to vectors
  std::shared_ptr<const AlignedBuffer> weights;  // a matrix (run, c_out) for each product

  // Numbers of the patch side by side that one product reads for a pixel.
  std::size_t run() const {
    return static_cast<std::size_t>(geometry.window.kernel[1] / taps) * group_channels();
  }
  std::size_t padded_run() const {
    return (run() + kNarrowLanes - 1) / kNarrowLanes * kNarrowLanes;
  }
  std::size_t group_channels() const { return channels / groups; }
  std::size_t group_outputs() const { return static_cast<std::size_t>(geometry.c_out) / groups; }
  bool sorts() const { return groups > 1 && !depthwise; }
  // Pixels of a patch that `count` outputs along an axis read.
  std::int64_t patch_extent(std::size_t axis, std::int64_t count) const {
    return (count - 1) * geometry.window.stride[axis] + geometry.window.reach(axis);
  }
  std::size_t plain_patch_bytes() const {
    const std::int64_t pixels = patch_extent(0, rows) * patch_extent(1, columns);
    const std::size_t bytes = static_cast<std::size_t>(pixels) * channels * size_of(compute);
    return (bytes + 63) / 64 * 64;
  }
  std::size_t patch_bytes() const { return plain_patch_bytes() * (sorts() ? 2 : 1); }
  std::size_t sum_bytes() const {
    return static_cast<std::size_t>(rows * columns) * sums * sizeof(float);
  }
};

// One block: y's pixels [y, y + rows) x [x, x + columns) of image n.
struct DirectTask {
  const DirectPlan& plan;
  std::int64_t n, y, x, rows, columns;
  std::byte* patch;
  float* sums;  // (rows, columns, plan.sums)
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

std::size_t direct_packed_size(std::size_t k, std::size_t n) {
  return gemm_packed_size(k, n);
}

void direct_pack(std::size_t k, std::size_t n,
                 const std::function<float(std::size_t, std::size_t)>& at, float* packed) {
  gemm_pack(k, n, at, packed);
}

// sums = bias + W * x
void multiply(const DirectTask& task) {
  const DirectPlan& plan = task.plan;
  const auto n = static_cast<std::size_t>(plan.geometry.c_out);
  const auto pixels = static_cast<std::size_t>(task.columns);
  const Window& w = plan.geometry.window;
  const std::size_t patch_row =
      static_cast<std::size_t>(plan.patch_extent(1, task.columns)) * plan.channels;
  const std::size_t step =
      static_cast<std::size_t>(w.stride[1]) * plan.channels;  // to a next pixel
  const float* bias = plan.epilogue.bias.data();
  for (std::int64_t row = 0; row < task.rows; ++row) {
    float* c = task.sums + static_cast<std::size_t>(row) * pixels * plan.sums;
    for (std::int64_t product = 0; product < w.kernel[0] * plan.taps; ++product) {
      const std::int64_t ky = product / plan.taps, kx = product % plan.taps;
      const std::size_t a =
          static_cast<std::size_t>(row * w.stride[0] + ky * w.dilation[0]) * patch_row +
          static_cast<std::size_t>(kx * w.dilation[1]) * plan.channels;
      const float* start = product == 0 ? bias : nullptr;
      const auto matrix = static_cast<std::size_t>(product);
      if (plan.compute == DType::kBF16) {
        gemm_bf16(reinterpret_cast<const std::uint16_t*>(task.patch) + a, step,
                  reinterpret_cast<const std::uint16_t*>(plan.weights->get()) +
                      matrix * gemm_bf16_packed_size(plan.run(), n),
                  pixels, plan.run(), n, c, plan.sums, start);
      } else {
        gemm(reinterpret_cast<const float*>(task.patch) + a, step,
             reinterpret_cast<const float*>(plan.weights->get()) +
                 matrix * gemm_packed_size(plan.run(), n),
             pixels, plan.run(), gemm_columns(n), c, plan.sums, {start, product != 0});
      }
    }
  }
}

// Sorts the patch (pixels, c_in) by group behind it: (groups, pixels, c_in / groups).
void sort_by_group(const DirectTask& task) {
  const DirectPlan& plan = task.plan;
  const auto pixels = static_cast<std::size_t>(plan.patch_extent(0, task.rows) *
                                               plan.patch_extent(1, task.columns));
  const std::size_t k = plan.group_channels();
  const auto* from = reinterpret_cast<const float*>(task.patch);
  auto* to = reinterpret_cast<float*>(task.patch + plan.plain_patch_bytes());
  for (std::size_t pixel = 0; pixel < pixels; ++pixel) {
    for (std::size_t g = 0; g < plan.groups; ++g, from += k)
      std::memcpy(to + (g * pixels + pixel) * k, from, k * sizeof(float));
  }
}

// The same of groups.
void multiply_groups(const DirectTask& task) {
  sort_by_group(task);
  const DirectPlan& plan = task.plan;
  const Window& w = plan.geometry.window;
  const std::size_t k = plan.group_channels(), n = plan.group_outputs();
  const auto pixels = static_cast<std::size_t>(task.columns);
  const auto patch_row = static_cast<std::size_t>(plan.patch_extent(1, task.columns)) * k;
  const auto patch_size = static_cast<std::size_t>(plan.patch_extent(0, task.rows)) * patch_row;
  const std::int64_t products = w.kernel[0] * plan.taps;
  const std::size_t size = gemm_packed_size(plan.run(), n);
  const auto* patch = reinterpret_cast<const float*>(task.patch + plan.plain_patch_bytes());
  const auto* weights = reinterpret_cast<const float*>(plan.weights->get());
  for (std::size_t g = 0; g < plan.groups; ++g, patch += patch_size) {
    for (std::int64_t product = 0; product < products; ++product, weights += size) {
      const std::int64_t ky = product / plan.taps, kx = product % plan.taps;
      const float* start = product == 0 ? &plan.epilogue.bias[g * n] : nullptr;
      for (std::int64_t row = 0; row < task.rows; ++row) {
        const float* a =
            patch + static_cast<std::size_t>(row * w.stride[0] + ky * w.dilation[0]) * patch_row +
            static_cast<std::size_t>(kx * w.dilation[1]) * k;
        float* c = task.sums + static_cast<std::size_t>(row) * pixels * plan.sums + g * n;
        gemm(a, static_cast<std::size_t>(w.stride[1]) * k, weights, pixels, plan.run(), n, c,
             plan.sums, {start, product != 0});
      }
    }
  }
}

// The sums of P neighbouring pixels, which share the loads of weights. `patch` is the first tap's
// pixel of the first. Lanes behind the last channel hold anything.
template <std::size_t P>
HWY_INLINE void filter_pixels(const DirectPlan& plan, const float* patch, std::size_t patch_row,
                              float* sums) {
  const Window& w = plan.geometry.window;
  const std::size_t next = static_cast<std::size_t>(w.stride[1]) * plan.channels;
  const std::size_t down = static_cast<std::size_t>(w.dilation[0]) * patch_row;
  const std::size_t right = static_cast<std::size_t>(w.dilation[1]) * plan.channels;
  for (std::size_t c = 0; c < plan.channels; c += kFloatLanes) {
    const float* weight = reinterpret_cast<const float*>(plan.weights->get()) + c;
    FloatVector sum[P];
    for (FloatVector& one : sum) one = load(&plan.epilogue.bias[c]);
    for (std::size_t ky = 0; ky < static_cast<std::size_t>(w.kernel[0]); ++ky) {
      const float* from = patch + ky * down + c;
      for (int kx = 0; kx < w.kernel[1]; ++kx, from += right, weight += plan.sums) {
        const FloatVector factor = load(weight);
        for (std::size_t p = 0; p < P; ++p)
          sum[p] = hn::MulAdd(load(from + p * next), factor, sum[p]);
      }
    }
    for (std::size_t p = 0; p < P; ++p) store(sum[p], sums + p * plan.sums + c);
  }
}

// The same with a filter for each channel.
void filter_channels(const DirectTask& task) {
  constexpr std::int64_t kPixels = 6;
  const DirectPlan& plan = task.plan;
  const Window& w = plan.geometry.window;
  const std::size_t patch_row =
      static_cast<std::size_t>(plan.patch_extent(1, task.columns)) * plan.channels;
  const std::size_t next = static_cast<std::size_t>(w.stride[1]) * plan.channels;
  float* sums = task.sums;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const float* patch = reinterpret_cast<const float*>(task.patch) +
                         static_cast<std::size_t>(row * w.stride[0]) * patch_row;
    std::int64_t column = 0;
    for (; column + kPixels <= task.columns; column += kPixels) {
      filter_pixels<kPixels>(plan, patch, patch_row, sums);
      patch += kPixels * next, sums += kPixels * plan.sums;
    }
    for (; column < task.columns; ++column, patch += next, sums += plan.sums)
      filter_pixels<1>(plan, patch, patch_row, sums);
  }
}

// The sums of P neighbouring pixels and N outputs, which share the loads of weights and of pixels.
// `patch` is the first run of the first pixel.
template <std::size_t P, std::size_t N>
HWY_INLINE void narrow_pixels(const DirectPlan& plan, const float* patch, std::size_t patch_row,
                              float* sums) {
  const Window& w = plan.geometry.window;
  const std::size_t next = static_cast<std::size_t>(w.stride[1]) * plan.channels;
  const std::size_t run = plan.run(), padded = plan.padded_run();
  const auto* weights = reinterpret_cast<const float*>(plan.weights->get());
  FloatVector sum[P][N];
  for (auto& of_pixel : sum)
    for (FloatVector& one : of_pixel) one = hn::Zero(FloatTag());
  const auto add = [&](const float* weight, const auto& pixel) HWY_ATTR {
    FloatVector factor[N];
    for (std::size_t o = 0; o < N; ++o) factor[o] = load(weight + o * padded);
    for (std::size_t p = 0; p < P; ++p) {
      const FloatVector x = pixel(p);
      for (std::size_t o = 0; o < N; ++o) sum[p][o] = hn::MulAdd(x, factor[o], sum[p][o]);
    }
  };
  for (std::int64_t product = 0; product < w.kernel[0] * plan.taps; ++product) {
    const std::int64_t ky = product / plan.taps, kx = product % plan.taps;
    const float* from = patch + static_cast<std::size_t>(ky * w.dilation[0]) * patch_row +
                        static_cast<std::size_t>(kx * w.dilation[1]) * plan.channels;
    const float* weight = weights + static_cast<std::size_t>(product) * N * padded;
    std::size_t k = 0;
    for (; k + kFloatLanes <= run; k += kFloatLanes)
      add(weight + k, [&](std::size_t p) HWY_ATTR { return load(from + p * next + k); });
    if (k < run)
      add(weight + k,
          [&](std::size_t p) HWY_ATTR { return load_first(from + p * next + k, run - k); });
  }
  for (std::size_t p = 0; p < P; ++p) {
    for (std::size_t o = 0; o < N; ++o)
      sums[p * plan.sums + o] =
          hn::GetLane(hn::SumOfLanes(FloatTag(), sum[p][o])) + plan.epilogue.bias[o];
  }
}

template <std::size_t N>
void multiply_narrow(const DirectTask& task) {
  constexpr std::int64_t kPixels = 4;
  const DirectPlan& plan = task.plan;
  const Window& w = plan.geometry.window;
  const std::size_t patch_row =
      static_cast<std::size_t>(plan.patch_extent(1, task.columns)) * plan.channels;
  const std::size_t next = static_cast<std::size_t>(w.stride[1]) * plan.channels;
  float* sums = task.sums;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    const float* patch = reinterpret_cast<const float*>(task.patch) +
                         static_cast<std::size_t>(row * w.stride[0]) * patch_row;
    std::int64_t column = 0;
    for (; column + kPixels <= task.columns; column += kPixels) {
      narrow_pixels<kPixels, N>(plan, patch, patch_row, sums);
      patch += kPixels * next, sums += kPixels * plan.sums;
    }
    for (; column < task.columns; ++column, patch += next, sums += plan.sums)
      narrow_pixels<1, N>(plan, patch, patch_row, sums);
  }
}

void multiply_narrow(const DirectTask& task) {
  static_assert(kMostNarrow == 4);
  switch (task.plan.geometry.c_out) {
    case 1:
      return multiply_narrow<1>(task);
    case 2:
      return multiply_narrow<2>(task);
    case 3:
      return multiply_narrow<3>(task);
    default:
      return multiply_narrow<4>(task);
  }
}

// The epilogue that passes added, on the sums.
template <class T>
void finish_epilogue(const DirectTask& task, std::span<const TensorView> inputs) {
  const ConvEpilogue& e = task.plan.epilogue;
  const auto c_out = static_cast<std::size_t>(task.plan.geometry.c_out);
  if (e.added.residual) {
    const TensorView& residual = inputs.back();
    const std::int64_t h = residual.shape()[1], w = residual.shape()[2];
    float* sum = task.sums;
    for (std::int64_t row = 0; row < task.rows; ++row) {
      const std::int64_t y = task.n * h + task.y + row + e.added.offset[0].value_or(0);
      const std::int64_t x = task.x + e.added.offset[1].value_or(0);
      const T* pixel = residual.as<T>() + static_cast<std::size_t>(y * w + x) * c_out;
      for (std::int64_t column = 0; column < task.columns; ++column) {
        for (std::size_t c = 0; c < c_out; c += kFloatLanes)
          store(add_residual(load(sum + c), pixel, c, c_out), sum + c);
        sum += task.plan.sums, pixel += c_out;
      }
    }
  }
  if (!e.added.activation) return;
  for (std::size_t c = 0; c < c_out; c += kFloatLanes)
    activate_sums(*e.added.activation, e.slopes.data() + c, task.sums + c,
                  static_cast<std::size_t>(task.rows * task.columns), task.plan.sums);
}

// y = ReLU and affine of the sums, which keep it for pooling.
template <class T>
void finish(const DirectTask& task, const TensorView& y) {
  const OutputWriter writer(y);
  const ConvEpilogue& e = task.plan.epilogue;
  const ConvGeometry& g = task.plan.geometry;
  const auto c_out = static_cast<std::size_t>(g.c_out);
  float* sum = task.sums;
  for (std::int64_t row = 0; row < task.rows; ++row) {
    T* out = y.as<T>() + ((task.n * g.ho + task.y + row) * g.wo + task.x) * g.c_out;
    for (std::int64_t column = 0; column < task.columns; ++column) {
      for (std::size_t c = 0; c < c_out; c += kFloatLanes) {
        FloatVector v = load(sum + c);
        if (e.relu) v = relu(v);
        if (!e.scale.empty()) v = hn::MulAdd(v, load(&e.scale[c]), load(&e.shift[c]));
        if (task.plan.pool) store(v, sum + c);
        writer.write(v, out, c);
      }
      sum += task.plan.sums;
      out += c_out;
    }
  }
  writer.finish();
}

template <class T>
void pool(const DirectTask& task, const TensorView& pooled) {
  const OutputWriter writer(pooled);
  const ConvGeometry& g = task.plan.geometry;
  const auto c_out = static_cast<std::size_t>(g.c_out);
  const std::size_t right = task.plan.sums;
  const std::size_t down = static_cast<std::size_t>(task.columns) * task.plan.sums;
  for (std::int64_t row = 0; row + 2 <= task.rows; row += 2) {
    const float* sum = task.sums + static_cast<std::size_t>(row) * down;
    const std::int64_t out_row = task.n * (g.ho / 2) + (task.y + row) / 2;
    T* out = pooled.as<T>() + (out_row * (g.wo / 2) + task.x / 2) * g.c_out;
    for (std::int64_t column = 0; column + 2 <= task.columns; column += 2) {
      for (std::size_t c = 0; c < c_out; c += kFloatLanes) {
        const float* p = sum + c;
        const FloatVector v = max_or_nan(max_or_nan(load(p), load(p + right)),
                                         max_or_nan(load(p + down), load(p + down + right)));
        writer.write(v, out, c);
      }
      sum += 2 * right;
      out += c_out;
    }
  }
  writer.finish();
}

template <class T>
void finish_block(const DirectTask& task, const Operands& operands) {
  if (!task.plan.epilogue.added.is_empty()) finish_epilogue<T>(task, operands.inputs);
  finish<T>(task, operands.outputs[0]);
  if (task.plan.pool) pool<T>(task, operands.outputs[1]);
}

void direct_block(const DirectTask& task, const Operands& operands) {
  if (task.plan.depthwise) {
    filter_channels(task);
  } else if (task.plan.narrow) {
    multiply_narrow(task);
  } else if (task.plan.groups > 1) {
    multiply_groups(task);
  } else {
    multiply(task);
  }
  if (operands.outputs[0].type.dtype == DType::kBF16) {
    finish_block<hwy::bfloat16_t>(task, operands);
  } else {
    finish_block<float>(task, operands);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"
#include "kernels/ops/conv/techniques.h"

namespace tessera {

HWY_EXPORT(direct_packed_size);
HWY_EXPORT(direct_pack);
HWY_EXPORT(direct_block);

namespace {

// (taps, plan.sums): a filter for each channel.
void pack_depthwise(const Conv& op, const CpuSetup& setup, DirectPlan& plan) {
  const auto columns = static_cast<std::size_t>(op.window.kernel[1]);
  const std::size_t taps = static_cast<std::size_t>(op.window.kernel[0]) * columns;
  const std::size_t bytes = taps * plan.sums * sizeof(float);
  plan.weights = setup.packed->get(setup.name + "/depthwise", bytes, [&](std::byte* to) {
    const FoldedWeights weights(op, plan.geometry, setup.weights);
    auto* packed = reinterpret_cast<float*>(to);
    std::fill_n(packed, taps * plan.sums, 0.0f);
    for (std::size_t tap = 0; tap < taps; ++tap) {
      for (std::size_t o = 0; o < plan.channels; ++o)
        packed[tap * plan.sums + o] = static_cast<float>(
            weights.at(static_cast<std::int64_t>(o), 0, static_cast<std::int64_t>(tap / columns),
                       static_cast<std::int64_t>(tap % columns)));
    }
  });
}

// (products, c_out, padded run), zeros behind a run.
void pack_narrow(const Conv& op, const CpuSetup& setup, DirectPlan& plan) {
  const std::size_t run = plan.run(), padded = plan.padded_run();
  const std::int64_t products = op.window.kernel[0] * plan.taps;
  const auto numbers = static_cast<std::size_t>(products * plan.geometry.c_out) * padded;
  plan.weights =
      setup.packed->get(setup.name + "/narrow", numbers * sizeof(float), [&](std::byte* to) {
        const FoldedWeights weights(op, plan.geometry, setup.weights);
        auto* packed = reinterpret_cast<float*>(to);
        std::fill_n(packed, numbers, 0.0f);
        for (std::int64_t product = 0; product < products; ++product) {
          for (std::int64_t o = 0; o < plan.geometry.c_out; ++o, packed += padded) {
            for (std::size_t k = 0; k < run; ++k)
              packed[k] = static_cast<float>(
                  weights.at(o, static_cast<std::int64_t>(k % plan.channels), product / plan.taps,
                             product % plan.taps + static_cast<std::int64_t>(k / plan.channels)));
          }
        }
      });
}

void pack(const Conv& op, const CpuSetup& setup, DirectPlan& plan) {
  if (plan.depthwise) return pack_depthwise(op, setup, plan);
  if (plan.narrow) return pack_narrow(op, setup, plan);
  const bool bf16 = plan.compute == DType::kBF16;
  const std::size_t n = plan.group_outputs(), run = plan.run();
  const std::size_t size =
      bf16 ? gemm_bf16_packed_size(run, n) : HWY_DYNAMIC_DISPATCH(direct_packed_size)(run, n);
  const Window& w = plan.geometry.window;
  const std::int64_t products = w.kernel[0] * plan.taps;
  const std::int64_t matrices = products * static_cast<std::int64_t>(plan.groups);
  const std::size_t bytes = size * static_cast<std::size_t>(matrices) * size_of(plan.compute);
  const std::string key = setup.name + (bf16 ? "/direct bf16" : "/direct f32");
  plan.weights = setup.packed->get(key, bytes, [&](std::byte* to) {
    const FoldedWeights weights(op, plan.geometry, setup.weights);
    const std::int64_t c_in = plan.geometry.c_in / op.groups;
    for (std::int64_t matrix = 0; matrix < matrices; ++matrix) {
      const std::int64_t product = matrix % products;
      const std::size_t first = static_cast<std::size_t>(matrix / products) * n;  // of the group
      const auto at = [&](std::size_t row, std::size_t column) {
        const std::int64_t ky = product / plan.taps;
        const auto kx =
            product % plan.taps + static_cast<std::int64_t>(row / plan.group_channels());
        const auto i = static_cast<std::int64_t>(row % plan.group_channels());
        if (i >= c_in) return 0.0f;
        return static_cast<float>(weights.at(static_cast<std::int64_t>(first + column), i, ky, kx));
      };
      const std::size_t offset = static_cast<std::size_t>(matrix) * size;
      if (bf16) {
        gemm_bf16_pack(run, n, at, reinterpret_cast<std::uint16_t*>(to) + offset);
      } else {
        HWY_DYNAMIC_DISPATCH(direct_pack)(run, n, at, reinterpret_cast<float*>(to) + offset);
      }
    }
  });
}

}  // namespace

Step conv_direct(const Conv& op, const CpuSetup& setup) {
  auto plan = std::make_shared<DirectPlan>();
  plan->geometry = geometry_of(op, setup.inputs);
  plan->epilogue = epilogue_of(op, plan->geometry, setup.weights);
  plan->taps = op.window.dilation[1] > 1 ? op.window.kernel[1] : 1;
  plan->pool = op.pool;
  plan->groups = static_cast<std::size_t>(op.groups);
  plan->depthwise = op.groups > 1 && op.groups == op.c_out && op.groups == plan->geometry.c_in;
  const bool bf16 = op.dtype == DType::kBF16 && op.groups == 1 && gemm_bf16_supported();
  plan->compute = bf16 ? DType::kBF16 : DType::kF32;
  const auto c_in = static_cast<std::size_t>(plan->geometry.c_in);
  plan->channels = bf16 ? c_in + c_in % 2 : c_in;  // AVX512-BF16 multiplies pairs of channels
  plan->narrow = !bf16 && op.groups == 1 && op.c_out <= kMostNarrow && plan->run() >= kNarrowLanes;
  plan->sums = plan->epilogue.bias.size();
  plan->epilogue.bias.resize(plan->sums + 16);  // what a group's last vector reads
  choose_block(*plan, plan->geometry.n, plan->geometry.ho, plan->geometry.wo, setup.threads);
  pack(op, setup, *plan);

  const int threads = setup.threads;
  const auto run = [plan, threads](const Operands& operands, std::byte* scratch) {
    const ConvGeometry& g = plan->geometry;
    for_each_block(
        *plan, g.n, g.ho, g.wo, threads, scratch,
        [&](const Block& block, std::byte* patch, float* sums) {
          gather(g, operands.inputs,
                 {block.n, block.y * g.window.stride[0] - g.top,
                  block.x * g.window.stride[1] - g.left, plan->patch_extent(0, block.rows),
                  plan->patch_extent(1, block.columns), static_cast<std::int64_t>(plan->channels)},
                 plan->compute, patch);
          const DirectTask task{*plan,      block.n,       block.y, block.x,
                                block.rows, block.columns, patch,   sums};
          HWY_DYNAMIC_DISPATCH(direct_block)(task, operands);
        });
  };
  return {(plan->patch_bytes() + plan->sum_bytes()) * static_cast<std::size_t>(threads), run};
}

}  // namespace tessera
#endif  // HWY_ONCE
