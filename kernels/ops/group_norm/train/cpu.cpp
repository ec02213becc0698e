// Backward of GroupNorm in two passes over x and dy.
//
// The first sums x, x^2, dy and dy x per channel in double, for pieces of pixels whose size depends
// on the shape alone and which are added in order, so that the number of threads changes no byte;
// what is subtracted afterwards keeps 8 digits as long as |mean| < 3000 deviations, as in the
// forward pass. The second makes dx = gamma scale dy - offset - (x - mean) slope.
// Layout: (n, pixels, c), f32; vectors run over the channels, and sums stay in registers.
// Roofline: memory, x and dy read twice and dx written once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/group_norm/train/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

using SumTag = hn::ScalableTag<double>;
using AddendTag = hn::Rebind<float, SumTag>;
using SumVector = hn::Vec<SumTag>;

// The sums of x, x^2, dy and dy x of `pixels` rows for Lanes(SumTag) channels, `stride` doubles
// apart.
HWY_INLINE void sum_column(const float* x, const float* dy, std::size_t pixels, std::size_t c,
                           std::size_t stride, double* sums) {
  const SumTag d;
  const AddendTag half;
  SumVector of_x = hn::Zero(d), of_squares = hn::Zero(d), of_dy = hn::Zero(d);
  SumVector of_products = hn::Zero(d);
  for (std::size_t pixel = 0; pixel < pixels; ++pixel, x += c, dy += c) {
    const SumVector value = hn::PromoteTo(d, hn::LoadU(half, x));
    const SumVector gradient = hn::PromoteTo(d, hn::LoadU(half, dy));
    of_x = hn::Add(of_x, value);
    of_squares = hn::MulAdd(value, value, of_squares);
    of_dy = hn::Add(of_dy, gradient);
    of_products = hn::MulAdd(gradient, value, of_products);
  }
  hn::StoreU(of_x, d, sums);
  hn::StoreU(of_squares, d, sums + stride);
  hn::StoreU(of_dy, d, sums + 2 * stride);
  hn::StoreU(of_products, d, sums + 3 * stride);
}

// The sums (4, c) of `pixels` rows.
void gradient_moments(const float* x, const float* dy, std::size_t pixels, std::size_t c,
                      double* sums) {
  std::size_t k = 0;
  for (; k + hn::Lanes(SumTag()) <= c; k += hn::Lanes(SumTag()))
    sum_column(x + k, dy + k, pixels, c, c, sums + k);
  for (; k < c; ++k) {
    double of_x = 0, of_squares = 0, of_dy = 0, of_products = 0;
    for (std::size_t at = k; at < pixels * c; at += c) {
      const double value = x[at], gradient = dy[at];
      of_x += value, of_squares += value * value;
      of_dy += gradient, of_products += gradient * value;
    }
    sums[k] = of_x, sums[c + k] = of_squares;
    sums[2 * c + k] = of_dy, sums[3 * c + k] = of_products;
  }
}

