#include "kernels/cuda/copy.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/slice/slice.h"
#include "kernels/strides.h"

namespace tessera {

Step cuda(const Slice& op, const CudaSetup& setup) {
  const TensorType& x = setup.inputs[0];
  const TensorType y = infer(op, setup.inputs)[0];
  const Strides from = strides_of(x.shape), to = strides_of(y.shape);
  CopyArgs args{nullptr, nullptr, {}, size_of(y.dtype)};
  std::int64_t first = 0;
  std::size_t axis = 0;
  for (const SliceSpan& span : slice_spans(op, x)) {
    first += span.start * from[axis];
    args.walk.add(span.count, {span.step * from[axis], to[axis]});
    ++axis;
  }
  const std::int64_t first_byte = first * static_cast<std::int64_t>(args.element_bytes);
  return {0, [=, stream = setup.stream](const Operands& operands, std::byte*) {
            CopyArgs run = args;
            run.x = operands.inputs[0].as<const std::byte>() + first_byte;
            run.y = operands.outputs[0].pointer;
            copy_cuda(run, stream);
          }};
}

}  // namespace tessera
