// Errors of the CUDA runtime as exceptions. Included by nvcc too, so no library appears here.
#pragma once

namespace tessera {

// Throws DeviceError (kernels/error.h), with the remedy, unless `error`, a cudaError_t, is
// cudaSuccess. `what` says what was tried: "launch of conv_fma".
void cuda_check(int error, const char* what);

}  // namespace tessera
