// The U that most families share: levels with a pool between, and the way back with their maps.
#pragma once

#include <functional>

#include "models/import/network_builder.h"

namespace tessera {

struct UShape {
  using Layers = std::function<ValueId(int level, ValueId)>;

  int depth = 0;     // pools
  Layers down{};     // of levels 0 .. depth, the last one the bottom
  Layers enlarge{};  // from level + 1 to the size of `level`
  Layers up{};       // behind the concatenation, of levels depth - 1 .. 0
  CropConcat concat{CropConcat::Align::kPadUp, true};
};

inline ValueId build_u(NetworkBuilder& net, const UShape& shape, ValueId x) {
  std::vector<ValueId> skips;
  for (int level = 0; level < shape.depth; ++level) {
    skips.push_back(shape.down(level, x));
    x = net.max_pool(fmt::format("pool{}", level), skips.back());
  }
  x = shape.down(shape.depth, x);
  for (int level = shape.depth; level-- > 0;) {
    x = shape.enlarge(level, x);
    x = net.add(fmt::format("concat{}", level), shape.concat,
                {skips.at(static_cast<std::size_t>(level)), x});
    x = shape.up(level, x);
  }
  return x;
}

// conv, [batch norm], ReLU, conv, [batch norm], ReLU, as children `indices` of the module `name`:
// without norms {0, 2} are convolutions, with them {0, 3} are, and {1, 4} the norms.
inline ValueId double_conv(NetworkBuilder& net, const std::string& name, ValueId x) {
  const bool norms = net.has(name + ".1.running_mean");
  x = net.conv_relu(name + ".0", name + ".1", x);
  return norms ? net.conv_relu(name + ".3", name + ".4", x) : net.conv_relu(name + ".2", "", x);
}

}  // namespace tessera
