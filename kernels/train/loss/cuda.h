// The CUDA path of Loss: what its launcher takes.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace tessera {

// Elements whose sums one warp takes, in f32; the warps' sums are added in double.
constexpr std::int64_t kLossUnit = 256;

// Classes of logits up to which a warp brings whole rows into shared memory.
constexpr int kLossMostStaged = 32;

// Sums over all elements, and over the elements of a warp; behind them, for Dice, sum p y of each
// class and sum p + y of each.
enum LossSum { kLossOfElements, kLossWeights, kLossUsed, kLossSums };
enum LossCount { kLossCounted, kLossCorrect, kLossFirstWrong, kLossCounts };

// What a run found.
struct LossFound {
  double loss;
  std::int64_t counted, correct;
  std::int64_t first_wrong;  // the first element whose label is neither a class nor ignored, or
                             // `elements`
  std::int32_t wrong_label;  // its label
};

struct LossArgs {
  const float* logits;         // (elements, classes)
  const void* labels;          // (elements), u8 or i32
  const float* weights;        // (elements); null: all 1
  const float* class_weights;  // (classes), or 2 of one class; null: all 1
  float* gradient;             // (elements, classes); null: not computed
  std::int64_t elements;
  int classes;
  bool labels_are_bytes;
  bool has_ignored;
  std::int32_t ignored;
  bool mean_of_weights;  // else of elements
  double cross_entropy, dice, smooth, scale;

  // Scratch, written before it is read.
  int sum_count;              // kLossSums, and 2 `classes` for Dice
  std::int64_t units;         // elements / kLossUnit, rounded up
  float* sums;                // (sum_count, units)
  std::int64_t* counts;       // (kLossCounts, units)
  double* all_sums;           // (sum_count)
  std::int64_t* all_counts;   // (kLossCounts)
  float* cross_entropy_each;  // 1: the factor of an element's weight
  float* constant;            // (classes): dL/dp of Dice is constant + labelled y
  float* labelled;            // (classes)
  LossFound* found;
};

void loss_cuda(const LossArgs& args, CudaStream stream);

}  // namespace tessera
