// One launch an input.
#include "kernels/axes.h"
#include "kernels/cuda/copy.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/concat/concat.h"

namespace tessera {

Step cuda(const Concat& op, const CudaSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  const int axis = axis_of("concat", op.axis, y.shape.rank()), rank = y.shape.rank();
  const std::int64_t rows = y.shape.elements(0, axis), pitch = y.shape.elements(axis, rank);
  struct Part {
    CopyArgs args;
    std::int64_t first_byte;  // in y
  };
  std::vector<Part> parts;
  std::int64_t first = 0;
  for (const TensorType& x : setup.inputs) {
    const std::int64_t row = x.shape.elements(axis, rank);
    Part part{{nullptr, nullptr, {}, size_of(y.dtype)}, 0};
    part.args.walk.add(rows, {row, pitch});
    part.args.walk.add(row, {1, 1});
    part.first_byte = first * static_cast<std::int64_t>(size_of(y.dtype));
    parts.push_back(part);
    first += row;
  }
  return {0, [parts, stream = setup.stream](const Operands& operands, std::byte*) {
            for (std::size_t i = 0; i < parts.size(); ++i) {
              CopyArgs run = parts[i].args;
              run.x = operands.inputs[i].pointer;
              run.y = operands.outputs[0].as<std::byte>() + parts[i].first_byte;
              copy_cuda(run, stream);
            }
          }};
}

}  // namespace tessera
