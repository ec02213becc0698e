// Element-wise activation (formulas.h). NaN stays NaN.
//
// One flat loop over all elements, cut into pieces that threads share. The sigmoid is within 4 ULP
// (kernels/cpu/vector-inl.h). Kinds that need an exponential of their own take the formula in
// double, element by element: they round once.
// Roofline: memory; 1 (ReLU) to about 20 (sigmoid) operations for every 2 elements moved. The
// kinds in double are bound by arithmetic.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/activation/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/paths.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/ops/activation/activation.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

FloatVector clamp(FloatVector x, double least, double most) {
  const FloatVector low = hn::Set(FloatTag(), static_cast<float>(least));
  const FloatVector high = hn::Set(FloatTag(), static_cast<float>(most));
  return hn::IfThenElse(hn::Lt(x, low), low, hn::IfThenElse(hn::Gt(x, high), high, x));
}

// clip(gain x + offset, 0, 1)
FloatVector hard_sigmoid(FloatVector x, double gain, double offset) {
  return clamp(hn::MulAdd(x, hn::Set(FloatTag(), static_cast<float>(gain)),
                          hn::Set(FloatTag(), static_cast<float>(offset))),
               0, 1);
}

FloatVector sloped(FloatVector x, FloatVector slope) {
  return hn::IfThenElse(hn::Lt(x, hn::Zero(FloatTag())), hn::Mul(slope, x), x);
}

template <class T>
void activate_typed(const Activation& op, const float* slopes, const T* x, std::size_t count,
                    T* y) {
  const auto each = [=](const auto& function) HWY_ATTR {
    map(x, count, y, [&](std::size_t i, FloatVector v) HWY_ATTR { return function(i, v); });
  };
  switch (op.kind) {
    case Activation::Kind::kRelu:
      return each([](std::size_t, FloatVector v) HWY_ATTR { return relu(v); });
    case Activation::Kind::kSigmoid:
      return each([](std::size_t, FloatVector v) HWY_ATTR { return sigmoid(v); });
    case Activation::Kind::kSilu:
      return each([](std::size_t, FloatVector v) HWY_ATTR { return hn::Mul(v, sigmoid(v)); });
    case Activation::Kind::kLeakyRelu:
    case Activation::Kind::kPrelu:
      return each([=](std::size_t i, FloatVector v)
                      HWY_ATTR { return sloped(v, load(slopes + i)); });
    case Activation::Kind::kHardSigmoid:
      return each([&](std::size_t, FloatVector v)
                      HWY_ATTR { return hard_sigmoid(v, op.gain, op.offset); });
    case Activation::Kind::kHardSwish:
      return each([](std::size_t, FloatVector v)
                      HWY_ATTR { return hn::Mul(v, hard_sigmoid(v, 1.0 / 6, 0.5)); });
    case Activation::Kind::kClip:
      return each([&](std::size_t, FloatVector v) HWY_ATTR { return clamp(v, op.min, op.max); });
    default:
      break;  // by_formula
  }
}

// Elements [first, first + count). `slopes` begin at the channel of `first`.
void activate_range(const Activation& op, const float* slopes, const TensorView& x,
                    std::size_t first, std::size_t count, const TensorView& y) {
  if (x.type.dtype == DType::kBF16) {
    activate_typed(op, slopes, x.as<hwy::bfloat16_t>() + first, count,
                   y.as<hwy::bfloat16_t>() + first);
  } else {
    activate_typed(op, slopes, x.as<float>() + first, count, y.as<float>() + first);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <numeric>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/pieces.h"
#include "kernels/ops/activation/formulas.h"

namespace tessera {

HWY_EXPORT(activate_range);

namespace {

constexpr std::size_t kPiece = 1u << 14;  // elements of one task, at least; stays in L2

bool has_vectors(Activation::Kind kind) {
  switch (kind) {
    case Activation::Kind::kElu:
    case Activation::Kind::kSelu:
    case Activation::Kind::kGelu:
    case Activation::Kind::kGeluTanh:
    case Activation::Kind::kTanh:
    case Activation::Kind::kSoftplus:
      return false;
    default:
      return true;
  }
}

Step by_formula(const Activation& op, std::int64_t count, int threads) {
  return {0, [=](const Operands& operands, std::byte*) {
            const TensorView &x = operands.inputs[0], &y = operands.outputs[0];
            for_each_piece(threads, count, [&](std::int64_t first, std::int64_t end) {
              for (std::int64_t i = first; i < end; ++i) {
                const auto value = static_cast<float>(activate(op, element_f32(x, i), 0));
                if (y.type.dtype == DType::kBF16) {
                  y.as<std::uint16_t>()[i] = f32_to_bf16(value);
                } else {
                  y.as<float>()[i] = value;
                }
              }
            });
          }};
}

}  // namespace

Step cpu(const Activation& op, const CpuSetup& setup) {
  const TensorType type = infer(op, setup.inputs)[0];
  if (!has_vectors(op.kind)) return by_formula(op, type.shape.elements(), setup.threads);
  // Slopes are repeated until a piece holds a whole number of pixels, and by a vector for its tail.
  constexpr std::size_t kMaxLanes = 16;  // of any target
  std::size_t piece = kPiece;
  std::vector<float> slopes;
  if (op.kind == Activation::Kind::kPrelu) {
    const auto c = static_cast<std::size_t>(type.shape[-1]);
    piece = (kPiece + c - 1) / c * c;
    const std::vector<float> learned = to_f32(setup.weights[0]);
    for (std::size_t i = 0; i < piece + kMaxLanes; ++i)
      slopes.push_back(learned[i % learned.size()]);
  } else if (op.kind == Activation::Kind::kLeakyRelu) {
    slopes.assign(piece + kMaxLanes, static_cast<float>(op.slope));
  }
  const auto count = static_cast<std::size_t>(type.shape.elements());
  return {0, [=, threads = setup.threads](const Operands& operands, std::byte*) {
            const auto pieces = static_cast<std::int64_t>((count + piece - 1) / piece);
            parallel_for(threads, pieces, [&](std::int64_t i) {
              const std::size_t first = static_cast<std::size_t>(i) * piece;
              HWY_DYNAMIC_DISPATCH(activate_range)
              (op, slopes.data(), operands.inputs[0], first, std::min(piece, count - first),
               operands.outputs[0]);
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
