#include "kernels/ops/crop_concat/train/cuda.h"

#include "kernels/cuda/row_limit.h"
#include "kernels/cuda/step.h"
#include "kernels/ops/crop_concat/train/backward.h"

namespace tessera {

BackwardStep cuda_backward(const CropConcat& op, const CudaSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  require_row("crop_concat", y);
  for (const TensorType& input : setup.inputs) require_row("crop_concat", input);
  const std::array<ConcatSource, 2> sources = concat_sources(op, setup.inputs);
  const std::array<Shape, 2> shapes{setup.inputs[0].shape, setup.inputs[1].shape};
  return {
      0, [y, sources, shapes, stream = setup.stream](const BackwardOperands& operands, std::byte*) {
        const auto element = static_cast<std::int64_t>(size_of(y.dtype));
        std::int64_t channel = 0;  // byte of dy's pixels where the source begins
        for (const ConcatSource& source : sources) {
          const Shape& s = shapes[source.input];
          const std::int64_t bytes = s[3] * element;
          if (const TensorView* dx = wanted(operands.input_gradients, source.input)) {
            crop_concat_backward_cuda(
                {operands.output_gradients[0].pointer, dx->pointer, s[0], s[1], s[2], bytes,
                 y.shape[1], y.shape[2], y.shape[3] * element, channel, source.dy, source.dx},
                stream);
          }
          channel += bytes;
        }
      }};
}

}  // namespace tessera
