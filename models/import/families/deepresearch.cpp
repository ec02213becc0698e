// Hsankesara/DeepResearch, UNet: conv_encode{i}, bottleneck, conv_decode{i}, final_layer; valid
// convolution, ReLU, batch norm; the transposed 3x3 convolution ends a block; (up, cropped skip).
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

std::optional<Imported> match_deepresearch(const Contents& contents, const ImportOptions& options,
                                           std::string& why) {
  if (contents.find("conv_encode1.0.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    const int depth = net.count("conv_encode{}.0.weight", 1);
    const auto unit = [&](const std::string& name, int first, int pad, ValueId x) {
      x = net.conv_relu(fmt::format("{}.{}", name, first), "", x, {.pad = pad});
      return net.batch_norm(fmt::format("{}.{}", name, first + 2), x);
    };
    const auto block = [&](const std::string& name, ValueId x) {
      return unit(name, 3, 0, unit(name, 0, 0, x));
    };
    // Of level `depth`, the bottom, to 0.
    const auto name_of = [depth](int level) {
      return level == depth ? "bottleneck"
             : level == 0   ? "final_layer"
                            : fmt::format("conv_decode{}", level + 1);
    };
    UShape shape{.depth = depth};
    shape.down = [&](int level, ValueId x) {
      return block(level == depth ? name_of(level) : fmt::format("conv_encode{}", level + 1), x);
    };
    shape.enlarge = [&](int level, ValueId x) {
      return net.conv_transpose(name_of(level + 1) + ".6", x,
                                {.stride = std::array{2, 2}, .pad = 1, .output_padding = 1});
    };
    shape.up = [&](int level, ValueId x) { return block(name_of(level), x); };
    shape.concat = {CropConcat::Align::kCropSkip, false};
    const ValueId x = build_u(net, shape, net.image_of("conv_encode1.0"));
    return {.logits = unit("final_layer", 6, 1, x)};
  });
}

}  // namespace

constinit const Family kDeepresearchFamily{"Hsankesara/DeepResearch", "the UNet of its tutorial",
                                           match_deepresearch};

}  // namespace tessera
