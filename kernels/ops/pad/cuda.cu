// Borders around a tensor:  y[i] = x[source(i - before)] along each axis.
//
// A thread makes one quad, or one element, of y's last axis, where that axis has no pads and its
// extent is whole quads; else single elements.
// Roofline: memory, x read once and y written once. Share of it: not measured yet.
// Oracle: reference.cpp.
#include "kernels/cuda/strided.cuh"
#include "kernels/cuda/typed.cuh"
#include "kernels/ops/pad/cuda.h"

namespace tessera {

namespace {

// The element along an axis that place `i` shows, or -1 for the constant.
__device__ std::int64_t source_of(PadBorder border, std::int64_t i, std::int64_t size) {
  if (i >= 0 && i < size) return i;
  if (border == PadBorder::kConstant) return -1;
  if (border == PadBorder::kEdge) return i < 0 ? 0 : size - 1;
  return i < 0 ? -i : 2 * (size - 1) - i;
}

template <int kCount>
__global__ void __launch_bounds__(kWalkThreads) pad_kernel(const __grid_constant__ PadArgs args) {
  for_each_item(args.walk.count / kCount, [&](std::int64_t item) {
    std::int64_t rest = item, from = 0;
    bool inside = true;
    for (int axis = args.walk.rank - 1; axis >= 0; --axis) {
      const bool last = axis == args.walk.rank - 1;
      const std::int64_t extent = args.walk.extents[axis] / (last ? kCount : 1);
      const std::int64_t place = axis == 0 ? rest : divide(rest, extent);
      const std::int64_t at =
          source_of(args.border, place * (last ? kCount : 1) - args.before[axis], args.sizes[axis]);
      inside = inside && at >= 0;
      from += at * args.walk.strides[0][axis];
    }
    float values[kCount];
#pragma unroll
    for (float& value : values) value = args.value;
    if (inside) load_typed(args.x, from, args.dtype, values);
    store_typed(values, args.y, item * kCount, args.dtype);
  });
}

}  // namespace

void pad_cuda(const PadArgs& args, CudaStream stream) {
  const int last = args.walk.rank - 1;
  const bool whole = args.before[last] == 0 && args.sizes[last] == args.walk.extents[last];
  with_quads(whole ? args.sizes[last] : 1, [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    simt::launch(pad_kernel<kCount>, walk_grid(args.walk.count / kCount), dim3(kWalkThreads), 0,
                 stream, args);
  });
}

}  // namespace tessera
