#include "kernels/ops/activation/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/ops/activation/activation.h"

namespace tessera {

Step cuda(const Activation& op, const CudaSetup& setup) {
  const TensorType x = infer(op, setup.inputs)[0];
  if (!is_relu_or_sigmoid(op)) return {};  // the host's
  const auto launch = op.kind == Activation::Kind::kRelu ? relu_cuda : sigmoid_cuda;
  return {0, [x, launch, stream = setup.stream](const Operands& operands, std::byte*) {
            launch({operands.inputs[0].pointer, operands.outputs[0].pointer, x.shape.elements(),
                    x.dtype},
                   stream);
          }};
}

}  // namespace tessera
