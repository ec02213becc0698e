// Bilinear 2x up-sampling: each output is three interpolations a + t (b - a) between four pixels.
//
// Layout: (n, h, w, c). One task per output row; where and with which weight each row and column
// reads is tabulated once per shape, in exact integer arithmetic; vectors run over the channels.
// Roofline: memory; 9 operations for every 1.25 elements moved. The four loads of an output come
// from L1 or L2, since neighbours share them.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/upsample/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/paths.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/tensor.h"

#ifndef TESSERA_KERNELS_UPSAMPLE_CPU_ONCE
#define TESSERA_KERNELS_UPSAMPLE_CPU_ONCE
namespace tessera {
namespace {

// One output along an axis: first + weight (second - first).
struct Sample {
  std::int64_t first, second;
  float weight;
};

struct SampleTables {
  std::vector<Sample> rows;     // of y
  std::vector<Sample> columns;  // of y
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

HWY_INLINE FloatVector interpolate(FloatVector a, FloatVector b, FloatVector t) {
  return hn::MulAdd(t, hn::Sub(b, a), a);
}

template <class T>
void upsample_pixels(const T* top, const T* bottom, float weight,
                     const std::vector<Sample>& columns, std::size_t c, T* y) {
  const FloatVector down = hn::Set(FloatTag(), weight);
  for (const Sample& column : columns) {
    const FloatVector right = hn::Set(FloatTag(), column.weight);
    const std::size_t a = static_cast<std::size_t>(column.first) * c;
    const std::size_t b = static_cast<std::size_t>(column.second) * c;
    std::size_t k = 0;
    for (; k + kFloatLanes <= c; k += kFloatLanes) {
      const FloatVector left_value = interpolate(load(top + a + k), load(bottom + a + k), down);
      const FloatVector right_value = interpolate(load(top + b + k), load(bottom + b + k), down);
      store(interpolate(left_value, right_value, right), y + k);
    }
    if (const std::size_t rest = c - k; rest > 0) {
      const FloatVector left_value =
          interpolate(load_first(top + a + k, rest), load_first(bottom + a + k, rest), down);
      const FloatVector right_value =
          interpolate(load_first(top + b + k, rest), load_first(bottom + b + k, rest), down);
      store_first(interpolate(left_value, right_value, right), y + k, rest);
    }
    y += c;
  }
}

template <class T>
void upsample_typed(const TensorView& x, const TensorView& y, const SampleTables& tables,
                    std::int64_t index) {
  const std::int64_t h = x.shape()[1], h_out = y.shape()[1];
  const std::int64_t row = x.shape()[2] * x.shape()[3];
  const Sample& sample = tables.rows[static_cast<std::size_t>(index % h_out)];
  const T* image = x.as<T>() + index / h_out * h * row;
  upsample_pixels(image + sample.first * row, image + sample.second * row, sample.weight,
                  tables.columns, static_cast<std::size_t>(x.shape()[3]),
                  y.as<T>() + index * y.shape()[2] * y.shape()[3]);
}

// Output row `index` of those of all images.
void upsample_row(const TensorView& x, const TensorView& y, const SampleTables& tables,
                  std::int64_t index) {
  if (x.type.dtype == DType::kBF16) {
    upsample_typed<hwy::bfloat16_t>(x, y, tables, index);
  } else {
    upsample_typed<float>(x, y, tables, index);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"
#include "kernels/ops/upsample/upsample.h"

namespace tessera {

HWY_EXPORT(upsample_row);

namespace {

std::vector<Sample> sample_axis(const Upsample& op, std::size_t side, std::int64_t size) {
  const UpsampleAxis axis = upsample_axis(op, side, size);
  std::vector<Sample> samples;
  for (std::int64_t i = axis.first; i < axis.first + axis.size; ++i) {
    const UpsampleSample s = upsample_sample(op, i, axis.whole);
    samples.push_back(
        {s.first - axis.before, s.second - axis.before,
         static_cast<float>(static_cast<double>(s.part) / static_cast<double>(s.over))});
  }
  return samples;
}

}  // namespace

Step cpu(const Upsample& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  const Shape& x = setup.inputs[0].shape;
  const SampleTables tables{sample_axis(op, 0, x[1]), sample_axis(op, 1, x[2])};
  return {0, [tables, threads = setup.threads](const Operands& operands, std::byte*) {
            const TensorView& y = operands.outputs[0];
            parallel_for(threads, y.shape()[0] * y.shape()[1], [&](std::int64_t row) {
              HWY_DYNAMIC_DISPATCH(upsample_row)(operands.inputs[0], y, tables, row);
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
