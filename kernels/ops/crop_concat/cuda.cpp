#include "kernels/ops/crop_concat/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/cuda/row_limit.h"
#include "kernels/ops/crop_concat/crop_concat.h"

namespace tessera {

Step cuda(const CropConcat& op, const CudaSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  require_row("crop_concat", y);
  const std::array<ConcatSource, 2> sources = concat_sources(op, setup.inputs);
  return {0, [y, sources, stream = setup.stream](const Operands& operands, std::byte*) {
            const auto map = [&](const ConcatSource& source) {
              const TensorView& x = operands.inputs[source.input];
              const Shape& s = x.shape();
              const std::int64_t bytes = s[3] * static_cast<std::int64_t>(size_of(x.type.dtype));
              return JoinedMap{x.pointer, s[1], s[2], bytes, source.dy, source.dx};
            };
            crop_concat_cuda({map(sources[0]), map(sources[1]), operands.outputs[0].pointer,
                              y.shape[0], y.shape[1], y.shape[2]},
                             stream);
          }};
}

}  // namespace tessera
