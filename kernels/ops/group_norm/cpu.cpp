// Group normalisation in two passes over x.
//
// The first sums x and x^2 per channel in double, for pieces of pixels whose size depends on the
// shape alone; the pieces are added in order, so the number of threads changes no byte. In double,
// var = E x^2 - mean^2 keeps 8 digits as long as |mean| < 3000 deviations. The second pass makes
// y = (x - mean) scale + beta: subtracting first keeps what a large mean would round away. It also
// adds a residual and activates.
// Layout: (n, pixels, c); vectors run over the channels, f32 or bf16.
// Roofline: memory, x read twice and y written once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/group_norm/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/paths.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/ops/activation/epilogue-inl.h"
#include "kernels/ops/group_norm/group_norm.h"
#include "kernels/tensor.h"

#ifndef TESSERA_KERNELS_GROUP_NORM_ONCE
#define TESSERA_KERNELS_GROUP_NORM_ONCE
namespace tessera {
namespace {

// Some pixels of one image. Vectors hold c floats, rounded up to whole SIMD vectors.
struct NormTask {
  std::size_t first = 0, pixels = 0;  // of all images
  const float *mean = nullptr, *scale = nullptr, *shift = nullptr, *slopes = nullptr;
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

using DoubleTag = hn::ScalableTag<double>;
using HalfTag = hn::Rebind<float, DoubleTag>;

// sums += x and squares += x^2 of one vector of channels.
HWY_INLINE void add_moments(FloatVector x, double* sums, double* squares) {
  const DoubleTag d;
  const HalfTag half;
  float values[kFloatLanes];  // the scalar target has no halves of vectors
  store(x, values);
  for (std::size_t k = 0; k < kFloatLanes; k += hn::Lanes(d)) {
    const auto wide = hn::PromoteTo(d, hn::LoadU(half, values + k));
    hn::StoreU(hn::Add(hn::LoadU(d, sums + k), wide), d, sums + k);
    hn::StoreU(hn::MulAdd(wide, wide, hn::LoadU(d, squares + k)), d, squares + k);
  }
}

template <class T>
void sum_typed(const T* x, std::size_t pixels, std::size_t c, double* sums, double* squares) {
  for (std::size_t pixel = 0; pixel < pixels; ++pixel, x += c) {
    std::size_t k = 0;
    for (; k + kFloatLanes <= c; k += kFloatLanes) add_moments(load(x + k), sums + k, squares + k);
    if (k < c) add_moments(load_first(x + k, c - k), sums + k, squares + k);
  }
}

template <class T>
void normalise_typed(const Epilogue& epilogue, const NormTask& task, const Operands& operands) {
  const auto c = static_cast<std::size_t>(operands.inputs[0].shape()[-1]);
  const auto by = [&](const auto& activate) HWY_ATTR {
    const T* x = operands.inputs[0].as<T>() + task.first * c;
    const T* residual = epilogue.residual ? operands.inputs[1].as<T>() + task.first * c : nullptr;
    T* y = operands.outputs[0].as<T>() + task.first * c;
    for (std::size_t pixel = 0; pixel < task.pixels; ++pixel, x += c, y += c) {
      map(x, c, y, [&](std::size_t k, FloatVector v) HWY_ATTR {
        v = hn::MulAdd(hn::Sub(v, load(task.mean + k)), load(task.scale + k), load(task.shift + k));
        if (residual != nullptr) v = add_residual(v, residual, k, c);
        return activate(task.slopes + k, v);
      });
      if (residual != nullptr) residual += c;
    }
  };
  if (epilogue.activation) {
    with_activation(*epilogue.activation, by);
  } else {
    by([](const float*, FloatVector v) HWY_ATTR { return v; });
  }
}

// Pixels [first, first + pixels) of all images. `sums` and `squares` hold c doubles, rounded up to
// whole vectors, and are added to.
void moments(const TensorView& x, std::size_t first, std::size_t pixels, double* sums,
             double* squares) {
  const auto c = static_cast<std::size_t>(x.shape()[-1]);
  if (x.type.dtype == DType::kBF16) {
    sum_typed(x.as<hwy::bfloat16_t>() + first * c, pixels, c, sums, squares);
  } else {
    sum_typed(x.as<float>() + first * c, pixels, c, sums, squares);
  }
}

void normalise(const Epilogue& epilogue, const NormTask& task, const Operands& operands) {
  if (operands.inputs[0].type.dtype == DType::kBF16) {
    normalise_typed<hwy::bfloat16_t>(epilogue, task, operands);
  } else {
    normalise_typed<float>(epilogue, task, operands);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"
#include "kernels/ops/activation/slopes.h"

namespace tessera {

HWY_EXPORT(moments);
HWY_EXPORT(normalise);

namespace {

struct GroupNormPlan {
  std::size_t n = 0, pixels = 0, c = 0, groups = 0;
  double eps = 0;
  std::vector<float> gamma, beta;  // (c)
  std::vector<float> slopes;       // (c) of the epilogue's activation
  std::size_t piece = 0;           // pixels
  std::size_t padded = 0;          // c, rounded up to vectors

  std::size_t pieces() const { return (pixels + piece - 1) / piece; }  // of an image
  std::size_t moment_count() const { return n * pieces() * 2 * padded; }
  std::size_t scratch_bytes() const {
    return moment_count() * sizeof(double) + n * 3 * padded * sizeof(float);
  }
};

// Mean, scale and shift (3, padded) of one image from the sums (pieces, 2, padded) of its channels.
void finish(const GroupNormPlan& plan, const double* partial, float* affine) {
  const std::size_t width = plan.c / plan.groups;
  const auto count = static_cast<double>(plan.pixels * width);
  std::fill_n(affine, 3 * plan.padded, 0.0f);
  for (std::size_t first = 0; first < plan.c; first += width) {
    double sum = 0, squares = 0;
    for (std::size_t piece = 0; piece < plan.pieces(); ++piece) {
      const double* row = partial + piece * 2 * plan.padded;
      for (std::size_t k = first; k < first + width; ++k) {
        sum += row[k];
        squares += row[plan.padded + k];
      }
    }
    const double mean = sum / count;
    double variance = squares / count - mean * mean;
    if (variance < 0) variance = 0;  // by rounding; NaN stays
    const double scale = 1 / std::sqrt(variance + plan.eps);
    for (std::size_t k = first; k < first + width; ++k) {
      affine[k] = static_cast<float>(mean);
      affine[plan.padded + k] = static_cast<float>(scale * plan.gamma[k]);
      affine[2 * plan.padded + k] = plan.beta[k];
    }
  }
}

}  // namespace

Step cpu(const GroupNorm& op, const CpuSetup& setup) {
  const Shape x = infer(op, setup.inputs)[0].shape;
  GroupNormPlan plan;
  plan.n = static_cast<std::size_t>(x[0]), plan.c = static_cast<std::size_t>(x[-1]);
  plan.pixels = static_cast<std::size_t>(x.elements(1, x.rank() - 1));
  plan.groups = op.groups == 0 ? plan.c : static_cast<std::size_t>(op.groups);
  plan.eps = op.eps;
  plan.gamma = op.affine ? to_f32(setup.weights[0]) : std::vector<float>(plan.c, 1.0f);
  plan.beta = op.affine ? to_f32(setup.weights[1]) : std::vector<float>(plan.c, 0.0f);
  constexpr std::size_t kMaxLanes = 16;     // of any target
  constexpr std::size_t kPiece = 1u << 15;  // elements of a piece, about
  plan.padded = (plan.c + kMaxLanes - 1) / kMaxLanes * kMaxLanes;
  plan.piece = std::max<std::size_t>(1, kPiece / plan.c);
  const TensorView* last = setup.weights.empty() ? nullptr : &setup.weights.back();
  plan.slopes = op.epilogue.activation ? slopes_of(*op.epilogue.activation, last, plan.c)
                                       : std::vector<float>(plan.padded);

  const auto run = [plan, epilogue = op.epilogue, threads = setup.threads](const Operands& operands,
                                                                           std::byte* scratch) {
    auto* partial = reinterpret_cast<double*>(scratch);
    auto* affine = reinterpret_cast<float*>(partial + plan.moment_count());
    const auto for_each = [&](const auto& body) {  // body(image, piece, first pixel, pixels)
      const auto pieces = static_cast<std::int64_t>(plan.n * plan.pieces());
      parallel_for(threads, pieces, [&](std::int64_t task) {
        const std::size_t image = static_cast<std::size_t>(task) / plan.pieces();
        const std::size_t piece = static_cast<std::size_t>(task) % plan.pieces();
        const std::size_t first = piece * plan.piece;
        body(image, piece, image * plan.pixels + first, std::min(plan.piece, plan.pixels - first));
      });
    };
    const auto sums_of = [&](std::size_t image, std::size_t piece) {
      return partial + (image * plan.pieces() + piece) * 2 * plan.padded;
    };
    for_each([&](std::size_t image, std::size_t piece, std::size_t first, std::size_t pixels) {
      double* sums = sums_of(image, piece);
      std::fill_n(sums, 2 * plan.padded, 0.0);
      HWY_DYNAMIC_DISPATCH(moments)(operands.inputs[0], first, pixels, sums, sums + plan.padded);
    });
    for (std::size_t image = 0; image < plan.n; ++image)
      finish(plan, sums_of(image, 0), affine + image * 3 * plan.padded);
    for_each([&](std::size_t image, std::size_t, std::size_t first, std::size_t pixels) {
      NormTask task{.first = first, .pixels = pixels, .slopes = plan.slopes.data()};
      task.mean = affine + image * 3 * plan.padded;
      task.scale = task.mean + plan.padded, task.shift = task.scale + plan.padded;
      HWY_DYNAMIC_DISPATCH(normalise)(epilogue, task, operands);
    });
  };
  return {plan.scratch_bytes(), run};
}

}  // namespace tessera
#endif  // HWY_ONCE
