// Copies between strided tensors:  y[i strides_y] = x[i strides_x].
//
// A thread copies one unit of up to 16 bytes: as many neighbours as lie side by side in both. Where
// the last axis of y is not that of x, as in a transposed image, its reads are not coalesced.
// Roofline: memory, y's bytes read and written once. Share of it: not measured yet.
// Oracles: reference.cpp of transpose, slice, concat and reshape.
#include "kernels/cuda/copy.h"

#include "kernels/cuda/strided.cuh"

namespace tessera {

namespace {

template <class Unit>
__global__ void __launch_bounds__(kWalkThreads)
    copy_kernel(const __grid_constant__ CopyArgs args, int elements) {
  const auto bytes = static_cast<std::int64_t>(args.element_bytes);
  for_each_item(args.walk.count / elements, [&](std::int64_t i) {
    std::int64_t offsets[2];
    offsets_of(args.walk, i, elements, offsets);
    const auto* from = static_cast<const std::byte*>(args.x) + offsets[0] * bytes;
    auto* to = static_cast<std::byte*>(args.y) + offsets[1] * bytes;
    *reinterpret_cast<Unit*>(to) = *reinterpret_cast<const Unit*>(from);
  });
}

template <class Unit>
bool launch_in(const CopyArgs& args, CudaStream stream) {
  const auto elements = static_cast<std::int64_t>(sizeof(Unit) / args.element_bytes);
  const auto is_aligned = [](const void* pointer) {
    return reinterpret_cast<std::uintptr_t>(pointer) % sizeof(Unit) == 0;
  };
  const bool fits = elements == 1 || (elements > 1 && args.walk.is_whole(elements) &&
                                      args.walk.strides[1][args.walk.rank - 1] == 1 &&
                                      args.walk.strides[0][args.walk.rank - 1] == 1);
  if (!fits || !is_aligned(args.x) || !is_aligned(args.y)) return false;
  simt::launch(copy_kernel<Unit>, walk_grid(args.walk.count / elements), dim3(kWalkThreads), 0,
               stream, args, static_cast<int>(elements));
  return true;
}

}  // namespace

void copy_cuda(const CopyArgs& args, CudaStream stream) {
  launch_in<uint4>(args, stream) || launch_in<uint2>(args, stream) ||
      launch_in<std::uint32_t>(args, stream) || launch_in<std::uint16_t>(args, stream) ||
      launch_in<std::uint8_t>(args, stream);
}

}  // namespace tessera
