// Which operators have a path of the GPU's own, one line each. An operator without one is computed
// by the host, between copies.
//
// Nothing registers itself: the linker finds a line without a path, the compiler a path without a
// line (it includes this file). The concept must stand behind the last line.
#pragma once

#include "kernels/cuda/step.h"

namespace tessera {

struct Activation;
struct Argmax;
struct Attention;
struct AvgPool;
struct BatchNorm;
struct BiRnn;
struct Binary;
struct Concat;
struct Conv;
struct ConvTranspose;
struct CropConcat;
struct Dropout;
struct Embedding;
struct GroupNorm;
struct Head;
struct Linear;
struct MaxPool;
struct Pad;
struct Reduce;
struct Reshape;
struct Resize;
struct Slice;
struct Softmax;
struct Transpose;
struct Upsample;

Step cuda(const Activation& op, const CudaSetup& setup);
Step cuda(const Argmax& op, const CudaSetup& setup);
Step cuda(const Attention& op, const CudaSetup& setup);
Step cuda(const AvgPool& op, const CudaSetup& setup);
Step cuda(const BatchNorm& op, const CudaSetup& setup);
Step cuda(const BiRnn& op, const CudaSetup& setup);
Step cuda(const Binary& op, const CudaSetup& setup);
Step cuda(const Concat& op, const CudaSetup& setup);
Step cuda(const Conv& op, const CudaSetup& setup);
Step cuda(const ConvTranspose& op, const CudaSetup& setup);
Step cuda(const CropConcat& op, const CudaSetup& setup);
Step cuda(const Dropout& op, const CudaSetup& setup);
Step cuda(const Embedding& op, const CudaSetup& setup);
Step cuda(const GroupNorm& op, const CudaSetup& setup);
Step cuda(const Head& op, const CudaSetup& setup);
Step cuda(const Linear& op, const CudaSetup& setup);
Step cuda(const MaxPool& op, const CudaSetup& setup);
Step cuda(const Pad& op, const CudaSetup& setup);
Step cuda(const Reduce& op, const CudaSetup& setup);
Step cuda(const Reshape& op, const CudaSetup& setup);
Step cuda(const Resize& op, const CudaSetup& setup);
Step cuda(const Slice& op, const CudaSetup& setup);
Step cuda(const Softmax& op, const CudaSetup& setup);
Step cuda(const Transpose& op, const CudaSetup& setup);
Step cuda(const Upsample& op, const CudaSetup& setup);

template <class Op>
concept OnCuda = requires(const Op& op, const CudaSetup& setup) {
  cuda(op, setup);
};

}  // namespace tessera
