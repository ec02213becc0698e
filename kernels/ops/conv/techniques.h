// The CPU techniques of a convolution; kernels/ops/conv/cpu.cpp chooses.
#pragma once

#include "kernels/cpu/step.h"
#include "kernels/ops/conv/conv.h"

namespace tessera {

Step conv_direct(const Conv& op, const CpuSetup& setup);
Step conv_winograd(const Conv& op, const CpuSetup& setup);  // 3x3 and f32 alone

}  // namespace tessera
