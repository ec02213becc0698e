#include "tools/program/image_data.h"

#include <nlohmann/json.hpp>

#include "tools/program/program.h"

namespace tessera {

namespace fs = std::filesystem;

void ImageDataOptions::add_to(CLI::App& command) {
  command.add_option("--images", images, "folder of images, with --masks instead of DATA")
      ->type_name("FOLDER");
  command
      .add_option(
          "--masks", masks,
          "folder of their masks, of the same names, or with _mask, _label, _seg.. behind them")
      ->type_name("FOLDER");
  command
      .add_option(
          "--mask-format", mask_format,
          "auto (decided from all masks, by what the model was trained with where that fits), ids, "
          "binary (0, 255), values:V,V.., colours:#rrggbb,.., objects (0 = background, else an "
          "object's id); ,ignore=V behind it")
      ->type_name("FORMAT")
      ->capture_default_str();
  command
      .add_option("--validation", validation,
                  "images held out: none, a share (0.2), every:K, fold:I/K, names:a,b,24..29, "
                  "list:FILE")
      ->type_name("RULE")
      ->capture_default_str();
  command.add_option("--seed", seed, "of what is drawn")->type_name("N")->capture_default_str();
}

void ImageDataOptions::require_source(const std::string& data) const {
  if (images.empty() != masks.empty())
    throw UsageError("--images and --masks belong together; give both, or DATA");
  if (data.empty() == images.empty())
    throw UsageError(
        "no images: give a folder with images/ and masks/, a list, or --images and "
        "--masks");
}

ImagePairs ImageDataOptions::find(const std::string& data, DataReport& report) const {
  require_source(data);
  if (!images.empty()) return find_pairs(images, masks, report);
  std::error_code ignored;
  if (!fs::is_directory(data, ignored)) return read_pair_list(data, report);
  const fs::path folder(data);
  for (const char* const part : {"images", "masks"})
    require(fs::is_directory(folder / part, ignored),
            "'{}' has no folder '{}'; name the folders by --images and --masks, or give a list of "
            "lines image<TAB>mask",
            data, part);
  return find_pairs(folder / "images", folder / "masks", report);
}

Split ImageDataOptions::split(const ImagePairs& pairs) const {
  try {
    return split_pairs(pairs, validation, seed);
  } catch (const Error& error) {
    const std::string_view text = error.what();  // "validation: ...", or of a file that it names
    throw UsageError(
        fmt::format("--{}{}", text.starts_with("validation:") ? "" : "validation: ", text));
  }
}

std::optional<MaskRules> ImageDataOptions::given_rules(std::size_t classes) const {
  if (mask_format == "auto") return std::nullopt;
  try {
    return MaskRules::parse(mask_format, classes);
  } catch (const Error& error) {
    throw UsageError(fmt::format("--mask-format: {}, or auto", error.what()));
  }
}

MaskRules ImageDataOptions::mask_rules(const ImagePairs& pairs, const MaskHints& hints, int threads,
                                       DataReport& report) const {
  const std::optional<MaskRules> given = given_rules(hints.classes);
  return given ? *given : recognise_masks(pairs, hints, threads, report);
}

std::optional<TrainedMasks> trained_masks(const Session& session) {
  return model_config_from_json(nlohmann::json::parse(session.config_json()), "the model").masks;
}

}  // namespace tessera
