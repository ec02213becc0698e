// Attention pooling: e_t = u . tanh(W x_t + b), a = exp(e - m) / (sum exp(e - m) + eps exp(-m)),
// s = sum a_t x_t; x (rows, t, d) row-major, one row per sequence.
//
// Sequences run in parallel. Of a sequence, blocks of steps are multiplied with one panel of W at a
// time; tanh and the product with u take the panel's results from L1, so W x never goes to memory.
// Then the softmax over the e of all steps, and the weighted sum in slices of columns. Compute
// binds (2 a FLOPs per float of x); tanh is about a tenth of it.
//
// A dense layer (D, c) before it costs next to nothing, since nothing lies between the products:
// W (D x + c) + b = (W D) x + (W c + b), folded once, and s = D sum a_t x_t + c sum a_t.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/attention/cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <cmath>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/gates-inl.h"
#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/paths.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/lengths.h"
#include "kernels/ops/attention/fold.h"
#include "kernels/ops/attention/train/backward.h"

#ifndef TESSERA_KERNELS_ATTENTION_CPU_DIMS_
#define TESSERA_KERNELS_ATTENTION_CPU_DIMS_
namespace tessera {

// One sequence.
struct AttentionSequence {
  const float* x;      // (steps, d)
  std::size_t steps;   // the valid ones
  std::size_t padded;  // all, t
  std::size_t d;
  std::size_t units;
  double eps;
  bool tanh_score;
  const float* packed;      // as AttentionPack writes it
  float* sum;               // (d)
  float* weights;           // (t)
  std::size_t dense_units;  // 0: no dense layer
  float* dense_sum;         // (dense_units)
  float* kept = nullptr;    // (t, units): tanh(W x + b), in training
};

}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// Where things lie in the packed weights, in floats. Padding units are zero: each adds tanh(0) 0 to
// the score.
struct AttentionLayout {
  std::size_t bias, context, dense, dense_bias, total;

  AttentionLayout(std::size_t d, std::size_t units, std::size_t dense_units)
      : bias(gemm_packed_size(d, units)),
        context(bias + gemm_columns(units)),
        dense(context + gemm_columns(units)),
        dense_bias(dense + gemm_packed_size(d, dense_units)),
        total(dense_bias + dense_units) {}
};

std::size_t AttentionPackedSize(std::size_t d, std::size_t units, std::size_t dense_units) {
  return AttentionLayout(d, units, dense_units).total;
}

void AttentionPack(const AttentionWeights& w, std::size_t d, float* packed) {
  const std::size_t units = w.bias.size(), dense_units = w.dense_bias.size();
  const AttentionLayout at(d, units, dense_units);
  std::fill_n(packed, at.total, 0.0f);
  const auto pack = [&](const std::vector<float>& matrix, std::size_t rows, float* to) {
    gemm_pack(
        d, rows, [&](std::size_t k, std::size_t unit) { return matrix[unit * d + k]; }, to);
  };
  pack(w.weight, units, packed);
  std::copy_n(w.bias.data(), units, packed + at.bias);
  std::copy_n(w.context.data(), units, packed + at.context);
  pack(w.dense, dense_units, packed + at.dense);
  std::copy_n(w.dense_bias.data(), dense_units, packed + at.dense_bias);
}

// e_t of all valid steps, into `weights`.
void AttentionScores(const AttentionSequence& sequence) {
  constexpr std::size_t kSteps = 4 * kGemmRows;
  const std::size_t columns = gemm_columns(sequence.units);
  const AttentionLayout at(sequence.d, sequence.units, sequence.dense_units);
  const float *bias = sequence.packed + at.bias, *context = sequence.packed + at.context;
  HWY_ALIGN float projected[kSteps * kGemmPanel];
  for (std::size_t step = 0; step < sequence.steps; step += kSteps) {
    const std::size_t count = std::min(kSteps, sequence.steps - step);
    FloatVector score[kSteps];
    std::fill_n(score, count, hn::Zero(FloatTag()));
    for (std::size_t first = 0; first < columns; first += kGemmPanel) {
      const std::size_t width = std::min(kGemmPanel, columns - first);
      gemm(sequence.x + step * sequence.d, sequence.d, sequence.packed + first * sequence.d, count,
           sequence.d, width, projected, kGemmPanel, {.row = bias + first});
      for (std::size_t i = 0; i < count; ++i) {
        for (std::size_t j = 0; j < width; j += kFloatLanes) {
          const FloatVector u = gate_tanh(load(projected + i * kGemmPanel + j));
          score[i] = hn::MulAdd(u, load(context + first + j), score[i]);
          if (sequence.kept != nullptr)
            store_first(u, sequence.kept + (step + i) * sequence.units + first + j,
                        std::min(kFloatLanes, sequence.units - first - j));
        }
      }
    }
    for (std::size_t i = 0; i < count; ++i) {
      const float e = hn::GetLane(hn::SumOfLanes(FloatTag(), score[i]));
      sequence.weights[step + i] = sequence.tanh_score ? std::tanh(e) : e;
    }
  }
}

