// Bidirectional recurrent layer over the second-last axis: LSTM (Hochreiter & Schmidhuber 1997) or
// GRU (Cho et al. 2014), both directions concatenated (forward, backward).
//
//   LSTM: i, f, o = s(W x + U h + b), g = tanh(W x + U h + b);  c = f c + i g;  h = o tanh(c)
//   GRU:  r, z = s(W x + b_ih + U h + b_hh)
//         n = tanh(W x + b_ih + r (U h + b_hh))          reset_after (PyTorch, Keras >= 3)
//         n = tanh(W x + b_ih + U (r h) + b_hh)          else (Keras <= 2, the paper)
//         h = (1 - z) n + z h
//   s = sigmoid, or hard_sigmoid(x) = clip(0.2 x + 0.5, 0, 1) as Keras <= 2.2 has it.
//
// inputs:  x (..., t, features), f32; with `embedding`: ids (..., t), i32, looked up first;
//          lengths (...), i32, if masked: steps t >= length are not computed, their outputs are
//          zero, and the backward direction starts at step length - 1; with `carried` none, and
//          x (..., sequences, t, features): each direction of a sequence starts from the state in
//          which it ended the sequence before, the first from zeros
// weights: weight_ih (g units, features), weight_hh (g units, units), bias_ih, bias_hh (g units),
//          then the same four with suffix "_reverse"; PyTorch's gate order: LSTM i, f, g, o
//          (g = 4), GRU r, z, n (g = 3); with `embedding`: "embedding" (words, features) first
// outputs: y (..., t, 2 units), f32
#pragma once

#include <array>

#include <optional>

#include "kernels/operator.h"
#include "kernels/ops/embedding/embedding.h"

namespace tessera {

struct BiRnn {
  static constexpr std::string_view kName = "bi_rnn";
  enum class Cell : std::uint8_t { kLstm, kGru };
  enum class Gate : std::uint8_t { kSigmoid, kHardSigmoid };
  Cell cell = Cell::kLstm;
  int units = 0;
  Gate gate = Gate::kSigmoid;
  bool reset_after = true;  // GRU alone
  bool masked = true;
  bool carried = false;  // the state goes from sequence to sequence
  // Folds the look-up in: each distinct word of a run is multiplied with weight_ih once. Where all
  // words together are small enough, the products are kept for the runs to come: steps of one
  // PackedWeights share them, also where several threads run them at the same time.
  std::optional<Embedding> embedding = std::nullopt;

  bool operator==(const BiRnn&) const = default;
};

constexpr std::array<std::string_view, 2> names_of(BiRnn::Cell) {
  return {"lstm", "gru"};
}
constexpr std::array<std::string_view, 2> names_of(BiRnn::Gate) {
  return {"sigmoid", "hard_sigmoid"};
}
void fields(auto&& visit, Of<BiRnn> auto& op) {
  visit("cell", op.cell);
  visit("units", op.units, Range{1, 1 << 16});
  visit("gate", op.gate);
  visit("reset_after", op.reset_after);
  visit("masked", op.masked);
  visit("carried", op.carried);
}
std::vector<TensorType> infer(const BiRnn& op, Types inputs);
std::vector<Parameter> parameters(const BiRnn& op, Types inputs);
Cost cost(const BiRnn& op, Types inputs);
Extent extent(const BiRnn& op, const Along& along, std::span<const Interval> wanted);
BiRnn part(const BiRnn& op, const Along& along, Extent& piece);
void reference(const BiRnn& op, const Operands& operands);

}  // namespace tessera
