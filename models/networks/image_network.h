// A network of any architecture that maps an image to a map of classes.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>

#include "engine/graph/graph_file.h"
#include "engine/graph/image_sizes.h"

namespace tessera {

struct ImageNetwork {
  NetworkGraph network;
  std::int64_t multiple = 1;  // sizes beyond what the operators refuse: those divisible by it run
};

// {"multiple": 32}, beside the graph in a model file.
nlohmann::json sizes_to_json(const ImageNetwork& network);
void read_sizes(const nlohmann::json& object, ImageNetwork& network);

// The graph up to what segmenting needs, unfused. Outputs: mask (n, h, w), u8, and with
// `probabilities` also (n, h, w, classes), f32. What the network does not give is added behind it:
// the activation of logits, the argmax of probabilities. Throws Error where there is nothing that
// it could be made of.
Graph segmentation_graph(const NetworkGraph& network, bool probabilities);

// Checks that the network can segment images, in types and in the weights it names, and returns how
// many channels its probabilities have, or 0 where it gives a mask alone. Throws Error.
std::int64_t check_segmentation(const ImageNetwork& network);

}  // namespace tessera
