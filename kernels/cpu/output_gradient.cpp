// One pass over memory: reads dy (and y), writes the masked gradient if there is a ReLU, and leaves
// the sums of each block of rows for an addition in order. Memory binds.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/output_gradient.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/gemm_transposed-inl.h"
#include "kernels/cpu/output_gradient.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

void mask_elements(const float* gradient, const float* y, std::size_t count, float* masked) {
  std::size_t i = 0;
  const auto mask = [](FloatVector dy, FloatVector out) HWY_ATTR {
    const FloatVector zero = hn::Zero(FloatTag());
    return hn::IfThenElse(hn::Le(out, zero), zero, dy);
  };
  for (; i + kFloatLanes <= count; i += kFloatLanes)
    store(mask(load(gradient + i), load(y + i)), masked + i);
  if (const std::size_t rest = count - i; rest > 0)
    store_first(mask(load_first(gradient + i, rest), load_first(y + i, rest)), masked + i, rest);
}

void sum_rows(const float* x, std::size_t rows, std::size_t channels, float* sums) {
  std::fill_n(sums, channels, 0.0f);
  add_rows({x, channels}, rows, channels, sums);
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/pieces.h"
#include "kernels/train/backward.h"

namespace tessera {

HWY_EXPORT(mask_elements);
HWY_EXPORT(sum_rows);

namespace {
constexpr std::int64_t kBlockRows = 256;  // at least
constexpr std::int64_t kMostBlocks = 256;
constexpr std::size_t kLineBytes = 64;

std::size_t whole_lines(std::int64_t floats) {
  const std::size_t bytes = static_cast<std::size_t>(floats) * sizeof(float);
  return (bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
}
}  // namespace

OutputGradient::OutputGradient(std::int64_t rows, std::int64_t channels, bool relu, int threads)
    : rows_(rows),
      channels_(channels),
      block_(std::max(kBlockRows, (rows + kMostBlocks - 1) / kMostBlocks)),
      blocks_((rows + block_ - 1) / block_),
      relu_(relu),
      threads_(threads) {}

std::size_t OutputGradient::scratch_bytes() const {
  return whole_lines(blocks_ * channels_) + (relu_ ? whole_lines(rows_ * channels_) : 0);
}

const float* OutputGradient::run(const float* gradient, const float* y, float* bias_gradient,
                                 std::byte* scratch) const {
  auto* sums = reinterpret_cast<float*>(scratch);
  auto* masked = reinterpret_cast<float*>(scratch + whole_lines(blocks_ * channels_));
  const float* result = relu_ ? masked : gradient;
  if (!relu_ && bias_gradient == nullptr) return result;
  const auto channels = static_cast<std::size_t>(channels_);
  parallel_for(threads_, blocks_, [&](std::int64_t block) {
    const std::int64_t first = block * block_ * channels_;
    const auto rows = static_cast<std::size_t>(std::min(block_, rows_ - block * block_));
    if (relu_) {
      HWY_DYNAMIC_DISPATCH(mask_elements)
      (gradient + first, y + first, rows * channels, masked + first);
    }
    if (bias_gradient != nullptr) {
      HWY_DYNAMIC_DISPATCH(sum_rows)
      (result + first, rows, channels, sums + block * channels_);
    }
  });
  for (std::int64_t c = 0; bias_gradient != nullptr && c < channels_; ++c) {
    double sum = 0;
    for (std::int64_t block = 0; block < blocks_; ++block) sum += sums[block * channels_ + c];
    bias_gradient[c] = static_cast<float>(bias_gradient[c] + sum);
  }
  return result;
}

void add_gradients(const TensorView& sum, const TensorView& term, int threads) {
  auto* to = sum.as<float>();
  const auto* from = term.as<float>();
  for_each_piece(threads, sum.shape().elements(), [=](std::int64_t first, std::int64_t end) {
    for (std::int64_t i = first; i < end; ++i) to[i] += from[i];
  });
}

}  // namespace tessera
#endif  // HWY_ONCE
