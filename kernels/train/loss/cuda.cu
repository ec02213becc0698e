// Losses and their gradient (formulas: loss.h).
//
// Layout: logits and gradient (elements, classes), labels and weights (elements).
// In four launches. loss_sums_kernel: a warp takes kLossUnit elements, 32 at a time, a lane each,
// and leaves their sums in f32. loss_totals_kernel: a block adds one of these sums over all warps,
// in double. loss_factors_kernel makes the loss of them, and the factors of the gradient.
// loss_gradient_kernel: a lane makes the gradient of one element, from logits read anew: as many
// bytes as probabilities kept by the first would be. Rows of a few classes pass through shared
// memory, so that global memory is crossed in whole sectors. The order of every sum depends on
// `elements` and `classes` alone.
// Roofline: memory; logits are read twice, labels and weights too, the gradient is written once:
// 12 bytes per logit. Share of it: not measured yet.
// Oracle: reference.cpp.
#include <climits>

#include "kernels/cuda/classes.cuh"
#include "kernels/cuda/staged.cuh"
#include "kernels/train/loss/cuda.h"

namespace tessera {

namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kBlocks = 2;  // per multiprocessor: at most 128 registers
constexpr int kTotalThreads = 256;

// The logits of 32 neighbouring elements, one for each lane: in shared memory, or where they lie.
template <bool kStaged>
struct Rows {
  float* s_rows;        // of this warp, if kStaged
  const float* logits;  // of this lane's element
  int begin;            // in s_rows, of this lane's element

  __device__ float at(int k) const {
    if constexpr (kStaged) {
      return s_rows[staged(begin + k)];
    } else {
      return logits[k];
    }
  }
};

template <bool kStaged>
__device__ inline Rows<kStaged> load_rows(const LossArgs& args, std::int64_t first, int count,
                                          int lane, float* s_rows) {
  if constexpr (kStaged) {
    __syncwarp();  // the reads of the rows before, ahead of these writes
    load_staged(args.logits + first * args.classes, count * args.classes, lane, s_rows);
    __syncwarp();  // these writes before the reads of other lanes
  }
  return {s_rows, args.logits + (first + lane) * args.classes, lane * args.classes};
}

// The label and weights of one element.
struct Target {
  int label = 0;
  bool used = false;     // neither ignored nor wrong
  bool counted = false;  // of those, with a weight that is not 0
  bool wrong = false;
  float weight = 0;
};

__device__ inline int label_of(const LossArgs& args, std::int64_t element) {
  return args.labels_are_bytes ? static_cast<const std::uint8_t*>(args.labels)[element]
                               : static_cast<const std::int32_t*>(args.labels)[element];
}

__device__ inline Target target_of(const LossArgs& args, std::int64_t element) {
  Target target;
  target.label = label_of(args, element);
  if (args.has_ignored && target.label == args.ignored) return target;
  const int labelled = args.classes == 1 ? 2 : args.classes;
  target.wrong = target.label < 0 || target.label >= labelled;
  if (target.wrong) return target;
  target.used = true;
  const float weight = args.weights != nullptr ? args.weights[element] : 1.0f;
  target.counted = weight != 0;
  target.weight =
      weight * (args.class_weights != nullptr ? args.class_weights[target.label] : 1.0f);
  return target;
}

// p_k = exp(z_k - largest) inverse; of one logit p = inverse.
struct Softmax {
  float largest, inverse;
  float loss;  // -log p of the label
  int answer;  // the class of the logits

  __device__ float probability(int classes, float z) const {
    return classes == 1 ? inverse : expf(z - largest) * inverse;
  }
};

template <bool kStaged>
__device__ inline Softmax softmax_of(const Rows<kStaged>& rows, int classes, int label) {
  if (classes == 1) {
    const float z = rows.at(0);
    const float loss = fmaf(-z, static_cast<float>(label), relu(z)) + log1pf(expf(-fabsf(z)));
    return {0, sigmoid(z), loss, z > 0 ? 1 : 0};
  }
  Best best = {rows.at(0), 0};
  float largest = best.value, own = best.value;
  for (int k = 1; k < classes; ++k) {
    const float z = rows.at(k);
    if (z > best.value) best = {z, k};
    largest = fmaxf(largest, z);
    own = k == label ? z : own;
  }
  float sum = 0;
  for (int k = 0; k < classes; ++k) sum += expf(rows.at(k) - largest);
  return {largest, reciprocal(sum), logf(sum) + (largest - own), best.index};
}

__device__ inline std::int64_t min_of_warp(std::int64_t value) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    const std::int64_t other = __shfl_xor_sync(kWholeWarp, value, distance);
    value = other < value ? other : value;
  }
  return value;
}

