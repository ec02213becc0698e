#include "kernels/ops/binary/cuda.h"

#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/binary/binary.h"
#include "kernels/strides.h"

namespace tessera {

namespace {

BinaryFunction function_of(Binary::Kind kind) {
  switch (kind) {
    case Binary::Kind::kAdd:
      return BinaryFunction::kAdd;
    case Binary::Kind::kSub:
      return BinaryFunction::kSub;
    case Binary::Kind::kMul:
      return BinaryFunction::kMul;
    case Binary::Kind::kDiv:
      return BinaryFunction::kDiv;
    case Binary::Kind::kMin:
      return BinaryFunction::kMin;
    case Binary::Kind::kMax:
      return BinaryFunction::kMax;
  }
  fail("binary on CUDA has no kind {}", static_cast<int>(kind));
}

}  // namespace

Step cuda(const Binary& op, const CudaSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  const std::array<TensorType, 2> types = operand_types(op, setup.inputs);
  const Strides a = broadcast_strides(types[0].shape, y.shape);
  const Strides b = broadcast_strides(types[1].shape, y.shape);
  BinaryArgs args{};
  args.function = function_of(op.kind);
  args.a_type = types[0].dtype, args.b_type = types[1].dtype, args.y_type = y.dtype;
  for (int axis = 0; axis < y.shape.rank(); ++axis) {
    const auto at = static_cast<std::size_t>(axis);
    args.walk.add(y.shape[axis], {a[at], b[at]});
  }
  std::shared_ptr<const DeviceBuffer> constant;  // in f32
  if (!op.constant.empty()) {
    (op.reversed ? args.a_type : args.b_type) = DType::kF32;
    const auto elements = static_cast<std::size_t>(setup.weights[0].shape().elements());
    constant =
        setup.packed->get(setup.name + "/value", elements * sizeof(float), [&](std::byte* to) {
          const std::vector<float> values = to_f32(setup.weights[0]);
          std::copy(values.begin(), values.end(), reinterpret_cast<float*>(to));
        });
  }
  return {0, [args, constant, reversed = op.reversed, stream = setup.stream](
                 const Operands& operands, std::byte*) {
            BinaryArgs run = args;
            run.a = constant && reversed ? constant->get() : operands.inputs[0].pointer;
            run.b = constant ? (reversed ? operands.inputs[0].pointer : constant->get())
                             : operands.inputs[1].pointer;
            run.y = operands.outputs[0].pointer;
            binary_cuda(run, stream);
          }};
}

}  // namespace tessera
