#include "kernels/cpu/convert.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/linear/cuda_weights.h"
#include "kernels/ops/linear/linear.h"

namespace tessera {

Step cuda(const Linear& op, const CudaSetup& setup) {
  const std::int64_t rows = infer(op, setup.inputs)[0].shape.elements() / op.units;
  const int features = static_cast<int>(setup.inputs[0].shape[-1]);
  const GemmWeights weights =
      gemm_weights(setup, "linear", op.units, features, setup.math,
                   [&](std::vector<float>& matrix, std::vector<float>& bias) {
                     matrix = to_f32(setup.weights[0]);
                     bias = op.bias ? to_f32(setup.weights[1])
                                    : std::vector<float>(static_cast<std::size_t>(op.units));
                   });
  const int multiprocessors = setup.traits.multiprocessors;
  const CudaStream stream = setup.stream;
  return {0, [=](const Operands& operands, std::byte*) {
            gemm_cuda(weights, operands.inputs[0].as<float>(), {}, rows,
                      operands.outputs[0].as<float>(), multiprocessors, stream);
          }};
}

}  // namespace tessera
