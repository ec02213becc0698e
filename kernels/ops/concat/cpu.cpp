// Concatenation: before the axis all inputs have the same rows; a row of y is one row of each.
// Roofline: memory, nothing is computed.
#include <algorithm>
#include <cstring>

#include "kernels/axes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/concat/concat.h"

namespace tessera {

Step cpu(const Concat& op, const CpuSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  const int axis = axis_of("concat", op.axis, y.shape.rank());
  const std::int64_t rows = y.shape.elements(0, axis);
  constexpr std::int64_t kPiece = 1 << 16;  // bytes of a task, at least
  const auto row = static_cast<std::int64_t>(y.bytes()) / rows;
  const std::int64_t share = (kPiece + row - 1) / row, tasks = (rows + share - 1) / share;
  return {0, [=, threads = setup.threads](const Operands& operands, std::byte*) {
            parallel_for(threads, tasks, [&](std::int64_t task) {
              auto* to = operands.outputs[0].as<std::byte>() + task * share * row;
              for (std::int64_t i = task * share; i < std::min(rows, (task + 1) * share); ++i) {
                for (const TensorView& x : operands.inputs) {
                  const std::size_t bytes = x.type.bytes() / static_cast<std::size_t>(rows);
                  std::memcpy(to, x.as<std::byte>() + static_cast<std::size_t>(i) * bytes, bytes);
                  to += bytes;
                }
              }
            });
          }};
}

}  // namespace tessera
