// One task for each image and block of channels, which the compiler's vectors run over. Memory
// binds.
#include "kernels/ops/avg_pool/train/backward.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/pool.h"

namespace tessera {

namespace {

// Adds image n's part of dy, its channels [first, first + count), to `dx` (h, w, `pitch`), T float
// or double.
template <class T>
void spread_means(const AvgPool& op, const Shape& x, const TensorView& dy, std::int64_t n,
                  std::int64_t first, std::int64_t count, std::int64_t pitch, T* dx) {
  const Shape& y = dy.shape();
  for (std::int64_t i = 0; i < y[1]; ++i) {
    const PoolTaps rows = pool_taps(op.window, 0, i, x[1]);
    for (std::int64_t j = 0; j < y[2]; ++j) {
      const PoolTaps columns = pool_taps(op.window, 1, j, x[2]);
      const std::int64_t pixels = op.count_include_pad
                                      ? rows.padded * columns.padded
                                      : (rows.end - rows.first) * (columns.end - columns.first);
      const T share = 1 / static_cast<T>(std::max<std::int64_t>(pixels, 1));
      const float* from = dy.as<float>() + ((n * y[1] + i) * y[2] + j) * y[3] + first;
      for (std::int64_t ky = rows.first; ky < rows.end; ++ky) {
        const std::int64_t row = rows.start + ky * op.window.dilation[0];
        for (std::int64_t kx = columns.first; kx < columns.end; ++kx) {
          T* to = dx + (row * x[2] + columns.start + kx * op.window.dilation[1]) * pitch;
          for (std::int64_t k = 0; k < count; ++k) to[k] += share * from[k];
        }
      }
    }
  }
}

}  // namespace

Saved saved_for_backward(const AvgPool& op, Types inputs) {
  infer(op, inputs);
  return {.inputs = {false}, .outputs = {false}, .extra = {}};
}

void backward_reference(const AvgPool& op, const BackwardOperands& operands) {
  const TensorView* dx = wanted(operands.input_gradients, 0);
  if (dx == nullptr) return;
  const Shape& x = dx->shape();
  const std::int64_t image = x.elements(1, 4);
  for (std::int64_t n = 0; n < x[0]; ++n) {
    std::vector<double> sums(static_cast<std::size_t>(image));
    spread_means(op, x, operands.output_gradients[0], n, 0, x[3], x[3], sums.data());
    std::transform(sums.begin(), sums.end(), dx->as<float>() + n * image,
                   [](double sum) { return static_cast<float>(sum); });
  }
}

BackwardStep cpu_backward(const AvgPool& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  const auto run = [op, x = setup.inputs[0].shape, threads = setup.threads](
                       const BackwardOperands& operands, std::byte*) {
    constexpr std::int64_t kBlock = 64;  // channels
    const TensorView* gradient = wanted(operands.input_gradients, 0);
    if (gradient == nullptr) return;
    const std::int64_t c = x[3], blocks = (c + kBlock - 1) / kBlock, pixels = x[1] * x[2];
    parallel_for(threads, x[0] * blocks, [&](std::int64_t task) {
      const std::int64_t n = task / blocks, first = task % blocks * kBlock;
      const std::int64_t count = std::min(kBlock, c - first);
      float* dx = gradient->as<float>() + n * pixels * c + first;
      for (std::int64_t pixel = 0; pixel < pixels; ++pixel)
        std::fill_n(dx + pixel * c, count, 0.0f);
      spread_means(op, x, operands.output_gradients[0], n, first, count, c, dx);
    });
  };
  return {0, run};
}

}  // namespace tessera
