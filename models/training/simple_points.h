// Simple points: pixels of a binary picture that can change without changing its topology (Kong &
// Rosenfeld 1989; Bertrand 1994). Cells (1) are 4-connected, so that a diagonal line of membrane
// (0), which is 8-connected, separates them. Outside of the picture all is membrane.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace tessera {

// Whether the middle of a 3x3 neighbourhood is simple. `cells` has one bit for each neighbour, in
// the order of the clock from the upper left: bits 0 1 2 above, 3 right, 4 5 6 below from the
// right, 7 left. Simple: exactly one 4-component of cells touches the middle by an edge, and
// exactly one 8-component of membrane touches it.
bool is_simple(std::uint8_t cells);

// Deforms `from` towards `to` by changing simple points until none is left where they differ: the
// warping of Jain et al., "Boundary learning by optimization with topological constraints", CVPR
// 2010. The result has the topology of `from`. Points are tried in rounds: those that differ in
// reading order, then the neighbours of what changed, first come first served; the greedy descent
// finds a local minimum, as the authors' does. Both pictures are (height, width) of 0 and 1.
// Throws Error if sizes do not agree.
std::vector<std::uint8_t> warp_topologically(std::span<const std::uint8_t> from,
                                             std::span<const std::uint8_t> to, std::int64_t height,
                                             std::int64_t width);

// Lets the cells grow until every membrane is a line one pixel wide, from all sides at the same
// speed; loose ends of membrane vanish. Cells neither merge nor split nor appear.
std::vector<std::uint8_t> thin_membranes(std::span<const std::uint8_t> cells, std::int64_t height,
                                         std::int64_t width);

}  // namespace tessera
