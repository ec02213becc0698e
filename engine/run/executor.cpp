#include "engine/run/executor.h"

#include <algorithm>

#include "engine/device/choice.h"
#include "engine/graph/node_checks.h"

namespace tessera {

Executor::Executor(std::shared_ptr<const Compiled> compiled, int threads)
    : compiled_(std::move(compiled)),
      device_(compiled_->device()),
      graph_(compiled_->graph()),
      queue_(device_.queue(threads)) {}

Executor::Executor(Graph graph, const WeightSource& weights, Types example,
                   std::shared_ptr<const Device> device)
    : Executor(std::make_shared<Compiled>(std::move(graph), weights, example, std::move(device))) {}

Executor::~Executor() {
  compiled_->count_arena(-static_cast<std::ptrdiff_t>(arena_.size()));
}

std::vector<TensorType> Executor::output_types(Types inputs) const {
  const std::vector<TensorType> types = infer_types(graph_, inputs);
  std::vector<TensorType> outputs;
  for (const ValueId value : graph_.outputs) outputs.push_back(types[value]);
  return outputs;
}

const Plan& Executor::plan(const Graph& piece, Types inputs) {
  return prepare(piece, inputs).plan;
}

Executor::Prepared& Executor::prepare(const Graph& piece, Types inputs) {
  const auto serves = [&](const Prepared& prepared) {
    return std::ranges::equal(prepared.ops, piece.nodes, {}, {}, &Node::op);
  };
  return prepared_.find_or_make(inputs, serves, [&] { return make(piece, inputs); });
}

Executor::Prepared Executor::make(const Graph& piece, Types inputs) const {
  Prepared made;
  for (const Node& node : piece.nodes) made.ops.push_back(node.op);
  made.inputs.assign(inputs.begin(), inputs.end());
  made.types = infer_types(piece, inputs);
  made.buffer_of.assign(graph_.values.size(), kExternal);

  const Readers readers(graph_);
  std::vector<PlanBuffer> buffers;
  const auto add_value = [&](ValueId value, std::size_t first) {
    std::size_t last = readers[value].empty() ? first : readers[value].back();
    if (graph_.is_output(value)) last = graph_.nodes.size();  // until it is copied out
    made.buffer_of[value] = buffers.size();
    buffers.push_back({graph_.values[value], made.types[value].bytes(), first, last});
  };
  if (!device_.is_host())
    for (const ValueId value : graph_.inputs) add_value(value, 0);
  for (std::size_t step = 0; step < graph_.nodes.size(); ++step) {
    const Node& node = piece.nodes[step];
    for (const ValueId value : node.outputs) {
      if (device_.is_host() && graph_.is_output(value)) continue;
      add_value(value, step);
    }
    const std::vector<TensorType> read = input_types(node, made.types);
    made.steps.push_back(named(node, [&] {
      return queue_->prepare(node, step, read, compiled_->weights(step), compiled_->packed());
    }));
    made.recordable = made.recordable && !made.steps.back().on_host;
    made.scratch_of.push_back(buffers.size());
    buffers.push_back({node.name + " (scratch)", made.steps.back().scratch_bytes, step, step});
  }
  made.plan = make_plan(std::move(buffers));
  return made;
}

void Executor::grow_arena(std::size_t bytes) {
  if (arena_.size() >= bytes) return;
  compiled_->count_arena(-static_cast<std::ptrdiff_t>(arena_.size()));
  arena_.grow(device_, bytes);
  compiled_->count_arena(static_cast<std::ptrdiff_t>(arena_.size()));
  for (Prepared& prepared : prepared_) {  // they hold addresses of the old one
    prepared.recording.reset();
    prepared.runs = 0;
  }
}

std::vector<TensorView> Executor::place(const Prepared& prepared,
                                        std::span<const TensorView> inputs,
                                        std::span<const TensorView> outputs) const {
  std::vector<TensorView> values(graph_.values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::byte* memory = nullptr;
    if (prepared.buffer_of[i] != kExternal)
      memory = arena_.get() + prepared.plan.buffers[prepared.buffer_of[i]].offset;
    values[i] = {memory, prepared.types[i]};
  }
  require(outputs.size() == graph_.outputs.size(), "the graph has {} outputs, {} were given",
          graph_.outputs.size(), outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const TensorType& type = values[graph_.outputs[i]].type;
    require(outputs[i].type == type, "output '{}' is {}, memory for {} was given",
            graph_.values[graph_.outputs[i]], type, outputs[i].type);
    if (device_.is_host()) values[graph_.outputs[i]] = outputs[i];
  }
  for (std::size_t i = 0; device_.is_host() && i < inputs.size(); ++i)
    values[graph_.inputs[i]] = inputs[i];
  return values;
}

void Executor::enqueue(const Prepared& prepared, const std::vector<TensorView>& values,
                       Stopwatch* stopwatch) const {
  std::vector<TensorView> read, written;
  if (stopwatch != nullptr) stopwatch->mark();
  for (std::size_t step = 0; step < graph_.nodes.size(); ++step) {
    const Node& node = graph_.nodes[step];
    read.clear();
    written.clear();
    for (const ValueId value : node.inputs) read.push_back(values[value]);
    for (const ValueId value : node.outputs) written.push_back(values[value]);
    std::byte* scratch = arena_.get() + prepared.plan.buffers[prepared.scratch_of[step]].offset;
    named(node, [&] {
      prepared.steps[step].run({read, compiled_->weights(step), written}, scratch);
    });
    if (stopwatch != nullptr) stopwatch->mark();
  }
}

void Executor::run(const Graph& piece, std::span<const TensorView> inputs,
                   std::span<const TensorView> outputs, std::vector<NodeTiming>* timings) {
  std::vector<TensorType> types;
  for (const TensorView& input : inputs) types.push_back(input.type);
  Prepared& prepared = prepare(piece, types);
  grow_arena(std::max(prepared.plan.peak, kPlanAlignment));
  const std::vector<TensorView> values = place(prepared, inputs, outputs);

  if (!device_.is_host()) {
    check_inputs(graph_, prepared.types, inputs);
    for (std::size_t i = 0; i < inputs.size(); ++i)
      queue_->upload(inputs[i], values[graph_.inputs[i]].as<std::byte>());
  }

  const std::unique_ptr<Stopwatch> stopwatch =
      timings != nullptr ? queue_->stopwatch(graph_.nodes.size() + 1) : nullptr;
  if (stopwatch) {
    enqueue(prepared, values, stopwatch.get());
  } else {
    if (prepared.runs == 1 &&
        prepared.recordable)  // what a first run sets up (kernels loaded, limits raised) is done
      prepared.recording = queue_->record([&] { enqueue(prepared, values, nullptr); });
    prepared.runs = std::min(prepared.runs + 1, 2);
    if (prepared.recording) {
      prepared.recording->replay();
    } else {
      enqueue(prepared, values, nullptr);
    }
  }

  if (!device_.is_host()) {
    for (std::size_t i = 0; i < outputs.size(); ++i)
      queue_->download(values[graph_.outputs[i]].as<std::byte>(), outputs[i]);
  }
  queue_->finish();
  if (!stopwatch) return;
  const std::vector<double> marks = stopwatch->seconds();
  for (std::size_t step = 0; step < graph_.nodes.size(); ++step) {
    const Node& node = piece.nodes[step];
    const std::vector<TensorType> read = input_types(node, prepared.types);
    timings->push_back({node.name, std::string(kind_of(node.op)), cost_of(node, read), marks[step],
                        marks[step + 1] - marks[step],
                        prepared.steps[step].on_host ? "the host, between copies"
                                                     : choice_of(device_, node, read)});
  }
}

double Executor::replay_seconds(Types inputs, int count) {
  const Prepared& prepared = prepare(graph_, inputs);
  if (!prepared.recording) return 0;
  const std::unique_ptr<Stopwatch> stopwatch = queue_->stopwatch(2);
  stopwatch->mark();
  for (int i = 0; i < count; ++i) prepared.recording->replay();
  stopwatch->mark();
  queue_->finish();
  return stopwatch->seconds()[1] / count;
}

}  // namespace tessera
