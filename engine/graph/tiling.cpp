#include "engine/graph/tiling.h"

#include <algorithm>

namespace tessera {

namespace {

std::int64_t floor_to(std::int64_t value, std::int64_t step) {
  return value / step * step;
}
std::int64_t ceil_to(std::int64_t value, std::int64_t step) {
  return (value + step - 1) / step * step;
}

void require_aligned(std::int64_t begin, std::int64_t step) {
  require(begin % step == 0,
          "a tile begins at {} where a multiple of {} is needed; begin tiles at multiples of the "
          "graph's alignment",
          begin, step);
}

// The exact interval of a map whose element o depends on elements [scale o + low, scale o + high]
// of `x`, in groups of `group` that share their rounding: all that a group reads must be exact.
// Beyond the ends of the whole map tile and whole agree (zeros, or nothing), so a bound there is
// kept.
TileExtent follow(const TileExtent& x, TileExtent y, std::int64_t low, std::int64_t high,
                  std::int64_t group) {
  y.exact_begin = x.exact_begin == 0 ? 0 : ceil_to(x.exact_begin - low, group);
  y.exact_end = x.exact_end == x.whole ? y.whole : floor_to(x.exact_end - high, group);
  y.exact_begin = std::max(y.exact_begin, y.begin);
  y.exact_end = std::min(y.exact_end, y.end());
  return y;
}

using Extents = std::vector<TileExtent>;

template <class Op>
constexpr bool kPixelwise =
    std::is_same_v<Op, Activation> || std::is_same_v<Op, Argmax> || std::is_same_v<Op, BatchNorm> ||
    std::is_same_v<Op, Dropout> || std::is_same_v<Op, Head> || std::is_same_v<Op, LayerNorm> ||
    std::is_same_v<Op, Linear> || std::is_same_v<Op, Softmax>;

struct Follow {
  const Extents& inputs;

  const TileExtent& x() const { return inputs[0]; }

  // Element-wise operators, and those along the channels, by name: what else there is reads more.
  template <class Op>
  TileExtent operator()(const Op&) const {
    require(kPixelwise<Op>,
            "a network with the operator {} cannot be cut into tiles yet: run it untiled",
            Op::kName);
    return x();
  }

  TileExtent operator()(const CropConcat& op) const {
    const TileExtent& skip = inputs[0];
    const TileExtent& up = inputs[1];
    const bool crop = op.align == CropConcat::Align::kCropSkip;
    const auto sources = [&](std::int64_t skip_size, std::int64_t up_size) {
      const TensorType types[2] = {{DType::kF32, {1, skip_size, skip_size, 1}},
                                   {DType::kF32, {1, up_size, up_size, 1}}};
      auto both = concat_sources(op, types);
      if (both[0].input != 0) std::swap(both[0], both[1]);
      return both;
    };
    const auto whole = sources(skip.whole, up.whole);
    const auto tile = sources(skip.size, up.size);
    TileExtent y = crop ? up : skip;
    for (std::size_t i = 0; i < 2; ++i) {
      const TileExtent& source = inputs[i];
      // Pixel o of the whole reads o + whole.dy; in the tile, o - y.begin + tile.dy of a source
      // that begins at source.begin: the same pixel, or tiling this graph is wrong.
      require(source.begin - y.begin + tile[i].dy == whole[i].dy,
              "the crop of a tile does not fall on that of the whole image; use a size at which "
              "every pooling is even");
      const std::int64_t shift = whole[i].dy;
      if (source.exact_begin != 0)
        y.exact_begin = std::max(y.exact_begin, source.exact_begin - shift);
      if (source.exact_end != source.whole)
        y.exact_end = std::min(y.exact_end, source.exact_end - shift);
    }
    return y;
  }

  TileExtent operator()(const Conv& op) const {
    const TileExtent in = op.concat ? (*this)(*op.concat) : x();
    require(op.window.is_dense() && op.window.has_even_pads() &&
                op.window.is_square(op.window.kernel[0]),
            "a network whose convolutions have strides, dilation or uneven pads cannot be cut into "
            "tiles yet: run it untiled");
    const std::int64_t halo = op.window.kernel[0] - 1;
    const std::int64_t pad = op.window.pads[0];
    const std::int64_t lost = halo - 2 * pad;
    TileExtent y{in.whole - lost, in.begin, in.size - lost};
    const bool winograd = op.technique == Conv::Technique::kWinograd;
    const std::int64_t group = winograd ? kWinogradTile : 1;
    require_aligned(y.begin, group);
    // Element o reads [o - pad, o - pad + halo]; a group of g from o reads up to o + g - 1 + halo.
    // exact_end is where the next group would begin to read too far.
    return follow(in, y, -pad, halo - pad, group);
  }

  TileExtent operator()(const MaxPool& op) const {
    require(is_halving(op),
            "a network with other pools than 2x2 of stride 2 cannot be cut into tiles yet: run it "
            "untiled");
    require_aligned(x().begin, 2);
    TileExtent y{x().whole / 2, x().begin / 2, x().size / 2};
    y.exact_begin = (x().exact_begin + 1) / 2;
    y.exact_end = std::min(x().exact_end == x().whole ? y.whole : x().exact_end / 2, y.end());
    return y;
  }

