#include "kernels/cuda/copy.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/transpose/transpose.h"
#include "kernels/strides.h"

namespace tessera {

Step cuda(const Transpose& op, const CudaSetup& setup) {
  const TensorType& x = setup.inputs[0];
  const TensorType y = infer(op, setup.inputs)[0];
  const Strides from = strides_of(x.shape), to = strides_of(y.shape);
  CopyArgs args{nullptr, nullptr, {}, size_of(y.dtype)};
  int axis = 0;
  for (const int of_x : order_of(op, x)) {
    args.walk.add(y.shape[axis],
                  {from[static_cast<std::size_t>(of_x)], to[static_cast<std::size_t>(axis)]});
    ++axis;
  }
  return {0, [args, stream = setup.stream](const Operands& operands, std::byte*) {
            CopyArgs run = args;
            run.x = operands.inputs[0].pointer, run.y = operands.outputs[0].pointer;
            copy_cuda(run, stream);
          }};
}

}  // namespace tessera
