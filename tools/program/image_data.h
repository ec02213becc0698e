// How a command line names images and their masks: what `eval` and `train` share.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>

#include "models/image/image_pairs.h"
#include "models/image/mask_format.h"
#include "models/model_file.h"
#include "models/session.h"

namespace tessera {

struct ImageDataOptions {
  std::string images, masks;  // folders, where they are not `images` and `masks` of one folder
  std::string mask_format = "auto";
  std::string validation = "none";  // see split_pairs
  std::uint64_t seed = 0;           // of that split

  void add_to(CLI::App& command);
  // Throws UsageError unless either `data` or --images with --masks is given.
  void require_source(const std::string& data) const;
  // The pairs of `data`: a folder with images/ and masks/, or a list file; or of --images and
  // --masks.
  ImagePairs find(const std::string& data, DataReport& report) const;
  // Throws UsageError for a rule that is none or does not fit the pairs.
  Split split(const ImagePairs& pairs) const;
  // Nothing for "auto". Throws UsageError where the format is none or has other classes than the
  // model.
  std::optional<MaskRules> given_rules(std::size_t classes) const;
  // Those given, else what all the masks are, which `report` then notes. Throws Error where the
  // masks can be read in more than one way.
  MaskRules mask_rules(const ImagePairs& pairs, const MaskHints& hints, int threads,
                       DataReport& report) const;
};

// What a model remembers of the masks that it was trained with.
std::optional<TrainedMasks> trained_masks(const Session& session);

}  // namespace tessera
