// Dropout at inference: a copy, in pieces that threads share. Roofline: memory.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/parallel.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/dropout/dropout.h"

namespace tessera {

Step cpu(const Dropout& op, const CpuSetup& setup) {
  const std::size_t bytes = infer(op, setup.inputs)[0].bytes();
  return {0, [bytes, threads = setup.threads](const Operands& operands, std::byte*) {
            constexpr std::size_t kPiece = std::size_t{1} << 18;  // bytes; stays in L2
            const auto pieces = static_cast<std::int64_t>((bytes + kPiece - 1) / kPiece);
            parallel_for(threads, pieces, [&](std::int64_t piece) {
              const std::size_t first = static_cast<std::size_t>(piece) * kPiece;
              std::memcpy(operands.outputs[0].as<std::byte>() + first,
                          operands.inputs[0].as<std::byte>() + first,
                          std::min(kPiece, bytes - first));
            });
          }};
}

}  // namespace tessera
