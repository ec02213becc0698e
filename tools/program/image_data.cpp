#include "tools/program/image_data.h"

#include <nlohmann/json.hpp>

namespace tessera {

void add_image_data_options(CLI::App& command, ImageDataOptions& into, std::uint64_t& seed) {
  command.add_option("--images", into.images, "folder of images, with --masks instead of DATA")
      ->type_name("FOLDER");
  command
      .add_option(
          "--masks", into.masks,
          "folder of their masks, of the same names, or with _mask, _label, _seg.. behind them")
      ->type_name("FOLDER");
  command
      .add_option(
          "--mask-format", into.mask_format,
          "auto (decided from all masks, by what the model was trained with where that fits), ids, "
          "binary (0, 255), values:V,V.., colours:#rrggbb,.., objects (0 = background, else an "
          "object's id); ,ignore=V behind it")
      ->type_name("FORMAT")
      ->capture_default_str();
  command
      .add_option("--validation", into.validation,
                  "images held out: none, a share (0.2), every:K, fold:I/K, names:a,b,24..29, "
                  "list:FILE")
      ->type_name("RULE")
      ->capture_default_str();
  command.add_option("--seed", seed, "of what is drawn")->type_name("N")->capture_default_str();
}

std::optional<TrainedMasks> trained_masks(const Session& session) {
  return model_config_from_json(nlohmann::json::parse(session.config_json()), "the model").masks;
}

}  // namespace tessera
