// aladdinpersson/Machine-Learning-Collection: downs.{i}.conv, ups.{2i} transposed, ups.{2i +
// 1}.conv.
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

std::optional<Imported> match_aladdinpersson(const Contents& contents, const ImportOptions& options,
                                             std::string& why) {
  if (contents.find("downs.0.conv.0.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    const int depth = net.count("downs.{}.conv.0.weight");
    const auto ups = [depth](int level, int child) {
      return fmt::format("ups.{}", 2 * (depth - 1 - level) + child);
    };
    UShape shape{.depth = depth};
    shape.down = [&](int level, ValueId x) {
      return double_conv(
          net, level == depth ? "bottleneck.conv" : fmt::format("downs.{}.conv", level), x);
    };
    shape.enlarge = [&](int level, ValueId x) { return net.conv_transpose(ups(level, 0), x); };
    shape.up = [&](int level, ValueId x) { return double_conv(net, ups(level, 1) + ".conv", x); };
    const ValueId x = build_u(net, shape, net.image_of("downs.0.conv.0"));
    // At other sizes the author resizes a map, which he never trained with.
    return {.logits = net.conv("final_conv", x),
            .multiple = std::int64_t{1} << std::min(depth, 12)};
  });
}

}  // namespace

constinit const Family kAladdinperssonFamily{"aladdinpersson/Machine-Learning-Collection",
                                             "its UNet for Carvana", match_aladdinpersson};

}  // namespace tessera
