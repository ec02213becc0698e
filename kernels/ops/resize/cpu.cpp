// Resize: one task per output row; the loop over the channels is the compiler's to vectorise.
// f32 alone; nearest of any type copies pixels, others in bf16 go to the reference.
// Roofline: memory for nearest and linear.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/resize/resize.h"

namespace tessera {

namespace {

// Row `row` of an output from the image `x` (h, w, c).
void weigh_row(const float* x, std::int64_t w, std::int64_t c, const ResizeTaps& row,
               const std::vector<ResizeTaps>& columns, float* y) {
  for (const ResizeTaps& column : columns) {
    std::fill_n(y, c, 0.0f);
    for (std::size_t a = 0; a < static_cast<std::size_t>(row.count); ++a) {
      for (std::size_t b = 0; b < static_cast<std::size_t>(column.count); ++b) {
        const auto weight = static_cast<float>(row.weight[a] * column.weight[b]);
        const float* pixel = x + (row.index[a] * w + column.index[b]) * c;
        for (std::int64_t k = 0; k < c; ++k) y[k] += weight * pixel[k];
      }
    }
    y += c;
  }
}

}  // namespace

Step cpu(const Resize& op, const CpuSetup& setup) {
  const Shape y = infer(op, setup.inputs)[0].shape;
  const TensorType x = setup.inputs[0];
  const bool copies = op.mode == Resize::Mode::kNearest;
  if (!copies && x.dtype != DType::kF32) return {};
  const Resize fit = sized(op, setup.inputs);
  const std::vector<ResizeTaps> rows = resize_taps(fit, 0, x.shape[1]),
                                columns = resize_taps(fit, 1, x.shape[2]);
  return {0, [=, threads = setup.threads](const Operands& operands, std::byte*) {
            const std::int64_t h = x.shape[1], w = x.shape[2], c = x.shape[3];
            const std::size_t pixel = static_cast<std::size_t>(c) * size_of(x.dtype);
            const auto* from = operands.inputs[0].as<const std::byte>();
            auto* to = operands.outputs[0].as<std::byte>();
            parallel_for(threads, y[0] * y[1], [&](std::int64_t i) {
              const ResizeTaps& row = rows[static_cast<std::size_t>(i % y[1])];
              const std::byte* image = from + static_cast<std::size_t>(i / y[1] * h * w) * pixel;
              std::byte* out = to + static_cast<std::size_t>(i * y[2]) * pixel;
              if (!copies) {
                weigh_row(reinterpret_cast<const float*>(image), w, c, row, columns,
                          reinterpret_cast<float*>(out));
                return;
              }
              for (const ResizeTaps& column : columns) {
                const auto place = static_cast<std::size_t>(row.index[0] * w + column.index[0]);
                std::memcpy(out, image + place * pixel, pixel);
                out += pixel;
              }
            });
          }};
}

}  // namespace tessera
