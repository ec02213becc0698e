// What the emulated CUDA runtime and the scheduler share.
#pragma once

#include "emulator/machine.h"

namespace simt::machine {

// What a launch is refused for at once.
cudaError_t check_launch(const Launch& launch);
// Runs all blocks of a launch. Throws std::runtime_error with what it found.
cudaError_t run_launch(const Launch& launch);

}  // namespace simt::machine
