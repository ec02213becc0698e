// What nnU-Net says beside a network: its plans, and the labels of its data set.
#pragma once

#include <string>
#include <vector>

#include "models/import/network_builder.h"

namespace tessera {

struct NnunetPlans {
  bool are_there = false;
  std::vector<PixelStep> steps;     // of the normalisation that each channel has
  std::vector<ModelClass> classes;  // of the data set's labels; none where it is not there
  std::vector<std::string> notes;
};

// Of a model folder (plans.json, dataset.json), else of the checkpoint itself (init_args). Checks
// the plans' network against the file's: `strides` of each stage, `channels` of the image. Throws
// Error for plans that are not of a 2-D network of this shape, and for what is not done here:
// regions, masks of normalisation, several schemes.
NnunetPlans read_nnunet_plans(const Contents& contents,
                              const std::vector<std::array<int, 2>>& strides, int channels,
                              int classes);

}  // namespace tessera
