// Two maps, element by element:  y = a op b, broadcast.
//
// A thread makes a quad of y where both operands have quads to give, or repeat one element, along
// the last axis that tells them apart; else one element.
// Roofline: memory, one operation for three elements moved. Share of it: not measured yet.
// Oracle: reference.cpp. NaN wins in min and max.
#include "kernels/cuda/strided.cuh"
#include "kernels/cuda/typed.cuh"
#include "kernels/ops/binary/cuda.h"

namespace tessera {

namespace {

__device__ float combine(BinaryFunction function, float a, float b) {
  switch (function) {
    case BinaryFunction::kAdd:
      return a + b;
    case BinaryFunction::kSub:
      return a - b;
    case BinaryFunction::kMul:
      return a * b;
    case BinaryFunction::kDiv:
      return a / b;
    case BinaryFunction::kMin:
      return a < b || a != a ? a : b;
    default:
      return a > b || a != a ? a : b;
  }
}

// An operand that does not move along the last axis repeats its element.
template <int kCount>
__device__ void load_operand(const void* x, std::int64_t index, DType type, bool moves,
                             float (&to)[kCount]) {
  if (moves) return load_typed(x, index, type, to);
  float one[1];
  load_typed(x, index, type, one);
#pragma unroll
  for (float& value : to) value = one[0];
}

template <int kCount>
__global__ void __launch_bounds__(kWalkThreads)
    binary_kernel(const __grid_constant__ BinaryArgs args) {
  const int last = args.walk.rank - 1;
  const bool a_moves = kCount == 1 || args.walk.strides[0][last] != 0;
  const bool b_moves = kCount == 1 || args.walk.strides[1][last] != 0;
  for_each_item(args.walk.count / kCount, [&](std::int64_t item) {
    std::int64_t offsets[2];
    offsets_of(args.walk, item, kCount, offsets);
    float a[kCount], b[kCount];
    load_operand(args.a, offsets[0], args.a_type, a_moves, a);
    load_operand(args.b, offsets[1], args.b_type, b_moves, b);
#pragma unroll
    for (int k = 0; k < kCount; ++k) a[k] = combine(args.function, a[k], b[k]);
    store_typed(a, args.y, item * kCount, args.y_type);
  });
}

}  // namespace

void binary_cuda(const BinaryArgs& args, CudaStream stream) {
  with_quads(args.walk.is_whole(kQuad) ? kQuad : 1, [&](auto count) {
    constexpr int kCount = decltype(count)::value;
    simt::launch(binary_kernel<kCount>, walk_grid(args.walk.count / kCount), dim3(kWalkThreads), 0,
                 stream, args);
  });
}

}  // namespace tessera
