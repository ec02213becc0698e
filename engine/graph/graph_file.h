// A network of any architecture as JSON: an unfused graph, what goes in and what comes out.
//
//   {"version": 1,
//    "inputs":  [{"name": "image", "channels": 3}],
//    "nodes":   [{"name": "stem", "op": "conv", "in": ["image"], "c_out": 64, "kernel": [7, 7]},
//                {"name": "up", "op": "conv", ..., "weights": {"weight": "decoder.0.weight"}}],
//    "outputs": [{"name": "classes", "value": "up", "kind": "logits", "activation": "softmax"}]}
//
// Nodes stand in the order in which they run: each reads inputs and earlier nodes by name (further
// values of a node are called "name:1"), so that no cycle can be written. A node has its operator's
// attributes (engine/graph/fields.h), and "weights" where tensors are not called name/parameter.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/graph/graph.h"

namespace tessera {

// What one of a network's values means.
struct NetworkOutput {
  enum class Kind : std::uint8_t {
    kMask,           // (n, h, w), u8: class ids
    kProbabilities,  // (n, h, w, classes), f32; of one channel, of the second of two classes
    kLogits,         // likewise, before `activation`
    kTensor,         // of any meaning: computed, never shown as a segmentation
  };
  std::string name;
  Kind kind = Kind::kMask;
  Head::Output activation = Head::Output::kSoftmax;  // of kLogits
};
constexpr std::array<std::string_view, 4> names_of(NetworkOutput::Kind) {
  return {"mask", "probabilities", "logits", "tensor"};
}

// A network that maps images to maps. Inputs are f32 (n, h, w, channels).
struct NetworkGraph {
  Graph graph;
  std::vector<int> channels;           // of each input
  std::vector<NetworkOutput> outputs;  // of each output
};

inline constexpr std::size_t kMaxNodes = 1 << 14;
inline constexpr std::size_t kMaxNameBytes = 256;

// Throws Error for a fused graph: what passes decide has no place in a file.
nlohmann::json to_json(const NetworkGraph& network);
// Throws Error, naming the node, for all that to_json does not write.
NetworkGraph network_from_json(const nlohmann::json& object);

// Throws Error where `text`, JSON that may hold a network under the key "graph" of its outermost
// object, nests deeper than `max_depth` or has more than kMaxNodes nodes. It makes no tree, so that
// a hostile text costs no memory; what is no JSON is left to the parser.
void check_json_limits(std::string_view text, int max_depth);

}  // namespace tessera
