// Images and masks as ImageDataOptions name them: what the evaluation and the training of a model
// share. All throw OptionError for options that are none, and Error for files.
#pragma once

#include <optional>

#include "models/image/image_pairs.h"
#include "models/image/mask_format.h"
#include "models/train.h"

namespace tessera {

// Throws unless there is exactly one source of images.
void require_source(const ImageDataOptions& options);
ImagePairs find_pairs(const ImageDataOptions& options, DataReport& report);
Split split_pairs(const ImagePairs& pairs, const ImageDataOptions& options, std::uint64_t seed);
// Nothing for "auto". Throws where the format has other classes than the model.
std::optional<MaskRules> given_rules(const ImageDataOptions& options, std::size_t classes);
// Those given, else what all the masks are, which `report` then notes. Throws Error where the
// masks can be read in more than one way.
MaskRules mask_rules(const ImageDataOptions& options, const ImagePairs& pairs,
                     const MaskHints& hints, int threads, DataReport& report);

}  // namespace tessera
