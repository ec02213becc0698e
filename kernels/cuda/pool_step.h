// The step of a pool of any window: host code that max_pool and avg_pool share.
#pragma once

#include <string_view>

#include "kernels/cuda/pool.h"
#include "kernels/cuda/row_limit.h"
#include "kernels/cuda/step.h"
#include "kernels/window.h"

namespace tessera {

// Empty where the kernel cannot count a map's pixels in 32 bits, or where a window reaches further.
inline Step pool_step(std::string_view op, const Window& window, PoolKind kind, const TensorType& y,
                      const CudaSetup& setup) {
  require_row(op, y);
  const Shape& s = setup.inputs[0].shape;
  constexpr std::int64_t kMost = 1 << 29;
  for (const std::size_t axis : {0u, 1u}) {
    const int at = static_cast<int>(axis) + 1;
    const std::int64_t reach =
        std::int64_t{window.kernel[axis]} * window.dilation[axis] + window.stride[axis];
    if (s[at] > kMost || y.shape[at] > kMost || reach > kMost) return {};
  }
  if (s[0] * y.shape[1] > kMost) return {};
  PoolArgs args{};
  args.n = s[0], args.h = s[1], args.w = s[2], args.c = s[3];
  args.ho = y.shape[1], args.wo = y.shape[2];
  for (const std::size_t axis : {0u, 1u}) {
    args.kernel[axis] = window.kernel[axis], args.stride[axis] = window.stride[axis];
    args.dilation[axis] = window.dilation[axis];
    args.before[axis] = window.before(axis), args.behind[axis] = window.behind(axis);
  }
  args.kind = kind;
  args.dtype = y.dtype;
  return {0, [args, stream = setup.stream](const Operands& operands, std::byte*) {
            PoolArgs run = args;
            run.x = operands.inputs[0].pointer, run.y = operands.outputs[0].pointer;
            pool_cuda(run, stream);
          }};
}

}  // namespace tessera
