#include "kernels/ops/conv/patch.h"

#include <algorithm>
#include <cstring>

#include "kernels/cpu/convert.h"

namespace tessera {

namespace {

float as_f32(float value) {
  return value;
}
float as_f32(std::uint16_t bits) {
  return bf16_to_f32(bits);
}
void assign(float value, float& to) {
  to = value;
}
void assign(float value, std::uint16_t& to) {
  to = f32_to_bf16(value);
}

// `pixels` pixels of `channels` elements; consecutive ones lie `stride` elements apart in `to`.
template <class From, class To>
void copy_pixels(const From* from, std::int64_t pixels, std::int64_t channels, To* to,
                 std::int64_t stride) {
  if (stride == channels) channels *= pixels, stride = channels, pixels = 1;
  for (std::int64_t p = 0; p < pixels; ++p, from += channels, to += stride) {
    if constexpr (std::is_same_v<From, To>) {
      std::memcpy(to, from, static_cast<std::size_t>(channels) * sizeof(To));
    } else {
      for (std::int64_t c = 0; c < channels; ++c) assign(as_f32(from[c]), to[c]);
    }
  }
}

template <class From, class To>
void gather_source(const ConvGeometry& g, const ConvSource& s, const From* pixels, const Patch& p,
                   To* to) {
  // Columns of the patch that exist in both the joined map and the source.
  const std::int64_t begin = std::max({p.x, std::int64_t{0}, -s.dx});
  const std::int64_t end = std::min({p.x + p.columns, g.w, s.w - s.dx});
  if (begin >= end) return;
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const std::int64_t y = p.y + row, source_y = y + s.dy;
    if (y < 0 || y >= g.h || source_y < 0 || source_y >= s.h) continue;
    const From* from = pixels + ((p.n * s.h + source_y) * s.w + begin + s.dx) * s.c;
    copy_pixels(from, end - begin, s.c, to + (row * p.columns + begin - p.x) * p.channels,
                p.channels);
  }
}

template <class To>
void gather_as(const ConvGeometry& g, std::span<const TensorView> inputs, const Patch& p, To* to) {
  const bool inside = p.y >= 0 && p.x >= 0 && p.y + p.rows <= g.h && p.x + p.columns <= g.w;
  // One source that fills its pixels and is not left by the patch overwrites every element.
  if (!inside || g.sources.size() > 1 || p.channels != g.c_in)
    std::fill_n(to, p.rows * p.columns * p.channels, To{});
  for (const ConvSource& s : g.sources) {
    const TensorView& input = inputs[s.input];
    if (input.type.dtype == DType::kBF16) {
      gather_source(g, s, input.as<std::uint16_t>(), p, to);
    } else {
      gather_source(g, s, input.as<float>(), p, to);
    }
    to += s.c;
  }
}

}  // namespace

void gather(const ConvGeometry& geometry, std::span<const TensorView> inputs, const Patch& patch,
            DType dtype, void* to) {
  if (dtype == DType::kBF16) {
    gather_as(geometry, inputs, patch, static_cast<std::uint16_t*>(to));
  } else {
    gather_as(geometry, inputs, patch, static_cast<float*>(to));
  }
}

}  // namespace tessera
