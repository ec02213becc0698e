// Average pooling: the window's sum (kernels/cpu/pool-inl.h) divided by the number of its pixels.
// Roofline: memory.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/avg_pool/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/paths.h"
#include "kernels/cpu/pool-inl.h"
#include "kernels/ops/avg_pool/avg_pool.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// Output row `index` of all n * ho rows.
void avg_pool_row(const AvgPool& op, const TensorView& x, const TensorView& y, std::int64_t index) {
  const auto sum = [](FloatVector a, FloatVector b) HWY_ATTR { return hn::Add(a, b); };
  const auto mean = [&](FloatVector v, const PoolTaps& rows, const PoolTaps& columns) HWY_ATTR {
    const std::int64_t count = op.count_include_pad
                                   ? rows.padded * columns.padded
                                   : (rows.end - rows.first) * (columns.end - columns.first);
    const auto divisor = static_cast<float>(std::max<std::int64_t>(count, 1));
    return hn::Div(v, hn::Set(FloatTag(), divisor));
  };
  if (x.type.dtype == DType::kBF16) {
    pool_row<hwy::bfloat16_t>(op.window, x, y, index, 0, sum, mean);
  } else {
    pool_row<float>(op.window, x, y, index, 0, sum, mean);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(avg_pool_row);

Step cpu(const AvgPool& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  return {0, [op, threads = setup.threads](const Operands& operands, std::byte*) {
            const TensorView& y = operands.outputs[0];
            parallel_for(threads, y.shape()[0] * y.shape()[1], [&](std::int64_t row) {
              HWY_DYNAMIC_DISPATCH(avg_pool_row)(op, operands.inputs[0], y, row);
            });
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
