#include "kernels/ops/upsample/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/cuda/row_limit.h"
#include "kernels/ops/upsample/upsample.h"

namespace tessera {

Step cuda(const Upsample& op, const CudaSetup& setup) {
  require_row("upsample", infer(op, setup.inputs)[0]);
  const TensorType x = setup.inputs[0];
  const bool align_corners = op.align_corners;
  return {0, [x, align_corners, stream = setup.stream](const Operands& operands, std::byte*) {
            const Shape& s = x.shape;
            upsample_cuda({operands.inputs[0].pointer, operands.outputs[0].pointer, s[0], s[1],
                           s[2], s[3], align_corners, x.dtype},
                          stream);
          }};
}

}  // namespace tessera
