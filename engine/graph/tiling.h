// Which part of a map a tile computes exactly: the halo, derived from the graph.
//
// A tile is a window of the network's input, run as an image of its own. Near its edges the answer
// differs from that of the whole image: convolutions lack neighbours, zero padding comes too early,
// and a Winograd tile shares its rounding with all of its 6x6 window. These functions follow,
// through every operator, the interval whose bytes are those of the whole image. Both axes are
// independent and alike, so everything is said of one.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "engine/graph/graph.h"

namespace tessera {

// A value of a tiled run, along one axis, in the coordinates of the whole map.
struct TileExtent {
  std::int64_t whole = 0;                       // size of the whole map
  std::int64_t begin = 0;                       // first coordinate that the tile computes
  std::int64_t size = 0;                        // how many it computes
  std::int64_t exact_begin = 0, exact_end = 0;  // of these, equal to the byte to the whole map's

  std::int64_t end() const { return begin + size; }
};

// The output of the input window [begin, begin + size) of an image of `whole` pixels. Throws where
// the graph has no spatial input or an operator cannot be tiled (Upsample with align_corners), or
// where the window does not start on the grid (`tile_alignment`).
TileExtent tile_output(const Graph& graph, std::int64_t whole, std::int64_t begin,
                       std::int64_t size);

// Windows must begin at multiples of this: 2 per pooling level, times Winograd's tile.
std::int64_t tile_alignment(const Graph& graph);

// One tile along an axis: what it reads, and what of its output is kept.
struct AxisTile {
  std::int64_t input_begin = 0, input_size = 0;
  std::int64_t output_begin = 0, output_size = 0;  // all that it computes
  std::int64_t keep_begin = 0, keep_end = 0;       // what no earlier tile has kept

  bool operator==(const AxisTile&) const = default;
};

// Covers the output of `whole` input pixels with windows of at most `tile` pixels. `size_runs`
// tells whether the network takes a window of that size. None where `tile` is too small to make
// progress.
std::optional<std::vector<AxisTile>> tile_axis(const Graph& graph, std::int64_t whole,
                                               std::int64_t tile,
                                               const std::function<bool(std::int64_t)>& size_runs);

}  // namespace tessera