// The scores in `weights` become the weights; NaN in one makes all of them NaN.
void AttentionSoftmax(const AttentionSequence& sequence) {
  float* a = sequence.weights;
  float largest = -INFINITY;
  for (std::size_t i = 0; i < sequence.steps; ++i) largest = std::max(largest, a[i]);
  double total = sequence.eps == 0 ? 0 : sequence.eps * std::exp(-static_cast<double>(largest));
  for (std::size_t i = 0; i < sequence.steps; ++i) {
    a[i] = std::exp(a[i] - largest);
    total += a[i];
  }
  for (std::size_t i = 0; i < sequence.steps; ++i)
    a[i] = static_cast<float>(static_cast<double>(a[i]) / total);
  std::fill(a + sequence.steps, a + sequence.padded, 0.0f);
}

// V vectors of columns of the weighted sum; the last one has `last` lanes.
template <std::size_t V>
void AttentionColumns(const AttentionSequence& sequence, std::size_t first, std::size_t last) {
  FloatVector sum[V];
  std::fill_n(sum, V, hn::Zero(FloatTag()));
  for (std::size_t step = 0; step < sequence.steps; ++step) {
    const float* x = sequence.x + step * sequence.d + first;
    const FloatVector a = hn::Set(FloatTag(), sequence.weights[step]);
    for (std::size_t v = 0; v + 1 < V; ++v)
      sum[v] = hn::MulAdd(a, load(x + v * kFloatLanes), sum[v]);
    const float* end = x + (V - 1) * kFloatLanes;
    sum[V - 1] = hn::MulAdd(a, last == kFloatLanes ? load(end) : load_first(end, last), sum[V - 1]);
  }
  float* s = sequence.sum + first;
  for (std::size_t v = 0; v + 1 < V; ++v) store(sum[v], s + v * kFloatLanes);
  store_first(sum[V - 1], s + (V - 1) * kFloatLanes, last);
}

// D sum a_t x_t + c sum a_t; eps keeps the sum of the weights below 1.
void AttentionDense(const AttentionSequence& sequence) {
  const AttentionLayout at(sequence.d, sequence.units, sequence.dense_units);
  double total = 0;
  for (std::size_t i = 0; i < sequence.steps; ++i) total += sequence.weights[i];
  for (std::size_t i = 0; i < sequence.dense_units; ++i)
    sequence.dense_sum[i] = static_cast<float>(total) * sequence.packed[at.dense_bias + i];
  gemm(sequence.sum, sequence.d, sequence.packed + at.dense, 1, sequence.d, sequence.dense_units,
       sequence.dense_sum, sequence.dense_units, {.accumulate = true});
}

