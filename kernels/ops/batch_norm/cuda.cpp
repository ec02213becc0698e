#include "kernels/ops/batch_norm/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/ops/batch_norm/batch_norm.h"

namespace tessera {

Step cuda(const BatchNorm& op, const CudaSetup& setup) {
  const TensorType type = infer(op, setup.inputs)[0];
  const std::int64_t c = type.shape[-1];
  const auto channels = static_cast<std::size_t>(c);
  const auto packed = setup.packed->get(
      setup.name + "/affine", 2 * channels * sizeof(float), [&](std::byte* memory) {
        const Affine affine = affine_of(op, setup.weights);
        auto* scale = reinterpret_cast<float*>(memory);
        for (std::size_t i = 0; i < channels; ++i) {
          scale[i] = static_cast<float>(affine.scale[i]);
          scale[channels + i] = static_cast<float>(affine.shift[i]);
        }
      });
  return {0, [type, c, packed, stream = setup.stream](const Operands& operands, std::byte*) {
            batch_norm_cuda(
                {operands.inputs[0].pointer, reinterpret_cast<const float*>(packed->get()),
                 operands.outputs[0].pointer, type.shape.elements() / c, c, type.dtype},
                stream);
          }};
}

}  // namespace tessera
