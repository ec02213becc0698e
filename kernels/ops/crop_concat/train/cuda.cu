// Backward of crop-and-concat:  a pixel of a source gets its channels of that pixel of dy which
// read it, or zeros where none did.
//
// Layout: (n, h, w, c). Nothing is computed, so elements are copied as units of 16 bytes where all
// channel counts allow it, else of 4 or 2. One thread copies one unit of dx; a pixel's units are
// neighbours in dy too, so warps cross whole sectors.
// Roofline: memory, dx written and its part of dy read once. Share of it: not measured yet.
// Oracle: train/reference.cpp.
#include "kernels/cuda/rows.cuh"
#include "kernels/ops/crop_concat/train/cuda.h"

namespace tessera {

namespace {

template <class Unit>
__global__ void __launch_bounds__(kRowThreads)
    crop_concat_backward_kernel(const CropConcatBackwardArgs args) {
  constexpr std::int64_t kUnit = sizeof(Unit);
  const auto units = static_cast<unsigned>(args.c / kUnit);
  const auto items = static_cast<unsigned>(args.w) * units;
  const Unit* from = static_cast<const Unit*>(args.dy) + args.channel / kUnit;
  for_each_in_row(args.n * args.h, items, [&](std::int64_t row, unsigned item) {
    const unsigned column = item / units, unit = item % units;
    const std::int64_t image = row / args.h;
    const std::int64_t i = row - image * args.h - args.down;
    const std::int64_t j = std::int64_t{column} - args.across;
    Unit gradient = {};
    if (i >= 0 && i < args.y_h && j >= 0 && j < args.y_w) {
      const std::int64_t pixel = (image * args.y_h + i) * args.y_w + j;
      gradient = from[pixel * (args.y_c / kUnit) + unit];
    }
    static_cast<Unit*>(args.dx)[row * items + item] = gradient;
  });
}

}  // namespace

void crop_concat_backward_cuda(const CropConcatBackwardArgs& args, CudaStream stream) {
  const auto launch = [&](auto* kernel, std::int64_t unit) {
    simt::launch(kernel, row_grid(args.n * args.h, args.w * args.c / unit), dim3(kRowThreads), 0,
                 stream, args);
  };
  const std::int64_t all = args.c | args.y_c | args.channel;
  if (all % 16 == 0) {
    launch(crop_concat_backward_kernel<uint4>, 16);
  } else if (all % 4 == 0) {
    launch(crop_concat_backward_kernel<std::uint32_t>, 4);
  } else {
    launch(crop_concat_backward_kernel<std::uint16_t>, 2);
  }
}

}  // namespace tessera
