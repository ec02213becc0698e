#include "models/training/image_data.h"

#include <memory>

#include "kernels/error.h"
#include "models/image_view.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

ImagePairs pairs_of(const std::vector<LabelledImageView>& views) {
  ImagePairs pairs;
  for (const LabelledImageView& view : views) {
    const std::string number = fmt::format("{}", pairs.size());
    pairs.push_back({.name = number,
                     .image = "image " + number,
                     .mask = "mask " + number,
                     .page = 0,
                     .held_image = [view = view.image] { return to_image(view); },
                     .held_mask = [view = view.mask] { return to_image(view); }});
  }
  return pairs;
}

}  // namespace

void require_source(const ImageDataOptions& options) {
  if (options.images.empty() != options.masks.empty())
    throw OptionError("--images and --masks belong together; give both, or DATA");
  const int sources = (options.data.empty() ? 0 : 1) + (options.images.empty() ? 0 : 1) +
                      (options.pairs.empty() ? 0 : 1);
  if (sources != 1)
    throw OptionError(
        fmt::format("{}: give a folder with images/ and masks/, a list, or --images and --masks",
                    sources == 0 ? "no images" : "images of more than one source"));
}

ImagePairs find_pairs(const ImageDataOptions& options, DataReport& report) {
  require_source(options);
  if (!options.pairs.empty()) return pairs_of(options.pairs);
  if (!options.images.empty()) return find_pairs(options.images, options.masks, report);
  std::error_code ignored;
  if (!fs::is_directory(options.data, ignored)) return read_pair_list(options.data, report);
  const fs::path folder(options.data);
  for (const char* const part : {"images", "masks"})
    require(fs::is_directory(folder / part, ignored),
            "'{}' has no folder '{}'; name the folders by --images and --masks, or give a list of "
            "lines image<TAB>mask",
            options.data, part);
  return find_pairs(folder / "images", folder / "masks", report);
}

Split split_pairs(const ImagePairs& pairs, const ImageDataOptions& options, std::uint64_t seed) {
  try {
    return split_pairs(pairs, options.validation, seed);
  } catch (const Error& error) {
    const std::string_view text = error.what();  // "validation: ...", or of a file that it names
    throw OptionError(
        fmt::format("--{}{}", text.starts_with("validation:") ? "" : "validation: ", text));
  }
}

std::optional<MaskRules> given_rules(const ImageDataOptions& options, std::size_t classes) {
  if (options.mask_format == "auto") return std::nullopt;
  try {
    return MaskRules::parse(options.mask_format, classes);
  } catch (const Error& error) {
    throw OptionError(fmt::format("--mask-format: {}, or auto", error.what()));
  }
}

MaskRules mask_rules(const ImageDataOptions& options, const ImagePairs& pairs,
                     const MaskHints& hints, int threads, DataReport& report) {
  const std::optional<MaskRules> given = given_rules(options, hints.classes);
  return given ? *given : recognise_masks(pairs, hints, threads, report);
}

}  // namespace tessera
