#include "kernels/ops/dropout/train/cuda.h"

#include "kernels/cuda/step.h"
#include "kernels/ops/dropout/train/backward.h"

namespace tessera {

TrainStep cuda_train(const Dropout& op, const CudaSetup& setup) {
  const TensorType x = infer(op, setup.inputs)[0];
  const auto run = [x, threshold = dropout_threshold(op), scale = dropout_scale(op),
                    stream = setup.stream](const TrainOperands& operands, std::byte*) {
    dropout_train_cuda({operands.inputs[0].pointer, operands.outputs[0].pointer,
                        operands.saved[0].as<std::uint8_t>(), x.shape.elements(),
                        operands.random.seed, operands.random.stream, threshold, scale, x.dtype},
                       stream);
  };
  return {0, run};
}

BackwardStep cuda_backward(const Dropout& op, const CudaSetup& setup) {
  const TensorType x = infer(op, setup.inputs)[0];
  const auto run = [x, scale = dropout_scale(op), stream = setup.stream](
                       const BackwardOperands& operands, std::byte*) {
    const TensorView* dx = wanted(operands.input_gradients, 0);
    if (dx == nullptr) return;
    dropout_backward_cuda(
        {operands.output_gradients[0].pointer, operands.saved[0].as<std::uint8_t>(), dx->pointer,
         x.shape.elements(), scale, x.dtype},
        stream);
  };
  return {0, run};
}

}  // namespace tessera
