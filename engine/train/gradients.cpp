#include "engine/train/gradients.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "engine/graph/node_checks.h"
#include "engine/train/optimiser.h"
#include "kernels/cpu/convert.h"
#include "kernels/train/ops.h"

namespace tessera {

namespace {

// Parts of memory begin at multiples of this.
std::size_t in_parts(std::size_t bytes) {
  constexpr std::size_t kPart = 256;
  return (bytes + kPart - 1) / kPart * kPart;
}

// What its backward run reads, if it has one.
Saved saved_by(const Node& node, Types inputs) {
  return std::visit(
      [&](const auto& op) -> Saved {
        if constexpr (Trainable<std::decay_t<decltype(op)>>) return saved_for_backward(op, inputs);
        return {std::vector<bool>(node.inputs.size()), std::vector<bool>(node.outputs.size()), {}};
      },
      node.op);
}

GradientNeeds gradient_needs(const Graph& graph, Types types,
                             const std::function<bool(const std::string& weight)>& is_trained) {
  GradientNeeds needs;
  needs.values.assign(graph.values.size(), false);
  for (const Node& node : graph.nodes) {
    bool needed = false;
    for (const Parameter& parameter : parameters_of(node, input_types(node, types)))
      needed = needed || is_trained(weight_name(node, parameter.name));
    for (const ValueId value : node.inputs) needed = needed || needs.values[value];
    for (const ValueId value : node.outputs) needs.values[value] = needed;
    needs.nodes.push_back(needed);
  }
  return needs;
}

}  // namespace

void require_trainable(const Graph& graph, Types example) {
  constexpr std::size_t kMostNamed = 5;
  std::set<std::string> trained;
  for (const TrainedParameter& parameter : trained_parameters(graph, example))
    if (!parameter.frozen) trained.insert(parameter.name);
  require(!trained.empty(), "the network has no weights to train");
  const GradientNeeds needs =
      gradient_needs(graph, infer_types(graph, example),
                     [&](const std::string& name) { return trained.contains(name); });
  std::string named;
  std::size_t count = 0;
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    const Node& node = graph.nodes[i];
    const bool trainable =
        std::visit([](const auto& op) { return Trainable<std::decay_t<decltype(op)>>; }, node.op);
    if (trainable || !needs.nodes[i] || ++count > kMostNamed) continue;
    named += fmt::format("{}{} '{}'", named.empty() ? "" : ", ", kind_of(node.op), node.name);
  }
  require(count == 0,
          "{}{} lie behind weights that are trained, and have no backward run; train it with the "
          "program that made it, or replace them",
          named, count > kMostNamed ? fmt::format(" and {} more", count - kMostNamed) : "");
}

