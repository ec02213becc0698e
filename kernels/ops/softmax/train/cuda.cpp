#include "kernels/ops/softmax/train/cuda.h"

#include "kernels/cuda/step.h"
#include "kernels/ops/softmax/train/backward.h"

namespace tessera {

BackwardStep cuda_backward(const Softmax& op, const CudaSetup& setup) {
  infer(op, setup.inputs);
  const TensorType x = setup.inputs[0];
  const std::int64_t c = x.shape[-1], rows = x.shape.elements() / c;
  const auto run = [rows, c, dtype = x.dtype, stream = setup.stream](
                       const BackwardOperands& operands, std::byte*) {
    const TensorView* dx = wanted(operands.input_gradients, 0);
    if (dx == nullptr) return;
    softmax_backward_cuda({operands.outputs[0].as<float>(),
                           operands.output_gradients[0].as<float>(), dx->pointer, rows, c, dtype},
                          stream);
  };
  return {0, run};
}

}  // namespace tessera