// dx of `pixels` rows; `affine` holds mean, factor, offset and slope: (4, padded).
void group_gradient(const float* x, const float* dy, std::size_t pixels, std::size_t c,
                    const float* affine, std::size_t padded, float* dx) {
  const float *mean = affine, *factor = affine + padded, *offset = affine + 2 * padded;
  const float* slope = affine + 3 * padded;
  for (std::size_t pixel = 0; pixel < pixels; ++pixel, x += c, dy += c, dx += c) {
    map(x, c, dx, [&](std::size_t k, FloatVector v) HWY_ATTR {
      const FloatVector gradient = k + kFloatLanes <= c ? load(dy + k) : load_first(dy + k, c - k);
      const FloatVector off = hn::Sub(v, load(mean + k));
      const FloatVector rest = hn::MulAdd(off, load(slope + k), load(offset + k));
      return hn::MulSub(gradient, load(factor + k), rest);
    });
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/ops/group_norm/train/backward.h"

namespace tessera {

HWY_EXPORT(gradient_moments);
HWY_EXPORT(group_gradient);

namespace {

struct GroupGradientPlan {
  static constexpr std::size_t kSumsOfChannel = 4, kMostLanes = 16;
  static constexpr std::size_t kPiece = 1u << 15;  // elements of a piece, about

  std::size_t n, pixels, c, groups;
  std::size_t padded;  // c, rounded up to vectors
  std::size_t piece;   // pixels
  double eps;
  bool affine;
  int threads;

  GroupGradientPlan(const GroupNorm& op, const CpuSetup& setup)
      : n(static_cast<std::size_t>(setup.inputs[0].shape[0])),
        pixels(static_cast<std::size_t>(
            setup.inputs[0].shape.elements(1, setup.inputs[0].shape.rank() - 1))),
        c(static_cast<std::size_t>(setup.inputs[0].shape[-1])),
        groups(op.groups == 0 ? c : static_cast<std::size_t>(op.groups)),
        padded((c + kMostLanes - 1) / kMostLanes * kMostLanes),
        piece(std::max<std::size_t>(1, kPiece / c)),
        eps(op.eps),
        affine(op.affine),
        threads(setup.threads) {}

  std::size_t pieces() const { return (pixels + piece - 1) / piece; }  // of an image
  std::size_t sum_count() const { return n * pieces() * kSumsOfChannel * c; }
  std::size_t scratch_bytes() const {
    return sum_count() * sizeof(double) + n * kSumsOfChannel * padded * sizeof(float);
  }
  // Calls body(image, piece, first pixel of all images, pixels).
  template <class Body>
  void for_each(const Body& body) const {
    parallel_for(threads, static_cast<std::int64_t>(n * pieces()), [&](std::int64_t task) {
      const std::size_t image = static_cast<std::size_t>(task) / pieces();
      const std::size_t at = static_cast<std::size_t>(task) % pieces();
      body(image, at, image * pixels + at * piece, std::min(piece, pixels - at * piece));
    });
  }
};

// Adds the pieces (pieces, 4, c) of an image into the first one, and makes mean, factor, offset and
// slope (4, padded) of them, and what the image adds to dgamma and dbeta (c), which may be null.
void finish_gradient(const GroupGradientPlan& plan, const float* gamma, double* sums, float* affine,
                     double* dgamma, double* dbeta) {
  const std::size_t c = plan.c, width = c / plan.groups, row = plan.kSumsOfChannel * c;
  for (std::size_t piece = 1; piece < plan.pieces(); ++piece)
    for (std::size_t i = 0; i < row; ++i) sums[i] += sums[piece * row + i];
  const double *of_x = sums, *of_squares = sums + c, *of_dy = sums + 2 * c;
  const double* of_products = sums + 3 * c;
  const auto count = static_cast<double>(plan.pixels * width);
  std::fill_n(affine, plan.kSumsOfChannel * plan.padded, 0.0f);
  for (std::size_t first = 0; first < c; first += width) {
    double mean = 0, squares = 0;
    for (std::size_t k = first; k < first + width; ++k) mean += of_x[k], squares += of_squares[k];
    mean /= count;
    double variance = squares / count - mean * mean;
    if (variance < 0) variance = 0;  // by rounding; NaN stays
    const double scale = 1 / std::sqrt(variance + plan.eps);
    double of_g = 0, of_gz = 0;  // means over the group
    for (std::size_t k = first; k < first + width; ++k) {
      const double factor = gamma == nullptr ? 1 : gamma[k];
      const double product = (of_products[k] - mean * of_dy[k]) * scale;  // of dy z
      of_g += factor * of_dy[k] / count;
      of_gz += factor * product / count;
      dgamma[k] += product;
      dbeta[k] += of_dy[k];
    }
    for (std::size_t k = first; k < first + width; ++k) {
      affine[k] = static_cast<float>(mean);
      affine[plan.padded + k] = static_cast<float>(scale * (gamma == nullptr ? 1 : gamma[k]));
      affine[2 * plan.padded + k] = static_cast<float>(scale * of_g);
      affine[3 * plan.padded + k] = static_cast<float>(scale * scale * of_gz);
    }
  }
}

void add_to(const TensorView* gradient, const std::vector<double>& sums) {
  if (gradient == nullptr) return;
  for (std::size_t k = 0; k < sums.size(); ++k)
    gradient->as<float>()[k] += static_cast<float>(sums[k]);
}

}  // namespace

BackwardStep cpu_backward(const GroupNorm& op, const CpuSetup& setup) {
  const GroupGradientPlan plan(op, setup);
  const auto run = [plan](const BackwardOperands& operands, std::byte* scratch) {
    auto* sums = reinterpret_cast<double*>(scratch);
    auto* affine = reinterpret_cast<float*>(sums + plan.sum_count());
    const std::size_t row = plan.kSumsOfChannel * plan.c;
    const auto* x = operands.inputs[0].as<const float>();
    const auto* dy = operands.output_gradients[0].as<const float>();
    const float* gamma = plan.affine ? operands.weights[0].as<const float>() : nullptr;
    plan.for_each([&](std::size_t image, std::size_t at, std::size_t first, std::size_t pixels) {
      HWY_DYNAMIC_DISPATCH(gradient_moments)
      (x + first * plan.c, dy + first * plan.c, pixels, plan.c,
       sums + (image * plan.pieces() + at) * row);
    });
    std::vector<double> scales(plan.c), shifts(plan.c);
    for (std::size_t image = 0; image < plan.n; ++image)
      finish_gradient(plan, gamma, sums + image * plan.pieces() * row,
                      affine + image * plan.kSumsOfChannel * plan.padded, scales.data(),
                      shifts.data());
    if (plan.affine) {
      add_to(wanted(operands.weight_gradients, 0), scales);
      add_to(wanted(operands.weight_gradients, 1), shifts);
    }
    const TensorView* dx = wanted(operands.input_gradients, 0);
    if (dx == nullptr) return;
    plan.for_each([&](std::size_t image, std::size_t, std::size_t first, std::size_t pixels) {
      HWY_DYNAMIC_DISPATCH(group_gradient)
      (x + first * plan.c, dy + first * plan.c, pixels, plan.c,
       affine + image * plan.kSumsOfChannel * plan.padded, plan.padded,
       dx->as<float>() + first * plan.c);
    });
  };
  return {plan.scratch_bytes(), run};
}

}  // namespace tessera
#endif  // HWY_ONCE