Gradients::Gradients(const Graph& graph, const WeightSource& initial, Types example,
                     std::shared_ptr<Queue> queue, const std::vector<std::string>& frozen,
                     bool recompute)
    : queue_(std::move(queue)),
      graph_(device().optimise_for_training(graph, example)),
      recompute_(recompute) {
  require(graph_.outputs.size() == 1, "a graph for training has one output, the logits, not {}",
          graph_.outputs.size());
  const std::vector<TensorType> types = infer_types(graph_, example);
  std::map<std::string, std::size_t> known;
  std::size_t value_bytes = 0, statistic_bytes = 0;
  for (const Node& node : graph_.nodes) {
    std::vector<std::size_t>& indices = weight_indices_.emplace_back();
    for (const Parameter& parameter : parameters_of(node, input_types(node, types))) {
      const std::string name = weight_name(node, parameter.name);
      const auto [entry, is_new] = known.emplace(name, weights_.size());
      indices.push_back(entry->second);
      const bool statistic = parameter.role == Role::kStatistic;
      const auto* norm = std::get_if<BatchNorm>(&node.op);
      const double share = statistic && norm != nullptr ? 1 - norm->momentum : 1;
      if (!is_new) {
        weights_[entry->second].share *= share;
        continue;
      }
      const TensorType type{DType::kF32, parameter.shape};
      const bool trained = !statistic && std::ranges::count(frozen, name) == 0;
      weights_.push_back({name, {nullptr, type}, {nullptr, type}, trained, statistic, share});
      value_bytes += in_parts(type.bytes());
      if (trained) gradient_bytes_ += in_parts(type.bytes());
      if (statistic) statistic_bytes = std::max(statistic_bytes, type.bytes());
    }
  }
  needs_ = gradient_needs(
      graph_, types, [&](const std::string& name) { return weights_[known.at(name)].trained; });
  for (const std::string& name : frozen)
    require(known.contains(name), "'{}' is to be frozen, but the network has no such weight", name);

  value_memory_ = device().allocate(value_bytes);
  gradient_memory_ = device().allocate(gradient_bytes_);
  discarded_ = device().allocate(statistic_bytes);
  queue_->clear(discarded_->get(), statistic_bytes);
  std::byte *value = value_memory_->get(), *gradient = gradient_memory_->get();
  for (Weight& weight : weights_) {
    const std::size_t bytes = in_parts(weight.value.type.bytes());
    weight.value.pointer = value;
    value += bytes;
    if (weight.trained) {
      weight.gradient.pointer = gradient;
      gradient += bytes;
    }
    const Shape& shape = weight.value.shape();
    const std::vector<float> values = to_f32(initial(weight.name, shape));
    queue_->upload({const_cast<float*>(values.data()), weight.value.type},
                   weight.value.as<std::byte>());
  }
  clear();
}

void Gradients::clear() {
  queue_->clear(gradient_memory_->get(), gradient_bytes_);
}

FloatTensors Gradients::values() const {
  FloatTensors values;
  for (const Weight& weight : weights_) {
    FloatTensor& tensor = values[weight.name] = FloatTensor(weight.value.shape());
    queue_->download(weight.value.as<std::byte>(), tensor.view());
  }
  queue_->finish();
  return values;
}

void Gradients::set_values(const TensorViews& values) {
  for (const Weight& weight : weights_) {
    const auto found = values.find(weight.name);
    require(found != values.end() && found->second.type == weight.value.type,
            "the values given have no '{}' of {}", weight.name, weight.value.type);
    queue_->upload(found->second, weight.value.as<std::byte>());
  }
}

// Writes the program of one shape and the lives of its buffers.
class Gradients::Program {
 public:
  Program(const Gradients& owner, Prepared& made)
      : graph_(owner.graph_),
        needs_(owner.needs_),
        readers_(graph_),
        made_(made),
        value_(graph_.values.size(), kNone),
        gradient_(graph_.values.size(), kNone),
        saved_(graph_.nodes.size()) {
    if (!owner.device().is_host()) {
      for (const ValueId input : graph_.inputs)
        made_.input_buffers.push_back(
            value_[input] = add_buffer(graph_.values[input], made_.types[input].bytes()));
    }
    const std::size_t nodes = graph_.nodes.size();
    const std::size_t segment =
        owner.recompute_ ? static_cast<std::size_t>(std::lround(std::sqrt(nodes))) : nodes;
    for (std::size_t node = 0; node < nodes; ++node) add_forward(node);
    add_loss();
    for (std::size_t end = nodes; end > 0;) {
      const std::size_t begin = (end - 1) / segment * segment;
      if (end < nodes) {
        for (std::size_t node = begin; node < end; ++node) recompute(node, end);
      }
      for (std::size_t node = end; node-- > begin;) add_backward(node);
      end = begin;
    }
    made_.plan = make_plan(std::move(buffers_));
  }

 private:
  std::size_t step() const { return made_.program.size(); }

  std::size_t add_buffer(const std::string& name, std::size_t bytes) {
    buffers_.push_back({name, bytes, step(), step()});
    return buffers_.size() - 1;
  }
  std::size_t use(std::size_t buffer) {
    if (buffer != kNone) buffers_[buffer].last = step();
    return buffer;
  }

