// Attention pooling: e_t = u . tanh(W x_t + b), a = exp(e - m) / (sum exp(e - m) + eps exp(-m)),
// s = sum a_t x_t; x (rows, t, d) row-major, one row per sequence.
//
// Sequences run in parallel. Of a sequence, blocks of steps are multiplied with one panel of W at a
// time; tanh and the product with u take the panel's results from L1, so W x never goes to memory.
// Then the softmax over the e of all steps, and the weighted sum in slices of columns. Compute
// binds (2 a FLOPs per float of x); tanh is about a tenth of it.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/attention/cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <cmath>

#include "kernels/attention/attention.h"
#include "kernels/cpu/convert.h"
#include "kernels/cpu/gates-inl.h"
#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/lengths.h"

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
  const float* packed;  // as AttentionPack writes it
  float* sum;           // (d)
  float* weights;       // (t)
};

}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// W packed, then the bias and the context, zero-filled to whole vectors: a padding unit adds
// tanh(0) 0 to the score.
std::size_t AttentionPackedSize(std::size_t d, std::size_t units) {
  return gemm_packed_size(d, units) + 2 * gemm_columns(units);
}

void AttentionPack(const float* weight, const float* bias, const float* context, std::size_t d,
                   std::size_t units, float* packed) {
  gemm_pack(
      d, units, [&](std::size_t k, std::size_t unit) { return weight[unit * d + k]; }, packed);
  float* rest = packed + gemm_packed_size(d, units);
  std::fill_n(rest, 2 * gemm_columns(units), 0.0f);
  std::copy_n(bias, units, rest);
  std::copy_n(context, units, rest + gemm_columns(units));
}

// e_t of all valid steps, into `weights`.
void AttentionScores(const AttentionSequence& sequence) {
  constexpr std::size_t kSteps = 4 * kGemmRows;
  const std::size_t columns = gemm_columns(sequence.units);
  const float* bias = sequence.packed + gemm_packed_size(sequence.d, sequence.units);
  const float* context = bias + columns;
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
        }
      }
    }
    for (std::size_t i = 0; i < count; ++i)
      sequence.weights[step + i] = hn::GetLane(hn::SumOfLanes(FloatTag(), score[i]));
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

void AttentionRun(const AttentionSequence& sequence) {
  constexpr std::size_t kVectors = 8;  // a slice of columns: enough independent sums
  AttentionScores(sequence);
  AttentionSoftmax(sequence);
  std::size_t first = 0;
  for (; first + kVectors * kFloatLanes <= sequence.d; first += kVectors * kFloatLanes)
    AttentionColumns<kVectors>(sequence, first, kFloatLanes);
  for (; first < sequence.d; first += kFloatLanes)
    AttentionColumns<1>(sequence, first, std::min(kFloatLanes, sequence.d - first));
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {

HWY_EXPORT(AttentionPackedSize);
HWY_EXPORT(AttentionPack);
HWY_EXPORT(AttentionRun);

CpuStep cpu(const Attention& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  const Shape shape = setup.inputs[0].shape;
  const std::int64_t t = shape[-2], d = shape[-1], rows = shape.elements() / (t * d);
  const auto columns = static_cast<std::size_t>(d), units = static_cast<std::size_t>(op.units);
  const auto packed = setup.packed->get(
      setup.name + "/attention",
      HWY_DYNAMIC_DISPATCH(AttentionPackedSize)(columns, units) * sizeof(float),
      [&](std::byte* to) {
        const std::vector<float> weight = to_f32(setup.weights[0]), bias = to_f32(setup.weights[1]),
                                 context = to_f32(setup.weights[2]);
        HWY_DYNAMIC_DISPATCH(AttentionPack)
        (weight.data(), bias.data(), context.data(), columns, units, reinterpret_cast<float*>(to));
      });
  const auto run = [=, threads = setup.threads](const Operands& operands, std::byte*) {
    if (op.masked) require_lengths("attention", operands.inputs[1], t);
    const auto* lengths = op.masked ? operands.inputs[1].as<std::int32_t>() : nullptr;
    parallel_for(threads, rows, [&](std::int64_t row) {
      HWY_DYNAMIC_DISPATCH(AttentionRun)
      ({.x = operands.inputs[0].as<float>() + row * t * d,
        .steps = static_cast<std::size_t>(lengths != nullptr ? lengths[row] : t),
        .padded = static_cast<std::size_t>(t),
        .d = columns,
        .units = units,
        .eps = op.eps,
        .packed = reinterpret_cast<const float*>(packed->get()),
        .sum = operands.outputs[0].as<float>() + row * d,
        .weights = operands.outputs[1].as<float>() + row * t});
    });
  };
  return {0, run};
}

}  // namespace tessera
#endif
