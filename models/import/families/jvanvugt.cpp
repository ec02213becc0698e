// jvanvugt/pytorch-unet: down_path.{i}.block (convolution, ReLU, batch norm if there),
// up_path.{i}.up (transposed, or bilinear and 1x1), up_path.{i}.conv_block.block, last; (up,
// cropped skip).
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

std::optional<Imported> match_jvanvugt(const Contents& contents, const ImportOptions& options,
                                       std::string& why) {
  if (contents.find("down_path.0.block.0.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    const std::string padding =
        net.choose("padding", "valid", {"valid", "same"}, "the shapes do not tell it");
    const ConvLayout layout{.pad = padding == "valid" ? 0 : 1};
    const bool norms = net.has("down_path.0.block.2.running_mean");
    const auto block = [&](const std::string& name, ValueId x) {
      for (const int first : norms ? std::array{0, 3} : std::array{0, 2}) {
        x = net.conv_relu(fmt::format("{}.{}", name, first), "", x, layout);
        if (norms) x = net.batch_norm(fmt::format("{}.{}", name, first + 2), x);
      }
      return x;
    };
    const int depth = net.count("up_path.{}.conv_block.block.0.weight");
    const auto up = [&](int level) { return fmt::format("up_path.{}", depth - 1 - level); };
    UShape shape{.depth = depth};
    shape.down = [&](int level, ValueId x) {
      return block(fmt::format("down_path.{}.block", level), x);
    };
    shape.enlarge = [&](int level, ValueId x) {
      const std::string name = up(level) + ".up";
      if (net.has(name + ".weight")) return net.conv_transpose(name, x);
      return net.conv(name + ".1", net.add(name + ".0", Upsample{}, {x}));
    };
    shape.up = [&](int level, ValueId x) { return block(up(level) + ".conv_block.block", x); };
    shape.concat = {CropConcat::Align::kCropSkip, false};
    const ValueId x = build_u(net, shape, net.image_of("down_path.0.block.0"));
    return {.logits = net.conv("last", x)};
  });
}

}  // namespace

constinit const Family kJvanvugtFamily{"jvanvugt/pytorch-unet", "with its options", match_jvanvugt};

}  // namespace tessera
