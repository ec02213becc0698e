// Training that goes on from a model, of this program or another.
#pragma once

#include <string>

#include "engine/train/float_tensor.h"
#include "models/model_file.h"

namespace tessera {

struct PretrainedNetwork {
  ModelConfig config;
  FloatTensors weights;
};

// The part of a model of images that gives classes: of several outputs the first of probabilities,
// else of logits, since nothing teaches the others. Its provenance is what export and import must
// know, and {"from": {"digest": ...}}. Throws Error, with the node's name, where it cannot be
// trained: a backward run is missing, or it ends in no softmax or sigmoid.
PretrainedNetwork pretrained_network(ModelFile& file);

}  // namespace tessera
