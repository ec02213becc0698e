#include "models/import/families/nnunet_plans.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using nlohmann::json;

// An entry, or null where there is none.
const json& said_entry(const json& object, const std::string& key) {
  static const json none;
  if (!object.is_object()) return none;
  const auto found = object.find(key);
  return found == object.end() ? none : *found;
}

std::string said_text(const json& value, const std::string& otherwise = "") {
  return value.is_string() ? value.get<std::string>() : otherwise;
}

double number_of(const json& object, const char* key, const std::string& where) {
  constexpr double kMostNumber = 1e30;
  const json& value = said_entry(object, key);
  require(value.is_number() && std::abs(value.get<double>()) <= kMostNumber,
          "{} has no number {}: normalisation of CT needs it", where, in_quotes(key));
  return value.get<double>();
}

// A configuration with what it inherits.
json configuration_of(const json& plans, std::string name) {
  constexpr int kMostParents = 16;
  json merged = json::object();
  for (int depth = 0; !name.empty(); ++depth) {
    const json& one = said_entry(said_entry(plans, "configurations"), name);
    require(one.is_object() && depth < kMostParents,
            "the plans have no configuration {}, or one that inherits from itself",
            in_quotes(name));
    for (const auto& [key, value] : one.items())
      if (!merged.contains(key)) merged[key] = value;
    name = said_text(said_entry(one, "inherits_from"));
  }
  return merged;
}

// ---- the network -------------------------------------------------------------------------------

void check_network(const json& configuration, const std::vector<std::array<int, 2>>& strides) {
  const json& patch = said_entry(configuration, "patch_size");
  require(!patch.is_array() || patch.size() == 2,
          "the configuration's patches have {} axes: only 2-D networks are read", patch.size());
  const json& said = said_entry(said_entry(configuration, "architecture"), "arch_kwargs");
  const json& nonlin = said_entry(said, "nonlin");
  require(nonlin.is_null() || said_text(nonlin).ends_with("LeakyReLU"),
          "the plans' activation is {}, expected LeakyReLU", nonlin.dump());
  const json& eps = said_entry(said_entry(said, "norm_op_kwargs"), "eps");
  constexpr double kEps = 1e-5;
  require(eps.is_null() || (eps.is_number() && std::abs(eps.get<double>() - kEps) < 1e-9),
          "the plans' norms have an eps of {}, expected {}", eps.dump(), kEps);
  const json& given = said.is_object() ? said_entry(said, "strides")
                                       : said_entry(configuration, "pool_op_kernel_sizes");
  if (!given.is_array()) return;
  json found = json::array();
  for (const std::array<int, 2>& stride : strides) found.push_back({stride[0], stride[1]});
  json wanted = json::array();
  for (const json& stride : given)
    wanted.push_back(stride.is_number() ? json{stride, stride} : stride);
  require(wanted == found,
          "the plans' strides are {}, those of the weights {}: plans and checkpoint do not belong "
          "together",
          wanted.dump(), found.dump());
}

// ---- normalisation -----------------------------------------------------------------------------

std::vector<PixelStep> steps_of(const json& plans, const json& configuration, int channels) {
  const json& schemes = said_entry(configuration, "normalization_schemes");
  require(schemes.is_array() && std::cmp_equal(schemes.size(), channels),
          "the plans normalise {} channels, the network reads {}", schemes.size(), channels);
  const std::string scheme = said_text(schemes[0]);
  require(std::ranges::all_of(schemes, [&](const json& one) { return one == schemes[0]; }),
          "its channels are normalised by {}: several schemes are not supported", schemes.dump());
  const json& masks = said_entry(configuration, "use_mask_for_norm");
  constexpr double kNnunetEps = 1e-8;
  if (scheme == "ZScoreNormalization") {
    require(!masks.is_array() ||
                std::ranges::none_of(masks, [](const json& one) { return one == true; }),
            "its images are normalised within what is not zero alone (use_mask_for_norm), which is "
            "not supported");
    return {{.kind = PixelStep::Kind::kStandardize, .per_channel = true, .eps = kNnunetEps}};
  }
  if (scheme == "NoNormalization") return {};
  if (scheme == "RescaleTo01Normalization")
    return {{.kind = PixelStep::Kind::kPercentiles, .per_channel = true, .eps = kNnunetEps}};
  const auto width = static_cast<std::size_t>(channels);
  if (scheme == "RGBTo01Normalization")
    return {{.kind = PixelStep::Kind::kDivide,
             .mean = std::vector<float>(width, 0),
             .std = std::vector<float>(width, 255)}};
  require(scheme == "CTNormalization",
          "its images are normalised by {}, expected ZScore, CT, RescaleTo01, RGBTo01 or No "
          "Normalization",
          in_quotes(scheme));
  PixelStep clip{.kind = PixelStep::Kind::kClip};
  PixelStep divide{.kind = PixelStep::Kind::kDivide};
  for (int channel = 0; channel < channels; ++channel) {
    const std::string key = std::to_string(channel);
    const json& said =
        said_entry(said_entry(plans, "foreground_intensity_properties_per_channel"), key);
    const std::string where = fmt::format("foreground_intensity_properties_per_channel[{}]", key);
    const double low = number_of(said, "percentile_00_5", where);
    const double high = number_of(said, "percentile_99_5", where);
    require(low < high && (channel == 0 || (low == clip.low && high == clip.high)),
            "{}: values are clipped to {} .. {}, expected a range, the same for all channels",
            where, low, high);
    clip.low = low;
    clip.high = high;
    divide.mean.push_back(static_cast<float>(number_of(said, "mean", where)));
    divide.std.push_back(static_cast<float>(std::max(number_of(said, "std", where), kNnunetEps)));
  }
  return {clip, divide};
}

