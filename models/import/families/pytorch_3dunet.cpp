// wolny/pytorch-3dunet, UNet2D: encoders.{i}.basic_module.SingleConv{1,2}.{groupnorm,conv},
// decoders, final_conv; group norm, convolution, ReLU ("gcr"); nearest to the skip's size; (skip,
// up).
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

std::optional<Imported> match_pytorch_3dunet(const Contents& contents, const ImportOptions& options,
                                             std::string& why) {
  if (contents.find("encoders.0.basic_module.SingleConv1.conv.weight") == nullptr)
    return std::nullopt;
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    constexpr int kGroups = 8;  // the author's, and one group for fewer channels
    const int groups =
        net.choose("groups", kGroups, "the number of groups of a norm is not in the file");
    const auto block = [&](const std::string& name, ValueId x) {
      for (const int i : {1, 2}) {
        const std::string unit = fmt::format("{}.basic_module.SingleConv{}", name, i);
        const int channels = net.extent(unit + ".groupnorm.weight", 0, 1);
        if (channels != net.extent(unit + ".conv.weight", 1))
          throw OtherNetwork("the norm stands behind the convolution: only the order gcr is known");
        x = net.group_norm(unit + ".groupnorm", x, channels < groups ? 1 : groups);
        x = net.conv_relu(unit + ".conv", "", x);
      }
      return x;
    };
    ValueId x = net.image_of("encoders.0.basic_module.SingleConv1.conv");
    std::vector<ValueId> maps;
    const int levels = net.count("encoders.{}.basic_module.SingleConv1.conv.weight");
    for (int i = 0; i < levels; ++i) {
      if (i > 0) x = net.max_pool(fmt::format("encoders.{}.pooling", i), x);
      maps.push_back(x = block(fmt::format("encoders.{}", i), x));
    }
    for (int i = 0; i + 1 < levels; ++i) {
      const std::string name = fmt::format("decoders.{}", i);
      const ValueId skip = maps.at(static_cast<std::size_t>(levels - 2 - i));
      x = net.add(name + ".upsampling",
                  Resize{.coordinates = Resize::Coordinates::kAsymmetric,
                         .nearest = Resize::Nearest::kFloor},
                  {x, skip});
      x = net.add(name + ".joining", CropConcat{CropConcat::Align::kPadUp, true}, {skip, x});
      x = block(name, x);
    }
    return {.logits = net.conv("final_conv", x), .input = "standardize"};
  });
}

}  // namespace

constinit const Family kPytorch3dunetFamily{
    "wolny/pytorch-3dunet UNet2D", "double convolutions in the order gcr", match_pytorch_3dunet};

}  // namespace tessera
