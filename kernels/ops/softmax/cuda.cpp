#include "kernels/ops/softmax/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/ops/softmax/softmax.h"

namespace tessera {

Step cuda(const Softmax& op, const CudaSetup& setup) {
  infer(op, setup.inputs);
  const TensorType x = setup.inputs[0];
  const std::int64_t c = x.shape[-1], rows = x.shape.elements() / c;
  return {
      0, [rows, c, dtype = x.dtype, stream = setup.stream](const Operands& operands, std::byte*) {
        softmax_cuda({operands.inputs[0].pointer, operands.outputs[0].as<float>(), rows, c, dtype},
                     stream);
      }};
}

}  // namespace tessera
