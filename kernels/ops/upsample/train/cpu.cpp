// Backward of Upsample: one task per row of dx gathers the rows of dy that read it.
//
// Which outputs read an input, and with which weight, is tabulated per axis, in exact integer
// arithmetic. The sum over rows goes through one row of 2 w pixels in scratch, then its pixels are
// summed along the row: no scattering, so no two tasks write one place. Memory binds.
#include <vector>

#include "kernels/cpu/parallel.h"
#include "kernels/ops/upsample/train/backward.h"

namespace tessera {

namespace {

// The outputs along an axis that read one input.
struct Reader {
  std::int64_t output;
  float weight;
};

// By input.
std::vector<std::vector<Reader>> readers_of(std::int64_t extent, bool align_corners) {
  std::vector<std::vector<Reader>> readers(static_cast<std::size_t>(extent));
  for (std::int64_t i = 0; i < 2 * extent; ++i) {
    const std::int64_t over = align_corners ? 2 * extent - 1 : 4;
    const std::int64_t part =
        align_corners ? i * (extent - 1) : std::max<std::int64_t>(2 * i - 1, 0);
    const std::int64_t first = part / over, second = std::min(first + 1, extent - 1);
    const double weight = static_cast<double>(part % over) / static_cast<double>(over);
    const auto add = [&](std::int64_t input, double w) {
      if (w != 0) readers[static_cast<std::size_t>(input)].push_back({i, static_cast<float>(w)});
    };
    if (first == second) {
      add(first, 1);
    } else {
      add(first, 1 - weight);
      add(second, weight);
    }
  }
  return readers;
}

}  // namespace

Saved saved_for_backward(const Upsample&, Types) {
  return {.inputs = {false}, .outputs = {false}, .extra = {}};
}

BackwardStep cpu_backward(const Upsample& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  const Shape x = setup.inputs[0].shape;
  const std::int64_t row = 2 * x[2] * x[3];  // floats of a row of dy
  const auto run = [x, row, rows = readers_of(x[1], op.align_corners),
                    columns = readers_of(x[2], op.align_corners),
                    threads = setup.threads](const BackwardOperands& operands, std::byte* scratch) {
    const TensorView* gradient = wanted(operands.input_gradients, 0);
    if (gradient == nullptr) return;
    const std::int64_t h = x[1], c = x[3];
    const auto* dy = operands.output_gradients[0].as<float>();
    parallel_for(threads, x[0] * h, [&](std::int64_t index, int slot) {
      float* sums = reinterpret_cast<float*>(scratch) + slot * row;
      std::fill_n(sums, row, 0.0f);
      for (const Reader& reader : rows[static_cast<std::size_t>(index % h)]) {
        const float* from = dy + (index / h * 2 * h + reader.output) * row;
        for (std::int64_t i = 0; i < row; ++i) sums[i] += reader.weight * from[i];
      }
      float* dx = gradient->as<float>() + index * row / 2;
      std::fill_n(dx, row / 2, 0.0f);
      for (std::size_t j = 0; j < columns.size(); ++j, dx += c) {
        for (const Reader& reader : columns[j]) {
          const float* from = sums + reader.output * c;
          for (std::int64_t k = 0; k < c; ++k) dx[k] += reader.weight * from[k];
        }
      }
    });
  };
  return {static_cast<std::size_t>(setup.threads * row) * sizeof(float), run};
}

}  // namespace tessera
