// What the steps of a bioimage.io package mean for a model of ours: those before the network as
// PixelSteps, those behind it as its activation.
#pragma once

#include <optional>
#include <vector>

#include "kernels/ops/head/head.h"
#include "models/example_run.h"
#include "models/image/image.h"
#include "models/import/bioimage_description.h"
#include "models/import/import.h"

namespace tessera {

// Throws Error for a step that is none of ours, with the `--set` that leaves all of them out. What
// the package wants of the whole data set is measured on each image, which is a guess.
std::vector<PixelStep> steps_before(const BioimageTensor& input, std::int64_t channels,
                                    std::vector<Guess>& guesses);

struct BioimageEnding {
  std::optional<Head::Output> activation;              // applied to the network's answer
  Example::Answer answer = Example::Answer::kNetwork;  // what the package calls its output
};
// `own`: the activation that the network itself ends in, as far as the package says
// (architecture.kwargs.final_activation), or none.
BioimageEnding steps_behind(const BioimageTensor& output, std::optional<Head::Output> own);

}  // namespace tessera
