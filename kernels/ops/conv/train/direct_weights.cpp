// Gradient of a convolution's weights, direct:  dW_ky (c_out, k c_in) += g^T x_ky  over pixels.
//
// A row of a patch holds its pixels side by side, so the k taps of a filter row are k c_in floats
// one behind the other: the product with g takes them as the columns of one matrix whose rows
// overlap, and nothing is unfolded. Bands of rows are gathered with their padding, g with k - 1
// zero pixels behind each row, so that one product runs over a whole band. Bands are dealt to
// kSlots sums, whose number depends on shapes alone; the slots are the tasks of the threads and are
// added in order.
// Roofline: arithmetic from about 16 channels on.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/conv/train/direct_weights.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/gemm_transposed-inl.h"
#include "kernels/ops/conv/patch.h"
#include "kernels/ops/conv/train/backward.h"

#ifndef TESSERA_KERNELS_CONV_DIRECT_WEIGHTS_ONCE
#define TESSERA_KERNELS_CONV_DIRECT_WEIGHTS_ONCE
namespace tessera {
namespace {

struct DirectWeightsPlan {
  ConvGeometry geometry;
  std::int64_t kernel = 3;
  std::int64_t rows = 0;   // output rows of a band
  std::int64_t bands = 0;  // of all images
  std::int64_t slots = 0;

  std::int64_t pitch() const { return geometry.wo + kernel - 1; }  // pixels of a row
  std::int64_t patch_floats(std::int64_t band_rows) const {
    return (band_rows + kernel - 1) * pitch() * geometry.c_in;
  }
  std::int64_t gradient_floats(std::int64_t band_rows) const {
    return kernel == 1 ? 0 : band_rows * pitch() * geometry.c_out;
  }
  std::int64_t weights() const { return geometry.c_out * geometry.c_in * kernel * kernel; }
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// sums (k, c_out, k, c_in) += products of one band.
void multiply_band(const DirectWeightsPlan& plan, const float* patch, const float* gradient,
                   std::int64_t rows, float* sums) {
  const auto kernel = static_cast<std::size_t>(plan.kernel);
  const auto c_in = static_cast<std::size_t>(plan.geometry.c_in);
  const auto c_out = static_cast<std::size_t>(plan.geometry.c_out);
  const auto pitch = static_cast<std::size_t>(plan.pitch());
  const std::size_t pixels = static_cast<std::size_t>(rows) * pitch - (kernel - 1);
  for (std::size_t ky = 0; ky < kernel; ++ky)
    gemm_transposed({gradient, c_out}, {patch + ky * pitch * c_in, c_in}, pixels, c_out,
                    kernel * c_in, sums + ky * c_out * kernel * c_in, kernel * c_in);
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cstring>

#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(multiply_band);

namespace {

constexpr std::int64_t kSlots = 16;
constexpr std::int64_t kMostSlotFloats = (16 << 20) / sizeof(float);  // of all slots together
constexpr std::int64_t kBandFloats = (256 << 10) / sizeof(float);     // a quarter of L2

// g of a band with zeros behind each row.
void pad_rows(const DirectWeightsPlan& plan, const float* gradient, std::int64_t rows, float* to) {
  const std::int64_t width = plan.geometry.wo * plan.geometry.c_out;
  const std::int64_t gap = (plan.kernel - 1) * plan.geometry.c_out;
  for (std::int64_t row = 0; row < rows; ++row) {
    std::memcpy(to, gradient + row * width, static_cast<std::size_t>(width) * sizeof(float));
    std::fill_n(to + width, gap, 0.0f);
    to += width + gap;
  }
}

void run_slot(const DirectWeightsPlan& plan, const TensorView& x, const float* gradient,
              std::int64_t slot, float* sums, float* patch) {
  const ConvGeometry& g = plan.geometry;
  const std::int64_t per_image = plan.bands / g.n;
  float* padded = patch + plan.patch_floats(plan.rows);
  std::fill_n(sums, plan.weights(), 0.0f);
  for (std::int64_t band = slot; band < plan.bands; band += plan.slots) {
    const std::int64_t n = band / per_image, y = band % per_image * plan.rows;
    const std::int64_t rows = std::min(plan.rows, g.ho - y);
    gather(g, {&x, 1}, {n, y - g.top, -g.left, rows + plan.kernel - 1, plan.pitch(), g.c_in},
           DType::kF32, patch);
    const float* band_gradient = gradient + (n * g.ho + y) * g.wo * g.c_out;
    if (plan.kernel > 1) {
      pad_rows(plan, band_gradient, rows, padded);
      band_gradient = padded;
    }
    HWY_DYNAMIC_DISPATCH(multiply_band)(plan, patch, band_gradient, rows, sums);
  }
}

}  // namespace

ConvWeightGradient conv_direct_weight_gradient(const Conv& op, const ConvGeometry& geometry,
                                               int threads) {
  DirectWeightsPlan plan{.geometry = geometry, .kernel = op.window.kernel[0]};
  const std::int64_t row = plan.pitch() * (geometry.c_in + geometry.c_out);
  plan.rows = std::clamp<std::int64_t>(kBandFloats / row, 1, geometry.ho);
  plan.bands = geometry.n * ((geometry.ho + plan.rows - 1) / plan.rows);
  plan.slots =
      std::min({kSlots, plan.bands, std::max<std::int64_t>(1, kMostSlotFloats / plan.weights())});
  const std::int64_t per_thread = plan.patch_floats(plan.rows) + plan.gradient_floats(plan.rows);
  const std::int64_t floats = plan.slots * plan.weights() + threads * per_thread;
  const auto run = [plan, threads, per_thread](const TensorView& x, const float* gradient,
                                               float* dw, std::byte* scratch) {
    auto* sums = reinterpret_cast<float*>(scratch);
    float* patches = sums + plan.slots * plan.weights();
    parallel_for(threads, plan.slots, [&](std::int64_t slot, int thread) {
      run_slot(plan, x, gradient, slot, sums + slot * plan.weights(),
               patches + thread * per_thread);
    });
    const std::int64_t k = plan.kernel, c_in = plan.geometry.c_in, c_out = plan.geometry.c_out;
    parallel_for(threads, c_out, [&](std::int64_t o) {
      for (std::int64_t tap = 0; tap < k * k; ++tap) {
        const float* from = sums + ((tap / k * c_out + o) * k + tap % k) * c_in;
        for (std::int64_t i = 0; i < c_in; ++i) {
          float sum = from[i];
          for (std::int64_t slot = 1; slot < plan.slots; ++slot)
            sum += from[slot * plan.weights() + i];
          dw[(o * c_in + i) * k * k + tap] += sum;
        }
      }
    });
  };
  return {static_cast<std::size_t>(floats) * sizeof(float), run};
}

}  // namespace tessera
#endif  // HWY_ONCE
