#include "models/network_run.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "engine/run/executor.h"
#include "kernels/cpu/convert.h"
#include "kernels/strides.h"
#include "models/import/onnx_network.h"

namespace tessera {
namespace {

constexpr int kToNhwc[] = {0, 2, 3, 1}, kToNchw[] = {0, 3, 1, 2};

// From (n, h, w, c) to (n, c, h, w).
NetworkAnswer to_nchw(const NetworkAnswer& ours) {
  NetworkAnswer result;
  const Shape& shape = ours.type.shape;
  result.type = {ours.type.dtype, {shape[0], shape[3], shape[1], shape[2]}};
  result.bytes.resize(ours.bytes.size());
  const Strides dense = strides_of(shape);
  std::array<Strides, 1> steps{};
  for (std::size_t axis = 0; axis < 4; ++axis)
    steps[0][axis] = dense[static_cast<std::size_t>(kToNchw[axis])];
  walk(result.type.shape, steps, [&](std::int64_t i, const std::array<std::int64_t, 1>& from) {
    copy_element(ours.view(), from[0], result.view(), i);
  });
  return result;
}

// As f32 what a network of 16 bits answers: numpy has no bf16.
NetworkAnswer widened(NetworkAnswer answer) {
  if (answer.type.dtype != DType::kBF16 && answer.type.dtype != DType::kF16) return answer;
  const std::vector<float> values = to_f32(answer.view());
  const auto bytes = std::as_bytes(std::span(values));
  return {{DType::kF32, answer.type.shape}, {bytes.begin(), bytes.end()}};
}

// Whether `given` for input `i` is (n, c, h, w), where (n, h, w, c) is what the network takes: it
// has the channels there, and others behind. Throws Error where neither axis has them.
bool has_channels_first(const ModelConfig& config, std::size_t i, const std::string& name,
                        const StoredTensor& given) {
  if (config.han || given.shape.size() != 4) return false;
  const std::int64_t channels =
      config.graph ? config.graph->network.channels.at(i) : image_channels(config);
  if (given.shape[3] == channels) return false;
  require(
      given.shape[1] == channels,
      "the input {} is {}, and the network reads {} channels: expected (n, h, w, {}), or (n, {}, "
      "h, w)",
      in_quotes(name), shape_text(given.shape), channels, channels, channels);
  return true;
}

}  // namespace

NetworkAnswer our_input(const ModelConfig& config, const std::string& name, const std::string& axes,
                        const StoredTensor& given) {
  NetworkAnswer result;
  if (config.han) {
    const std::vector<std::int64_t> values = read_integers(given);
    result.type = {DType::kI32, Shape(given.shape)};
    result.bytes.resize(result.type.bytes());
    for (std::size_t i = 0; i < values.size(); ++i) {
      require(values[i] >= 0 && values[i] <= std::numeric_limits<std::int32_t>::max(),
              "the input {} holds {}, expected ids from 0", in_quotes(name), values[i]);
      result.view().as<std::int32_t>()[i] = static_cast<std::int32_t>(values[i]);
    }
    return result;
  }
  require(given.shape.size() <= static_cast<std::size_t>(Shape::kMaxRank),
          "the input {} has {} axes, at most {} are supported", in_quotes(name), given.shape.size(),
          Shape::kMaxRank);
  require(axes != "NCHW" || given.shape.size() == 4, "the input {} is {}, expected 4 axes: {}",
          in_quotes(name), shape_text(given.shape), axes);
  const FloatTensor read =
      read_floats(given, axes == "NCHW" ? std::span<const int>(kToNhwc) : std::span<const int>());
  result.type = {DType::kF32, read.shape};
  const auto bytes = std::as_bytes(std::span(read.values));
  result.bytes.assign(bytes.begin(), bytes.end());
  return result;
}

WeightSource source_of(Weights& weights) {
  return
      [&weights](const std::string& name, const Shape& shape) { return weights.take(name, shape); };
}

std::vector<NetworkAnswer> run_graph(const Graph& graph, const WeightSource& weights,
                                     const std::vector<NetworkAnswer>& inputs,
                                     const std::shared_ptr<Device>& device) {
  std::vector<TensorType> types;
  std::vector<TensorView> views, outputs;
  for (const NetworkAnswer& input : inputs) {
    types.push_back(input.type);
    views.push_back(input.view());
  }
  Executor executor(device->optimise(graph, types, true), weights, types, device);
  std::vector<NetworkAnswer> answers;
  for (const TensorType& type : executor.output_types(types))
    answers.push_back({type, std::vector<std::byte>(type.bytes())});
  for (const NetworkAnswer& answer : answers) outputs.push_back(answer.view());
  executor.run(views, outputs);
  for (NetworkAnswer& answer : answers) answer = widened(std::move(answer));
  return answers;
}

std::vector<float> floats_of(const NetworkAnswer& answer) {
  std::vector<float> values(static_cast<std::size_t>(answer.type.shape.elements()));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = answer.type.dtype == DType::kU8
                    ? static_cast<float>(answer.view().as<const std::uint8_t>()[i])
                    : answer.view().as<const float>()[i];
  return values;
}

std::vector<NetworkTensor> network_inputs(const ModelConfig& config) {
  const Graph graph = build_network(config);
  std::vector<NetworkTensor> inputs;
  for (const ValueId value : graph.inputs)
    inputs.push_back({graph.values[value], native_axes(config, graph.values[value])});
  return inputs;
}

std::vector<NetworkTensor> network_outputs(const ModelConfig& config) {
  std::vector<NetworkTensor> outputs;
  if (config.graph) {
    for (const NetworkOutput& output : config.graph->network.outputs)
      outputs.push_back({output.name, native_axes(config, output.name)});
    return outputs;
  }
  const Graph graph = build_network(config);
  for (const ValueId value : graph.outputs) outputs.push_back({graph.values[value], ""});
  return outputs;
}

std::map<std::string, NetworkAnswer> run_network(ModelFile& file,
                                                 const std::map<std::string, StoredTensor>& inputs,
                                                 const std::shared_ptr<Device>& device) {
  const std::vector<NetworkTensor> expected = network_inputs(file.config);
  std::vector<NetworkAnswer> read;
  bool channels_first = false;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto& [name, axes] = expected[i];
    const auto given = inputs.find(name);
    require(given != inputs.end(), "the input {} is missing", in_quotes(name));
    const bool turned = axes.empty() && has_channels_first(file.config, i, name, given->second);
    channels_first = channels_first || turned;
    read.push_back(our_input(file.config, name, turned ? "NCHW" : axes, given->second));
  }
  for (const auto& [name, tensor] : inputs) {
    require(std::ranges::count(expected, name, &NetworkTensor::name) == 1,
            "the network has no input {}", in_quotes(name));
  }
  const std::vector<NetworkTensor> names = network_outputs(file.config);
  std::vector<NetworkAnswer> ours =
      run_graph(build_network(file.config), source_of(file.weights), read, device);
  std::map<std::string, NetworkAnswer> answers;
  for (std::size_t i = 0; i < ours.size(); ++i) {
    const bool turned =
        (channels_first || !names[i].axes.empty()) && ours[i].type.shape.rank() == 4;
    answers[names[i].name] = turned ? to_nchw(ours[i]) : std::move(ours[i]);
  }
  return answers;
}

}  // namespace tessera
