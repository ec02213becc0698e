// BiRnn in training, without `embedding` (a node of its own there). Backward through time, with
// h' and c' the states of the step before, s' = s (1 - s) or that of the hard sigmoid (0.2 between
// its limits), and "dz" the gradient of a gate's sum of products:
//
//   LSTM: do = dh tanh(c);  dc += dh o (1 - tanh(c)^2);  di = dc g;  dg = dc i;  df = dc c'
//         dh' = U^T dz;  dc' = dc f
//   GRU:  dz = dh (h' - n);  dn = dh (1 - z) (1 - n^2);  dh' = dh z + U^T of the rest
//         reset_after: dr = dn q, dq = dn r, q = U_n h' + b_hh;   else: dp = U_n^T dn, dr = dp h',
//         dh' += dp r
//   dW = sum over steps of dz x^T;  dU likewise with h' (n of a GRU: dq h', or dn (r h'));
//   dx = W^T dz of both directions, 0 behind a sequence's end
//
// saved: x, lengths, y; extra: gates (..., t, 2 k units), f32: of each direction LSTM i, f, g, o, c
// (k = 5), GRU r, z, n and q, or r h' without reset_after (k = 4); 0 behind a sequence's end
#pragma once

#include "kernels/ops/rnn/rnn.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const BiRnn& op, Types inputs);
void train_reference(const BiRnn& op, const TrainOperands& operands);
TrainStep cpu_train(const BiRnn& op, const CpuSetup& setup);
void backward_reference(const BiRnn& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const BiRnn& op, const CpuSetup& setup);
TrainStep cuda_train(const BiRnn& op, const CudaSetup& setup);
BackwardStep cuda_backward(const BiRnn& op, const CudaSetup& setup);

}  // namespace tessera
