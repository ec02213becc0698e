// The paper's U-Net (Ronneberger et al. 2015) as a plain PyTorch module: enc.{level}.{0,2},
// up.{level}, dec.{level}.{0,2} and out; valid convolutions with ReLU, no norms.
#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

std::optional<Imported> match_paper(const Contents& contents, const ImportOptions& options,
                                    std::string& why) {
  if (contents.find("enc.0.0.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [](NetworkBuilder& net) -> NetworkEnd {
    const std::string padding =
        net.choose("padding", "valid", {"valid", "same"}, "the shapes do not tell it");
    const ConvLayout layout{.pad = padding == "valid" ? 0 : 1};
    const std::string order =
        net.choose("concat", "skip_up", {"skip_up", "up_skip"}, "the shapes do not tell it");
    const auto block = [&](const char* path) {
      return [&net, &layout, path](int level, ValueId x) {
        const std::string name = fmt::format("{}.{}", path, level);
        x = net.conv_relu(name + ".0", "", x, layout);
        return net.conv_relu(name + ".2", "", x, layout);
      };
    };
    const ValueId x = build_u(net,
                              {.depth = net.count("up.{}.weight"),
                               .down = block("enc"),
                               .enlarge =
                                   [&](int level, ValueId from) {
                                     return net.conv_transpose(fmt::format("up.{}", level), from);
                                   },
                               .up = block("dec"),
                               .concat = {CropConcat::Align::kCropSkip, order == "skip_up"}},
                              net.image_of("enc.0.0"));
    return {.logits = net.conv("out", x)};
  });
}

}  // namespace

constinit const Family kPaperFamily{
    "U-Net of the paper", "enc.*, up.*, dec.*, out: valid convolutions without norms", match_paper};

}  // namespace tessera
