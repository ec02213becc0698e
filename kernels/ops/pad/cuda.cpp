#include "kernels/ops/pad/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/ops/pad/pad.h"
#include "kernels/strides.h"

namespace tessera {

namespace {

PadBorder border_of(Pad::Mode mode) {
  switch (mode) {
    case Pad::Mode::kReflect:
      return PadBorder::kReflect;
    case Pad::Mode::kEdge:
      return PadBorder::kEdge;
    default:
      return PadBorder::kConstant;
  }
}

}  // namespace

Step cuda(const Pad& op, const CudaSetup& setup) {
  const TensorType& x = setup.inputs[0];
  const TensorType y = infer(op, setup.inputs)[0];
  if (y.shape.rank() == 0) return {};  // the host's: nothing moves
  const Strides strides = strides_of(x.shape);
  PadArgs args{};
  args.border = border_of(op.mode);
  args.value = static_cast<float>(op.value);
  args.dtype = y.dtype;
  // Axis by axis: those without pads are not joined, for each has a border of its own.
  for (int axis = 0; axis < y.shape.rank(); ++axis) {
    const auto at = static_cast<std::size_t>(axis);
    args.walk.extents[axis] = y.shape[axis];
    args.walk.strides[0][axis] = strides[at];
    args.before[axis] = op.pads[at];
    args.sizes[axis] = x.shape[axis];
  }
  args.walk.rank = y.shape.rank();
  args.walk.count = y.shape.elements();
  return {0, [args, stream = setup.stream](const Operands& operands, std::byte*) {
            PadArgs run = args;
            run.x = operands.inputs[0].pointer, run.y = operands.outputs[0].pointer;
            pad_cuda(run, stream);
          }};
}

}  // namespace tessera
