// Embedding: y[i] = table[ids[i]].
//
// A copy per id, widened where the table is bf16 or f16. Memory binds: the table row is read and
// the output row written once. Blocks of ids run in parallel.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/embedding/embedding.h"

namespace tessera {

void copy_rows_f32(const TensorView& table, const std::int64_t* rows, std::int64_t count,
                   float* y) {
  const std::int64_t width = table.shape()[-1];
  for (std::int64_t i = 0; i < count; ++i, y += width) {
    const std::int64_t first = rows[i] * width;
    switch (table.type.dtype) {
      case DType::kF32:
        std::memcpy(y, table.as<float>() + first, static_cast<std::size_t>(width) * sizeof(float));
        break;
      case DType::kBF16:
        for (std::int64_t j = 0; j < width; ++j)
          y[j] = bf16_to_f32(table.as<std::uint16_t>()[first + j]);
        break;
      default:
        for (std::int64_t j = 0; j < width; ++j) y[j] = element_f32(table, first + j);
    }
  }
}

Step cpu(const Embedding& op, const CpuSetup& setup) {
  const std::int64_t count = infer(op, setup.inputs)[0].shape.elements() / op.features;
  const auto run = [op, count, threads = setup.threads](const Operands& operands, std::byte*) {
    constexpr std::int64_t kBlock = 64;  // ids of one unit of work
    require_ids(op, operands.inputs[0]);
    const auto* ids = operands.inputs[0].as<std::int32_t>();
    auto* y = operands.outputs[0].as<float>();
    parallel_for(threads, (count + kBlock - 1) / kBlock, [&](std::int64_t block) {
      const std::int64_t first = block * kBlock, last = std::min(first + kBlock, count);
      std::int64_t rows[kBlock];
      std::copy(ids + first, ids + last, rows);
      copy_rows_f32(operands.weights[0], rows, last - first, y + first * op.features);
    });
  };
  return {0, run};
}

}  // namespace tessera
