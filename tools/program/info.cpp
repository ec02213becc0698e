// `tessera info`: what a model file holds, and what it needs to run.
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/device/machine.h"
#include "engine/graph/fields.h"
#include "models/model_file.h"
#include "models/networks/registry.h"
#include "tools/program/program.h"

namespace tessera {

using nlohmann::json;

namespace {

struct InfoOptions {
  std::string model;
  std::vector<std::string> sizes;
  bool layers = false;
  bool memory_map = false;
  bool json = false;
  std::string device = "auto";
  std::string precision = "auto";
  std::string max_memory;
  int tile = 0;
  ForeignOptions foreign;
};

// Nodes of the network as the papers name them, on the smallest input that runs.
json layers_of(const ModelConfig& config) {
  const Graph graph = build_network(config);
  const std::vector<TensorType> types = infer_types(graph, example_inputs(config));
  json layers = json::array();
  for (const Node& node : graph.nodes) {
    std::int64_t parameters = 0;
    for (const Parameter& p : parameters_of(node, input_types(node, types)))
      parameters += p.shape.elements();
    const auto dims = types[node.outputs[0]].shape.dims();
    layers.push_back({{"name", node.name},
                      {"kind", kind_of(node.op)},
                      {"attributes", attributes_of(node.op)},
                      {"text", attributes_text(node.op)},
                      {"output", std::vector<std::int64_t>(dims.begin(), dims.end())},
                      {"parameters", parameters},
                      {"flops", cost_of(node, input_types(node, types)).flops}});
  }
  return layers;
}

json memory_at(Session& session, std::int64_t height, std::int64_t width) {
  const SegmentationPlan plan = session.plan(height, width);
  return {{"height", height},
          {"width", width},
          {"tiles", plan.tiles},
          {"bands", plan.bands},
          {"tile_height", plan.tile_height},
          {"tile_width", plan.tile_width},
          {"work", plan.work},
          {"weights_bytes", plan.weights},
          {"maps_bytes", plan.arena},
          {"images_bytes", plan.images},
          {"device_bytes", plan.device},
          {"predicted_peak_bytes", plan.peak},
          {"memory_map", plan.memory_map},
          {"advice", plan.advice}};
}

json describe(const InfoOptions& options) {
  ModelOptions model;
  model.device = options.device;
  model.precision = options.precision;
  model.max_memory = options.max_memory;
  model.tile = options.tile;
  model.foreign = options.foreign;
  Session session = Session::open(options.model, model.session_options(options.json));
  json info = json::parse(session.config_json());
  info["file"] = options.model;
  info["parameters"] = session.parameters();
  info["tensor_bytes"] = session.file_bytes();
  info["device"] = session.device();
  info["precision"] = session.precision();
  if (session.task() == Session::Task::kSegment) {
    constexpr int kSizesShown = 8;
    info["input_sizes"] = session.input_sizes(kSizesShown);
    json& memory = info["memory"] = json::array();
    if (options.sizes.empty()) {
      constexpr std::int64_t kUsual = 512;
      memory.push_back(memory_at(session, 1, 1));
      memory.push_back(memory_at(session, kUsual, kUsual));
    }
    for (const std::string& text : options.sizes) {
      const auto [height, width] = parse_size(text);
      memory.push_back(memory_at(session, height, width));
    }
  } else if (!options.sizes.empty()) {
    throw UsageError("--size is for models that segment images; this one classifies documents");
  }
  const ModelConfig config =
      model_config_from_json(json::parse(session.config_json()), options.model);
  const std::string_view name = config.unet  ? network_name(*config.unet)
                                : config.han ? network_name(*config.han)
                                             : "";
  if (!name.empty()) info["network"] = name;
  if (options.layers) info["layers"] = layers_of(config);
  return info;
}

// "key value, key value" of an object's plain members.
std::string plain(const json& object) {
  std::string text;
  for (const auto& [key, value] : object.items()) {
    if (value.is_object() || (value.is_array() && value.empty())) continue;
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key,
                        value.is_string() ? value.get<std::string>() : value.dump());
  }
  return text;
}

// "42 nodes, inputs image of 3 channels, outputs classes: logits (softmax)".
std::string outline(const json& info) {
  const json& graph = info["graph"];
  std::vector<std::string> inputs, outputs;
  for (const json& input : graph["inputs"])
    inputs.push_back(fmt::format("{} of {} channel(s)", input["name"].get<std::string>(),
                                 input["channels"].get<int>()));
  for (const json& output : graph["outputs"])
    outputs.push_back(fmt::format(
        "{}: {}{}", output["name"].get<std::string>(), output["kind"].get<std::string>(),
        output.contains("activation")
            ? fmt::format(" ({})", output["activation"].get<std::string>())
            : ""));
  const int multiple = info["sizes"]["multiple"];
  return fmt::format("{} nodes, input {}, output {}{}", graph["nodes"].size(),
                     fmt::join(inputs, ", "), fmt::join(outputs, ", "),
                     multiple > 1 ? fmt::format(", sizes that {} divides", multiple) : "");
}

void print_memory(const json& memory, bool with_map) {
  for (const json& at : memory) {
    std::cout << fmt::format(
        "  {:>5} x {:<5}  {:>3} {}(s) of up to {} x {}, {:.0f} % of the work done twice; weights "
        "{}, maps {}, images {}; process at most {}\n",
        at["height"].get<std::int64_t>(), at["width"].get<std::int64_t>(),
        at["tiles"].get<std::int64_t>(), at["bands"].get<bool>() ? "band" : "tile",
        at["tile_height"].get<std::int64_t>(), at["tile_width"].get<std::int64_t>(),
        100 * std::max(0.0, 1 - 1 / at["work"].get<double>()),
        format_bytes(at["weights_bytes"].get<std::size_t>()),
        format_bytes(at["maps_bytes"].get<std::size_t>()),
        format_bytes(at["images_bytes"].get<std::size_t>()),
        format_bytes(at["predicted_peak_bytes"].get<std::size_t>()));
    if (const auto advice = at["advice"].get<std::string>(); !advice.empty())
      std::cout << fmt::format("  {}\n", advice);
    if (with_map) std::cout << at["memory_map"].get<std::string>();
  }
}

void print(const json& info, const InfoOptions& options) {
  const std::string architecture = info["architecture"];
  std::cout << fmt::format("{}\n", options.model);
  std::cout << fmt::format("architecture   {}: {}\n", architecture,
                           architecture == "graph" ? outline(info) : plain(info[architecture]));
  if (info.contains("network"))
    std::cout << fmt::format("network        {}\n", info["network"].get<std::string>());
  std::cout << fmt::format("parameters     {}, {}\n", info["parameters"].get<std::uint64_t>(),
                           format_bytes(info["tensor_bytes"].get<std::size_t>()));
  if (info.contains("preprocessing"))
    std::cout << fmt::format("preprocessing  {}\n", plain(info["preprocessing"]));
  if (info.contains("masks")) std::cout << fmt::format("masks          {}\n", plain(info["masks"]));
  if (info.contains("text")) std::cout << fmt::format("text           {}\n", plain(info["text"]));
  std::cout << "classes\n";
  std::size_t index = 0;
  for (const json& one : info["classes"]) {
    const auto colour = one["colour"].get<std::array<int, 3>>();
    std::cout << fmt::format("  {:>3}  #{:02x}{:02x}{:02x}  {}\n", index++, colour[0], colour[1],
                             colour[2], one["name"].get<std::string>());
  }
  if (info.contains("input_sizes")) {
    std::cout << fmt::format(
        "input sizes    {}, ... (the network's own; images of every size run, their borders are "
        "mirrored)\n",
        fmt::join(info["input_sizes"].get<std::vector<std::int64_t>>(), ", "));
    std::cout << "memory         by image size\n";
    print_memory(info["memory"], options.memory_map);
  }
  if (info.contains("layers")) {
    std::cout << fmt::format("\n{:<24} {:<14} {:>22} {:>12} {:>10}  {}\n", "layer", "kind",
                             "output", "parameters", "MFLOP", "attributes");
    for (const json& layer : info["layers"]) {
      std::cout << fmt::format(
          "{:<24} {:<14} {:>22} {:>12} {:>10.2f}  {}\n", layer["name"].get<std::string>(),
          layer["kind"].get<std::string>(),
          fmt::format("{}", fmt::join(layer["output"].get<std::vector<std::int64_t>>(), " x ")),
          layer["parameters"].get<std::int64_t>(), 1e-6 * layer["flops"].get<double>(),
          layer["text"].get<std::string>());
    }
    std::cout << '\n';
  }
  std::cout << "provenance\n";
  for (const auto& [key, value] : info["provenance"].items())
    std::cout << fmt::format("  {}: {}\n", key,
                             value.is_string() ? value.get<std::string>() : value.dump());
}

}  // namespace

