// One thread that reads the device's clock until its time has come. It waits for no word of the
// host's, so it ends whatever the host does meanwhile. Oracle: the clock
// (tests/cuda/peak_test.cpp).
#include "kernels/cuda/delay.h"

#include "kernels/cuda/clock.h"

namespace tessera {

namespace {

__global__ void delay_kernel(std::uint64_t nanoseconds) {
  const std::uint64_t begin = ptx::global_nanoseconds();
  while (ptx::global_nanoseconds() - begin < nanoseconds) {
  }
}

}  // namespace

void delay_cuda(double seconds, CudaStream stream) {
  simt::launch(delay_kernel, dim3(1), dim3(1), 0, stream,
               static_cast<std::uint64_t>(seconds * 1e9));
}

}  // namespace tessera
