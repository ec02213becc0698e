// Optimiser steps on a GPU: one launch for all tensors.
#pragma once

#include <functional>
#include <memory>

#include "engine/device/cuda/uploads.h"
#include "engine/device/queue.h"
#include "kernels/cuda/stream.h"

namespace tessera {

// `use` makes the device that `stream` and `uploads` are of the current one.
std::unique_ptr<Updates> make_cuda_updates(CudaStream stream, CudaUploads& uploads,
                                           std::function<void()> use);

}  // namespace tessera
