#include "models/layer_check.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "engine/files/safetensors.h"
#include "models/layer_names.h"
#include "models/layer_reasons.h"

namespace tessera {
namespace {

// The values of `layer` in our axes, where it is (n, c, h, w) and ours is (n, h, w, c).
std::vector<float> in_our_axes(const StoredTensor& layer, const Shape& ours,
                               std::string_view axes) {
  constexpr int kNchwToNhwc[] = {0, 2, 3, 1};
  const std::vector<std::int64_t>& dims = layer.shape;
  const bool image = dims.size() == 4 && ours.rank() == 4;
  const bool as_it_is = image && std::ranges::equal(dims, ours.dims());
  const bool turned =
      image && dims[0] == ours[0] && dims[1] == ours[3] && dims[2] == ours[1] && dims[3] == ours[2];
  if (turned && (axes == "NCHW" || (!as_it_is && axes.empty())))
    return read_floats(layer, kNchwToNhwc).values;
  return read_floats(layer).values;
}

NetworkAnswer answer_of(const std::vector<float>& values, const TensorType& type) {
  const auto bytes = std::as_bytes(std::span(values));
  return {type, {bytes.begin(), bytes.end()}};
}

// What is known when the first layer that diverges is looked at.
struct Known {
  const Graph& graph;
  const std::vector<NetworkAnswer>& inputs;             // of the network
  const std::map<ValueId, std::vector<float>>& values;  // that are as they should be
  Types types;
};

// The nodes between what is known and `value`.
Suspect suspect_of(const Known& known, ValueId value) {
  Suspect suspect;
  std::map<ValueId, ValueId> ours;  // value of the network -> of the part
  std::set<ValueId> wanted{value};
  std::vector<const Node*> nodes;
  const auto is_known = [&](ValueId one) { return known.values.contains(one) && one != value; };
  for (std::size_t i = known.graph.nodes.size(); i-- > 0;) {
    const Node& node = known.graph.nodes[i];
    const bool needed = std::ranges::any_of(
        node.outputs, [&](ValueId made) { return wanted.contains(made) && !is_known(made); });
    if (!needed) continue;
    nodes.push_back(&node);
    wanted.insert(node.inputs.begin(), node.inputs.end());
  }
  const auto add_input = [&](ValueId one, NetworkAnswer answer) {
    ours[one] = suspect.graph.add_input(known.graph.values[one]);
    suspect.inputs.push_back(std::move(answer));
  };
  for (std::size_t i = 0; i < known.graph.inputs.size(); ++i) {
    if (!wanted.contains(known.graph.inputs[i])) continue;
    suspect.reads_image = suspect.reads_image || i == 0;
    add_input(known.graph.inputs[i], known.inputs[i]);
  }
  for (const ValueId one : wanted)
    if (is_known(one)) add_input(one, answer_of(known.values.at(one), known.types[one]));
  for (auto node = nodes.rbegin(); node != nodes.rend(); ++node) {
    std::vector<ValueId> from;
    for (const ValueId one : (*node)->inputs) from.push_back(ours.at(one));
    suspect.graph.add((*node)->name, (*node)->op, from);
    Node& copy = suspect.graph.nodes.back();
    copy.weight_names = (*node)->weight_names;
    for (std::size_t i = 0; i < copy.outputs.size(); ++i)
      ours[(*node)->outputs[i]] = copy.outputs[i];
  }
  suspect.graph.outputs = {ours.at(value)};
  suspect.is_answer = known.graph.is_output(value);
  return suspect;
}

// The output, with weights of its own where it has some. Throws Error where it cannot be computed.
std::vector<float> run_suspect(const Suspect& suspect, ModelFile& file,
                               const std::shared_ptr<Device>& device) {
  const WeightSource weights = [&](const std::string& name, const Shape& shape) {
    const auto own = suspect.weights.find(name);
    if (own == suspect.weights.end()) return file.weights.take(name, shape);
    return TensorView(const_cast<float*>(own->second.data()), {DType::kF32, shape});
  };
  return floats_of(run_graph(suspect.graph, weights, suspect.inputs, device).at(0));
}

std::vector<Reason> find_reasons(const Suspect& suspect, const std::vector<float>& expected,
                                 double largest, double tolerance, ModelFile& file,
                                 const std::shared_ptr<Device>& device) {
  constexpr std::size_t kMostChanges = 400, kShown = 5;
  constexpr double kBetter = 0.5;  // of the difference without a change
  const auto weight = [&](const std::string& name) {
    const TensorView view = file.weights.take_any_shape(name);
    require(view.type.dtype == DType::kF32, "the weight {} is {}, expected f32", in_quotes(name),
            view.type);
    const auto* const values = view.as<const float>();
    return std::vector<float>(values, values + view.shape().elements());
  };
  std::vector<Reason> reasons;
  std::vector<Change> changes = possible_changes(suspect, weight);
  if (changes.size() > kMostChanges) changes.resize(kMostChanges);
  for (const Change& change : changes) {
    try {
      Suspect trial = suspect;
      change.apply(trial);
      const std::vector<float> answer = run_suspect(trial, file, device);
      if (answer.size() != expected.size()) continue;
      const Difference found = difference_of(answer, expected);
      if (found.largest <= kBetter * largest)
        reasons.push_back({change.what, found.largest, found.is_within(tolerance)});
    } catch (const Error&) {
      continue;  // a change that this network cannot have
    }
  }
  std::ranges::stable_sort(reasons, {}, &Reason::largest);
  if (reasons.size() > kShown) reasons.resize(kShown);
  return reasons;
}

}  // namespace

LayerCheck check_layers(ModelFile& file, const Activations& expected, double tolerance,
                        const std::shared_ptr<Device>& device) {
  const std::vector<NetworkAnswer> inputs = our_inputs(file.config, expected);
  std::vector<TensorType> input_types;
  for (const NetworkAnswer& input : inputs) input_types.push_back(input.type);
  const Graph network = build_network(file.config);
  const std::vector<TensorType> types = infer_types(network, input_types);
  const LayerPairs found = pair_layers(network, types, expected);
  const std::vector<LayerPair>& pairs = found.pairs;
  require(
      !pairs.empty(),
      "{}: none of its {} layers has a partner of this network, by name and number of elements; "
      "its first is {}, the network's {}",
      expected.file, expected.layers.size(), in_quotes(expected.layers.at(0).name),
      in_quotes(network.nodes.at(0).name));

  LayerCheck check;
  Graph graph = network;
  graph.outputs.clear();
  for (const LayerPair& pair : pairs) graph.outputs.push_back(pair.value);
  for (const std::size_t i : found.without_partner)
    check.without_partner.push_back(expected.layers[i].name);
  const std::vector<NetworkAnswer> made = run_graph(graph, source_of(file.weights), inputs, device);

  std::map<ValueId, std::vector<float>> known;
  check.first = pairs.size();
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const StoredTensor& theirs = expected.layers[pairs[i].theirs];
    std::vector<float> wanted = in_our_axes(theirs, made[i].type.shape, expected.axes);
    CheckedLayer layer{network.values[pairs[i].value], theirs.name,
                       difference_of(floats_of(made[i]), wanted)};
    layer.fits = layer.difference.is_within(tolerance);
    if (!layer.fits && check.first == pairs.size()) {
      check.first = i;
      if (made[i].type.dtype == DType::kF32)
        check.reasons = find_reasons(suspect_of({network, inputs, known, types}, pairs[i].value),
                                     wanted, layer.difference.largest, tolerance, file, device);
    }
    if (made[i].type.dtype == DType::kF32) known[pairs[i].value] = std::move(wanted);
    check.layers.push_back(std::move(layer));
  }
  return check;
}

}  // namespace tessera
