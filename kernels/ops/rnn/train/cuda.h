// The CUDA path of BiRnn's backward run (formulas: backward.h): what its launchers take, and the
// choice of its shape.
#pragma once

#include "kernels/ops/rnn/cuda.h"

namespace tessera {

// Weights of both directions, packed in each run: packed[i] = round(weight[order[i]]), of the
// second direction where order[i] is `size` or more, less `size`; 0 where it is negative.
struct RnnPackArgs {
  const float* weight[2];     // (size) each
  const std::int32_t* order;  // (count)
  void* packed;               // (count), of 4 bytes, or 2 if rounded to bf16 or f16
  std::int64_t size, count;
  Precision rounding;
};

void rnn_pack_cuda(const RnnPackArgs& args, CudaStream stream);

// The biases of both directions: (2, units, gates), those that are added before the gates, which
// are all but a GRU's b_hh of n; that one is (2, units).
struct RnnBiasArgs {
  const float *input[2], *hidden[2];  // b_ih, b_hh (gates, units)
  float* bias;
  float* bias_n;  // null for an LSTM
  int units, gates;
};

void rnn_pack_bias_cuda(const RnnBiasArgs& args, CudaStream stream);

// Gates whose sums over steps the recurrence makes for the biases: LSTM i, f, g, o; GRU r, z, n and
// dq of backward.h.
constexpr int kRnnBiasGates = 4;

struct RnnBackwardArgs {
  const std::int32_t* lengths;  // (sequences), clamped to 0 .. t; null: all t
  const std::int32_t* order;    // (sequences): the order to take them in; null: as they are
  const float* recurrent;       // weight_hh of both directions, as rnn_transposed_at says
  const float* y;               // (sequences, t, 2, units); used by a GRU
  const float* kept;            // (sequences, t, 2, kKeptOf, units)
  const float* dy;              // (sequences, t, 2, units)
  // Gradients of the gates' sums W x + b_ih (sequences, t, 2, gates, units), and of a GRU's
  // U h' + b_hh of n with reset_after (sequences, t, 2, units). Not written behind a sequence's
  // end.
  float *dz, *dq;
  float* bias_sums;  // (2, blocks, kRnnBiasGates, units): sums over the steps of a block
  std::int64_t sequences;
  int t;
  int units;
  int chunks;  // of one gate's rows of weight_hh
  RnnCell cell;
  bool hard_sigmoid;
};

// Element (gate, unit, k) of weight_hh, transposed for products with dz: f32, (2, gates, chunks,
// units k, lanes, 4), units along chunks as rnn_fma_at has k along its.
inline std::size_t rnn_transposed_at(int units, int gates, int direction, int gate, int unit,
                                     int k) {
  const int chunks = rnn_chunks(RnnTechnique::kSimt, units);
  const auto chunk = std::size_t((direction * gates + gate) * chunks + unit / kRnnSimtChunk);
  const auto lane = std::size_t(unit % kRnnSimtChunk / 4);
  return ((chunk * std::size_t(units) + std::size_t(k)) * kRnnSimtLanes + lane) * 4 +
         std::size_t(unit % 4);
}

// The bytes of dz and dq do not depend on it; those of bias_sums do on `sequences`.
struct RnnBackwardChoice {
  int sequences = 1;             // of a block
  int threads = 0;               // of a block
  bool held = false;             // whether registers hold the first rnn_backward_held() chunks
  int shared_chunks = 0;         // the next ones, in shared memory
  std::size_t shared_bytes = 0;  // of a block, everything

  std::int64_t blocks(std::int64_t count) const { return (count + sequences - 1) / sequences; }
};

// Chunks in a thread's registers where it holds any: what sums leave of 168 registers.
constexpr int rnn_backward_held(RnnCell cell, int sequences) {
  if (sequences == 1) return cell == RnnCell::kGruResetBefore ? 20 : 22;
  return sequences == 2 ? 18 : 12;
}

// Throws Error where the state of one sequence does not fit shared memory.
RnnBackwardChoice choose_rnn_backward(const CudaTraits& traits, RnnCell cell, int units,
                                      std::int64_t sequences);

void rnn_backward_cuda(const RnnBackwardArgs& args, const RnnBackwardChoice& choice,
                       CudaStream stream);

// Adds all blocks' sums to the gradients of the biases, (gates, units) each; null ones are not
// wanted.
struct RnnBiasGradientArgs {
  const float* bias_sums;
  float *input[2], *hidden[2];
  std::int64_t blocks;
  int units;
  RnnCell cell;
};

void rnn_bias_gradient_cuda(const RnnBiasGradientArgs& args, CudaStream stream);

}  // namespace tessera
