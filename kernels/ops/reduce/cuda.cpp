#include "kernels/ops/reduce/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/ops/reduce/reduce.h"
#include "kernels/strides.h"

namespace tessera {

namespace {

ReduceFunction function_of(Reduce::Kind kind) {
  switch (kind) {
    case Reduce::Kind::kMean:
      return ReduceFunction::kMean;
    case Reduce::Kind::kSum:
      return ReduceFunction::kSum;
    case Reduce::Kind::kMax:
      return ReduceFunction::kMax;
    case Reduce::Kind::kMin:
      return ReduceFunction::kMin;
  }
  fail("reduce on CUDA has no kind {}", static_cast<int>(kind));
}

}  // namespace

Step cuda(const Reduce& op, const CudaSetup& setup) {
  const TensorType& x = setup.inputs[0];
  ReduceArgs args{};
  args.dtype = infer(op, setup.inputs)[0].dtype;
  args.function = function_of(op.kind);
  const Shape kept = reduced_shape(op, x.shape);
  const Strides strides = strides_of(x.shape);
  for (int axis = 0; axis < x.shape.rank(); ++axis) {
    // Of two axes of extent 1 it does not matter where they go.
    StridedWalk<1>& walk = kept[axis] == x.shape[axis] ? args.kept : args.folded;
    walk.add(x.shape[axis], {strides[static_cast<std::size_t>(axis)]});
  }
  return {0, [args, stream = setup.stream](const Operands& operands, std::byte*) {
            ReduceArgs run = args;
            run.x = operands.inputs[0].pointer, run.y = operands.outputs[0].pointer;
            reduce_cuda(run, stream);
          }};
}

}  // namespace tessera
