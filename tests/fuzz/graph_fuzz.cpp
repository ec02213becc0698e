// libFuzzer target: hostile networks through the reader of graphs. What it accepts must be written
// as it was read, and take any image without an overflow: types, weights and costs are asked for.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "engine/files/json_text.h"
#include "engine/graph/fields.h"
#include "engine/graph/graph_file.h"
#include "engine/passes/passes.h"

namespace {

using namespace tessera;

void check(bool ok) {
  if (!ok) std::abort();
}

void check_error(const Error& error) {
  check(std::string(error.what()).size() < 8192);
}

// Types, weights, costs and the optimised graph at one size.
void infer_all(const NetworkGraph& network, std::int64_t side) {
  std::vector<TensorType> inputs;
  for (const int channels : network.channels)
    inputs.push_back({DType::kF32, {1, side, side, channels}});
  try {
    const std::vector<TensorType> types = infer_types(network.graph, inputs);
    for (const Node& node : network.graph.nodes) {
      const std::vector<TensorType> read = input_types(node, types);
      for (const Parameter& parameter : parameters_of(node, read)) parameter.shape.elements();
      check(cost_of(node, read).flops >= 0);
    }
    infer_types(optimise_for_cpu(network.graph, inputs, DType::kF32), inputs);
  } catch (const Error& error) {
    check_error(error);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  constexpr int kMaxDepth = 64;
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  try {
    check_json_limits(text, kMaxDepth);
    const nlohmann::json object = parse_json(text);
    if (!object.is_object() || !object.contains("graph")) return 0;
    const NetworkGraph network = network_from_json(object["graph"]);
    check(network.graph.nodes.size() <= kMaxNodes);
    const nlohmann::json written = to_json(network);
    check(to_json(network_from_json(written)) == written);
    for (const Node& node : network.graph.nodes) {
      check_attributes(node.op);
      attributes_text(node.op);
    }
    infer_all(network, 8);
    infer_all(network, std::int64_t{1} << 20);
  } catch (const Error& error) {
    check_error(error);
  }
  return 0;
}
