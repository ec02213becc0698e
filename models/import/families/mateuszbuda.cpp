// mateuszbuda/brain-segmentation-pytorch: encoder{i}.enc{i}conv{k}, bottleneck.bottleneckconv{k},
// upconv{i}, decoder{i}.dec{i}conv{k}, conv; levels from 1; (up, skip).
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

std::optional<Imported> match_mateuszbuda(const Contents& contents, const ImportOptions& options,
                                          std::string& why) {
  if (contents.find("encoder1.enc1conv1.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    const int depth = net.count("upconv{}.weight", 1);
    const auto block = [&net](const std::string& name, ValueId x) {
      for (const int k : {1, 2})
        x = net.conv_relu(fmt::format("{}conv{}", name, k), fmt::format("{}norm{}", name, k), x);
      return x;
    };
    UShape shape{.depth = depth};
    shape.down = [&](int level, ValueId x) {
      return block(
          level == depth ? "bottleneck.bottleneck" : fmt::format("encoder{0}.enc{0}", level + 1),
          x);
    };
    shape.enlarge = [&](int level, ValueId x) {
      return net.conv_transpose(fmt::format("upconv{}", level + 1), x);
    };
    shape.up = [&](int level, ValueId x) {
      return block(fmt::format("decoder{0}.dec{0}", level + 1), x);
    };
    shape.concat.skip_first = false;
    const ValueId x = build_u(net, shape, net.image_of("encoder1.enc1conv1"));
    net.note(
        "the author normalises each channel of a whole volume, between its 10th and 99th "
        "percentiles; here each image is normalised by itself");
    return {.logits = net.conv("conv", x),
            .output = "sigmoid",
            .is_activated = true,
            .input = "standardize",
            .multiple = std::int64_t{1} << std::min(depth, 12)};
  });
}

}  // namespace

constinit const Family kMateuszbudaFamily{"mateuszbuda/brain-segmentation-pytorch",
                                          "its UNet, also in torch.hub", match_mateuszbuda};

}  // namespace tessera
