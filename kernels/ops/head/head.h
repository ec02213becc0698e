// The end of a UNet in one pass over the last map: 1x1 convolution, optional ReLU (tf_unet), pixel
// softmax or sigmoid, argmax.
//
// inputs:  x (n, h, w, c_in), f32, bf16 or f16
// weights: weight (classes, c_in, 1, 1); bias (classes) if bias
// outputs: mask (n, h, w), u8, as Argmax of the probabilities;
//          probabilities (n, h, w, classes), f32, if asked for
#pragma once

#include <array>

#include "kernels/operator.h"

namespace tessera {

struct Head {
  static constexpr std::string_view kName = "head";
  enum class Output : std::uint8_t { kSoftmax, kSigmoid };
  int classes = 2;
  bool bias = true;
  bool relu = false;
  Output output = Output::kSoftmax;
  bool probabilities = false;

  bool operator==(const Head&) const = default;
};

constexpr std::array<std::string_view, 2> names_of(Head::Output) {
  return {"softmax", "sigmoid"};
}
void fields(auto&& visit, Of<Head> auto& op) {
  visit("classes", op.classes, Range{1, 256});
  visit("bias", op.bias);
  visit("relu", op.relu);
  visit("output", op.output);
  visit("probabilities", op.probabilities);
}
std::vector<TensorType> infer(const Head& op, Types inputs);
std::vector<Parameter> parameters(const Head& op, Types inputs);
Cost cost(const Head& op, Types inputs);
Extent extent(const Head& op, const Along& along, std::span<const Interval> wanted);
Head part(const Head& op, const Along& along, Extent& piece);
void reference(const Head& op, const Operands& operands);

}  // namespace tessera
