#include "kernels/ops/max_pool/train/cuda.h"

#include "kernels/cuda/row_limit.h"
#include "kernels/cuda/step.h"
#include "kernels/ops/max_pool/train/backward.h"

namespace tessera {

BackwardStep cuda_backward(const MaxPool& op, const CudaSetup& setup) {
  infer(op, setup.inputs);
  require(is_halving(op), "max_pool: a GPU trains 2x2 of stride 2; train on the CPU");
  const TensorType x = setup.inputs[0];
  require_row("max_pool", x);
  return {0, [x, stream = setup.stream](const BackwardOperands& operands, std::byte*) {
            const TensorView* dx = wanted(operands.input_gradients, 0);
            if (dx == nullptr) return;
            const Shape& s = x.shape;
            max_pool_backward_cuda(
                {operands.inputs[0].pointer, operands.output_gradients[0].pointer, dx->pointer,
                 s[0], s[1], s[2], s[3], x.dtype},
                stream);
          }};
}

}  // namespace tessera
