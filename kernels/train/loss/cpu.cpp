// Losses on the CPU, in two passes. The first takes softmax, logarithms and the sums: lanes are
// elements (kernels/cpu/classes-inl.h); it leaves p where the gradient will be. The second turns p
// into the gradient. Sums within a block are f32 per lane, over the blocks double, in order.
// Roofline: memory for maps that leave the cache; about 60 operations per element and class.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/train/loss/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/classes-inl.h"
#include "kernels/train/loss/loss.h"

#ifndef TESSERA_KERNELS_LOSS_CPU_ONCE
#define TESSERA_KERNELS_LOSS_CPU_ONCE
namespace tessera {
namespace {

// What a block of elements adds up to; per class behind it sum p y, and sum p + y.
struct BlockSums {
  double loss, weights, used;
  std::int64_t counted, correct;
};

struct LossBlock {
  const Loss* op;
  const LossOperands* operands;
  std::int64_t first, count;  // elements
  std::int64_t classes;
  float* planes;         // (3 classes, lanes)
  BlockSums* sums;       // of this block
  double* classes_sums;  // (2, classes)
};

// Factors of the gradient; those of Dice's dL/dp by class.
struct LossFactors {
  LossResult result;
  float cross_entropy = 0;
  std::vector<float> constant, labelled;
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// The class of the logits in `planes`.
HWY_INLINE FloatVector class_of(std::size_t c, const float* planes) {
  const FloatTag d;
  FloatVector largest = load(planes), answer = hn::Zero(d);
  if (c == 1) return hn::IfThenElseZero(hn::Gt(largest, answer), hn::Set(d, 1.0f));
  for (std::size_t k = 1; k < c; ++k) {
    const FloatVector z = load(planes + k * kFloatLanes);
    const auto wins = hn::Gt(z, largest);
    largest = hn::IfThenElse(wins, z, largest);
    answer = hn::IfThenElse(wins, hn::Set(d, static_cast<float>(k)), answer);
  }
  return answer;
}

// p in place of the logits in `planes`; returns -log p[label].
HWY_INLINE FloatVector softmax_loss(std::size_t c, FloatVector label, float* planes) {
  const FloatTag d;
  FloatVector largest = load(planes), at_label = load(planes);
  for (std::size_t k = 1; k < c; ++k) {
    const FloatVector z = load(planes + k * kFloatLanes);
    largest = max_or_nan(largest, z);
    at_label = hn::IfThenElse(hn::Eq(label, hn::Set(d, static_cast<float>(k))), z, at_label);
  }
  FloatVector sum = hn::Zero(d);
  for (std::size_t k = 0; k < c; ++k) {
    float* plane = planes + k * kFloatLanes;
    const FloatVector e = exp_nonpositive(hn::Sub(load(plane), largest));
    sum = hn::Add(sum, e);
    store(e, plane);
  }
  for (std::size_t k = 0; k < c; ++k) {
    float* plane = planes + k * kFloatLanes;
    store(hn::Div(load(plane), sum), plane);
  }
  return hn::Add(hn::Log(d, sum), hn::Sub(largest, at_label));
}

// The same for one class: max(z, 0) - z y + log(1 + e^-|z|).
HWY_INLINE FloatVector sigmoid_loss(FloatVector label, float* planes) {
  const FloatTag d;
  const FloatVector z = load(planes);
  store(sigmoid(z), planes);
  const FloatVector tail = hn::Log1p(d, exp_nonpositive(hn::Neg(hn::Abs(z))));
  return hn::Add(hn::NegMulAdd(z, label, relu(z)), tail);
}

// Labels and weights of up to kFloatLanes elements; `used` is 0, with all else, where one is
// ignored or behind the last, `counted` also where its weight is 0.
struct LossLanes {
  float labels[kFloatLanes] = {}, used[kFloatLanes] = {}, weights[kFloatLanes] = {};
  float counted[kFloatLanes] = {};

  template <class Label>
  void read(const LossBlock& block, const Label* from, std::int64_t first, std::size_t count) {
    const LossOperands& operands = *block.operands;
    const int ignored = block.op->ignored.value_or(-1);  // labels that are checked are no -1
    for (std::size_t lane = 0; lane < count; ++lane) {
      const std::int64_t element = first + static_cast<std::int64_t>(lane);
      const int label = from[element];
      if (label == ignored) continue;
      labels[lane] = static_cast<float>(label);
      used[lane] = 1;
      const float weight = operands.weights != nullptr ? operands.weights[element] : 1.0f;
      counted[lane] = weight != 0 ? 1.0f : 0.0f;
      weights[lane] =
          weight * (operands.class_weights != nullptr ? operands.class_weights[label] : 1.0f);
    }
  }

