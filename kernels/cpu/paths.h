// Which operators have a path of the CPU's own, one line each. An operator without one runs its
// reference.
//
// Nothing registers itself: the linker finds a line without a path, the compiler a path without a
// line (it includes this file). The concept must stand behind the last line.
#pragma once

#include "kernels/cpu/reference_step.h"
#include "kernels/cpu/step.h"

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
struct Resize;
struct Softmax;
struct Upsample;

Step cpu(const Activation& op, const CpuSetup& setup);
Step cpu(const Argmax& op, const CpuSetup& setup);
Step cpu(const AvgPool& op, const CpuSetup& setup);
Step cpu(const Attention& op, const CpuSetup& setup);
Step cpu(const BatchNorm& op, const CpuSetup& setup);
Step cpu(const BiRnn& op, const CpuSetup& setup);
Step cpu(const Binary& op, const CpuSetup& setup);
Step cpu(const Concat& op, const CpuSetup& setup);
Step cpu(const Conv& op, const CpuSetup& setup);
Step cpu(const ConvTranspose& op, const CpuSetup& setup);
Step cpu(const CropConcat& op, const CpuSetup& setup);
Step cpu(const Dropout& op, const CpuSetup& setup);
Step cpu(const Embedding& op, const CpuSetup& setup);
Step cpu(const GroupNorm& op, const CpuSetup& setup);
Step cpu(const Head& op, const CpuSetup& setup);
Step cpu(const Linear& op, const CpuSetup& setup);
Step cpu(const MaxPool& op, const CpuSetup& setup);
Step cpu(const Resize& op, const CpuSetup& setup);
Step cpu(const Softmax& op, const CpuSetup& setup);
Step cpu(const Upsample& op, const CpuSetup& setup);

template <class Op>
concept OnCpu = requires(const Op& op, const CpuSetup& setup) {
  cpu(op, setup);
};

// The best that the host has: the operator's path, or its reference.
template <class Op>
Step host_step(const Op& op, const CpuSetup& setup) {
  if constexpr (OnCpu<Op>) {
    if (Step step = cpu(op, setup); step.run) return step;
  }
  return reference_step(infer(op, setup.inputs),
                        [op](const Operands& operands) { reference(op, operands); });
}

}  // namespace tessera