template <bool kStaged>
__global__ void __launch_bounds__(kThreads, kBlocks) loss_sums_kernel(LossArgs args) {
  SIMT_DYN_SHARED(float, s_all, 16);
  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = threadIdx.x % kWarp;
  const int classes = args.classes;
  float* s_rows = s_all + warp * staged_size(kWarp * classes);
  const std::int64_t unit = std::int64_t{blockIdx.x} * kWarps + warp;
  const std::int64_t begin = unit * kLossUnit;
  if (begin >= args.elements) return;
  const std::int64_t end = begin + kLossUnit < args.elements ? begin + kLossUnit : args.elements;

  float loss = 0, weights = 0;
  int used = 0, counted = 0, correct = 0;
  std::int64_t first_wrong = args.elements;
  // Sums of a class are held by the lane of its number; more than 32 classes take another round.
  for (int first_class = 0; first_class < classes; first_class += kWarp) {
    const int last_class = first_class + kWarp < classes ? first_class + kWarp : classes;
    float both = 0, either = 0;
    for (std::int64_t first = begin; first < end; first += kWarp) {
      const int count = static_cast<int>(end - first < kWarp ? end - first : kWarp);
      const auto rows = load_rows<kStaged>(args, first, count, lane, s_rows);
      Target target;
      Softmax softmax{};
      if (lane < count) {
        target = target_of(args, first + lane);
        softmax = softmax_of(rows, classes, target.label);
      }
      if (first_class == 0) {
        // A logit of an ignored element may be infinite: 0 times it is NaN.
        if (target.used) loss = fmaf(target.weight, softmax.loss, loss);
        weights += target.weight;
        used += target.used;
        counted += target.counted;
        correct += target.counted && softmax.answer == target.label;
        if (target.wrong && first + lane < first_wrong) first_wrong = first + lane;
      }
      if (!(args.dice > 0)) continue;
      for (int k = first_class; k < last_class; ++k) {
        const float p = target.used ? softmax.probability(classes, rows.at(k)) : 0.0f;
        const bool is_label = target.used && target.label == (classes == 1 ? 1 : k);
        const float sum = sum_of_warp(p), at_label = sum_of_warp(is_label ? p : 0.0f);
        const int labels = __popc(__ballot_sync(kWholeWarp, is_label));
        if (lane == k - first_class) {
          both += at_label;
          either += sum + static_cast<float>(labels);
        }
      }
    }
    if (!(args.dice > 0)) break;
    if (lane < last_class - first_class) {
      float* sums = args.sums + std::int64_t{kLossSums + first_class + lane} * args.units + unit;
      sums[0] = both;
      sums[std::int64_t{classes} * args.units] = either;
    }
  }

  loss = sum_of_warp(loss);
  weights = sum_of_warp(weights);
  used = __reduce_add_sync(kWholeWarp, used);
  counted = __reduce_add_sync(kWholeWarp, counted);
  correct = __reduce_add_sync(kWholeWarp, correct);
  first_wrong = min_of_warp(first_wrong);
  if (lane == 0) {
    args.sums[kLossOfElements * args.units + unit] = loss;
    args.sums[kLossWeights * args.units + unit] = weights;
    args.sums[kLossUsed * args.units + unit] = static_cast<float>(used);
    args.counts[kLossCounted * args.units + unit] = counted;
    args.counts[kLossCorrect * args.units + unit] = correct;
    args.counts[kLossFirstWrong * args.units + unit] = first_wrong;
  }
}

// What a block's threads hold, joined in one fixed order; the answer is thread 0's.
template <class T, class Join>
__device__ inline T join_block(T value, T (&s_values)[kTotalThreads], const Join& join) {
  const int thread = static_cast<int>(threadIdx.x);
  s_values[thread] = value;
  for (int distance = kTotalThreads / 2; distance > 0; distance /= 2) {
    __syncthreads();  // the values of the step before
    if (thread < distance) s_values[thread] = join(s_values[thread], s_values[thread + distance]);
  }
  return s_values[0];
}

__global__ void __launch_bounds__(kTotalThreads) loss_totals_kernel(LossArgs args) {
  SIMT_SHARED(double, s_sums, [kTotalThreads]);
  SIMT_SHARED(std::int64_t, s_counts, [kTotalThreads]);
  const int which = static_cast<int>(blockIdx.x), sums = args.sum_count;
  const auto thread = static_cast<std::int64_t>(threadIdx.x);
  if (which < sums) {
    const float* from = args.sums + which * args.units;
    double sum = 0;
    for (std::int64_t unit = thread; unit < args.units; unit += kTotalThreads)
      sum += static_cast<double>(from[unit]);
    sum = join_block(sum, s_sums, [](double a, double b) { return a + b; });
    if (thread == 0) args.all_sums[which] = sum;
    return;
  }
  const std::int64_t* from = args.counts + (which - sums) * args.units;
  const bool least = which - sums == kLossFirstWrong;
  const auto join = [least](std::int64_t a, std::int64_t b) {
    return least ? (a < b ? a : b) : a + b;
  };
  std::int64_t count = least ? args.elements : 0;
  for (std::int64_t unit = thread; unit < args.units; unit += kTotalThreads)
    count = join(count, from[unit]);
  count = join_block(count, s_counts, join);
  if (thread == 0) args.all_counts[which - sums] = count;
}

