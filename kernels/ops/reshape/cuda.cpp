#include "kernels/cuda/copy.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/reshape/reshape.h"

namespace tessera {

Step cuda(const Reshape& op, const CudaSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  CopyArgs args{nullptr, nullptr, {}, size_of(y.dtype)};
  args.walk.add(y.shape.elements(), {1, 1});
  return {0, [args, stream = setup.stream](const Operands& operands, std::byte*) {
            CopyArgs run = args;
            run.x = operands.inputs[0].pointer, run.y = operands.outputs[0].pointer;
            copy_cuda(run, stream);
          }};
}

}  // namespace tessera
