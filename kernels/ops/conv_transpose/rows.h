// The CPU path of transposed convolutions of any window.
#pragma once

#include "kernels/cpu/step.h"

namespace tessera {

struct ConvTranspose;

// Empty where x or y are no f32.
Step conv_transpose_rows(const ConvTranspose& op, const CpuSetup& setup);

}  // namespace tessera
