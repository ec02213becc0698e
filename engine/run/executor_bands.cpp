// Runs a graph in bands: the same steps, on rows of maps that stay where they are.
#include <cstring>

#include "engine/device/choice.h"
#include "engine/graph/node_checks.h"
#include "engine/run/executor.h"

namespace tessera {

namespace {

TensorType with_rows(TensorType type, std::int64_t rows) {
  if (has_axes(type)) type.shape[1] = rows;
  return type;
}

// The types of a node's inputs that hold these rows.
std::vector<TensorType> read_types(const Node& node, const BandStep& step, Types types) {
  std::vector<TensorType> read;
  for (std::size_t k = 0; k < node.inputs.size(); ++k)
    read.push_back(with_rows(types[node.inputs[k]], step.reads[k].size()));
  return read;
}

// The rows of one value, in the memory that its BandBuffer describes.
class RowMemory {
 public:
  RowMemory(std::byte* memory, const BandBuffer& buffer, TensorType whole)
      : memory_(memory),
        buffer_(buffer),
        whole_(std::move(whole)),
        row_(whole_.bytes() / static_cast<std::size_t>(has_axes(whole_) ? whole_.shape[1] : 1)) {}

  // Rows as one piece, `held` being those that there were before this band.
  TensorView view(const Interval& rows, const Interval& held) const {
    return {at(buffer_.place(rows.begin, held)), with_rows(whole_, rows.size())};
  }
  // Before rows are read that a ring's end cuts: its first rows follow the last ones.
  void join(const Interval& rows) const {
    if (const std::int64_t beyond = rows_beyond(rows); beyond > 0)
      copy(at(0), at(buffer_.period), beyond);
  }
  // After rows are written beyond a ring's end: they are its first ones.
  void wrap(const Interval& rows) const {
    if (const std::int64_t beyond = rows_beyond(rows); beyond > 0)
      copy(at(buffer_.period), at(0), beyond);
  }
  // Behind a band: rows `later` of those since held.begin stay.
  void keep(const Interval& held, const Interval& later) const {
    if (buffer_.period > 0 || later.is_empty() || later.begin == held.begin) return;
    std::memmove(at(0), at(buffer_.place(later.begin, held)), bytes_of(later.size()));
  }

 private:
  std::size_t bytes_of(std::int64_t rows) const { return static_cast<std::size_t>(rows) * row_; }
  std::byte* at(std::int64_t place) const { return memory_ + bytes_of(place); }
  std::int64_t rows_beyond(const Interval& rows) const {
    return buffer_.period > 0 ? rows.begin % buffer_.period + rows.size() - buffer_.period : 0;
  }
  void copy(const std::byte* from, std::byte* to, std::int64_t rows) const {
    std::memcpy(to, from, bytes_of(rows));
  }

