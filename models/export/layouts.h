// What both exports start from: the network, its names, and which way its maps lie. Ours are
// (n, h, w, c); the layers of ONNX and PyTorch take (n, c, h, w). A map is turned where its reader
// needs it and its maker did not give it, once.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "models/model_file.h"

namespace tessera {

enum class Layout : std::uint8_t { kOurs, kChannelsFirst };  // the second of 4 axes alone

class Layouts {
 public:
  // Writes what turns the axes of a value, and returns the name of the result: its axis i is the
  // value's axis order[i].
  using Turn = std::function<std::string(const std::string& value, std::array<int, 4> order)>;
  explicit Layouts(Turn turn) : turn_(std::move(turn)) {}

  void set(ValueId value, std::string name, Layout layout);
  // How the value was made.
  Layout of(ValueId value) const { return made_.at(value); }
  const std::string& name(ValueId value, Layout layout);

 private:
  Turn turn_;
  std::map<ValueId, Layout> made_;
  std::map<std::pair<ValueId, Layout>, std::string> names_;
};

// Where our axis of a tensor of `rank` axes lies, counted from 0.
int placed_axis(int axis, int rank, Layout layout);

// A network that is to be exported: unfused, with the types of its values at the smallest size, and
// how its ends are called and lie outside.
struct ExportedNetwork {
  struct End {
    ValueId value;
    std::string name;
    Layout layout;
  };
  Graph graph;
  std::vector<TensorType> types;
  std::vector<End> inputs, outputs;
};
ExportedNetwork exported_network(const ModelConfig& config);

// A weight of `node` as f32, whatever the model file stores.
FloatTensor exported_weight(ModelFile& file, const Node& node, const Parameter& parameter);

}  // namespace tessera
