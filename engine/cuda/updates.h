// Optimiser steps on a GPU: one launch for all tensors.
#pragma once

#include <memory>

#include "engine/device.h"
#include "kernels/cuda/stream.h"

namespace tessera {

std::unique_ptr<Updates> make_cuda_updates(CudaStream stream);

}  // namespace tessera
