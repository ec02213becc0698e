// usuyama/pytorch-unet: dconv_down{i}.{0,2}, dconv_up{i}.{0,2}, conv_last; no norms; bilinear with
// align_corners; (up, skip); levels from 1.
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

std::optional<Imported> match_usuyama(const Contents& contents, const ImportOptions& options,
                                      std::string& why) {
  if (contents.find("dconv_down1.0.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    const int depth = net.count("dconv_up{}.0.weight", 1);
    UShape shape{.depth = depth};
    shape.down = [&](int level, ValueId x) {
      return double_conv(net, fmt::format("dconv_down{}", level + 1), x);
    };
    shape.enlarge = [&](int level, ValueId x) {
      return net.add(fmt::format("upsample{}", level), Upsample{.align_corners = true}, {x});
    };
    shape.up = [&](int level, ValueId x) {
      return double_conv(net, fmt::format("dconv_up{}", level + 1), x);
    };
    shape.concat.skip_first = false;
    const ValueId image = net.image_of("dconv_down1.0");
    const bool rgb = net.extent("dconv_down1.0.weight", 1) == 3;
    return {.logits = net.conv("conv_last", build_u(net, shape, image)),
            .output = "sigmoid",
            .input = rgb ? "imagenet" : "unit",
            .multiple = std::int64_t{1} << std::min(depth, 12)};
  });
}

}  // namespace

constinit const Family kUsuyamaFamily{"usuyama/pytorch-unet", "its plain UNet", match_usuyama};

}  // namespace tessera
