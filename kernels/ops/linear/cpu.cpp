// Linear: y = W x + b on the last axis; x (rows, features), y (rows, units), row-major.
//
// One matrix product with W transposed and packed once. Blocks of rows run in parallel; a block's
// rows stay in L1 and L2 while the panels of W stream past. Compute binds from about ten rows on,
// the bytes of W below.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/linear/cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/paths.h"
#include "kernels/ops/linear/linear.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// W packed, then the bias, zero-filled to whole vectors.
std::size_t linear_packed_size(std::size_t features, std::size_t units) {
  return gemm_packed_size(features, units) + gemm_columns(units);
}

void linear_pack(const float* weight, const float* bias, std::size_t features, std::size_t units,
                 float* packed) {
  gemm_pack(
      features, units, [&](std::size_t k, std::size_t unit) { return weight[unit * features + k]; },
      packed);
  float* start = packed + gemm_packed_size(features, units);
  std::fill_n(start, gemm_columns(units), 0.0f);
  if (bias != nullptr) std::copy_n(bias, units, start);
}

void linear_rows(const float* x, const float* packed, std::size_t rows, std::size_t features,
                 std::size_t units, float* y) {
  gemm(x, features, packed, rows, features, units, y, units,
       {.row = packed + gemm_packed_size(features, units)});
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {

HWY_EXPORT(linear_packed_size);
HWY_EXPORT(linear_pack);
HWY_EXPORT(linear_rows);

Step cpu(const Linear& op, const CpuSetup& setup) {
  const auto units = static_cast<std::size_t>(op.units);
  const auto features = static_cast<std::size_t>(setup.inputs[0].shape[-1]);
  const std::int64_t rows = infer(op, setup.inputs)[0].shape.elements() / op.units;
  const auto packed = setup.packed->get(
      setup.name + "/linear",
      HWY_DYNAMIC_DISPATCH(linear_packed_size)(features, units) * sizeof(float),
      [&](std::byte* to) {
        const std::vector<float> weight = to_f32(setup.weights[0]);
        const std::vector<float> bias = op.bias ? to_f32(setup.weights[1]) : std::vector<float>();
        HWY_DYNAMIC_DISPATCH(linear_pack)
        (weight.data(), op.bias ? bias.data() : nullptr, features, units,
         reinterpret_cast<float*>(to));
      });
  const auto run = [=, threads = setup.threads](const Operands& operands, std::byte*) {
    constexpr std::int64_t kBlock = 48;  // rows of one unit of work: 8 tiles of the product
    const auto* x = operands.inputs[0].as<float>();
    auto* y = operands.outputs[0].as<float>();
    parallel_for(threads, (rows + kBlock - 1) / kBlock, [&](std::int64_t block) {
      const std::int64_t first = block * kBlock;
      const auto count = static_cast<std::size_t>(std::min(kBlock, rows - first));
      HWY_DYNAMIC_DISPATCH(linear_rows)
      (x + first * static_cast<std::int64_t>(features), reinterpret_cast<float*>(packed->get()),
       count, features, units, y + first * static_cast<std::int64_t>(units));
    });
  };
  return {0, run};
}

}  // namespace tessera
#endif  // HWY_ONCE
