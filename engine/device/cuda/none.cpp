// A build without CUDA: configured where no toolkit was found, or with TESSERA_CUDA=OFF.
#include "engine/device/choice.h"
#include "engine/device/device.h"
#include "engine/device/gpu.h"
#include "kernels/error.h"

namespace tessera {

bool cuda_is_built() {
  return false;
}

std::shared_ptr<Device> open_cuda_device(int, Precision) {
  throw DeviceError(
      "device cuda: this build has no CUDA back-end; configure it with -DTESSERA_CUDA=ON on a "
      "machine with the "
      "CUDA toolkit, or run with --device cpu");
}

int count_gpus() {
  return 0;
}
void* gpu_stream(const Queue& queue) {
  fail("{} is no GPU, which alone has streams", queue.device().name());
}
std::string gpu_id(const Device& device) {
  fail("{} is no GPU", device.name());
}

std::string cuda_choice_of(const Node& node, Types, Precision) {
  fail("node {}: this build has no CUDA back-end that could choose a kernel", node.name);
}

}  // namespace tessera
