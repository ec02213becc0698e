#include "kernels/ops/max_pool/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/cuda/pool_step.h"
#include "kernels/ops/max_pool/max_pool.h"

namespace tessera {

Step cuda(const MaxPool& op, const CudaSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  if (!is_halving(op)) return pool_step("max_pool", op.window, PoolKind::kMax, y, setup);
  require_row("max_pool", y);
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
