// Backward of Embedding: row `id` of the table's gradient gets the sum of the dy at its places, in
// the order of the places.
//
// saved: ids
#pragma once

#include "kernels/ops/embedding/embedding.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Embedding& op, Types inputs);
void backward_reference(const Embedding& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const Embedding& op, const CpuSetup& setup);
TrainStep cuda_train(const Embedding& op, const CudaSetup& setup);
BackwardStep cuda_backward(const Embedding& op, const CudaSetup& setup);

}  // namespace tessera
