// Losses of training, on logits: value and gradient. Elements i are pixels or documents, with
// classes k; p is softmax over the classes, or the sigmoid where there is one class alone.
//
//   L = cross_entropy * CE + dice * Dice
//   CE   = sum_i w_i (-log p_i[label_i]) / W          w_i = weight_i * class_weight[label_i]
//          W = sum of w_i (Mean::kWeights, as PyTorch), or the number of elements (kElements)
//   Dice = 1 - mean over classes of (2 sum_i p_ik y_ik + smooth) / (sum_i p_ik + y_ik + smooth)
//          over the whole batch, y one-hot, without weights (Milletari et al. 2016, with plain
//          sums)
//
// Pixel cross-entropy with the border weight map of the U-Net paper has `weights`; categorical
// cross-entropy of documents is the same without. With one class, labels are 0 and 1 and CE is the
// binary cross-entropy. Elements labelled `ignored` take no part; if none is left, L is 0.
//
// logits:  (..., c), f32          labels: (...), u8 or i32
// The gradient is that of L times `scale`. Sums are taken in blocks of elements whose extent
// depends on their number alone, so value and gradient do not depend on the threads.
#pragma once

#include <optional>

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

struct Loss {
  enum class Mean : std::uint8_t { kWeights, kElements };

  double cross_entropy = 1;
  double dice = 0;
  double smooth = 1;
  Mean mean = Mean::kWeights;
  std::optional<int> ignored = std::nullopt;  // a label
};

struct LossOperands {
  TensorView logits;
  TensorView labels;
  const float* weights = nullptr;        // (...); null: all 1
  const float* class_weights = nullptr;  // (c), or (2) if c = 1; null: all 1
  float* gradient = nullptr;             // (..., c), written; null: not computed
  double scale = 1;                      // of the gradient
};

// The loss and how many elements the logits classify as their label says. The class of logits is
// that of the greatest, the first of equals; of one logit, whether it is above 0.
struct LossResult {
  double loss = 0;
  std::int64_t counted = 0;  // elements whose label is not ignored and whose weight is not 0
  std::int64_t correct = 0;  // of those
};

struct LossStep {
  std::size_t scratch_bytes = 0;
  std::function<LossResult(const LossOperands&, std::byte* scratch)> run;
};

// Throws where logits and labels do not fit each other or the attributes make no sense.
void check_types(const Loss& op, const TensorType& logits, const TensorType& labels);
// Throws unless each label is a class or `ignored`; the text names the first that is not.
void check_labels(const Loss& op, std::int64_t classes, const TensorView& labels);
[[noreturn]] void refuse_label(int label, std::int64_t position, const Shape& labels,
                               std::int64_t classes);

LossResult reference(const Loss& op, const LossOperands& operands);
LossStep cpu(const Loss& op, const TensorType& logits, const TensorType& labels, int threads);
// All operands are device memory, the scratch aligned to 256 bytes. The run enqueues its work on
// the setup's stream and waits for it, because it returns what the work found; a label that is no
// class is found after the gradient is written, whose elements are 0 where it stands.
LossStep cuda(const Loss& op, const TensorType& logits, const TensorType& labels,
              const CudaSetup& setup);

}  // namespace tessera