// ---- labels ------------------------------------------------------------------------------------

std::vector<ModelClass> classes_of(const json& dataset, int classes) {
  const json& labels = said_entry(dataset, "labels");
  if (!labels.is_object()) return {};
  std::vector<std::string> names(static_cast<std::size_t>(classes));
  for (const auto& [name, value] : labels.items()) {
    require(!value.is_array(),
            "its label {} is a region of several values: regions are painted over each other, "
            "which is not supported",
            in_quotes(name));
    // Files of nnU-Net's first version have {"0": "background"}.
    const bool turned = value.is_string();
    const std::string number = turned ? name : value.dump();
    std::size_t id = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), id);
    require(error == std::errc() && end == number.data() + number.size(),
            "its label {} has the value {}, expected a whole number", in_quotes(name),
            value.dump());
    if (name == "ignore") continue;  // pixels that nobody labelled
    require(id < names.size() && names[id].empty(),
            "its label {} has the value {}, expected each from 0 to {} once, which the network "
            "tells apart",
            in_quotes(name), id, classes - 1);
    names[id] = turned ? value.get<std::string>() : name;
  }
  std::vector<ModelClass> result;
  for (const Rgb& colour : default_colours(classes)) {
    const std::string& name = names[result.size()];
    result.push_back({name.empty() ? fmt::format("class {}", result.size()) : name, colour});
  }
  return result;
}

}  // namespace

NnunetPlans read_nnunet_plans(const Contents& contents,
                              const std::vector<std::array<int, 2>>& strides, int channels,
                              int classes) {
  const json& init = said_entry(said_entry(contents.said, "entries"), "init_args");
  const json& folder = said_entry(contents.said, "nnunet");
  const json& plans = folder.is_object() ? said_entry(folder, "plans") : said_entry(init, "plans");
  const json& dataset =
      folder.is_object() ? said_entry(folder, "dataset") : said_entry(init, "dataset_json");
  NnunetPlans result;
  if (!plans.is_object()) return result;
  result.are_there = true;
  const json configuration =
      configuration_of(plans, said_text(said_entry(init, "configuration"),
                                        said_text(said_entry(folder, "configuration"), "2d")));
  check_network(configuration, strides);
  result.steps = steps_of(plans, configuration, channels);
  result.classes = classes_of(dataset, classes);
  const json& patch = said_entry(configuration, "patch_size");
  result.notes.push_back(fmt::format(
      "an image is computed whole, as nnU-Net was not trained to: it averages windows of {} with "
      "Gaussian weights, mirrored too, of what is not zero; instance norms make an answer depend "
      "on the window",
      patch.dump()));
  const json& spacing = said_entry(configuration, "spacing");
  if (spacing.is_array() && std::ranges::any_of(spacing, [](const json& one) { return one != 1; }))
    result.notes.push_back(fmt::format(
        "it was trained on pixels of {}: images are not resampled, give them so", spacing.dump()));
  const std::string name =
      said_text(said_entry(said_entry(contents.said, "entries"), "trainer_name"), "nnUNetTrainer");
  if (!name.starts_with("nnUNetTrainer"))
    result.notes.push_back(fmt::format(
        "its trainer {} is not nnU-Net's own, and may prepare images otherwise", in_quotes(name)));
  return result;
}

}  // namespace tessera