Verb make_info_verb(CLI::App& program) {
  const auto options = std::make_shared<InfoOptions>();
  CLI::App& command = *program.add_subcommand("info", "what a model file holds and needs");
  command.add_option("model", options->model, "a model file, of any program that is read")
      ->required();
  command.add_option("--size", options->sizes, "image size for the memory; may be given again")
      ->type_name("HxW");
  add_device_options(command, options->device, options->precision);
  command.add_option("--max-memory", options->max_memory, "as in 'segment': picks the tile")
      ->type_name("BYTES");
  command.add_option("--tile", options->tile, "as in 'segment'")
      ->type_name("N")
      ->check(at_least(0));
  options->foreign.add_to(command);
  command.add_flag("--layers", options->layers, "every layer, on the smallest input");
  command.add_flag("--memory-map", options->memory_map, "place and life of every buffer");
  command.add_flag("--json", options->json, "all of it for machines");
  command.footer(
      "Examples:\n"
      "  tessera info unet.safetensors\n"
      "  tessera info unet.safetensors --size 2048x2048 --max-memory 1G --memory-map\n"
      "  tessera info han.safetensors --layers --json");
  return {&command, [options] {
            const json info = describe(*options);
            if (options->json) {
              std::cout << info.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
            } else {
              print(info, *options);
            }
            return kExitDone;
          }};
}

}  // namespace tessera
