// Dropout at inference: a copy by the driver, which reaches the memory's rate and can be captured
// in a CUDA graph.
#include <cuda_runtime_api.h>

#include "kernels/cuda/check.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/dropout/dropout.h"

namespace tessera {

Step cuda(const Dropout& op, const CudaSetup& setup) {
  const std::size_t bytes = infer(op, setup.inputs)[0].bytes();
  return {0, [bytes, stream = setup.stream](const Operands& operands, std::byte*) {
            cuda_check(cudaMemcpyAsync(operands.outputs[0].pointer, operands.inputs[0].pointer,
                                       bytes, cudaMemcpyDeviceToDevice, stream),
                       "copy of dropout");
          }};
}

}  // namespace tessera
