#include "kernels/ops/linear/cuda_weights.h"

#include <cstring>
#include <vector>

#include "kernels/cuda/pack.h"

namespace tessera {

GemmWeights gemm_weights(
    const CudaSetup& setup, const std::string& name, int units, int features, Precision rounding,
    const std::function<void(std::vector<float>& matrix, std::vector<float>& bias)>& fill) {
  GemmWeights weights{.layout = {rounding, features, units}, .matrix = {}, .bias = {}};
  const GemmLayout& layout = weights.layout;
  const std::string key =
      fmt::format("{}/{}, rounding {}", setup.name, name, static_cast<int>(rounding));
  std::vector<float> matrix, bias;
  weights.matrix =
      setup.packed->get(key, layout.elements() * layout.element_bytes(), [&](std::byte* to) {
        fill(matrix, bias);
        for (int unit = 0; unit < units; ++unit) {
          for (int k = 0; k < features; ++k)
            store_rounded(
                rounding,
                matrix[static_cast<std::size_t>(unit) * static_cast<std::size_t>(features) +
                       static_cast<std::size_t>(k)],
                to + layout.at(unit, k) * layout.element_bytes());
        }
      });
  weights.bias = setup.packed->get(key + ", bias", static_cast<std::size_t>(units) * sizeof(float),
                                   [&](std::byte* to) {
                                     if (bias.empty()) fill(matrix, bias);
                                     // Adding 0 turns -0 into 0, so that a sum's sign of zero does
                                     // not depend on padding.
                                     for (float& value : bias) value += 0.0f;
                                     std::memcpy(to, bias.data(), bias.size() * sizeof(float));
                                   });
  return weights;
}

PackOrder gemm_order(const GemmLayout& layout,
                     const std::function<std::int64_t(int unit, int feature)>& from) {
  PackOrder order(layout.elements(), kPackZero);
  for (int unit = 0; unit < layout.units; ++unit) {
    for (int feature = 0; feature < layout.features; ++feature)
      order[layout.at(unit, feature)] = static_cast<std::int32_t>(from(unit, feature));
  }
  return order;
}

PackOrder gemm_order(const GemmLayout& layout) {
  return gemm_order(layout, [&](int unit, int feature) {
    return std::int64_t{unit} * layout.features + feature;
  });
}

PackOrder gemm_transposed_order(const GemmLayout& layout) {
  return gemm_order(
      layout, [&](int unit, int feature) { return std::int64_t{feature} * layout.units + unit; });
}

void RepackedWeight::pack(const TensorView& weight, std::byte* to, CudaStream stream) const {
  pack_cuda({.weight = weight.as<float>(),
             .order = reinterpret_cast<const std::int32_t*>(order->get()),
             .packed = to,
             .count = static_cast<std::int64_t>(layout.elements()),
             .rounding = layout.rounding},
            stream);
}

RepackedWeight repacked_weight(const CudaSetup& setup, int units, int features, bool transposed) {
  const Precision rounding = setup.math;
  RepackedWeight weight;
  weight.layout =
      transposed ? GemmLayout{rounding, units, features} : GemmLayout{rounding, features, units};
  const std::string name =
      fmt::format("order of {}, rounding {}", transposed ? "W^T" : "W", static_cast<int>(rounding));
  weight.order = pack_order(setup, name, [&] {
    return transposed ? gemm_transposed_order(weight.layout) : gemm_order(weight.layout);
  });
  return weight;
}

void gemm_cuda(const GemmWeights& weights, const float* x, const RowMap& map, std::int64_t rows,
               float* y, int multiprocessors, CudaStream stream) {
  if (rows == 0) return;
  const GemmLayout& layout = weights.layout;
  gemm_cuda({.x = x,
             .map = map,
             .w = weights.matrix->get(),
             .bias = reinterpret_cast<const float*>(weights.bias->get()),
             .y = y,
             .rows = rows,
             .features = layout.features,
             .units = layout.units},
            layout.rounding, choose_gemm_rows(rows, layout.units, multiprocessors), stream);
}

}  // namespace tessera
