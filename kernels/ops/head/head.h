// The end of a UNet in one pass over the last map: 1x1 convolution, optional ReLU (tf_unet), pixel
// softmax or sigmoid, argmax.
//
// inputs:  x (n, h, w, c_in), f32, bf16 or f16
// weights: weight (classes, c_in, 1, 1); bias (classes) if bias
// outputs: mask (n, h, w), u8, as Argmax of the probabilities;
//          probabilities (n, h, w, classes), f32, if asked for
#pragma once

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

struct Head {
  enum class Output : std::uint8_t { kSoftmax, kSigmoid };
  int classes = 2;
  bool bias = true;
  bool relu = false;
  Output output = Output::kSoftmax;
  bool probabilities = false;
};

std::vector<TensorType> infer(const Head& op, Types inputs);
std::vector<Parameter> parameters(const Head& op, Types inputs);
Cost cost(const Head& op, Types inputs);
void reference(const Head& op, const Operands& operands);
Step cpu(const Head& op, const CpuSetup& setup);
Step cuda(const Head& op, const CudaSetup& setup);

}  // namespace tessera