__global__ void __launch_bounds__(kTotalThreads) loss_factors_kernel(LossArgs args) {
  const double* both = args.all_sums + kLossSums;
  const double* either = both + args.classes;
  const double used = args.all_sums[kLossUsed];
  const bool has_dice = args.dice > 0 && used > 0;
  const double share = args.dice / args.classes;
  for (int k = static_cast<int>(threadIdx.x); k < args.classes; k += kTotalThreads) {
    double constant = 0, labelled = 0;
    if (has_dice) {
      const double above = 2 * both[k] + args.smooth, below = either[k] + args.smooth;
      constant = share * above / (below * below);
      labelled = -2 * share / below;
    }
    args.constant[k] = static_cast<float>(constant);
    args.labelled[k] = static_cast<float>(labelled);
  }
  if (threadIdx.x != 0) return;
  const double divisor = args.mean_of_weights ? args.all_sums[kLossWeights] : used;
  const double factor = divisor > 0 ? args.cross_entropy / divisor : 0;
  *args.cross_entropy_each = static_cast<float>(factor);
  LossFound found{};
  found.loss = factor * args.all_sums[kLossOfElements];
  for (int k = 0; has_dice && k < args.classes; ++k)
    found.loss += share * (1 - (2 * both[k] + args.smooth) / (either[k] + args.smooth));
  found.counted = args.all_counts[kLossCounted];
  found.correct = args.all_counts[kLossCorrect];
  found.first_wrong = args.all_counts[kLossFirstWrong];
  if (found.first_wrong < args.elements) found.wrong_label = label_of(args, found.first_wrong);
  *args.found = found;
}

template <bool kStaged>
__global__ void __launch_bounds__(kThreads) loss_gradient_kernel(LossArgs args) {
  SIMT_DYN_SHARED(float, s_all, 16);
  const auto [warp, lane, first, count] = rows_of_warp(args.elements, kWarps);
  const int classes = args.classes;
  float* s_rows = s_all + warp * staged_size(kWarp * classes);
  if (first >= args.elements) return;
  const auto rows = load_rows<kStaged>(args, first, count, lane, s_rows);
  if (lane < count) {
    const Target target = target_of(args, first + lane);
    const Softmax softmax = softmax_of(rows, classes, target.label);
    const float weight = *args.cross_entropy_each * target.weight;
    const float scale = static_cast<float>(args.scale);
    const auto one_hot = [&](int k) {
      return target.label == (classes == 1 ? 1 : k) ? 1.0f : 0.0f;
    };
    const auto slope = [&](int k) { return fmaf(args.labelled[k], one_hot(k), args.constant[k]); };
    float mean = 0;
    for (int k = 0; args.dice > 0 && k < classes; ++k)
      mean = fmaf(slope(k), softmax.probability(classes, rows.at(k)), mean);
    for (int k = 0; k < classes; ++k) {
      const float p = softmax.probability(classes, rows.at(k));
      float gradient = weight * (p - one_hot(k));
      if (args.dice > 0) {
        const float change = classes == 1 ? fmaf(-slope(k), p, slope(k)) : slope(k) - mean;
        gradient = fmaf(p, change, gradient);
      }
      gradient = target.used ? scale * gradient : 0.0f;
      if constexpr (kStaged) {
        s_rows[staged(lane * classes + k)] = gradient;
      } else {
        args.gradient[(first + lane) * classes + k] = gradient;
      }
    }
  }
  if constexpr (kStaged) {
    __syncwarp();  // the gradients above before other lanes store them
    store_staged(s_rows, count * classes, lane, args.gradient + first * classes);
  }
}

}  // namespace

void loss_cuda(const LossArgs& args, CudaStream stream) {
  const bool is_staged = args.classes <= kLossMostStaged;
  const std::size_t bytes =
      is_staged
          ? static_cast<std::size_t>(kWarps * staged_size(kWarp * args.classes)) * sizeof(float)
          : 0;
  const auto blocks = [](std::int64_t warps) {
    return dim3(static_cast<unsigned>((warps + kWarps - 1) / kWarps));
  };
  simt::launch(is_staged ? loss_sums_kernel<true> : loss_sums_kernel<false>, blocks(args.units),
               dim3(kThreads), bytes, stream, args);
  simt::launch(loss_totals_kernel, dim3(static_cast<unsigned>(args.sum_count + kLossCounts)),
               dim3(kTotalThreads), 0, stream, args);
  simt::launch(loss_factors_kernel, dim3(1), dim3(kTotalThreads), 0, stream, args);
  if (args.gradient == nullptr) return;
  simt::launch(is_staged ? loss_gradient_kernel<true> : loss_gradient_kernel<false>,
               blocks((args.elements + kWarp - 1) / kWarp), dim3(kThreads), bytes, stream, args);
}

}  // namespace tessera
