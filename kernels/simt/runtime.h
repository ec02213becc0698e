// What the emulated CUDA runtime and the scheduler share.
#pragma once

#include "kernels/simt/machine.h"

namespace simt::machine {

// Runs all blocks of a launch. Throws std::runtime_error with what it found.
cudaError_t run_launch(const Launch& launch);

}  // namespace simt::machine
