// Attention in training on the CPU; formulas in backward.h.
//
// Backward, sequences run in parallel: da from dot products, the softmax's gradient, then dp of all
// its steps and, while they lie in L2, their product with W on top of a_t ds. The weights'
// gradients are products over the valid steps of all sequences (kernels/cpu/row_products.h). A
// dense layer goes before and behind as Linear. Compute binds: 4 a FLOPs per float of z.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/attention/train/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/gemm-inl.h"
#include "kernels/ops/attention/train/backward.h"

#ifndef TESSERA_KERNELS_ATTENTION_BACKWARD_CPU_ONCE
#define TESSERA_KERNELS_ATTENTION_BACKWARD_CPU_ONCE
namespace tessera {
namespace {

// One sequence.
struct AttentionGradient {
  std::size_t steps, width, units;
  const float *z, *u, *a;         // (steps, width), (steps, units), (steps)
  const float *ds, *da;           // (width), (steps) or null
  const float *context, *packed;  // (units), W (units, width) packed
  float *de, *dp;                 // (steps), (steps, units)
  float* dz;                      // (steps, width) or null
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

std::size_t scorer_packed_floats(std::size_t units, std::size_t width) {
  return gemm_packed_size(units, width);
}

void pack_scorer(const float* weight, std::size_t units, std::size_t width, float* packed) {
  gemm_pack(
      units, width, [&](std::size_t k, std::size_t j) { return weight[k * width + j]; }, packed);
}

float dot(const float* a, const float* b, std::size_t count) {
  FloatVector sum = hn::Zero(FloatTag());
  std::size_t i = 0;
  for (; i + kFloatLanes <= count; i += kFloatLanes)
    sum = hn::MulAdd(load(a + i), load(b + i), sum);
  if (const std::size_t rest = count - i; rest > 0)
    sum = hn::MulAdd(load_first(a + i, rest), load_first(b + i, rest), sum);
  return hn::GetLane(hn::SumOfLanes(FloatTag(), sum));
}

void attention_gradient(const AttentionGradient& g) {
  double mean = 0;
  for (std::size_t i = 0; i < g.steps; ++i) {
    g.de[i] = dot(g.ds, g.z + i * g.width, g.width) + (g.da != nullptr ? g.da[i] : 0.0f);
    mean += static_cast<double>(g.a[i]) * g.de[i];
  }
  for (std::size_t i = 0; i < g.steps; ++i) {
    g.de[i] = g.a[i] * (g.de[i] - static_cast<float>(mean));
    const FloatVector de = hn::Set(FloatTag(), g.de[i]), one = hn::Set(FloatTag(), 1.0f);
    const auto slope = [&](FloatVector u, FloatVector context) HWY_ATTR {
      return hn::Mul(hn::Mul(de, context), hn::NegMulAdd(u, u, one));
    };
    const float* u = g.u + i * g.units;
    float* dp = g.dp + i * g.units;
    std::size_t k = 0;
    for (; k + kFloatLanes <= g.units; k += kFloatLanes)
      store(slope(load(u + k), load(g.context + k)), dp + k);
    if (const std::size_t rest = g.units - k; rest > 0)
      store_first(slope(load_first(u + k, rest), load_first(g.context + k, rest)), dp + k, rest);
  }
  if (g.dz == nullptr) return;
  for (std::size_t i = 0; i < g.steps; ++i) {
    const FloatVector a = hn::Set(FloatTag(), g.a[i]);
    map(g.ds, g.width, g.dz + i * g.width,
        [a](std::size_t, FloatVector ds) HWY_ATTR { return hn::Mul(a, ds); });
  }
  gemm(g.dp, g.units, g.packed, g.steps, g.units, g.width, g.dz, g.width, {.accumulate = true});
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/check.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_products.h"
#include "kernels/lengths.h"
#include "kernels/ops/linear/train/backward.h"

namespace tessera {

HWY_EXPORT(scorer_packed_floats);
HWY_EXPORT(pack_scorer);
HWY_EXPORT(attention_gradient);

namespace {

// Types of the inputs as the scorer sees them: z in x's place.
std::vector<TensorType> scored(const Attention& op, Types inputs) {
  std::vector<TensorType> types(inputs.begin(), inputs.end());
  if (op.dense) types[0] = infer(*op.dense, inputs.first(1))[0];
  return types;
}

Attention without_dense(const Attention& op) {
  Attention scorer = op;
  scorer.dense.reset();
  return scorer;
}

// Where a backward run's scratch is cut, in floats.
struct GradientScratch {
  std::size_t packed, de, dp, dz, linear;

  GradientScratch(const Attention& op, const TensorType& z)
      : packed(0),
        de(aligned(HWY_DYNAMIC_DISPATCH(scorer_packed_floats)(
            static_cast<std::size_t>(op.units), static_cast<std::size_t>(z.shape[-1])))),
        dp(de + aligned(steps(z))),
        dz(dp + aligned(steps(z) * static_cast<std::size_t>(op.units))),
        linear(dz + (op.dense ? aligned(static_cast<std::size_t>(z.shape.elements())) : 0)) {}

 private:
  static std::size_t aligned(std::size_t floats) { return (floats + 15) / 16 * 16; }
  static std::size_t steps(const TensorType& z) {
    return static_cast<std::size_t>(z.shape.elements() / z.shape[-1]);
  }
};

}  // namespace

Saved saved_for_backward(const Attention& op, Types inputs) {
  infer(op, inputs);
  require(!op.tanh_score, "attention: a network with tanh around its scores cannot be trained");
  const auto dims = inputs[0].shape.dims();
  std::vector<std::int64_t> u(dims.begin(), dims.end() - 1);
  u.push_back(op.units);
  std::vector<TensorType> extra{{DType::kF32, Shape(u)}};
  if (op.dense) extra.push_back(scored(op, inputs)[0]);
  return {
      .inputs = std::vector<bool>(inputs.size(), true), .outputs = {false, true}, .extra = extra};
}

TrainStep cpu_train(const Attention& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  if (!op.dense) return cpu_train_scores(op, setup);
  CpuSetup dense_setup = setup, scores_setup = setup;
  const std::vector<TensorType> types = scored(op, setup.inputs);
  dense_setup.inputs = setup.inputs.first(1);
  dense_setup.weights = setup.weights.subspan(3);
  scores_setup.inputs = types;
  const TrainStep dense = cpu_train(*op.dense, dense_setup);
  const TrainStep scores = cpu_train_scores(without_dense(op), scores_setup);
  const auto run = [dense, scores](const TrainOperands& operands, std::byte* scratch) {
    const TensorView& z = operands.saved[1];
    dense.run({operands.inputs.first(1), operands.weights.subspan(3), {&z, 1}, {}, {}}, scratch);
    std::vector<TensorView> inputs(operands.inputs.begin(), operands.inputs.end());
    inputs[0] = z;
    scores.run({inputs, operands.weights.first(3), operands.outputs, operands.saved.first(1), {}},
               scratch);
  };
  return {std::max(dense.scratch_bytes, scores.scratch_bytes), run};
}

BackwardStep cpu_backward(const Attention& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  const std::vector<TensorType> types = scored(op, setup.inputs);
  const TensorType z_type = types[0];
  const std::int64_t t = z_type.shape[-2], width = z_type.shape[-1], units = op.units;
  const std::int64_t rows = z_type.shape.elements() / (t * width);
  const GradientScratch at(op, z_type);
  BackwardStep dense;
  if (op.dense) {
    CpuSetup dense_setup = setup;
    dense_setup.inputs = setup.inputs.first(1);
    dense_setup.weights = setup.weights.subspan(3);
    dense = cpu_backward(*op.dense, dense_setup);
  }
  const auto run = [=, threads = setup.threads](const BackwardOperands& operands,
                                                std::byte* memory) {
    auto* scratch = reinterpret_cast<float*>(memory);
    if (op.masked) require_lengths("attention", operands.inputs[1], t);
    const auto* lengths = op.masked ? operands.inputs[1].as<std::int32_t>() : nullptr;
    const TensorView z = op.dense ? operands.saved[1] : operands.inputs[0];
    const TensorView* dx = wanted(operands.input_gradients, 0);
    const TensorView dz_scratch{scratch + at.dz, z_type};
    // The dense layer's gradients need dz even where dx is not asked for.
    const TensorView* dz = op.dense ? &dz_scratch : dx;
    const auto *u = operands.saved[0].as<float>(), *a = operands.outputs[1].as<float>();
    const auto* ds = operands.output_gradients[0].as<float>();
    const auto* da = operands.output_gradients[1].as<float>();
    float *de = scratch + at.de, *dp = scratch + at.dp, *packed = scratch + at.packed;
    HWY_DYNAMIC_DISPATCH(pack_scorer)
    (operands.weights[0].as<float>(), static_cast<std::size_t>(units),
     static_cast<std::size_t>(width), packed);

    std::vector<RowRun> runs;
    for (std::int64_t row = 0; row < rows; ++row)
      runs.push_back({row * t, row * t, lengths != nullptr ? lengths[row] : t});
    parallel_for(threads, rows, [&](std::int64_t row) {
      const std::int64_t first = row * t, steps = runs[static_cast<std::size_t>(row)].count;
      float* dz_row = dz != nullptr ? dz->as<float>() + first * width : nullptr;
      HWY_DYNAMIC_DISPATCH(attention_gradient)
      ({.steps = static_cast<std::size_t>(steps),
        .width = static_cast<std::size_t>(width),
        .units = static_cast<std::size_t>(units),
        .z = z.as<float>() + first * width,
        .u = u + first * units,
        .a = a + first,
        .ds = ds + row * width,
        .da = da != nullptr ? da + first : nullptr,
        .context = operands.weights[2].as<float>(),
        .packed = packed,
        .de = de + first,
        .dp = dp + first * units,
        .dz = dz_row});
      if (dz_row != nullptr) std::fill(dz_row + steps * width, dz_row + t * width, 0.0f);
    });

    const auto gradient = [&](std::size_t i) {
      const TensorView* to = wanted(operands.weight_gradients, i);
      return to != nullptr ? to->as<float>() : nullptr;
    };
    const TransposedProduct products[] = {
        {runs, {dp, units}, {z.as<float>(), width}, units, width, gradient(0), width, gradient(1)},
        {runs, {de, 1}, {u, units}, 1, units, gradient(2), units}};
    add_transposed_products(products, threads);
    if (!op.dense) return;
    dense.run({.inputs = operands.inputs.first(1),
               .weights = operands.weights.subspan(3),
               .outputs = {},
               .saved = {},
               .output_gradients = {dz, 1},
               .input_gradients = operands.input_gradients.first(1),
               .weight_gradients = operands.weight_gradients.subspan(3)},
              memory + at.linear * sizeof(float));
  };
  return {at.linear * sizeof(float) + dense.scratch_bytes, run};
}

}  // namespace tessera
#endif  // HWY_ONCE
