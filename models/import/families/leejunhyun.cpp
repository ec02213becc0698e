// LeeJunHyun/Image_Segmentation, U_Net: Conv{i}.conv, Up{i}.up (nearest, 3x3 convolution, norm,
// ReLU), Up_conv{i}.conv, Conv_1x1; levels from 1.
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

std::optional<Imported> match_leejunhyun(const Contents& contents, const ImportOptions& options,
                                         std::string& why) {
  if (contents.find("Conv1.conv.0.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    const int depth = net.count("Conv{}.conv.0.weight", 2);
    UShape shape{.depth = depth};
    shape.down = [&](int level, ValueId x) {
      return double_conv(net, fmt::format("Conv{}.conv", level + 1), x);
    };
    shape.enlarge = [&](int level, ValueId x) {
      const std::string up = fmt::format("Up{}.up", level + 2);
      return net.conv_relu(up + ".1", up + ".2", net.nearest2(up + ".0", x));
    };
    shape.up = [&](int level, ValueId x) {
      return double_conv(net, fmt::format("Up_conv{}.conv", level + 2), x);
    };
    const ValueId x = build_u(net, shape, net.image_of("Conv1.conv.0"));
    return {.logits = net.conv("Conv_1x1", x),
            .output = "sigmoid",
            .input = "symmetric",
            .multiple = std::int64_t{1} << std::min(depth, 12)};
  });
}

}  // namespace

constinit const Family kLeejunhyunFamily{"LeeJunHyun/Image_Segmentation", "its U_Net",
                                         match_leejunhyun};

}  // namespace tessera
