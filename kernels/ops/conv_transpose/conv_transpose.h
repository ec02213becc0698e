// Transposed convolution of stride 2 ("up-convolution"): 2x2 without padding, or 3x3 with padding 1
// and output padding 1; both double the size. Optional ReLU (tf_unet).
//
// inputs:  x (n, h, w, c_in)     weights: weight (c_in, c_out, k, k); bias (c_out) if bias
// outputs: y (n, 2h, 2w, c_out) of `dtype`
#pragma once

#include "kernels/cpu/step.h"
#include "kernels/cuda/step.h"
#include "kernels/operator.h"

namespace tessera {

struct ConvTranspose {
  int c_out = 0;
  int kernel = 2;  // 2, or 3 (padding 1, output padding 1)
  bool bias = true;
  bool relu = false;
  DType dtype = DType::kF32;  // of the output: f32, bf16 or f16
};

std::vector<TensorType> infer(const ConvTranspose& op, Types inputs);
std::vector<Parameter> parameters(const ConvTranspose& op, Types inputs);
Cost cost(const ConvTranspose& op, Types inputs);
void reference(const ConvTranspose& op, const Operands& operands);
Step cpu(const ConvTranspose& op, const CpuSetup& setup);
Step cuda(const ConvTranspose& op, const CudaSetup& setup);

}  // namespace tessera