  LossLanes(const LossBlock& block, std::int64_t first, std::size_t count) {
    const TensorView& from = block.operands->labels;
    if (from.type.dtype == DType::kU8) {
      read(block, from.as<std::uint8_t>(), first, count);
    } else {
      read(block, from.as<std::int32_t>(), first, count);
    }
  }
};

void loss_sums(const LossBlock& block) {
  const FloatTag d;
  const auto c = static_cast<std::size_t>(block.classes);
  const LossOperands& operands = *block.operands;
  float *both = block.planes + c * kFloatLanes, *either = both + c * kFloatLanes;
  std::fill_n(both, 2 * c * kFloatLanes, 0.0f);
  BlockSums sums{};
  for (std::int64_t i = 0; i < block.count; i += static_cast<std::int64_t>(kFloatLanes)) {
    const std::int64_t first = block.first + i;
    const std::size_t count = std::min(kFloatLanes, static_cast<std::size_t>(block.count - i));
    const LossLanes lanes(block, first, count);
    const FloatVector label = load(lanes.labels), valid = load(lanes.used);
    to_planes(operands.logits.as<float>() + first * block.classes, count, c, block.planes);
    const auto counted = hn::Ne(load(lanes.counted), hn::Zero(d));
    const auto correct = hn::And(counted, hn::Eq(class_of(c, block.planes), label));
    sums.counted += static_cast<std::int64_t>(hn::CountTrue(d, counted));
    sums.correct += static_cast<std::int64_t>(hn::CountTrue(d, correct));
    float losses[kFloatLanes];
    store(c == 1 ? sigmoid_loss(label, block.planes) : softmax_loss(c, label, block.planes),
          losses);
    for (std::size_t lane = 0; lane < count; ++lane) {
      // A logit of an ignored element may be infinite: 0 times it is NaN.
      if (lanes.used[lane] != 0)
        sums.loss += static_cast<double>(lanes.weights[lane]) * losses[lane];
      sums.weights += lanes.weights[lane];
      sums.used += lanes.used[lane];
    }
    for (std::size_t k = 0; block.op->dice > 0 && k < c; ++k) {
      const FloatVector p = hn::Mul(load(block.planes + k * kFloatLanes), valid);
      const auto is_class = hn::Eq(label, hn::Set(d, static_cast<float>(c == 1 ? 1 : k)));
      const FloatVector y = hn::IfThenElseZero(is_class, valid);
      float *both_k = both + k * kFloatLanes, *either_k = either + k * kFloatLanes;
      store(hn::MulAdd(p, y, load(both_k)), both_k);
      store(hn::Add(load(either_k), hn::Add(p, y)), either_k);
    }
    if (operands.gradient != nullptr)
      from_planes(block.planes, count, c, operands.gradient + first * block.classes);
  }
  *block.sums = sums;
  for (std::size_t k = 0; k < 2 * c; ++k) {
    double sum = 0;
    for (std::size_t lane = 0; lane < kFloatLanes; ++lane) sum += both[k * kFloatLanes + lane];
    block.classes_sums[k] = sum;
  }
}

// p at `gradient` becomes the gradient.
void loss_gradient(const LossBlock& block, const LossFactors& factors) {
  const FloatTag d;
  const auto c = static_cast<std::size_t>(block.classes);
  const FloatVector share = hn::Set(d, factors.cross_entropy), one = hn::Set(d, 1.0f);
  const FloatVector scale = hn::Set(d, static_cast<float>(block.operands->scale));
  for (std::int64_t i = 0; i < block.count; i += static_cast<std::int64_t>(kFloatLanes)) {
    const std::int64_t first = block.first + i;
    const std::size_t count = std::min(kFloatLanes, static_cast<std::size_t>(block.count - i));
    float* gradient = block.operands->gradient + first * block.classes;
    const LossLanes lanes(block, first, count);
    const FloatVector label = load(lanes.labels), weight = hn::Mul(share, load(lanes.weights));
    const auto valid = hn::Ne(load(lanes.used), hn::Zero(d));
    to_planes(gradient, count, c, block.planes);
    const auto one_hot = [&](std::size_t k) HWY_ATTR {
      const FloatVector own = hn::Set(d, static_cast<float>(c == 1 ? 1 : k));
      return hn::IfThenElseZero(hn::Eq(label, own), one);
    };
    // Dice's dL/dp.
    const auto slope = [&](std::size_t k) HWY_ATTR {
      return hn::MulAdd(hn::Set(d, factors.labelled[k]), one_hot(k),
                        hn::Set(d, factors.constant[k]));
    };
    FloatVector mean = hn::Zero(d);
    for (std::size_t k = 0; k < c; ++k)
      mean = hn::MulAdd(slope(k), load(block.planes + k * kFloatLanes), mean);
    for (std::size_t k = 0; k < c; ++k) {
      float* plane = block.planes + k * kFloatLanes;
      const FloatVector p = load(plane);
      const FloatVector change =
          c == 1 ? hn::NegMulAdd(slope(k), p, slope(k)) : hn::Sub(slope(k), mean);
      const FloatVector sum = hn::MulAdd(weight, hn::Sub(p, one_hot(k)), hn::Mul(p, change));
      store(hn::IfThenElseZero(valid, hn::Mul(scale, sum)), plane);
    }
    from_planes(block.planes, count, c, gradient);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/check.h"
#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(loss_sums);
HWY_EXPORT(loss_gradient);

namespace {

constexpr std::int64_t kMaxLanes = 16;  // of any target

// How the elements are cut; the same for every number of threads.
struct LossBlocks {
  static constexpr std::int64_t kFewest = 1024, kMost = 256;
  std::int64_t elements, classes, block, count;

  LossBlocks(std::int64_t n, std::int64_t c)
      : elements(n),
        classes(c),
        block(std::max(kFewest, (n + kMost * kMaxLanes - 1) / (kMost * kMaxLanes) * kMaxLanes)),
        count((n + block - 1) / block) {}
};

LossFactors factors_of(const Loss& op, const LossBlocks& blocks, const BlockSums* sums,
                       const double* class_sums) {
  const std::int64_t c = blocks.classes;
  BlockSums all{};
  std::vector<double> classes(static_cast<std::size_t>(2 * c));
  for (std::int64_t block = 0; block < blocks.count; ++block) {
    all.loss += sums[block].loss;
    all.weights += sums[block].weights;
    all.used += sums[block].used;
    all.counted += sums[block].counted;
    all.correct += sums[block].correct;
    for (std::int64_t k = 0; k < 2 * c; ++k) classes[k] += class_sums[block * 2 * c + k];
  }
  LossFactors factors;
  factors.result = {.counted = all.counted, .correct = all.correct};
  factors.constant.resize(static_cast<std::size_t>(c));
  factors.labelled.resize(static_cast<std::size_t>(c));
  const double divisor = op.mean == Loss::Mean::kWeights ? all.weights : all.used;
  const double factor = divisor > 0 ? op.cross_entropy / divisor : 0;
  factors.cross_entropy = static_cast<float>(factor);
  factors.result.loss = factor * all.loss;
  for (std::int64_t k = 0; k < c && op.dice > 0 && all.used > 0; ++k) {
    const double above = 2 * classes[k] + op.smooth, below = classes[c + k] + op.smooth;
    const double share = op.dice / static_cast<double>(c);
    factors.result.loss += share * (1 - above / below);
    factors.constant[k] = static_cast<float>(share * above / (below * below));
    factors.labelled[k] = static_cast<float>(-2 * share / below);
  }
  return factors;
}

}  // namespace

LossStep cpu(const Loss& op, const TensorType& logits, const TensorType& labels, int threads) {
  check_types(op, logits, labels);
  const std::int64_t c = logits.shape[-1];
  const LossBlocks blocks(logits.shape.elements() / c, c);
  const std::int64_t plane_floats = 3 * c * kMaxLanes;
  const std::size_t planes_at =
      static_cast<std::size_t>(blocks.count) *
      (sizeof(BlockSums) + static_cast<std::size_t>(2 * c) * sizeof(double));
  const auto run = [=](const LossOperands& operands, std::byte* scratch) {
    check_labels(op, c, operands.labels);
    auto* sums = reinterpret_cast<BlockSums*>(scratch);
    auto* class_sums = reinterpret_cast<double*>(sums + blocks.count);
    auto* planes = reinterpret_cast<float*>(scratch + planes_at);
    const auto block_of = [&](std::int64_t i, int slot) {
      const std::int64_t first = i * blocks.block;
      return LossBlock{&op,      &operands,
                       first,    std::min(blocks.block, blocks.elements - first),
                       c,        planes + slot * plane_floats,
                       sums + i, class_sums + i * 2 * c};
    };
    parallel_for(threads, blocks.count, [&](std::int64_t block, int slot) {
      HWY_DYNAMIC_DISPATCH(loss_sums)(block_of(block, slot));
    });
    const LossFactors factors = factors_of(op, blocks, sums, class_sums);
    if (operands.gradient != nullptr) {
      parallel_for(threads, blocks.count, [&](std::int64_t block, int slot) {
        HWY_DYNAMIC_DISPATCH(loss_gradient)(block_of(block, slot), factors);
      });
    }
    return factors.result;
  };
  return {planes_at + static_cast<std::size_t>(threads * plane_floats) * sizeof(float), run};
}

}  // namespace tessera
#endif  // HWY_ONCE
