#include "kernels/ops/activation/train/cuda.h"

#include "kernels/cuda/step.h"
#include "kernels/ops/activation/train/backward.h"

namespace tessera {

BackwardStep cuda_backward(const Activation& op, const CudaSetup& setup) {
  const TensorType x = infer(op, setup.inputs)[0];
  require(is_relu_or_sigmoid(op),
          "activation: a GPU trains relu and sigmoid, not {}; train on the CPU",
          names_of(op.kind)[static_cast<std::size_t>(op.kind)]);
  const auto launch =
      op.kind == Activation::Kind::kRelu ? relu_backward_cuda : sigmoid_backward_cuda;
  return {0, [x, launch, stream = setup.stream](const BackwardOperands& operands, std::byte*) {
            const TensorView* dx = wanted(operands.input_gradients, 0);
            if (dx == nullptr) return;
            launch({operands.outputs[0].pointer, operands.output_gradients[0].pointer, dx->pointer,
                    x.shape.elements(), x.dtype},
                   stream);
          }};
}

}  // namespace tessera
