#include "engine/graph/bands.h"

#include <fmt/format.h>

#include <algorithm>

namespace tessera {

namespace {

// Rows that go together in most networks: those of a Winograd tile.
constexpr std::int64_t kRowGroup = 4;

// Whether one row of its outputs reads all rows of an input, however many there are.
bool reads_everything(const Node& node, std::span<const std::int64_t> sizes) {
  constexpr std::int64_t kMany = 1 << 20;
  std::vector<std::int64_t> many(sizes.begin(), sizes.end());
  for (std::int64_t& size : many)
    if (size > 1) size = kMany;
  std::vector<Interval> wanted(node.outputs.size());
  wanted[0] = {0, 1};
  return std::ranges::any_of(extent_of(node, 1, many, wanted).inputs,
                             [](const Interval& read) { return read.size() == kMany; });
}

}  // namespace

std::string why_not_in_bands(const Graph& graph, std::span<const std::int64_t> sizes) {
  for (const Node& node : graph.nodes) {
    if (reads_everything(node, sizes))
      return fmt::format("node '{}' ({}) reads all rows of its map for each that it makes",
                         node.name, kind_of(node.op));
  }
  return "";
}

Bands::Bands(const Graph& graph, std::vector<std::int64_t> sizes, Interval wanted,
             std::int64_t rows)
    : graph_(&graph), sizes_(std::move(sizes)), rows_(rows), made_(graph.values.size(), 0) {
  require(graph.inputs.size() == 1, "a graph that runs in bands has one input, this one has {}",
          graph.inputs.size());
  require(rows > 0, "a band has one row or more, not {}", rows);
  for (const ValueId output : graph.outputs)
    require(0 <= wanted.begin && wanted.begin < wanted.end && wanted.end <= sizes_[output],
            "rows {} to {} are wanted of a map of {}", wanted.begin, wanted.end, sizes_[output]);
  const std::string reason = why_not_in_bands(graph, sizes_);
  require(reason.empty(), "the network cannot run in bands: {}", reason);
  needs_ = needs(graph, 1, sizes_, wanted);
  made_[graph.inputs[0]] = needs_.input(graph).begin;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const std::int64_t begin = needs_.nodes[i].outputs[0].begin;
    Extent first = extent_to(i, begin, begin + 1);
    part_of(node, 1, sizes_, first);
    for (std::size_t k = 0; k < node.outputs.size(); ++k)
      made_[node.outputs[k]] = first.outputs[k].begin;
  }
}

Extent Bands::extent_to(std::size_t node, std::int64_t begin, std::int64_t end) const {
  std::vector<Interval> asked(graph_->nodes[node].outputs.size());
  asked[0] = {begin, end};
  return extent_of(graph_->nodes[node], 1, sizes_, asked);
}

bool Bands::is_done(std::size_t node) const {
  return made_[graph_->nodes[node].outputs[0]] >= needs_.nodes[node].outputs[0].end;
}

std::optional<BandStep> Bands::step_to(std::size_t node, std::int64_t end) const {
  const Node& it = graph_->nodes[node];
  Extent piece = extent_to(node, made_[it.outputs[0]], end);
  BandStep step{.node = node, .op = {}, .reads = {}, .makes = piece.outputs, .writes = {}};
  step.op = part_of(it, 1, sizes_, piece);
  step.reads = std::move(piece.inputs);
  step.writes = std::move(piece.outputs);
  for (std::size_t k = 0; k < it.inputs.size(); ++k)
    if (step.reads[k].end > made_[it.inputs[k]]) return std::nullopt;
  for (std::size_t k = 0; k < it.outputs.size(); ++k)
    if (step.writes[k].begin != made_[it.outputs[k]]) return std::nullopt;
  return step;
}

bool Bands::can_go_on(std::size_t node, std::int64_t end) const {
  const std::int64_t last = needs_.nodes[node].outputs[0].end;
  if (end >= last) return true;
  for (const std::int64_t to : {end + 1, last}) {
    Extent next = extent_to(node, end, to);
    part_of(graph_->nodes[node], 1, sizes_, next);
    if (next.outputs[0].begin != end) return false;
  }
  return true;
}