void AttentionRun(const AttentionSequence& sequence) {
  constexpr std::size_t kVectors = 8;  // a slice of columns: enough independent sums
  AttentionScores(sequence);
  AttentionSoftmax(sequence);
  std::size_t first = 0;
  for (; first + kVectors * kFloatLanes <= sequence.d; first += kVectors * kFloatLanes)
    AttentionColumns<kVectors>(sequence, first, kFloatLanes);
  for (; first < sequence.d; first += kFloatLanes)
    AttentionColumns<1>(sequence, first, std::min(kFloatLanes, sequence.d - first));
  if (sequence.dense_units > 0) AttentionDense(sequence);
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {

HWY_EXPORT(AttentionPackedSize);
HWY_EXPORT(AttentionPack);
HWY_EXPORT(AttentionRun);

namespace {

struct AttentionDims {
  std::int64_t rows, t, d, dense_units;

  AttentionDims(const Attention& op, Types inputs)
      : rows(inputs[0].shape.elements(0, inputs[0].shape.rank() - 2)),
        t(inputs[0].shape[-2]),
        d(inputs[0].shape[-1]),
        dense_units(op.dense ? op.dense->units : 0) {}

  std::size_t packed_floats(const Attention& op) const {
    return HWY_DYNAMIC_DISPATCH(AttentionPackedSize)(static_cast<std::size_t>(d),
                                                     static_cast<std::size_t>(op.units),
                                                     static_cast<std::size_t>(dense_units));
  }
};

// All sequences. `sums` takes (rows, d) if there is a dense layer; `kept` (rows, t, units), or
// null.
void attend(const Attention& op, const AttentionDims& dims, const float* packed, int threads,
            const Operands& operands, float* sums, float* kept) {
  const std::int64_t t = dims.t, d = dims.d;
  if (op.masked) require_lengths("attention", operands.inputs[1], t);
  const auto* lengths = op.masked ? operands.inputs[1].as<std::int32_t>() : nullptr;
  auto* s = operands.outputs[0].as<float>();
  if (!op.dense) sums = s;
  parallel_for(threads, dims.rows, [&](std::int64_t row) {
    const std::int64_t steps = lengths != nullptr ? lengths[row] : t;
    float* kept_row = kept != nullptr ? kept + row * t * op.units : nullptr;
    HWY_DYNAMIC_DISPATCH(AttentionRun)
    ({.x = operands.inputs[0].as<float>() + row * t * d,
      .steps = static_cast<std::size_t>(steps),
      .padded = static_cast<std::size_t>(t),
      .d = static_cast<std::size_t>(d),
      .units = static_cast<std::size_t>(op.units),
      .eps = op.eps,
      .tanh_score = op.tanh_score,
      .packed = packed,
      .sum = sums + row * d,
      .weights = operands.outputs[1].as<float>() + row * t,
      .dense_units = static_cast<std::size_t>(dims.dense_units),
      .dense_sum = op.dense ? s + row * dims.dense_units : nullptr,
      .kept = kept_row});
    if (kept_row != nullptr) std::fill(kept_row + steps * op.units, kept_row + t * op.units, 0.0f);
  });
}

}  // namespace

Step cpu(const Attention& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  const AttentionDims dims(op, setup.inputs);
  const auto packed = setup.packed->get(
      setup.name + "/attention", dims.packed_floats(op) * sizeof(float), [&](std::byte* to) {
        HWY_DYNAMIC_DISPATCH(AttentionPack)
        (folded_weights(op, setup.weights), static_cast<std::size_t>(dims.d),
         reinterpret_cast<float*>(to));
      });
  const auto run = [=, threads = setup.threads](const Operands& operands, std::byte* scratch) {
    attend(op, dims, reinterpret_cast<const float*>(packed->get()), threads, operands,
           reinterpret_cast<float*>(scratch), nullptr);
  };
  const std::int64_t sums = op.dense ? dims.rows * dims.d : 0;
  return {static_cast<std::size_t>(sums) * sizeof(float), run};
}

// The scores without a dense layer, with tanh(W x + b) kept.
TrainStep cpu_train_scores(const Attention& op, const CpuSetup& setup) {
  const AttentionDims dims(op, setup.inputs);
  const auto run = [=, threads = setup.threads](const TrainOperands& operands, std::byte* scratch) {
    auto* packed = reinterpret_cast<float*>(scratch);
    HWY_DYNAMIC_DISPATCH(AttentionPack)
    (folded_weights(op, operands.weights), static_cast<std::size_t>(dims.d), packed);
    attend(op, dims, packed, threads, {operands.inputs, operands.weights, operands.outputs},
           nullptr, operands.saved[0].as<float>());
  };
  return {dims.packed_floats(op) * sizeof(float), run};
}

}  // namespace tessera
#endif