  TileExtent operator()(const ConvTranspose& op) const {
    require(is_doubling(op),
            "a network with other transposed convolutions than those that double the size cannot "
            "be cut into tiles yet: run it untiled");
    TileExtent y{2 * x().whole, 2 * x().begin, 2 * x().size};
    y.exact_begin = 2 * x().exact_begin;
    y.exact_end = 2 * x().exact_end;
    // 3x3: an odd output also reads the pixel behind.
    if (op.kernel == 3 && x().exact_end != x().whole) y.exact_end -= 1;
    return y;
  }

  TileExtent operator()(const Upsample& op) const {
    require(!op.align_corners,
            "a network that up-samples with align_corners cannot be cut into tiles: each pixel "
            "depends on the size of the whole image. Run it untiled");
    TileExtent y{2 * x().whole, 2 * x().begin, 2 * x().size};
    y.exact_begin = x().exact_begin == 0 ? 0 : 2 * x().exact_begin + 1;
    y.exact_end = x().exact_end == x().whole ? y.whole : 2 * x().exact_end - 1;
    return y;
  }
};

// How far the grid on which tiles begin is coarsened from the input to each value.
std::vector<std::int64_t> pixels_per_element(const Graph& graph) {
  std::vector<std::int64_t> scale(graph.values.size(), 1);
  for (const Node& node : graph.nodes) {
    std::int64_t s = scale[node.inputs.back()];  // of a CropConcat both inputs agree
    if (std::holds_alternative<MaxPool>(node.op)) s *= 2;
    if (std::holds_alternative<ConvTranspose>(node.op) || std::holds_alternative<Upsample>(node.op))
      s /= 2;
    for (const ValueId value : node.outputs) scale[value] = s;
    const auto* conv = std::get_if<Conv>(&node.op);
    if (conv != nullptr && conv->pool) scale[node.outputs[1]] = 2 * s;
  }
  return scale;
}

}  // namespace

std::int64_t tile_alignment(const Graph& graph) {
  const std::vector<std::int64_t> scale = pixels_per_element(graph);
  std::int64_t alignment = 1;
  for (const Node& node : graph.nodes) {
    const auto* conv = std::get_if<Conv>(&node.op);
    const bool winograd = conv != nullptr && conv->technique == Conv::Technique::kWinograd;
    for (const ValueId value : node.outputs) alignment = std::max(alignment, scale[value]);
    if (winograd) alignment = std::max(alignment, scale[node.outputs[0]] * kWinogradTile);
  }
  return alignment;
}

TileExtent tile_output(const Graph& graph, std::int64_t whole, std::int64_t begin,
                       std::int64_t size) {
  require(graph.inputs.size() == 1, "a network of {} inputs cannot be cut into tiles",
          graph.inputs.size());
  Extents extents(graph.values.size());
  extents[graph.inputs[0]] = {whole, begin, size, begin, begin + size};
  for (const Node& node : graph.nodes) {
    Extents read;
    for (const ValueId value : node.inputs) read.push_back(extents[value]);
    const TileExtent made = std::visit(Follow{read}, node.op);
    extents[node.outputs[0]] = made;
    const auto* conv = std::get_if<Conv>(&node.op);
    if (conv != nullptr && conv->pool) {
      extents[node.outputs[1]] = Follow{{made}}(MaxPool{});
    } else {
      for (const ValueId value : node.outputs) extents[value] = made;
    }
  }
  return extents[graph.outputs[0]];
}

std::optional<std::vector<AxisTile>> tile_axis(const Graph& graph, std::int64_t whole,
                                               std::int64_t tile,
                                               const std::function<bool(std::int64_t)>& size_runs) {
  const std::int64_t step = tile_alignment(graph);
  std::vector<AxisTile> tiles;
  std::int64_t covered = 0;
  std::int64_t begin = 0;
  while (true) {
    // The widest window from `begin`: to the end of the image if it fits, else the largest size
    // that runs.
    std::int64_t size = std::min(tile, whole - begin);
    while (size > 0 && !size_runs(size)) --size;
    if (size <= 0) return std::nullopt;
    const TileExtent extent = tile_output(graph, whole, begin, size);
    if (extent.exact_begin > covered || extent.exact_end <= covered) return std::nullopt;
    tiles.push_back({begin, size, extent.begin, extent.size, covered, extent.exact_end});
    covered = extent.exact_end;
    if (covered == extent.whole) return tiles;
    // The last start on the grid from which `covered` is still exact. It lies at or before it, as
    // nothing before a tile's first pixel is exact.
    std::int64_t next = floor_to(std::min(covered, whole - 1), step);
    for (; next > begin; next -= step) {
      std::int64_t rest = std::min(tile, whole - next);
      while (rest > 0 && !size_runs(rest)) --rest;
      if (rest <= 0) continue;
      const TileExtent candidate = tile_output(graph, whole, next, rest);
      if (candidate.exact_begin <= covered && candidate.exact_end > covered) break;
    }
    if (next <= begin) return std::nullopt;
    begin = next;
  }
}

}  // namespace tessera
