// The roofline of a CPU, measured.
#pragma once

#include "engine/device/device.h"

namespace tessera {

// Fused multiply-adds and bf16 dot products in registers (bf16 0 where the processor has none), and
// a triad a = b + s * c in memory, by so many threads. Takes about half a second and 192 MiB, both
// given back.
Peaks measure_cpu_peaks(int threads);

}  // namespace tessera
