// milesial/Pytorch-UNet, all generations, and WZMIAOMIAO's copy of it under other names: levels of
// two 3x3 convolutions, each with batch norm and ReLU; transposed 2x2 convolutions, or bilinear
// up-sampling with align_corners; the up-sampled map padded to the size of the skip behind it.
#include <algorithm>

#include "models/import/families/families.h"
#include "models/import/families/u_shape.h"

namespace tessera {
namespace {

// Modules by name; {} is the number of the level, from 1.
struct MilesialNames {
  const char* in;      // of two convolutions, as the others
  const char* down;    //
  const char* up;      // a transposed convolution, or none
  const char* joined;  // behind the concatenation
  const char* out;
};
constexpr MilesialNames kSince2019{"inc.double_conv", "down{}.maxpool_conv.1.double_conv",
                                   "up{}.up", "up{}.conv.double_conv", "outc.conv"};
constexpr MilesialNames kUntil2019{"inc.conv.conv", "down{}.mpconv.1.conv", "up{}.up",
                                   "up{}.conv.conv", "outc.conv"};
constexpr MilesialNames kWzmiaomiao{"in_conv", "down{}.1", "up{}.up", "up{}.conv", "out_conv.0"};

std::string numbered(const char* pattern, int number) {
  return fmt::format(fmt::runtime(pattern), number);
}

NetworkEnd build_milesial(NetworkBuilder& net, const MilesialNames& names) {
  const ValueId image = net.image_of(std::string(names.in) + ".0");
  const int depth = net.count(std::string(names.down) + ".0.weight", 1);
  const auto up_number = [&](int level) { return depth - level; };
  const ValueId x = build_u(
      net,
      {.depth = depth,
       .down =
           [&](int level, ValueId from) {
             return double_conv(net, level == 0 ? names.in : numbered(names.down, level), from);
           },
       .enlarge =
           [&](int level, ValueId from) {
             const std::string name = numbered(names.up, up_number(level));
             return net.has(name + ".weight")
                        ? net.conv_transpose(name, from)
                        : net.add(name, Upsample{.align_corners = true}, {from});
           },
       .up =
           [&](int level, ValueId from) {
             return double_conv(net, numbered(names.joined, up_number(level)), from);
           }},
      image);
  return {.logits = net.conv(names.out, x)};
}

// The pixel values that stand for the classes in the author's masks: numbers, or RGB. Numbers are
// shades of grey if they reach white; nobody could tell 0 from 1.
std::vector<ModelClass> classes_of_masks(const nlohmann::json& said) {
  const auto entries = said.find("entries");
  if (entries == said.end() || !entries->is_object() || !entries->contains("mask_values"))
    return {};
  const nlohmann::json& values = (*entries)["mask_values"];
  const auto is_byte = [](const nlohmann::json& value) {
    return value.is_number_integer() && value >= 0 && value <= 255;
  };
  constexpr std::size_t kMostMaskValues = 256;
  if (!values.is_array() || values.size() > kMostMaskValues) return {};
  const bool reach_white =
      std::ranges::any_of(values, [](const nlohmann::json& value) { return value == 255; });
  const std::vector<Rgb> colours = default_colours(static_cast<std::int64_t>(values.size()));
  std::vector<ModelClass> classes;
  for (const nlohmann::json& value : values) {
    const bool is_rgb =
        value.is_array() && value.size() == 3 && std::ranges::all_of(value, is_byte);
    if (!is_rgb && !is_byte(value)) return {};
    ModelClass one{"value " + value.dump(), colours[classes.size()]};
    for (std::size_t i = 0; i < 3 && (is_rgb || reach_white); ++i)
      one.colour[i] = (is_rgb ? value[i] : value).get<std::uint8_t>();
    classes.push_back(std::move(one));
  }
  return classes;
}

std::optional<Imported> match_milesial(const Contents& contents, const ImportOptions& options,
                                       std::string& why) {
  for (const MilesialNames& names : {kSince2019, kUntil2019}) {
    if (contents.find(std::string(names.in) + ".0.weight") == nullptr) continue;
    return match_network(contents, options, why, [&](NetworkBuilder& net) {
      NetworkEnd end = build_milesial(net, names);
      end.classes = classes_of_masks(contents.said);
      return end;
    });
  }
  return std::nullopt;
}

std::optional<Imported> match_wzmiaomiao(const Contents& contents, const ImportOptions& options,
                                         std::string& why) {
  if (contents.find("in_conv.0.weight") == nullptr) return std::nullopt;
  return match_network(contents, options, why, [&](NetworkBuilder& net) {
    if (!options.choices.contains("mean"))
      net.note(
          "the author's programs normalise by the mean and the standard deviation of their data, "
          "which are not in the file: --set mean=R,G,B --set std=R,G,B, of pixels from 0 to 1");
    return build_milesial(net, kWzmiaomiao);
  });
}

}  // namespace

constinit const Family kMilesialFamily{"milesial/Pytorch-UNet", "all generations since 2017",
                                       match_milesial};
constinit const Family kWzmiaomiaoFamily{"WZMIAOMIAO/deep-learning-for-image-processing",
                                         "its UNet", match_wzmiaomiao};

}  // namespace tessera
