// bubbliiiing/unet-pytorch with a VGG16 encoder: vgg.features.{i}, up_concat{i}.conv{1,2}, final;
// bilinear with align_corners; (skip, up).
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

std::optional<Imported> match_bubbliiiing(const Contents& contents, const ImportOptions& options,
                                          std::string& why) {
  if (contents.find("up_concat1.conv1.weight") == nullptr) return std::nullopt;
  if (contents.find("vgg.features.0.weight") == nullptr) {
    why = "only its VGG encoder is known";
    return std::nullopt;
  }
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    // Convolutions of VGG16's five levels, by their index in the sequence.
    const std::vector<std::vector<int>> levels{
        {0, 2}, {5, 7}, {10, 12, 14}, {17, 19, 21}, {24, 26, 28}};
    UShape shape{.depth = 4};
    shape.down = [&](int level, ValueId x) {
      for (const int i : levels.at(static_cast<std::size_t>(level)))
        x = net.conv_relu(fmt::format("vgg.features.{}", i), "", x);
      return x;
    };
    shape.enlarge = [&](int level, ValueId x) {
      return net.add(fmt::format("up_concat{}.up", level + 1), Upsample{.align_corners = true},
                     {x});
    };
    shape.up = [&](int level, ValueId x) {
      for (const int i : {1, 2})
        x = net.conv_relu(fmt::format("up_concat{}.conv{}", level + 1, i), "", x);
      return x;
    };
    const ValueId x = build_u(net, shape, net.image_of("vgg.features.0"));
    return {.logits = net.conv("final", x), .output = "softmax", .multiple = 16};
  });
}

}  // namespace

constinit const Family kBubbliiiingFamily{"bubbliiiing/unet-pytorch", "with its VGG encoder",
                                          match_bubbliiiing};

}  // namespace tessera
