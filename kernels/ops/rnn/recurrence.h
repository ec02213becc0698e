// What the parts of the recurrent layer share: cpu.cpp orders the work, cells-inl.h does it.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops/rnn/rnn.h"

namespace tessera {

inline int gate_count(const BiRnn& op) {
  return op.cell == BiRnn::Cell::kLstm ? 4 : 3;
}

// Sequences that one call of the recurrence takes: their state, 3 x 96 x 150 floats, shares L2
// with a direction's weight_hh.
inline constexpr std::int64_t kRnnGroup = 96;

// Buffers of `rnn_state_stride` floats per sequence: h, its successor (or r h), and c (or z).
inline constexpr std::int64_t kRnnStates = 3;

// Units, rounded up to a cache line, which is also a whole number of any target's vectors.
inline std::int64_t rnn_state_stride(const BiRnn& op) {
  return (op.units + 15) / 16 * 16;
}

// Columns of one direction in a row of projected inputs: W x + b of all gates.
inline std::int64_t rnn_projected_columns(const BiRnn& op) {
  return std::int64_t{gate_count(op)} * op.units;
}

// Projected words are kept from run to run up to this size: 55,924 words of an LSTM of 150 units.
inline constexpr std::int64_t kRnnKeptBytes = std::int64_t{256} << 20;

inline bool rnn_keeps_words(const BiRnn& op) {
  const std::int64_t row = 2 * rnn_projected_columns(op) * std::int64_t{sizeof(float)};
  return op.embedding && op.embedding->words <= kRnnKeptBytes / row;
}

// What a training run keeps of each step and direction for the backward run, in units:
// LSTM i, f, g, o, c; GRU r, z, n and U h + b_hh of n, or r h without reset_after.
inline int rnn_kept_values(const BiRnn& op) {
  return op.cell == BiRnn::Cell::kLstm ? 5 : 4;
}

// One sequence: `slots[step]` is the row of its step in the projected inputs, y (t, 2 units).
struct RnnSequence {
  const std::int32_t* slots;
  float* y;
  std::int64_t length;
  float* kept = nullptr;  // (t, 2, rnn_kept_values, units), in training
};

// One direction of up to kRnnGroup sequences, longest first: a unit of work.
struct RnnGroup {
  const BiRnn* op;
  const float* packed;     // all weights, as RnnPack writes them
  const float* projected;  // (slots, 2 rnn_projected_columns)
  std::size_t features;    // of x
  bool backward;
  std::int64_t block;  // steps that run backward among themselves; 0: a whole sequence
  const RnnSequence* sequences;
  std::int64_t count;
  float* state;  // (kRnnStates, count, rnn_state_stride)
};

// Weights of one direction as f32, in PyTorch's layout.
struct RnnWeights {
  std::vector<float> weight_ih, weight_hh, bias_ih, bias_hh;
};

}  // namespace tessera