  void add_forward(std::size_t index) {
    const Node& node = graph_.nodes[index];
    Action action;
    action.node = index;
    for (const ValueId value : node.inputs) action.inputs.push_back(use(value_[value]));
    for (const ValueId value : node.outputs) {
      value_[value] = add_buffer(graph_.values[value], made_.types[value].bytes());
      action.outputs.push_back(value_[value]);
    }
    saved_[index].clear();
    for (const TensorType& extra : made_.saved[index].extra)
      saved_[index].push_back(add_buffer(node.name + " (saved)", extra.bytes()));
    action.saved = saved_[index];
    action.scratch = add_buffer(node.name + " (scratch)", made_.forward[index].scratch_bytes);
    made_.program.push_back(std::move(action));
  }

  // Computes node `index` of the segment that ends at `end` again, unless all it wrote is still
  // there. Buffers of the first run end with their last reader there, and new ones begin.
  void recompute(std::size_t index, std::size_t end) {
    const Node& node = graph_.nodes[index];
    const auto leaves = [&](ValueId value) {
      return std::ranges::any_of(readers_[value],
                                 [&](std::size_t reader) { return reader >= end; });
    };
    if (std::ranges::all_of(node.outputs, leaves) && made_.saved[index].extra.empty()) return;
    add_forward(index);
    made_.program.back().again = true;
  }

  void add_loss() {
    const ValueId logits = graph_.outputs[0];
    Action action;
    action.kind = Kind::kLoss;
    action.inputs = {use(value_[logits])};
    gradient_[logits] =
        add_buffer(graph_.values[logits] + " (gradient)", made_.types[logits].bytes());
    action.output_gradients = {gradient_[logits]};
    made_.program.push_back(std::move(action));
  }

  void add_backward(std::size_t index) {
    const Node& node = graph_.nodes[index];
    const Saved& saved = made_.saved[index];
    const bool reached =
        std::ranges::any_of(node.outputs, [&](ValueId value) { return gradient_[value] != kNone; });
    if (!needs_.nodes[index] || !reached) return;
    Action action;
    action.kind = Kind::kBackward;
    action.node = index;
    for (std::size_t i = 0; i < node.inputs.size(); ++i)
      action.inputs.push_back(saved.inputs[i] ? use(value_[node.inputs[i]]) : kNone);
    for (std::size_t i = 0; i < node.outputs.size(); ++i) {
      action.outputs.push_back(saved.outputs[i] ? use(value_[node.outputs[i]]) : kNone);
      action.output_gradients.push_back(use(gradient_[node.outputs[i]]));
    }
    for (const std::size_t buffer : saved_[index]) action.saved.push_back(use(buffer));
    for (const ValueId value : node.inputs) {
      if (!needs_.values[value]) {
        action.input_gradients.push_back(kNone);
        action.sums.push_back(kNone);
        continue;
      }
      const std::size_t buffer =
          add_buffer(graph_.values[value] + " (gradient)", made_.types[value].bytes());
      action.input_gradients.push_back(buffer);
      action.sums.push_back(use(gradient_[value]));
      if (gradient_[value] == kNone) gradient_[value] = buffer;
    }
    action.scratch = add_buffer(node.name + " (scratch)", made_.backward[index].scratch_bytes);
    made_.program.push_back(std::move(action));
  }

  const Graph& graph_;
  const GradientNeeds& needs_;
  const Readers readers_;
  Prepared& made_;
  std::vector<PlanBuffer> buffers_;
  std::vector<std::size_t> value_, gradient_;    // buffers, by value
  std::vector<std::vector<std::size_t>> saved_;  // buffers, by node
};

Gradients::Prepared& Gradients::prepare(Types inputs) {
  return prepared_.find_or_make(inputs, [&] { return make(inputs); });
}

Gradients::Prepared Gradients::make(Types inputs) const {
  Prepared made;
  made.inputs.assign(inputs.begin(), inputs.end());
  made.types = infer_types(graph_, inputs);
  for (std::size_t i = 0; i < graph_.nodes.size(); ++i) {
    const Node& node = graph_.nodes[i];
    const std::vector<TensorType> read = input_types(node, made.types);
    const std::vector<TensorView> weights = weights_of(i, false);
    named(node, [&] {
      made.saved.push_back(saved_by(node, read));
      made.forward.push_back(queue_->prepare_train(node, read, weights));
      made.backward.push_back(needs_.nodes[i] ? queue_->prepare_backward(node, read, weights)
                                              : BackwardStep());
    });
  }
  Program(*this, made);
  return made;
}

