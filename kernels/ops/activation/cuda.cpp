#include "kernels/ops/activation/cuda.h"

#include "kernels/cpu/convert.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/activation/activation.h"

namespace tessera {

namespace {

ActivationCurve curve_of(const Activation& op) {
  // Klambauer et al. 2017, as formulas.h has them.
  constexpr float kSeluScale = 1.0507009873554804934f, kSeluAlpha = 1.6732632423543772848f;
  const auto f32 = [](double value) { return static_cast<float>(value); };
  switch (op.kind) {
    case Activation::Kind::kRelu:
      return {Curve::kRelu};
    case Activation::Kind::kSigmoid:
      return {Curve::kSigmoid};
    case Activation::Kind::kLeakyRelu:
      return {Curve::kLeaky, f32(op.slope)};
    case Activation::Kind::kPrelu:
      return {Curve::kPrelu};
    case Activation::Kind::kElu:
      return {Curve::kElu, f32(op.alpha), 1};
    case Activation::Kind::kSelu:
      return {Curve::kElu, kSeluAlpha, kSeluScale};
    case Activation::Kind::kSilu:
      return {Curve::kSilu};
    case Activation::Kind::kGelu:
      return {Curve::kGelu};
    case Activation::Kind::kGeluTanh:
      return {Curve::kGeluTanh};
    case Activation::Kind::kTanh:
      return {Curve::kTanh};
    case Activation::Kind::kHardSigmoid:
      return {Curve::kHardSigmoid, f32(op.gain), f32(op.offset)};
    case Activation::Kind::kHardSwish:
      return {Curve::kHardSwish};
    case Activation::Kind::kSoftplus:
      return {Curve::kSoftplus};
    case Activation::Kind::kClip:
      return {Curve::kClip, f32(op.min), f32(op.max)};
  }
  fail("activation on CUDA has no kind {}", static_cast<int>(op.kind));
}

}  // namespace

DeviceCurve device_curve(const Activation& op, const TensorView* learned, std::int64_t c,
                         const CudaSetup& setup) {
  DeviceCurve result{curve_of(op), nullptr};
  if (op.kind != Activation::Kind::kPrelu) return result;
  const auto count = static_cast<std::size_t>(c);
  result.slopes =
      setup.packed->get(setup.name + "/slopes", count * sizeof(float), [&](std::byte* to) {
        const std::vector<float> values = to_f32(*learned);
        for (std::size_t i = 0; i < count; ++i)
          reinterpret_cast<float*>(to)[i] = values[i % values.size()];
      });
  result.curve.slopes = reinterpret_cast<const float*>(result.slopes->get());
  return result;
}

Step cuda(const Activation& op, const CudaSetup& setup) {
  const TensorType x = infer(op, setup.inputs)[0];
  const auto args = [x](const Operands& operands) {
    return ActivationArgs{operands.inputs[0].pointer, operands.outputs[0].pointer,
                          x.shape.elements(), x.dtype};
  };
  if (is_relu_or_sigmoid(op)) {
    const auto launch = op.kind == Activation::Kind::kRelu ? relu_cuda : sigmoid_cuda;
    return {0, [args, launch, stream = setup.stream](const Operands& operands, std::byte*) {
              launch(args(operands), stream);
            }};
  }
  const std::int64_t c = x.shape.rank() == 0 ? 1 : x.shape[-1];
  const TensorView* learned = setup.weights.empty() ? nullptr : &setup.weights[0];
  return {0, [args, c, curve = device_curve(op, learned, c, setup), stream = setup.stream](
                 const Operands& operands, std::byte*) {
            activation_cuda(args(operands), curve.curve, c, stream);
          }};
}

}  // namespace tessera
