#include "kernels/cuda/check.h"

#include <cuda_runtime_api.h>

#include <string_view>

#include "kernels/error.h"

namespace tessera {

namespace {

// What a user can do about it.
std::string_view remedy(cudaError_t error) {
  switch (error) {
    case cudaErrorMemoryAllocation:
      return "use a smaller tile (--tile) or batch, free the GPU of other programs, or run with "
             "--device cpu";
    case cudaErrorNoDevice:
      return "no NVIDIA GPU is visible (see nvidia-smi and CUDA_VISIBLE_DEVICES); run with "
             "--device "
             "cpu or auto";
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice:
      return "the NVIDIA driver is older than this build's CUDA runtime; update the driver, or run "
             "with --device cpu";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
      return "this build has no kernels for this GPU (compute capability 8.0 or newer is needed); "
             "run with --device cpu";
    case cudaErrorDevicesUnavailable:
      return "the GPU is busy or in exclusive use by another process; wait for it, or run with "
             "--device cpu";
    default:
      return "run again with --device cpu; if it is repeatable, CUDA_LAUNCH_BLOCKING=1 and "
             "compute-sanitizer find the kernel";
  }
}

}  // namespace

void cuda_check(int error, const char* what) {
  const auto code = static_cast<cudaError_t>(error);
  if (code == cudaSuccess) return;
  cudaGetLastError();  // the next call shall not report this one again
  throw DeviceError(fmt::format("CUDA: {}: {} ({}); {}", what, cudaGetErrorString(code),
                                cudaGetErrorName(code), remedy(code)));
}

}  // namespace tessera
