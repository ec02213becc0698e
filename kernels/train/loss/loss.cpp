#include "kernels/train/loss/loss.h"

#include "kernels/check.h"

namespace tessera {

void check_types(const Loss& op, const TensorType& logits, const TensorType& labels) {
  require_channels("loss", logits);
  const auto dims = logits.shape.dims();
  const Shape elements(dims.first(dims.size() - 1));
  require(logits.dtype == DType::kF32, "loss: logits are f32, not {}", logits);
  require((labels.dtype == DType::kU8 || labels.dtype == DType::kI32) && labels.shape == elements,
          "loss: labels of logits {} are u8 or i32 {}, not {}", logits.shape, elements, labels);
  require(op.cross_entropy >= 0 && op.dice >= 0 && op.cross_entropy + op.dice > 0,
          "loss: the shares of cross-entropy and Dice must not be negative, nor both 0, but are {} "
          "and {}",
          op.cross_entropy, op.dice);
  require(op.smooth >= 0, "loss: smooth must not be negative, but is {}", op.smooth);
}

void check_labels(const Loss& op, std::int64_t classes, const TensorView& labels) {
  const std::int64_t labelled = classes == 1 ? 2 : classes;
  for (std::int64_t i = 0; i < labels.shape().elements(); ++i) {
    const int label = labels.type.dtype == DType::kU8 ? labels.as<std::uint8_t>()[i]
                                                      : labels.as<std::int32_t>()[i];
    if ((label >= 0 && label < labelled) || op.ignored == label) [[likely]]
      continue;  // before any text is made
    refuse_label(label, i, labels.shape(), classes);
  }
}

void refuse_label(int label, std::int64_t position, const Shape& labels, std::int64_t classes) {
  fail(
      "loss: label {} at position {} of {} is none of the {} classes; correct the labels, or "
      "name it as the one to ignore",
      label, position, labels, classes == 1 ? 2 : classes);
}

}  // namespace tessera
