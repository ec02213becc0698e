// One task for each image and block of channels, which the compiler's vectors run over. Memory
// binds.
#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/ops/resize/train/backward.h"

namespace tessera {

namespace {

constexpr std::int64_t kResizeBlock = 64;  // channels of a task

// Adds dy of image n's channels [first, first + count) to `dx` (h, w, `pitch`), T float or double.
template <class T>
void scatter_resized(const std::vector<ResizeTaps>& rows, const std::vector<ResizeTaps>& columns,
                     const float* dy, std::int64_t c, std::int64_t count, std::int64_t w,
                     std::int64_t pitch, T* dx) {
  for (std::size_t y = 0; y < rows.size(); ++y) {
    for (std::size_t x = 0; x < columns.size(); ++x, dy += c) {
      for (int i = 0; i < rows[y].count; ++i) {
        for (int j = 0; j < columns[x].count; ++j) {
          const auto a = static_cast<std::size_t>(i), b = static_cast<std::size_t>(j);
          const auto weight = static_cast<T>(rows[y].weight[a] * columns[x].weight[b]);
          T* to = dx + (rows[y].index[a] * w + columns[x].index[b]) * pitch;
          for (std::int64_t k = 0; k < count; ++k) to[k] += weight * dy[k];
        }
      }
    }
  }
}

void clear_size_map(const BackwardOperands& operands) {
  if (const TensorView* dx = wanted(operands.input_gradients, 1))
    std::fill_n(dx->as<float>(), dx->shape().elements(), 0.0f);
}

}  // namespace

Saved saved_for_backward(const Resize& op, Types inputs) {
  infer(op, inputs);
  return {.inputs = std::vector<bool>(inputs.size()), .outputs = {false}, .extra = {}};
}

void backward_reference(const Resize& op, const BackwardOperands& operands) {
  clear_size_map(operands);
  const TensorView* dx = wanted(operands.input_gradients, 0);
  if (dx == nullptr) return;
  std::vector<TensorType> types;
  for (const TensorView& input : operands.inputs) types.push_back(input.type);
  const Resize whole = sized(op, types);
  const Shape &x = dx->shape(), &y = operands.output_gradients[0].shape();
  const auto rows = resize_taps(whole, 0, x[1]), columns = resize_taps(whole, 1, x[2]);
  const std::int64_t image = x[1] * x[2] * x[3];
  for (std::int64_t n = 0; n < x[0]; ++n) {
    std::vector<double> sums(static_cast<std::size_t>(image));
    scatter_resized(rows, columns,
                    operands.output_gradients[0].as<float>() + n * y[1] * y[2] * y[3], x[3], x[3],
                    x[2], x[3], sums.data());
    std::copy(sums.begin(), sums.end(), dx->as<float>() + n * image);
  }
}

BackwardStep cpu_backward(const Resize& op, const CpuSetup& setup) {
  const Shape x = setup.inputs[0].shape, y = infer(op, setup.inputs)[0].shape;
  const Resize whole = sized(op, setup.inputs);
  const auto run = [=, rows = resize_taps(whole, 0, x[1]), columns = resize_taps(whole, 1, x[2]),
                    threads = setup.threads](const BackwardOperands& operands, std::byte*) {
    clear_size_map(operands);
    const TensorView* gradient = wanted(operands.input_gradients, 0);
    if (gradient == nullptr) return;
    const std::int64_t c = x[3], blocks = (c + kResizeBlock - 1) / kResizeBlock;
    parallel_for(threads, x[0] * blocks, [&](std::int64_t task) {
      const std::int64_t n = task / blocks, first = task % blocks * kResizeBlock;
      const std::int64_t count = std::min(kResizeBlock, c - first);
      float* dx = gradient->as<float>() + n * x[1] * x[2] * c + first;
      for (std::int64_t pixel = 0; pixel < x[1] * x[2]; ++pixel)
        std::fill_n(dx + pixel * c, count, 0.0f);
      scatter_resized(rows, columns,
                      operands.output_gradients[0].as<float>() + n * y[1] * y[2] * c + first, c,
                      count, x[2], c, dx);
    });
  };
  return {0, run};
}

}  // namespace tessera
