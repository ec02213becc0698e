// Crop-and-concat: every output pixel is the skip map's channels beside the up-sampled map's.
//
// Layout: (n, h, w, c). Nothing is computed, so elements are copied as units of 16 bytes where all
// channel counts allow it, else of 4 or 2. One thread copies one unit of y; what lies outside a
// source is zero. The engine folds this operator into the convolution that reads it where it can.
// Roofline: memory, y's bytes read and written once. Share of it: not measured yet.
// Oracle: reference.cpp.
#include "kernels/cuda/rows.cuh"
#include "kernels/ops/crop_concat/cuda.h"

namespace tessera {

namespace {

template <class Unit>
__device__ Unit unit_of(const JoinedMap& map, std::int64_t image, std::int64_t i, std::int64_t j,
                        unsigned unit) {
  const std::int64_t row = i + map.dy, column = j + map.dx;
  if (row < 0 || row >= map.h || column < 0 || column >= map.w) return Unit{};
  const std::int64_t pixel = (image * map.h + row) * map.w + column;
  const auto units = static_cast<std::int64_t>(map.c / sizeof(Unit));
  return static_cast<const Unit*>(map.x)[pixel * units + unit];
}

template <class Unit>
__global__ void __launch_bounds__(kRowThreads) crop_concat_kernel(const CropConcatArgs args) {
  const auto first = static_cast<unsigned>(args.first.c / sizeof(Unit));
  const unsigned units = first + static_cast<unsigned>(args.second.c / sizeof(Unit));
  const auto items = static_cast<unsigned>(args.w) * units;
  for_each_in_row(args.n * args.h, items, [&](std::int64_t row, unsigned item) {
    const unsigned column = item / units, unit = item % units;
    const std::int64_t image = row / args.h, i = row - image * args.h;
    static_cast<Unit*>(args.y)[row * items + item] =
        unit < first ? unit_of<Unit>(args.first, image, i, column, unit)
                     : unit_of<Unit>(args.second, image, i, column, unit - first);
  });
}

}  // namespace

void crop_concat_cuda(const CropConcatArgs& args, CudaStream stream) {
  const auto launch = [&](auto* kernel, std::int64_t unit) {
    const std::int64_t items = args.w * (args.first.c + args.second.c) / unit;
    simt::launch(kernel, row_grid(args.n * args.h, items), dim3(kRowThreads), 0, stream, args);
  };
  const std::int64_t either = args.first.c | args.second.c;
  if (either % 16 == 0) {
    launch(crop_concat_kernel<uint4>, 16);
  } else if (either % 4 == 0) {
    launch(crop_concat_kernel<std::uint32_t>, 4);
  } else {
    launch(crop_concat_kernel<std::uint16_t>, 2);
  }
}

}  // namespace tessera