  std::byte* memory_;
  BandBuffer buffer_;
  TensorType whole_;
  std::size_t row_;  // bytes
};

}  // namespace

const Step& Executor::prepare(const Node& node, const BandStep& step, Types types) {
  band_steps_.resize(graph_.nodes.size());
  const std::vector<TensorType> read = read_types(node, step, types);
  const auto serves = [&](const PreparedStep& one) { return one.op == step.op; };
  const auto make = [&] {
    Node part = node;
    part.op = step.op;
    return PreparedStep{read, step.op, named(node, [&] {
                          return queue_->prepare(part, step.node, read,
                                                 compiled_->weights(step.node),
                                                 compiled_->packed());
                        })};
  };
  return band_steps_[step.node].find_or_make(read, serves, make).step;
}

BandedPlan Executor::plan_bands(const Graph& piece, const TensorType& input, Interval wanted,
                                std::int64_t rows) {
  require(device_.is_host(), "bands of rows run on a CPU, not on {}", device_.name());
  require(has_axes(input) && input.shape[0] == 1,
          "bands are cut from one image (1, h, w, c), not from {}", input);
  const auto graph = std::make_shared<const Graph>(piece);
  std::vector<TensorType> types = infer_types(piece, {&input, 1});
  const Bands bands(*graph, sizes_along(types, 1), wanted, rows);
  BandedPlan made{graph, std::move(types), bands, layout_of(*graph, bands), {}, {}, {}};

  std::vector<std::size_t> scratch(piece.nodes.size());
  for (Bands walk = bands; const std::optional<Band> band = walk.next();) {
    for (const BandStep& step : band->steps) {
      const Node& node = piece.nodes[step.node];
      Node part = node;
      part.op = step.op;
      made.flops += cost_of(part, read_types(node, step, made.types)).flops;
      scratch[step.node] =
          std::max(scratch[step.node], prepare(node, step, made.types).scratch_bytes);
    }
  }
  const Readers readers(piece);
  const std::size_t last_step = piece.nodes.size();
  std::vector<PlanBuffer> buffers;
  made.buffer_of.resize(piece.values.size());
  const auto add_value = [&](ValueId value, std::size_t first) {
    const BandBuffer& rows_of = made.layout.values[value];
    std::size_t last = readers[value].empty() ? first : readers[value].back();
    if (rows_of.stays || piece.is_output(value)) last = last_step;
    made.buffer_of[value] = buffers.size();
    buffers.push_back({piece.values[value], with_rows(made.types[value], rows_of.capacity).bytes(),
                       rows_of.stays ? 0 : first, last});
  };
  add_value(piece.inputs[0], 0);
  for (std::size_t i = 0; i < piece.nodes.size(); ++i) {
    for (const ValueId value : piece.nodes[i].outputs) add_value(value, i);
    made.scratch_of.push_back(buffers.size());
    buffers.push_back({piece.nodes[i].name + " (scratch)", scratch[i], i, i});
  }
  made.plan = make_plan(std::move(buffers));
  return made;
}

void Executor::run_bands(const BandedPlan& plan, const RowSource& source, const RowSink& sink,
                         const std::function<void()>& on_band, std::vector<NodeTiming>* timings) {
  grow_arena(std::max(plan.plan.peak, kPlanAlignment));
  const auto memory_of = [&](std::size_t buffer) {
    return arena_.get() + plan.plan.buffers[buffer].offset;
  };
  const Graph& graph = *plan.graph;
  std::vector<RowMemory> values;
  for (std::size_t i = 0; i < plan.types.size(); ++i)
    values.emplace_back(memory_of(plan.buffer_of[i]), plan.layout.values[i], plan.types[i]);

  Bands bands = plan.bands;
  std::vector<Interval> held = bands.held();
  const auto read = [&](ValueId value, const Interval& rows) {
    values[value].join(rows);
    return values[value].view(rows, held[value]);
  };
  std::vector<TensorView> inputs, outputs;
  while (const std::optional<Band> band = bands.next()) {
    const ValueId image = graph.inputs[0];
    if (!band->input.is_empty()) {
      source(band->input, values[image].view(band->input, held[image]));
      values[image].wrap(band->input);
    }
    const std::unique_ptr<Stopwatch> stopwatch =
        timings != nullptr ? queue_->stopwatch(band->steps.size() + 1) : nullptr;
    if (stopwatch) stopwatch->mark();
    for (const BandStep& step : band->steps) {
      const Node& node = graph.nodes[step.node];
      inputs.clear();
      outputs.clear();
      for (std::size_t k = 0; k < node.inputs.size(); ++k)
        inputs.push_back(read(node.inputs[k], step.reads[k]));
      for (std::size_t k = 0; k < node.outputs.size(); ++k)
        outputs.push_back(values[node.outputs[k]].view(step.writes[k], held[node.outputs[k]]));
      const Step& run = prepare(node, step, plan.types);
      named(node, [&] {
        run.run({inputs, compiled_->weights(step.node), outputs},
                memory_of(plan.scratch_of[step.node]));
      });
      for (std::size_t k = 0; k < node.outputs.size(); ++k)
        values[node.outputs[k]].wrap(step.writes[k]);
      if (stopwatch) stopwatch->mark();
    }
    for (std::size_t k = 0; k < graph.outputs.size(); ++k) {
      const Interval& rows = band->outputs[k];
      if (!rows.is_empty()) sink(k, rows, read(graph.outputs[k], rows));
    }
    const std::vector<Interval> later = bands.held();
    for (std::size_t i = 0; i < values.size(); ++i) values[i].keep(held[i], later[i]);
    held = later;
    if (on_band) on_band();
    if (!stopwatch) continue;
    const std::vector<double> marks = stopwatch->seconds();
    for (std::size_t i = 0; i < band->steps.size(); ++i) {
      Node part = graph.nodes[band->steps[i].node];
      part.op = band->steps[i].op;
      const std::vector<TensorType> types_read = read_types(part, band->steps[i], plan.types);
      timings->push_back({part.name, std::string(kind_of(part.op)), cost_of(part, types_read),
                          marks[i], marks[i + 1] - marks[i], choice_of(device_, part, types_read)});
    }
  }
}

}  // namespace tessera
