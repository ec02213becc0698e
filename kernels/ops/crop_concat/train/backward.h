// Backward of CropConcat: the channels of dy go back to the source that they came from; a pixel of
// a source that the crop left out gets 0.
//
// saved: nothing
#pragma once

#include "kernels/ops/crop_concat/crop_concat.h"
#include "kernels/train/backward.h"

namespace tessera {

Saved saved_for_backward(const CropConcat& op, Types inputs);
void backward_reference(const CropConcat& op, const BackwardOperands& operands);
BackwardStep cpu_backward(const CropConcat& op, const CpuSetup& setup);
BackwardStep cuda_backward(const CropConcat& op, const CudaSetup& setup);

}  // namespace tessera
