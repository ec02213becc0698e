#include "kernels/cuda/paths.h"
#include "kernels/cuda/pool_step.h"
#include "kernels/ops/avg_pool/avg_pool.h"

namespace tessera {

Step cuda(const AvgPool& op, const CudaSetup& setup) {
  const PoolKind kind = op.count_include_pad ? PoolKind::kMeanPadded : PoolKind::kMeanInside;
  return pool_step("avg_pool", op.window, kind, infer(op, setup.inputs)[0], setup);
}

}  // namespace tessera
