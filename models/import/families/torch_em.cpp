// constantinpape/torch-em, UNet2d: encoder.blocks.{i}.block, base.block, decoder.samplers.{i}.conv
// (1x1 behind bilinear up-sampling), decoder.blocks.{i}.block, out_conv; norm before convolution;
// (up, skip). The unet2d_nuclei_broad of bioimage.io, of the same author, stands beside it.
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

// What the file's own records of the class say of its last activation: empty where nothing does.
std::string final_activation(const nlohmann::json& said) {
  const auto at = [](const nlohmann::json& object, const char* key) -> const nlohmann::json* {
    const auto found = object.find(key);
    return object.is_object() && found != object.end() ? &*found : nullptr;
  };
  const nlohmann::json* object = at(said, "entries");
  for (const char* key : {"init", "model_kwargs", "final_activation"})
    object = object == nullptr ? nullptr : at(*object, key);
  if (object == nullptr || !object->is_string()) return "";
  std::string name = object->get<std::string>();
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  return name == "sigmoid" || name == "softmax" ? name : "";
}

std::optional<Imported> match_torch_em(const Contents& contents, const ImportOptions& options,
                                       std::string& why) {
  const bool dense = contents.find("encoder.blocks.0.block.0.weight") != nullptr;
  if (!dense && contents.find("encoder.blocks.0.block.1.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [&](NetworkBuilder& net) -> NetworkEnd {
    const auto block = [&](const std::string& name, ValueId x) {
      // {0, 2}: no norms; {1, 4}: behind norms without parameters; {1, 4} with those of 0 and 3.
      if (net.has(name + ".2.weight"))
        return net.conv_relu(name + ".2", "", net.conv_relu(name + ".0", "", x));
      for (const int norm : {0, 3}) {
        const std::string at = fmt::format("{}.{}", name, norm);
        x = net.has(at + ".running_mean") ? net.batch_norm(at, x) : net.group_norm(at, x);
        x = net.conv_relu(fmt::format("{}.{}", name, norm + 1), "", x);
      }
      return x;
    };
    if (!net.has("base.block.2.weight") && net.has("base.block.0.weight") &&
        !net.has("base.block.0.running_mean"))
      net.choose("norm", "instance", {"instance"},
                 "norms with parameters are instance norms in most files, group norms in some");
    const int depth = net.count("decoder.samplers.{}.conv.weight");
    const auto of_decoder = [&](const char* pattern, int level) {
      return fmt::format(fmt::runtime(pattern), depth - 1 - level);
    };
    UShape shape{.depth = depth};
    shape.down = [&](int level, ValueId x) {
      return block(level == depth ? "base.block" : fmt::format("encoder.blocks.{}.block", level),
                   x);
    };
    shape.enlarge = [&](int level, ValueId x) {
      const std::string name = of_decoder("decoder.samplers.{}", level);
      return net.conv(name + ".conv", net.add(name, Upsample{}, {x}));
    };
    shape.up = [&](int level, ValueId x) {
      return block(of_decoder("decoder.blocks.{}.block", level), x);
    };
    shape.concat.skip_first = false;
    const std::string first = dense && net.has("encoder.blocks.0.block.2.weight") ? "0" : "1";
    const ValueId image = net.image_of("encoder.blocks.0.block." + first);
    return {.logits = net.conv("out_conv", build_u(net, shape, image)),
            .output = final_activation(contents.said),
            .input = "standardize",
            .multiple = std::int64_t{1} << std::min(depth, 12)};
  });
}

std::optional<Imported> match_nuclei_broad(const Contents& contents, const ImportOptions& options,
                                           std::string& why) {
  if (contents.find("upsamplers.0.1.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    const int depth = net.count("upsamplers.{}.1.weight");
    // There is no ReLU between the two convolutions.
    const auto block = [&](const std::string& name, ValueId x) {
      return net.conv_relu(name + ".1", "", net.conv(name + ".0", x));
    };
    UShape shape{.depth = depth};
    shape.down = [&](int level, ValueId x) {
      return block(level == depth ? "base" : fmt::format("encoders.{}", level), x);
    };
    shape.enlarge = [&](int level, ValueId x) {
      const std::string name = fmt::format("upsamplers.{}", depth - 1 - level);
      return net.conv(name + ".1", net.add(name + ".0", Upsample{}, {x}));
    };
    shape.up = [&](int level, ValueId x) {
      return block(fmt::format("decoders.{}", depth - 1 - level), x);
    };
    const ValueId x = build_u(net, shape, net.image_of("encoders.0.0"));
    return {.logits = net.conv("output", x),
            .input = "standardize",
            .multiple = std::int64_t{1} << std::min(depth, 12)};
  });
}

}  // namespace

constinit const Family kTorchEmFamily{"constantinpape/torch-em UNet2d",
                                      "with instance, batch or no norms", match_torch_em};
constinit const Family kNucleiBroadFamily{"bioimage.io unet2d_nuclei_broad",
                                          "UNet2d of that model and those made like it",
                                          match_nuclei_broad};

}  // namespace tessera
