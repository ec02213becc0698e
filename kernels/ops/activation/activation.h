// Element-wise activation.
//
// inputs:  x (...)     weights: weight, the slopes of prelu alone: (c) of x (..., c), or (1)
// outputs: y (...), same type
//
// Formulas: formulas.h.
#pragma once

#include <array>

#include "kernels/operator.h"

namespace tessera {

struct Activation {
  static constexpr std::string_view kName = "activation";
  enum class Kind : std::uint8_t {
    kRelu,
    kSigmoid,
    kLeakyRelu,
    kPrelu,
    kElu,
    kSelu,
    kSilu,
    kGelu,      // by the error function
    kGeluTanh,  // its approximation by tanh
    kTanh,
    kHardSigmoid,
    kHardSwish,
    kSoftplus,
    kClip
  };
  Kind kind = Kind::kRelu;
  double slope = 0.01;              // leaky_relu
  bool per_channel = true;          // prelu: a slope for each channel, or one for all
  double alpha = 1;                 // elu
  double gain = 0.2, offset = 0.5;  // hard_sigmoid: ONNX and Keras 2; a gain of 1/6 is PyTorch's
  double min = 0, max = 6;          // clip: these are ReLU6

  bool operator==(const Activation&) const = default;
};

constexpr std::array<std::string_view, 14> names_of(Activation::Kind) {
  return {"relu", "sigmoid",   "leaky_relu", "prelu",        "elu",        "selu",     "silu",
          "gelu", "gelu_tanh", "tanh",       "hard_sigmoid", "hard_swish", "softplus", "clip"};
}
void fields(auto&& visit, Of<Activation> auto& op) {
  constexpr Range kFloats{-std::numeric_limits<float>::max(), std::numeric_limits<float>::max()};
  visit("kind", op.kind);
  visit("slope", op.slope, kFloats);
  visit("per_channel", op.per_channel);
  visit("alpha", op.alpha, kFloats);
  visit("gain", op.gain, kFloats);
  visit("offset", op.offset, kFloats);
  visit("min", op.min, kFloats);
  visit("max", op.max, kFloats);
}
// ReLU and sigmoid, the ones that a GPU trains.
constexpr bool is_relu_or_sigmoid(const Activation& op) {
  return op.kind == Activation::Kind::kRelu || op.kind == Activation::Kind::kSigmoid;
}
std::vector<TensorType> infer(const Activation& op, Types inputs);
std::vector<Parameter> parameters(const Activation& op, Types inputs);
Cost cost(const Activation& op, Types inputs);
Extent extent(const Activation& op, const Along& along, std::span<const Interval> wanted);
Activation part(const Activation& op, const Along& along, Extent& piece);
void reference(const Activation& op, const Operands& operands);

}  // namespace tessera
