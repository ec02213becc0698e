#include "kernels/ops/upsample/train/cuda.h"

#include "kernels/cuda/row_limit.h"
#include "kernels/cuda/step.h"
#include "kernels/ops/upsample/train/backward.h"

namespace tessera {

BackwardStep cuda_backward(const Upsample& op, const CudaSetup& setup) {
  require_row("upsample", infer(op, setup.inputs)[0]);
  const TensorType x = setup.inputs[0];
  const bool align_corners = op.align_corners;
  return {0,
          [x, align_corners, stream = setup.stream](const BackwardOperands& operands, std::byte*) {
            const TensorView* dx = wanted(operands.input_gradients, 0);
            if (dx == nullptr) return;
            const Shape& s = x.shape;
            upsample_backward_cuda({operands.output_gradients[0].pointer, dx->pointer, s[0], s[1],
                                    s[2], s[3], align_corners, x.dtype},
                                   stream);
          }};
}

}  // namespace tessera
