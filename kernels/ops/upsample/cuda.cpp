#include "kernels/ops/upsample/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/cuda/row_limit.h"
#include "kernels/ops/upsample/upsample.h"

namespace tessera {

Step cuda(const Upsample& op, const CudaSetup& setup) {
  require_row("upsample", infer(op, setup.inputs)[0]);
  const TensorType& x = setup.inputs[0];
  const Shape& s = x.shape;
  const UpsampleAxis rows = upsample_axis(op, 0, s[1]), columns = upsample_axis(op, 1, s[2]);
  const UpsampleArgs args{nullptr,
                          nullptr,
                          s[0],
                          s[1],
                          s[2],
                          s[3],
                          rows.size,
                          columns.size,
                          {rows.whole, columns.whole},
                          {rows.before, columns.before},
                          {rows.first, columns.first},
                          op.align_corners,
                          x.dtype};
  return {0, [args, stream = setup.stream](const Operands& operands, std::byte*) {
            UpsampleArgs run = args;
            run.x = operands.inputs[0].pointer, run.y = operands.outputs[0].pointer;
            upsample_cuda(run, stream);
          }};
}

}  // namespace tessera
