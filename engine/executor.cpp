#include "engine/executor.h"

#include <algorithm>
#include <chrono>

#include "kernels/check.h"
#include "kernels/cpu/convert.h"

namespace tessera {

Executor::Executor(Graph graph, const WeightSource& weights, Types example, int threads)
    : graph_(std::move(graph)), threads_(threads) {
  require(threads >= 1 && threads <= kMaxThreads, "{} threads: expected 1 to {}", threads,
          kMaxThreads);
  const std::vector<TensorType> types = infer_types(graph_, example);
  for (const Node& node : graph_.nodes) {
    std::vector<TensorView>& taken = weights_.emplace_back();
    for (const Parameter& parameter : parameters_of(node, input_types(node, types))) {
      const std::string name = weight_name(node, parameter.name);
      taken.push_back(weights(name, parameter.shape));
      // Kernels convert weights within parallel regions, which no exception may leave.
      require(is_weight(taken.back().type.dtype),
              "weight '{}' is {}; expected f32, bf16 or f16: export it as one of them", name,
              taken.back().type.to_string());
      require(all_finite(taken.back()),
              "weight '{}' holds a NaN or an infinity; was its training broken off?", name);
    }
  }
}

std::vector<TensorType> Executor::output_types(Types inputs) const {
  const std::vector<TensorType> types = infer_types(graph_, inputs);
  std::vector<TensorType> outputs;
  for (const ValueId value : graph_.outputs) outputs.push_back(types[value]);
  return outputs;
}

const Plan& Executor::plan(Types inputs) {
  return prepare(inputs).plan;
}

Executor::Prepared& Executor::prepare(Types inputs) {
  const auto known = std::ranges::find_if(prepared_, [&](const Prepared& prepared) {
    return std::ranges::equal(prepared.inputs, inputs);
  });
  if (known != prepared_.end()) {
    prepared_.splice(prepared_.begin(), prepared_, known);
  } else {
    prepared_.push_front(make(inputs));
    if (prepared_.size() > kPlansKept) prepared_.pop_back();
  }
  return prepared_.front();
}

Executor::Prepared Executor::make(Types inputs) const {
  Prepared made;
  made.inputs.assign(inputs.begin(), inputs.end());
  made.types = infer_types(graph_, inputs);
  made.buffer_of.assign(graph_.values.size(), kExternal);

  std::vector<PlanBuffer> buffers;
  for (std::size_t step = 0; step < graph_.nodes.size(); ++step) {
    const Node& node = graph_.nodes[step];
    for (const ValueId value : node.outputs) {
      if (graph_.is_output(value)) continue;
      const std::vector<std::size_t> readers = graph_.readers(value);
      made.buffer_of[value] = buffers.size();
      buffers.push_back({graph_.values[value], made.types[value].bytes(), step,
                         readers.empty() ? step : readers.back()});
    }
    const std::vector<TensorType> read = input_types(node, made.types);
    const CpuSetup setup{node.name, read, weights_[step], threads_, packed_.get()};
    try {
      made.steps.push_back(std::visit([&](const auto& op) { return cpu(op, setup); }, node.op));
    } catch (const Error& error) {
      fail("{} '{}': {}", kind_of(node.op), node.name, error.what());
    }
    made.scratch_of.push_back(buffers.size());
    buffers.push_back({node.name + " (scratch)", made.steps.back().scratch_bytes, step, step});
  }
  made.plan = make_plan(std::move(buffers));
  return made;
}

void Executor::run(std::span<const TensorView> inputs, std::span<const TensorView> outputs,
                   std::vector<NodeTiming>* timings) {
  std::vector<TensorType> types;
  for (const TensorView& input : inputs) types.push_back(input.type);
  const Prepared& prepared = prepare(types);
  if (arena_.size() < prepared.plan.peak) {
    arena_ = AlignedBuffer();  // frees the old one first: the peak is one arena, not two
    arena_ = AlignedBuffer(prepared.plan.peak);
  }

  std::vector<TensorView> values(graph_.values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::byte* memory = nullptr;
    if (prepared.buffer_of[i] != kExternal)
      memory = arena_.get() + prepared.plan.buffers[prepared.buffer_of[i]].offset;
    values[i] = {memory, prepared.types[i]};
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) values[graph_.inputs[i]] = inputs[i];
  require(outputs.size() == graph_.outputs.size(), "the graph has {} outputs, {} were given",
          graph_.outputs.size(), outputs.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const TensorType& type = values[graph_.outputs[i]].type;
    require(outputs[i].type == type, "output '{}' is {}, memory for {} was given",
            graph_.values[graph_.outputs[i]], type.to_string(), outputs[i].type.to_string());
    values[graph_.outputs[i]] = outputs[i];
  }

  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  std::vector<TensorView> read, written;
  for (std::size_t step = 0; step < graph_.nodes.size(); ++step) {
    const Node& node = graph_.nodes[step];
    read.clear();
    written.clear();
    for (const ValueId value : node.inputs) read.push_back(values[value]);
    for (const ValueId value : node.outputs) written.push_back(values[value]);
    std::byte* scratch = arena_.get() + prepared.plan.buffers[prepared.scratch_of[step]].offset;
    const double start = elapsed();
    try {
      prepared.steps[step].run({read, weights_[step], written}, scratch);
    } catch (const Error& error) {
      fail("{} '{}': {}", kind_of(node.op), node.name, error.what());
    }
    const double seconds = elapsed() - start;
    if (timings != nullptr) {
      timings->push_back({node.name, std::string(kind_of(node.op)),
                          cost_of(node, input_types(node, prepared.types)), start, seconds});
    }
  }
}

}  // namespace tessera
