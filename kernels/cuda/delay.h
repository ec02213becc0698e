// Holds a stream back, so that the host can enqueue ahead of it: what is timed behind a delay has
// no gaps in which the device waited for the host.
#pragma once

#include "kernels/cuda/stream.h"

namespace tessera {

void delay_cuda(double seconds, CudaStream stream);

}  // namespace tessera
