// A graph run in bands of rows: each node makes the rows that its inputs newly allow, and of each
// map the few rows stay that later bands read.
//
// Rows go in at the top, some at a time. In every band each node, in the graph's order, makes what
// it can of its outputs, from rows that exist; a skip's rows wait until the decoder arrives. So
// every row is made once, on the grid of the whole map, by the part of the operator that makes it:
// the bytes are those of the whole. The memory is that of the rows that wait, whatever the height.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "engine/graph/window.h"

namespace tessera {

// One node in one band: the part of its operator, by input the rows that it reads, and by output
// those that it makes. Some operators write a few beyond those, which may hold anything.
struct BandStep {
  std::size_t node = 0;
  Op op;
  std::vector<Interval> reads, makes, writes;
};

struct Band {
  Interval input;                 // rows of the graph's input that it reads for the first time
  std::vector<BandStep> steps;    // in the order in which they run
  std::vector<Interval> outputs;  // rows of each of the graph's outputs that it finishes
};

// Why a graph cannot run in bands: the node that reads everything. Empty where it can.
std::string why_not_in_bands(const Graph& graph, std::span<const std::int64_t> sizes);

// Gives one band after the other.
class Bands {
 public:
  // Rows `wanted` of the graph's outputs. `graph` has one input; `sizes` are those of the whole
  // maps along axis 1; a band takes `rows` rows of the input at most, and a node makes no more of
  // its map than that in proportion, unless its operator needs them at once. Throws Error where a
  // node reads everything.
  Bands(const Graph& graph, std::vector<std::int64_t> sizes, Interval wanted, std::int64_t rows);

  // None behind the last one.
  std::optional<Band> next();

  // By value: the rows made so far that later bands read.
  std::vector<Interval> held() const;

 private:
  bool is_done(std::size_t node) const;
  // The step that makes rows of `node`'s first output up to `end`, or beyond where some are made
  // together. None where its inputs lack rows, or rows would be made twice.
  std::optional<BandStep> step_to(std::size_t node, std::int64_t end) const;
  // Whether nothing is made twice where the node goes on behind `end`.
  bool can_go_on(std::size_t node, std::int64_t end) const;
  std::optional<BandStep> longest_step(std::size_t node) const;
  Extent extent_to(std::size_t node, std::int64_t begin, std::int64_t end) const;

  const Graph* graph_;
  std::vector<std::int64_t> sizes_;
  std::int64_t rows_;
  AxisPiece needs_;
  std::vector<std::int64_t> made_;  // by value: the rows before this one
};

// The memory of a value: `capacity` rows. Row r of a ring lies at r modulo `period`; the rows
// behind the period are for what would be cut in two there. Without a period the rows that stay
// move to the front behind each band.
struct BandBuffer {
  std::int64_t capacity = 0, period = 0;
  bool stays = false;  // some rows outlive their band

  std::int64_t place(std::int64_t row, const Interval& held) const {
    return period > 0 ? row % period : row - held.begin;
  }
};

struct BandLayout {
  std::vector<BandBuffer> values;     // by value
  std::vector<std::int64_t> written;  // by node: rows of its first output, those made again too
  std::int64_t bands = 0;
};

// The least memory for all bands to come.
BandLayout layout_of(const Graph& graph, Bands bands);

}  // namespace tessera
