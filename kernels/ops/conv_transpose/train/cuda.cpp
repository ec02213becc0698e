// Training of ConvTranspose on a GPU: weights are packed in every run, dW is that of a convolution
// whose input is g, and dx is that convolution, of stride 2.
//
// Conv's kernels have a stride of 1. To them g (n, 2h, 2w, c_out) is two sources of h x w pixels,
// its even and its odd rows, whose pixels are two neighbours: 2 c_out channels. A 2x2 kernel meets
// just the pixel i of both: a 1x1 convolution. A 3x3 kernel meets pixels i - 1 and i: a 2x2
// convolution whose padding is 1, and 7 of its 16 (row, column) taps, on even neighbours behind,
// are zero; so it makes 16/9 of the products that are asked for.
#include <algorithm>
#include <cstring>

#include "kernels/cuda/pack.h"
#include "kernels/cuda/step.h"
#include "kernels/ops/conv/cuda_host.h"
#include "kernels/ops/conv/train/cuda_host.h"
#include "kernels/ops/conv_transpose/cuda_host.h"
#include "kernels/ops/conv_transpose/train/backward.h"

namespace tessera {

namespace {

constexpr int kStride = 2;

int padding_of(const ConvTranspose& op) {
  return op.kernel == 3 ? 1 : 0;
}

// The convolution of g that gives dx.
ConvArgs data_gradient_args(const ConvTranspose& op, const TensorType& x) {
  const std::int64_t h = x.shape[1], w = x.shape[2];
  ConvArgs args{};
  args.source_count = kStride;
  for (int odd = 0; odd < kStride; ++odd)
    args.sources[odd] = {.x = nullptr,
                         .image = kStride * h * w,
                         .pitch = kStride * w,
                         .origin = odd * w,
                         .row_begin = 0,
                         .row_end = conv_extent(h),
                         .column_begin = 0,
                         .column_end = conv_extent(w),
                         .c = conv_extent(std::int64_t{kStride} * op.c_out)};
  args.n = conv_extent(x.shape[0]);
  args.ho = conv_extent(h);
  args.wo = conv_extent(w);
  args.c_out = conv_extent(x.shape[3]);
  args.kernel = 1 + padding_of(op);
  args.top = args.left = padding_of(op);
  args.x_type = op.dtype;
  args.y_type = x.dtype;
  return args;
}

RepackedConv data_gradient(const ConvTranspose& op, const CudaSetup& setup) {
  const TensorType& x = setup.inputs[0];
  const ConvArgs args = data_gradient_args(op, x);
  const ConvTile tile = choose_conv({.n = args.n,
                                     .ho = args.ho,
                                     .wo = args.wo,
                                     .c_out = args.c_out,
                                     .c_in = {args.sources[0].c, args.sources[1].c},
                                     .x = args.x_type,
                                     .y = args.y_type,
                                     .math = setup.math,
                                     .capability = setup.traits.capability,
                                     .multiprocessors = setup.traits.multiprocessors})
                            .tile;
  // Filter (o, i, tap) of that convolution: o is a channel of x, i counts rows of g, then its
  // columns, then channels, and the tap says how many places behind pixel i they belong.
  const auto index = [op, kernel = args.kernel](std::int64_t o, std::int64_t i, int tap) {
    const std::int64_t channel = i % op.c_out;
    const int column = static_cast<int>(i / op.c_out % kStride);
    const int row = static_cast<int>(i / op.c_out / kStride);
    const int padding = padding_of(op);
    const int ky = kStride * (tap / kernel - padding) + row + padding;
    const int kx = kStride * (tap % kernel - padding) + column + padding;
    if (ky < 0 || kx < 0) return std::int64_t{kPackZero};
    return ((o * op.c_out + channel) * op.kernel + ky) * op.kernel + kx;
  };
  return {setup, "gradient", args, tile, false, index};
}

}  // namespace

TrainStep cuda_train(const ConvTranspose& op, const CudaSetup& setup) {
  saved_for_backward(op, setup.inputs);
  require(
      is_doubling(op),
      "conv_transpose: a GPU trains a kernel of 2 or 3 that doubles the size; train on the CPU");
  const ConvTransposeTile tile = choose_conv_transpose_tile(op, setup);
  const ConvTransposeLayout layout = conv_transpose_layout(op, setup.inputs[0], tile);
  const auto order =
      pack_order(setup, fmt::format("trained {}", static_cast<int>(layout.rounding)), [&] {
        PackOrder list;
        list.reserve(layout.bytes() / layout.element_bytes());
        for_each_packed(
            layout, [&](std::int64_t index) { list.push_back(static_cast<std::int32_t>(index)); });
        return list;
      });
  const std::size_t bias_bytes = static_cast<std::size_t>(op.c_out) * sizeof(float);
  const auto zeros =
      op.bias ? nullptr
              : setup.packed->get(setup.name + "/no bias", bias_bytes,
                                  [&](std::byte* to) { std::memset(to, 0, bias_bytes); });
  const ConvTransposeArgs args = conv_transpose_args(op, setup.inputs);
  return {in_whole_parts(layout.bytes()),
          [=, stream = setup.stream](const TrainOperands& operands, std::byte* scratch) {
            pack_cuda({.weight = operands.weights[0].as<float>(),
                       .order = reinterpret_cast<const std::int32_t*>(order->get()),
                       .packed = scratch,
                       .count = static_cast<std::int64_t>(order->size() / sizeof(std::int32_t)),
                       .rounding = layout.rounding},
                      stream);
            ConvTransposeArgs run = args;
            run.weight = scratch;
            run.bias = zeros ? reinterpret_cast<const float*>(zeros->get())
                             : operands.weights[1].as<float>();
            run.x = operands.inputs[0].pointer;
            run.y = operands.outputs[0].pointer;
            conv_transpose_cuda(run, tile, stream);
          }};
}

BackwardStep cuda_backward(const ConvTranspose& op, const CudaSetup& setup) {
  saved_for_backward(op, setup.inputs);
  require(
      is_doubling(op),
      "conv_transpose: a GPU trains a kernel of 2 or 3 that doubles the size; train on the CPU");
  const Shape& x = setup.inputs[0].shape;
  const Shape y = infer(op, setup.inputs)[0].shape;
  const MaskedGradient output(y.elements(0, 3), op.c_out, op.dtype, op.relu);
  const RepackedConv data = data_gradient(op, setup);
  const ConvWeightGradientStep weights =
      conv_weight_gradient({.n = conv_extent(x[0]),
                            .rows = conv_extent(x[1]),
                            .columns = conv_extent(x[2]),
                            .b_rows = conv_extent(y[1]),
                            .b_columns = conv_extent(y[2]),
                            .a_channels = conv_extent(x[3]),
                            .b_channels = op.c_out,
                            .kernel = op.kernel,
                            .stride = kStride,
                            .pad = padding_of(op),
                            .a_type = setup.inputs[0].dtype,
                            .b_type = op.dtype,
                            .weights = x[3] * op.c_out * op.kernel * op.kernel},
                           setup);
  const std::size_t parts_at = output.scratch_bytes();
  return {parts_at + std::max(weights.scratch_bytes, data.scratch_bytes()),
          [=, bias = op.bias, stream = setup.stream](const BackwardOperands& operands,
                                                     std::byte* scratch) {
            const TensorView* db = bias ? wanted(operands.weight_gradients, 1) : nullptr;
            const void* gradient =
                output.run(operands.output_gradients[0].pointer, operands.outputs[0].pointer,
                           db != nullptr ? db->as<float>() : nullptr, scratch, stream);
            if (const TensorView* dw = wanted(operands.weight_gradients, 0))
              weights.run(operands.inputs[0].pointer, gradient, dw->as<float>(),
                          scratch + parts_at);
            if (const TensorView* dx = wanted(operands.input_gradients, 0))
              data.run(gradient, operands.weights[0].as<float>(), nullptr, dx->pointer,
                       scratch + parts_at, stream);
          }};
}

}  // namespace tessera
