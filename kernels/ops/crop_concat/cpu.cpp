// Crop-and-concat: every output pixel is the skip map's channels beside the up-sampled map's.
//
// Layout: (n, h, w, c). One task per output row copies one source after the other, pixel by pixel,
// as bytes; what lies outside a source is zero.
// Roofline: memory, nothing is computed. The engine folds it into the convolution that reads it
// where it can; this path is for graphs that do not.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/crop_concat/crop_concat.h"

namespace tessera {

namespace {

// Row `i` of image `n` of one source into its channels of `y`, which are `pixel` bytes apart.
void copy_row(const TensorView& x, const ConcatSource& source, std::int64_t n, std::int64_t i,
              std::int64_t columns, std::byte* y, std::size_t pixel) {
  const std::int64_t h = x.shape()[1], w = x.shape()[2], row = i + source.dy;
  const std::size_t bytes = static_cast<std::size_t>(x.shape()[3]) * size_of(x.type.dtype);
  const bool inside = row >= 0 && row < h;
  const std::int64_t first = inside ? std::clamp<std::int64_t>(-source.dx, 0, columns) : columns;
  const std::int64_t last =
      inside ? std::clamp<std::int64_t>(w - source.dx, first, columns) : columns;
  const std::byte* from = nullptr;
  if (first < last)
    from =
        x.as<std::byte>() + static_cast<std::size_t>((n * h + row) * w + first + source.dx) * bytes;
  for (std::int64_t j = 0; j < columns; ++j, y += pixel) {
    if (j >= first && j < last) {
      std::memcpy(y, from, bytes);
      from += bytes;
    } else {
      std::memset(y, 0, bytes);
    }
  }
}

}  // namespace

Step cpu(const CropConcat& op, const CpuSetup& setup) {
  const std::array<ConcatSource, 2> sources = concat_sources(op, setup.inputs);
  return {0, [sources, threads = setup.threads](const Operands& operands, std::byte*) {
            const TensorView& y = operands.outputs[0];
            const std::int64_t h = y.shape()[1], w = y.shape()[2];
            const std::size_t element = size_of(y.type.dtype);
            const std::size_t pixel = static_cast<std::size_t>(y.shape()[3]) * element;
            parallel_for(threads, y.shape()[0] * h, [&](std::int64_t row) {
              std::byte* out = y.as<std::byte>() + static_cast<std::size_t>(row * w) * pixel;
              for (const ConcatSource& source : sources) {
                const TensorView& x = operands.inputs[source.input];
                copy_row(x, source, row / h, row % h, w, out, pixel);
                out += static_cast<std::size_t>(x.shape()[3]) * element;
              }
            });
          }};
}

}  // namespace tessera
