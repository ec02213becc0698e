// Backward of CropConcat: one task per row of each source's gradient copies its channels out of dy.
// Memory binds.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/ops/crop_concat/train/backward.h"

namespace tessera {

namespace {

// Row `row` of image `n` of a source's gradient; its channels begin at `channel` of dy.
void copy_row(const TensorView& dy, const ConcatSource& source, std::int64_t channel,
              std::int64_t n, std::int64_t row, const TensorView& dx) {
  const std::int64_t h = dx.shape()[1], w = dx.shape()[2], c = dx.shape()[3];
  const std::int64_t joined = dy.shape()[3], y = row - source.dy;
  float* to = dx.as<float>() + (n * h + row) * w * c;
  if (y < 0 || y >= dy.shape()[1]) {
    std::fill_n(to, w * c, 0.0f);
    return;
  }
  const std::int64_t begin = std::clamp<std::int64_t>(source.dx, 0, w);
  const std::int64_t end = std::clamp<std::int64_t>(dy.shape()[2] + source.dx, begin, w);
  std::fill_n(to, begin * c, 0.0f);
  std::fill_n(to + end * c, (w - end) * c, 0.0f);
  const float* from = dy.as<float>() +
                      ((n * dy.shape()[1] + y) * dy.shape()[2] + begin - source.dx) * joined +
                      channel;
  for (std::int64_t column = begin; column < end; ++column, from += joined)
    std::memcpy(to + column * c, from, static_cast<std::size_t>(c) * sizeof(float));
}

}  // namespace

Saved saved_for_backward(const CropConcat&, Types) {
  return {.inputs = {false, false}, .outputs = {false}, .extra = {}};
}

BackwardStep cpu_backward(const CropConcat& op, const CpuSetup& setup) {
  const std::array<ConcatSource, 2> sources = concat_sources(op, setup.inputs);
  const auto run = [sources, threads = setup.threads](const BackwardOperands& operands,
                                                      std::byte*) {
    std::int64_t channel = 0;
    for (const ConcatSource& source : sources) {
      const Shape& shape = operands.inputs[source.input].shape();
      if (const TensorView* dx = wanted(operands.input_gradients, source.input)) {
        parallel_for(threads, shape[0] * shape[1], [&](std::int64_t index) {
          copy_row(operands.output_gradients[0], source, channel, index / shape[1],
                   index % shape[1], *dx);
        });
      }
      channel += shape[3];
    }
  };
  return {0, run};
}

}  // namespace tessera
