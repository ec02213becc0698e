#include "kernels/cpu/paths.h"
#include "kernels/ops/conv/techniques.h"

namespace tessera {

Step cpu(const Conv& op, const CpuSetup& setup) {
  if (op.dtype == DType::kF16) return {};
  return op.technique == Conv::Technique::kWinograd ? conv_winograd(op, setup)
                                                    : conv_direct(op, setup);
}

}  // namespace tessera
