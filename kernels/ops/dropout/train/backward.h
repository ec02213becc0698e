// Dropout in training:  y = mask x / (1 - rate),  dx = mask dy / (1 - rate).
//
// Element i is kept where word i % 4 of Philox's block i / 4 of the run's RandomStream is at least
// rate 2^32: the mask depends on seed, stream and place alone, the same on the CPU and on a GPU.
// Values and their gradients are f32; on a GPU they may be bf16 or f16.
//
// saved: extra: mask (...), u8, 1 where kept
#pragma once

#include "kernels/ops/dropout/dropout.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Dropout& op, Types inputs);
void train_reference(const Dropout& op, const TrainOperands& operands);
TrainStep cpu_train(const Dropout& op, const CpuSetup& setup);
void backward_reference(const Dropout& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Dropout& op, const CpuSetup& setup);
TrainStep cuda_train(const Dropout& op, const CudaSetup& setup);
BackwardStep cuda_backward(const Dropout& op, const CudaSetup& setup);

// The least word of Philox that keeps an element: rate 2^32, rounded; 2^32 keeps none.
std::uint64_t dropout_threshold(const Dropout& op);
// What the kept elements are multiplied with; 0 if none are.
float dropout_scale(const Dropout& op);

}  // namespace tessera
