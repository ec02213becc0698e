// Why a layer may diverge: what frameworks do differently, tried one by one.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "models/network_run.h"

namespace tessera {

// The part of a network between values that are known and one that diverges.
struct Suspect {
  Graph graph;                                          // one output
  std::vector<NetworkAnswer> inputs;                    // of the graph, as they should be
  bool reads_image = false;                             // inputs[0] is the network's own image
  bool is_answer = false;                               // the output is the network's
  std::map<std::string, std::vector<float>> weights{};  // instead of the file's
};

struct Change {
  std::string what;
  std::function<void(Suspect&)> apply;
};

// Changes that have an effect on `suspect`, each by itself: the order of a concatenation, the eps
// of a norm, the side that is padded, corners of an up-sampling, another activation, the order of
// gates, the formula of a GRU, the channels and the range of the input, the answer's activation.
// `weight` gives a tensor of the file, f32, by its name.
std::vector<Change> possible_changes(
    const Suspect& suspect, const std::function<std::vector<float>(const std::string&)>& weight);

}  // namespace tessera
