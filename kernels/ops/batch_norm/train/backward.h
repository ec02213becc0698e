// BatchNorm in training (Ioffe & Szegedy 2015), over all n = x.elements / c values of a channel:
//
//   mean, var = of the batch (var without Bessel's correction);  inv = 1 / sqrt(var + eps)
//   y = gamma (x - mean) inv + beta
//   running_mean += momentum (mean - running_mean)
//   running_var  += momentum (var n / (n - 1) - running_var)        unbiased, as PyTorch has it
//
//   xhat = (x - mean) inv;  dbeta = sum dy;  dgamma = sum dy xhat
//   dx = gamma inv (dy - dbeta / n - xhat dgamma / n)
//
// Training needs n > 1. The running statistics (weights 2 and 3) are updated by the forward run;
// they have no gradient.
//
// x, y and their gradients are f32; on a GPU they may be bf16 or f16.
//
// saved: x; extra: mean (c), inv (c), f32
#pragma once

#include "kernels/ops/batch_norm/batch_norm.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const BatchNorm& op, Types inputs);
void train_reference(const BatchNorm& op, const TrainOperands& operands);
TrainStep cpu_train(const BatchNorm& op, const CpuSetup& setup);
void backward_reference(const BatchNorm& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const BatchNorm& op, const CpuSetup& setup);
TrainStep cuda_train(const BatchNorm& op, const CudaSetup& setup);
BackwardStep cuda_backward(const BatchNorm& op, const CudaSetup& setup);

}  // namespace tessera
