// Attention in training. With z = x, or D x + c with `dense`, and u_t = tanh(W z_t + b):
//
//   da_t += ds . z_t;  de_t = a_t (da_t - sum_j a_j da_j)          (eps drops out of it)
//   dp_t = de_t context (1 - u_t^2)                                 of W z_t + b
//   dz_t = a_t ds + W^T dp_t;  dW = sum dp_t z_t^T;  db = sum dp_t;  dcontext = sum de_t u_t
//   dense: dx = D^T dz, dD = sum dz_t x_t^T, dc = sum dz_t
//
// Training computes z as Linear does, since D needs its gradient apart from W's.
//
// saved: x, lengths, a; extra: u (..., t, units), 0 behind a sequence's end; with `dense`, z
// (..., t, dense units)
#pragma once

#include "kernels/ops/attention/attention.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Attention& op, Types inputs);
void train_reference(const Attention& op, const TrainOperands& operands);
TrainStep cpu_train(const Attention& op, const CpuSetup& setup);
void backward_reference(const Attention& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Attention& op, const CpuSetup& setup);
TrainStep cuda_train(const Attention& op, const CudaSetup& setup);
BackwardStep cuda_backward(const Attention& op, const CudaSetup& setup);

// The part of cpu_train that follows a dense layer, or all of it without one: `op` has no dense.
TrainStep cpu_train_scores(const Attention& op, const CpuSetup& setup);

}  // namespace tessera