std::optional<BandStep> Bands::longest_step(std::size_t node) const {
  const ValueId value = graph_->nodes[node].outputs[0];
  const std::int64_t made = made_[value], last = needs_.nodes[node].outputs[0].end;
  const std::int64_t input = sizes_[graph_->inputs[0]];
  const std::int64_t share = (rows_ * sizes_[value] + input - 1) / input;
  // A little more, so that what was left over is caught up with.
  const std::int64_t most = (share + share / 8 + kRowGroup - 1) / kRowGroup * kRowGroup;
  // What is made up to a row needs no more than what is made up to a later one.
  std::int64_t possible = made, beyond = std::min(made + most, last) + 1;
  while (beyond - possible > 1) {
    const std::int64_t middle = (possible + beyond) / 2;
    (step_to(node, middle) ? possible : beyond) = middle;
  }
  for (std::int64_t end = possible; end > made; --end) {
    const std::int64_t makes = extent_to(node, made, end).outputs[0].end;
    if (can_go_on(node, std::min(makes, last))) return step_to(node, end);
  }
  return step_to(node, last);
}

std::vector<Interval> Bands::held() const {
  std::vector<Interval> held;
  for (const std::int64_t made : made_) held.push_back({made, made});
  for (std::size_t i = 0; i < graph_->nodes.size(); ++i) {
    if (is_done(i)) continue;
    const Node& node = graph_->nodes[i];
    const Extent rest = extent_to(i, made_[node.outputs[0]], needs_.nodes[i].outputs[0].end);
    for (std::size_t k = 0; k < node.inputs.size(); ++k) {
      Interval& rows = held[node.inputs[k]];
      rows.begin = std::min(rows.begin, rest.inputs[k].begin);
    }
  }
  return held;
}

std::optional<Band> Bands::next() {
  const ValueId input = graph_->inputs[0];
  Band band;
  band.input = {made_[input], std::min(made_[input] + rows_, needs_.input(*graph_).end)};
  made_[input] = std::max(made_[input], band.input.end);
  const std::vector<std::int64_t> before = made_;
  std::optional<std::size_t> waits;
  for (std::size_t i = 0; i < graph_->nodes.size(); ++i) {
    if (is_done(i)) continue;
    waits = i;
    std::optional<BandStep> step = longest_step(i);
    if (!step) continue;
    const Node& node = graph_->nodes[i];
    for (std::size_t k = 0; k < node.outputs.size(); ++k)
      made_[node.outputs[k]] = step->makes[k].end;
    band.steps.push_back(*std::move(step));
  }
  if (!waits) return std::nullopt;
  require(!band.steps.empty() || !band.input.is_empty(),
          "node '{}' cannot run in bands: it makes rows again", graph_->nodes[*waits].name);
  for (const ValueId output : graph_->outputs)
    band.outputs.push_back({std::max(before[output], needs_.wanted.begin),
                            std::min(made_[output], needs_.wanted.end)});
  return band;
}

BandLayout layout_of(const Graph& graph, Bands bands) {
  struct Rows {
    std::int64_t most = 0, kept = 0, added = 0, view = 1;
  };
  std::vector<Rows> rows(graph.values.size());
  std::vector<Interval> held = bands.held();
  BandLayout layout;
  layout.written.resize(graph.nodes.size());
  const auto view = [&](ValueId value, const Interval& seen) {
    rows[value].view = std::max(rows[value].view, seen.size());
  };
  const auto add = [&](ValueId value, const Interval& added) {
    rows[value].most = std::max(rows[value].most, added.end - held[value].begin);
    rows[value].added = std::max(rows[value].added, added.size());
    view(value, added);
  };
  while (const std::optional<Band> band = bands.next()) {
    ++layout.bands;
    add(graph.inputs[0], band->input);
    for (const BandStep& step : band->steps) {
      const Node& node = graph.nodes[step.node];
      for (std::size_t k = 0; k < node.inputs.size(); ++k) view(node.inputs[k], step.reads[k]);
      for (std::size_t k = 0; k < node.outputs.size(); ++k) add(node.outputs[k], step.writes[k]);
      layout.written[step.node] += step.writes[0].size();
    }
    for (std::size_t k = 0; k < graph.outputs.size(); ++k) view(graph.outputs[k], band->outputs[k]);
    held = bands.held();
    for (std::size_t v = 0; v < rows.size(); ++v)
      rows[v].kept = std::max(rows[v].kept, held[v].size());
  }
  for (const Rows& value : rows) {
    // Moving the rows that stay must not cost more than making those that come.
    const bool is_ring = value.kept > value.added;
    layout.values.push_back({.capacity = value.most + (is_ring ? value.view - 1 : 0),
                             .period = is_ring ? value.most : 0,
                             .stays = value.kept > 0});
  }
  return layout;
}

}  // namespace tessera
