#include "kernels/ops/conv/techniques.h"

namespace tessera {

Step cpu(const Conv& op, const CpuSetup& setup) {
  return op.technique == Conv::Technique::kWinograd ? conv_winograd(op, setup)
                                                    : conv_direct(op, setup);
}

}  // namespace tessera
