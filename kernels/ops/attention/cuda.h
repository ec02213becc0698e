// The CUDA path of Attention: what its launchers take. Two kernels: the scores of all steps, then,
// per sequence, softmax and weighted sum.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"
#include "kernels/ops/linear/cuda.h"

namespace tessera {

// Units whose share of a score is summed by one block; the shares are added later, in order.
constexpr int kAttentionSlice = 64;

constexpr int attention_slices(int units) {
  return (units + kAttentionSlice - 1) / kAttentionSlice;
}

// share[slice][row] = sum over the slice's units of tanh(w x[row] + bias) context.
struct AttentionScoreArgs {
  GemmArgs product;      // its y is the shares, (slices, rows); rows are the steps
  const float* context;  // (units)
  float* u;  // (rows, units): the tanh of each unit, of rows that take part; null: not kept
};

void attention_scores_cuda(const AttentionScoreArgs& args, Precision rounding, GemmRows rows,
                           CudaStream stream);
void attention_scores_mma_cuda(const AttentionScoreArgs& args, Precision rounding, GemmRows rows,
                               CudaStream stream);

struct AttentionPoolArgs {
  const float* x;               // (sequences, t, d)
  const std::int32_t* lengths;  // (sequences), clamped to 0 .. t; null: all t
  const float* shares;          // (slices, sequences t)
  float* sums;                  // (sequences, d): sum a_t x_t
  float* a;                     // (sequences, t)
  std::int64_t sequences;
  int t, d, slices;
  bool has_eps;
  float log_eps;
  // A dense layer of the sums: s = dense sum + dense_bias sum a_t.
  const float* dense;       // (dense_units, d); null: none
  const float* dense_bias;  // (dense_units)
  float* s;                 // (sequences, dense_units)
  int dense_units;
  // Set to 0 behind a sequence's end; null: not there.
  float* u;  // (sequences, t, units)
  int units;
};

void attention_pool_cuda(const AttentionPoolArgs& args, CudaStream stream);

}  // namespace tessera
