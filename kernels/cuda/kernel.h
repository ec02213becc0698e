// The one header that a kernel source (.cu) includes.
//
// The same source is taken by nvcc, for the device, and by any other C++20 compiler, for the SIMT
// emulator that runs it on the CPU (emulator.h). What the two compilers spell differently has one
// name here: shared memory (SIMT_SHARED, SIMT_DYN_SHARED), PTX instructions (ptx::), launches and
// the barrier of a whole grid (simt::). All else is plain CUDA C++; raw `asm` and cooperative
// groups have no emulation.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#include "kernels/cuda/ptx.h"
#else
#include "emulator/emulated.h"
#endif