std::byte* Gradients::memory(const Prepared& prepared, std::size_t buffer) const {
  return buffer == kNone ? nullptr : arena_.get() + prepared.plan.buffers[buffer].offset;
}

std::vector<TensorView> Gradients::values(const Prepared& prepared, const std::vector<ValueId>& ids,
                                          const std::vector<std::size_t>& buffers,
                                          std::span<const TensorView> inputs) const {
  std::vector<TensorView> views;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto given = std::ranges::find(graph_.inputs, ids[i]);
    if (device().is_host() && given != graph_.inputs.end()) {
      views.push_back(inputs[static_cast<std::size_t>(given - graph_.inputs.begin())]);
    } else {
      views.emplace_back(memory(prepared, buffers[i]), prepared.types[ids[i]]);
    }
  }
  return views;
}

std::vector<TensorView> Gradients::weights_of(std::size_t node, bool gradients) const {
  std::vector<TensorView> views;
  for (const std::size_t index : weight_indices_[node]) {
    views.push_back(gradients ? weights_[index].gradient : weights_[index].value);
  }
  return views;
}

void Gradients::forward(const Prepared& prepared, const Action& action,
                        std::span<const TensorView> inputs, RandomStream random) const {
  const Node& node = graph_.nodes[action.node];
  const auto read = values(prepared, node.inputs, action.inputs, inputs);
  const auto written = values(prepared, node.outputs, action.outputs, inputs);
  std::vector<TensorView> weights = weights_of(action.node, false), saved;
  for (std::size_t i = 0; action.again && i < weights.size(); ++i) {
    if (!weights_[weight_indices_[action.node][i]].statistic) continue;
    // Running statistics count a batch once, so this run updates a copy; that it is one matters to
    // operators that read theirs.
    const TensorView copy{discarded_->get(), weights[i].type};
    queue_->clear(discarded_->get(), copy.type.bytes());
    queue_->add(copy, weights[i]);
    weights[i] = copy;
  }
  for (std::size_t i = 0; i < action.saved.size(); ++i)
    saved.emplace_back(memory(prepared, action.saved[i]), prepared.saved[action.node].extra[i]);
  // A stream of its own for each node: the same in a recomputed run.
  constexpr std::uint64_t kMostNodes = 1 << 16;
  random.stream = random.stream * kMostNodes + action.node;
  prepared.forward[action.node].run({read, weights, written, saved, random},
                                    memory(prepared, action.scratch));
}

void Gradients::backward(const Prepared& prepared, const Action& action,
                         std::span<const TensorView> inputs) const {
  const Node& node = graph_.nodes[action.node];
  const auto read = values(prepared, node.inputs, action.inputs, inputs);
  const auto written = values(prepared, node.outputs, action.outputs, {});
  const auto weights = weights_of(action.node, false);
  const auto weight_gradients = weights_of(action.node, true);
  const auto output_gradients = values(prepared, node.outputs, action.output_gradients, {});
  std::vector<TensorView> saved, input_gradients;
  for (std::size_t i = 0; i < action.saved.size(); ++i)
    saved.emplace_back(memory(prepared, action.saved[i]), prepared.saved[action.node].extra[i]);
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    input_gradients.emplace_back(memory(prepared, action.input_gradients[i]),
                                 prepared.types[node.inputs[i]]);
  }
  prepared.backward[action.node].run(
      {read, weights, written, saved, output_gradients, input_gradients, weight_gradients},
      memory(prepared, action.scratch));
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (action.sums[i] == kNone) continue;
    queue_->add({memory(prepared, action.sums[i]), prepared.types[node.inputs[i]]},
                input_gradients[i]);
  }
}

