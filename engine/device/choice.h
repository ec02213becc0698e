// Why a node runs as it does on a device: for profiles. The choices are the pure functions that
// preparing the node's step calls; nothing is run or packed here.
#pragma once

#include <string>

#include "engine/device/device.h"

namespace tessera {

// The technique on a line ("mma 128x128"), and behind it one for each that was not taken: "not mma
// 256x64: 1.20x the time of ...". `inputs` are those of the node. On a GPU, of the one that is
// current, which a run has made so.
std::string choice_of(const Device& device, const Node& node, Types inputs);

// Its CUDA half: engine/device/cuda/choice.cpp, or none.cpp in a build without it.
std::string cuda_choice_of(const Node& node, Types inputs, Precision precision);

}  // namespace tessera
