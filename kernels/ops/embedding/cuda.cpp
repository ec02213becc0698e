#include "kernels/ops/embedding/cuda.h"

#include <cstring>

#include "kernels/cuda/paths.h"
#include "kernels/ops/embedding/embedding.h"

namespace tessera {

Step cuda(const Embedding& op, const CudaSetup& setup) {
  const std::int64_t count = infer(op, setup.inputs)[0].shape.elements() / op.features;
  const TensorView& table = setup.weights[0];
  const auto packed =
      setup.packed->get(setup.name + "/embedding", table.type.bytes(),
                        [&](std::byte* to) { std::memcpy(to, table.pointer, table.type.bytes()); });
  const CudaStream stream = setup.stream;
  return {0, [=, dtype = table.type.dtype](const Operands& operands, std::byte*) {
            if (count == 0) return;
            embedding_cuda({packed->get(), operands.inputs[0].as<std::int32_t>(),
                            operands.outputs[0].as<float>(), count, op.words, op.features, dtype},
                           stream);
          }};
}

}  // namespace tessera