void Gradients::upload_inputs(const Prepared& prepared, std::span<const TensorView> inputs) const {
  check_inputs(graph_, prepared.types, inputs);
  for (std::size_t i = 0; i < inputs.size(); ++i)
    queue_->upload(inputs[i], memory(prepared, prepared.input_buffers[i]));
}

LossResult Gradients::run_loss(const Prepared& prepared, const Action& action,
                               const LossTarget& target) {
  const TensorType type = prepared.types[graph_.outputs[0]];
  const std::int64_t classes = type.shape[-1];
  const LossStep step = queue_->prepare_loss(target.loss, type, target.labels.type);
  LossOperands operands{
      .logits = {memory(prepared, action.inputs[0]), type},
      .labels = target.labels,
      .weights = target.weights,
      .class_weights = target.class_weights,
      .gradient = reinterpret_cast<float*>(memory(prepared, action.output_gradients[0]))};
  std::size_t used = in_parts(step.scratch_bytes);
  if (device().is_host()) {
    loss_memory_.grow(device(), used);
    return step.run(operands, loss_memory_.get());
  }
  check_labels(target.loss, classes, target.labels);
  const TensorType weights{DType::kF32, target.labels.shape()};
  const TensorType class_weights{DType::kF32, {std::max<std::int64_t>(classes, 2)}};
  loss_memory_.grow(device(), used + in_parts(target.labels.type.bytes()) +
                                  in_parts(weights.bytes()) + in_parts(class_weights.bytes()));
  const auto upload = [&](const void* from, const TensorType& of) -> std::byte* {
    if (from == nullptr) return nullptr;
    std::byte* const to = loss_memory_.get() + used;
    used += in_parts(of.bytes());
    queue_->upload({const_cast<void*>(from), of}, to);
    return to;
  };
  operands.labels.pointer = upload(target.labels.pointer, target.labels.type);
  operands.weights = reinterpret_cast<float*>(upload(target.weights, weights));
  operands.class_weights = reinterpret_cast<float*>(upload(target.class_weights, class_weights));
  return step.run(operands, loss_memory_.get());
}

LossResult Gradients::add(std::span<const TensorView> inputs, const LossTarget& target,
                          RandomStream random) {
  std::vector<TensorType> types;
  for (const TensorView& input : inputs) types.push_back(input.type);
  const Prepared& prepared = prepare(types);
  arena_.grow(device(), prepared.plan.peak);
  if (!device().is_host()) upload_inputs(prepared, inputs);
  LossResult result;
  for (const Action& action : prepared.program) {
    if (action.kind == Kind::kForward) {
      forward(prepared, action, inputs, random);
    } else if (action.kind == Kind::kBackward) {
      backward(prepared, action, inputs);
    } else {
      result = run_loss(prepared, action, target);
      if (!std::isfinite(result.loss)) report_not_finite(prepared, inputs, random);
    }
  }
  return result;
}

bool Gradients::is_finite(const TensorView& view) const {
  if (device().is_host()) return all_finite(view);
  std::vector<std::byte> copy(view.type.bytes());
  const TensorView host{copy.data(), view.type};
  queue_->download(view.as<std::byte>(), host);
  queue_->finish();
  return all_finite(host);
}

void Gradients::report_not_finite(const Prepared& prepared, std::span<const TensorView> inputs,
                                  RandomStream random) const {
  for (const Weight& weight : weights_) {
    if (weight.statistic) continue;  // the run that failed has updated it
    require(is_finite(weight.value),
            "weight '{}' is not finite; lower the learning rate or clip the gradients",
            weight.name);
  }
  for (const Action& action : prepared.program) {
    if (action.kind != Kind::kForward) break;
    forward(prepared, action, inputs, random);
    const Node& node = graph_.nodes[action.node];
    for (const TensorView& output : values(prepared, node.outputs, action.outputs, inputs)) {
      require(!is_float(output.type.dtype) || is_finite(output),
              "{} '{}' gave a value that is not finite; lower the learning rate, clip the "
              "gradients, or look for extreme inputs",
              kind_of(node.op), node.name);
    }
  }
  fail("the loss is not finite, though every node's output is; check labels and weights");
}

}  // namespace tessera
