#include "kernels/ops/max_pool/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/cuda/row_limit.h"
#include "kernels/ops/max_pool/max_pool.h"

namespace tessera {

Step cuda(const MaxPool& op, const CudaSetup& setup) {
  if (!is_halving(op)) return {};  // the host's
  require_row("max_pool", infer(op, setup.inputs)[0]);
  const TensorType x = setup.inputs[0];
  const CudaStream stream = setup.stream;
  return {0, [x, stream](const Operands& operands, std::byte*) {
            const Shape& s = x.shape;
            max_pool_cuda({operands.inputs[0].pointer, operands.outputs[0].pointer, s[0], s[1],
                           s[2], s[3], x.dtype},
                          stream);
          }};
}

}  // namespace tessera
