// Two maps, element by element. NaN wins in min and max.
//
// The output is cut into runs along its last axes, within which each operand either moves along
// with y, stays (a scalar), or repeats: a run is one row of y, or all of y where shapes are equal.
// f32 or bf16, all three of one type; other mixtures go to the reference.
// Roofline: memory, one operation for three elements moved.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/binary/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/paths.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/ops/binary/binary.h"
#include "kernels/tensor.h"

#ifndef TESSERA_KERNELS_BINARY_ONCE
#define TESSERA_KERNELS_BINARY_ONCE
namespace tessera {
namespace {

// Elements of each operand, from its first; an operand that does not move repeats its first.
struct BinaryRun {
  std::size_t a = 0, b = 0, y = 0, count = 0;
  bool a_moves = true, b_moves = true;
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

template <class T, class Function>
void combine(const BinaryRun& run, const T* a, const T* b, T* y, const Function& function) {
  const auto at = [](const T* p, bool moves, std::size_t i) HWY_ATTR {
    return moves ? load(p + i) : hn::Set(FloatTag(), hn::GetLane(load_first(p, 1)));
  };
  const auto last = [](const T* p, bool moves, std::size_t i, std::size_t rest) HWY_ATTR {
    return moves ? load_first(p + i, rest) : hn::Set(FloatTag(), hn::GetLane(load_first(p, 1)));
  };
  std::size_t i = 0;
  for (; i + kFloatLanes <= run.count; i += kFloatLanes)
    store(function(at(a, run.a_moves, i), at(b, run.b_moves, i)), y + i);
  if (const std::size_t rest = run.count - i; rest > 0)
    store_first(function(last(a, run.a_moves, i, rest), last(b, run.b_moves, i, rest)), y + i,
                rest);
}

template <class T>
void combine_typed(Binary::Kind kind, const BinaryRun& run, const Operands& operands) {
  const auto by = [&](const auto& function) HWY_ATTR {
    combine(run, operands.inputs[0].as<T>() + run.a, operands.inputs[1].as<T>() + run.b,
            operands.outputs[0].as<T>() + run.y, function);
  };
  using V = FloatVector;
  switch (kind) {
    case Binary::Kind::kAdd:
      return by([](V a, V b) HWY_ATTR { return hn::Add(a, b); });
    case Binary::Kind::kSub:
      return by([](V a, V b) HWY_ATTR { return hn::Sub(a, b); });
    case Binary::Kind::kMul:
      return by([](V a, V b) HWY_ATTR { return hn::Mul(a, b); });
    case Binary::Kind::kDiv:
      return by([](V a, V b) HWY_ATTR { return hn::Div(a, b); });
    case Binary::Kind::kMin:
      return by([](V a, V b)
                    HWY_ATTR { return hn::IfThenElse(hn::Or(hn::Lt(a, b), hn::IsNaN(a)), a, b); });
    case Binary::Kind::kMax:
      return by([](V a, V b) HWY_ATTR { return max_or_nan(a, b); });
  }
}

void combine_run(Binary::Kind kind, const BinaryRun& run, const Operands& operands) {
  if (operands.outputs[0].type.dtype == DType::kBF16) {
    combine_typed<hwy::bfloat16_t>(kind, run, operands);
  } else {
    combine_typed<float>(kind, run, operands);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/reference_step.h"
#include "kernels/strides.h"

namespace tessera {

HWY_EXPORT(combine_run);

namespace {

// Whether both move along with y, or both repeat, in all axes from `axis` on: with `moves` false,
// strides of 0.
bool is_flat(const Shape& y, const Strides& strides, int axis, bool moves) {
  const Strides dense = strides_of(y);
  for (int i = axis; i < y.rank(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (y[i] != 1 && strides[at] != (moves ? dense[at] : 0)) return false;
  }
  return true;
}

}  // namespace

Step cpu(const Binary& op, const CpuSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  const std::array<TensorType, 2> types = operand_types(op, setup.inputs);
  if (types[0].dtype != y.dtype || types[1].dtype != y.dtype) return {};
  const Strides a = broadcast_strides(types[0].shape, y.shape);
  const Strides b = broadcast_strides(types[1].shape, y.shape);
  const std::size_t constant = op.reversed ? 0 : 1;  // which of them is a weight, if one is
  std::shared_ptr<const AlignedBuffer> packed;       // that weight, of y's type
  if (!op.constant.empty()) {
    packed = setup.packed->get(fmt::format("{}/binary {}", setup.name, name_of(y.dtype)),
                               types[constant].bytes(), [&](std::byte* to) {
                                 store_f32(to_f32(setup.weights[0]).data(), {to, types[constant]});
                               });
  }
  const auto fits = [&](const Strides& strides, int axis) {
    return is_flat(y.shape, strides, axis, true) || is_flat(y.shape, strides, axis, false);
  };
  int axis = y.shape.rank();  // a run holds the axes from here on
  while (axis > 0 && fits(a, axis - 1) && fits(b, axis - 1)) --axis;
  const bool a_moves = is_flat(y.shape, a, axis, true), b_moves = is_flat(y.shape, b, axis, true);
  const Shape outer(y.shape.dims().first(static_cast<std::size_t>(axis)));
  const std::int64_t length = y.shape.elements(axis, y.shape.rank());
  constexpr std::int64_t kPiece = 1 << 14;  // elements of a task, about; stays in L2
  const std::int64_t pieces = (length + kPiece - 1) / kPiece;             // of a run
  const std::int64_t share = std::max<std::int64_t>(1, kPiece / length);  // runs of a task
  const std::int64_t runs = outer.elements(), tasks = (runs + share - 1) / share * pieces;
  return {0, [=, kind = op.kind, threads = setup.threads](const Operands& given, std::byte*) {
            std::array<TensorView, 2> inputs;
            for (std::size_t i = 0; i < 2; ++i)
              inputs[i] = packed && i == constant ? TensorView(packed->get(), types[i])
                                                  : given.inputs[packed ? 0 : i];
            const Operands operands{inputs, {}, given.outputs};
            parallel_for(threads, tasks, [&](std::int64_t task) {
              const std::int64_t first = task / pieces * share, start = task % pieces * kPiece;
              BinaryRun run{0, 0, 0, 0, a_moves, b_moves};
              run.count = static_cast<std::size_t>(std::min(kPiece, length - start));
              walk(outer, std::array{a, b}, first, std::min(runs, first + share),
                   [&](std::int64_t i, const auto& from) {
                     run.a = static_cast<std::size_t>(from[0] + (a_moves ? start : 0));
                     run.b = static_cast<std::size_t>(from[1] + (b_moves ? start : 0));
                     run.y = static_cast<std::size_t>(i * length + start);
                     HWY_DYNAMIC_DISPATCH(combine_run)(kind, run, operands);
                   });
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
