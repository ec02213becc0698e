// Training of Conv on a GPU: weights are packed in every run; dx is a convolution of the masked
// gradient with the rotated weights; dW has kernels of its own (cuda.h).
#include "kernels/ops/conv/train/cuda.h"

#include <algorithm>
#include <cstring>

#include "kernels/cuda/output_gradient.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/step.h"
#include "kernels/ops/conv/cuda_host.h"
#include "kernels/ops/conv/train/backward.h"
#include "kernels/ops/conv/train/cuda_host.h"

namespace tessera {

namespace {

std::int64_t count_of(const DeviceBuffer& order) {
  return static_cast<std::int64_t>(order.size() / sizeof(std::int32_t));
}

void pack(const DeviceBuffer& order, const float* weight, Precision rounding, std::byte* to,
          CudaStream stream) {
  pack_cuda({.weight = weight,
             .order = reinterpret_cast<const std::int32_t*>(order.get()),
             .packed = to,
             .count = count_of(order),
             .rounding = rounding},
            stream);
}

// The convolution of the masked gradient that gives dx.
Conv data_gradient_of(const Conv& op, const ConvGeometry& g, DType x_type) {
  Conv conv;
  conv.c_out = static_cast<int>(g.c_in);
  conv.window = square(op.window.kernel[0], op.window.kernel[0] - 1 - op.window.pads[0]);
  conv.bias = false;
  conv.dtype = x_type;
  return conv;
}

// dx of one node, on the shape of `setup`.
RepackedConv data_gradient(const Conv& op, const ConvGeometry& g, const CudaSetup& setup) {
  const Conv conv = data_gradient_of(op, g, setup.inputs[0].dtype);
  const TensorType gradient{op.dtype, {g.n, g.ho, g.wo, g.c_out}};
  const ConvGeometry data = geometry_of(conv, {&gradient, 1});
  const ConvTile tile = choose_conv(conv, data, op.dtype, setup).tile;
  const int taps = op.window.kernel[0] * op.window.kernel[0];
  const auto rotated = [c_in = g.c_in, taps](std::int64_t o, std::int64_t i, int tap) {
    return (i * c_in + o) * taps + taps - 1 - tap;
  };
  return {setup, "rotated", conv_args(conv, data, op.dtype), tile, false, rotated};
}

}  // namespace

RepackedConv::RepackedConv(const CudaSetup& setup, const std::string& name, const ConvArgs& args,
                           ConvTile tile, bool bias, const Index& index)
    : args_(args), tile_(tile) {
  layout_.c_out = args.c_out;
  layout_.kernel = {args.kernel, args.kernel};
  for (int i = 0; i < args.source_count; ++i) layout_.c_in.push_back(args.sources[i].c);
  layout_.take(tile, args.x_type);
  order_ = pack_order(setup, fmt::format("{} {}", name, layout_.name()), [&] {
    PackOrder order;
    order.reserve(static_cast<std::size_t>(layout_.elements()));
    for_each_packed(layout_, [&](std::int64_t o, std::int64_t i, int tap) {
      order.push_back(i == kPackZero ? kPackZero : static_cast<std::int32_t>(index(o, i, tap)));
    });
    return order;
  });
  const std::int64_t channels = (args.c_out + kConvQuad - 1) / kConvQuad * kConvQuad;
  if (bias) {
    bias_order_ = pack_order(setup, name + " bias", [&] {
      PackOrder order(static_cast<std::size_t>(channels), kPackZero);
      for (std::int32_t o = 0; o < args.c_out; ++o) order[static_cast<std::size_t>(o)] = o;
      return order;
    });
  } else {
    const std::size_t bytes = static_cast<std::size_t>(channels) * sizeof(float);
    zeros_ = setup.packed->get(fmt::format("{}/{} no bias", setup.name, name), bytes,
                               [&](std::byte* to) { std::memset(to, 0, bytes); });
  }
}

std::size_t RepackedConv::scratch_bytes() const {
  const std::size_t bias =
      bias_order_ ? static_cast<std::size_t>(count_of(*bias_order_)) * sizeof(float) : 0;
  return in_whole_parts(layout_.bytes()) + in_whole_parts(bias);
}

void RepackedConv::run(const void* x, const float* weight, const float* bias, void* y,
                       std::byte* scratch, CudaStream stream) const {
  ConvArgs run = args_;
  pack(*order_, weight, layout_.rounding, scratch, stream);
  run.weight = scratch;
  if (bias_order_) {
    std::byte* packed = scratch + in_whole_parts(layout_.bytes());
    pack(*bias_order_, bias, Precision::kFp32, packed, stream);
    run.bias = reinterpret_cast<const float*>(packed);
  } else {
    run.bias = reinterpret_cast<const float*>(zeros_->get());
  }
  for (int i = 0; i < run.source_count; ++i) run.sources[i].x = x;
  run.y = y;
  conv_cuda(run, tile_, stream);
}

ConvWeightGradientTechnique choose_conv_weight_gradient(const ConvWeightGradientShape& shape,
                                                        Precision math, int capability) {
  constexpr int kCapability = 80;
  const int whole = 16 / static_cast<int>(size_of(shape.a_type));  // channels
  const bool mma = capability >= kCapability && shape.a_type == shape.b_type &&
                   (shape.a_type != DType::kF32 || math != Precision::kFp32) &&
                   shape.a_channels % whole == 0 && shape.b_channels % whole == 0;
  return mma ? ConvWeightGradientTechnique::kMma : ConvWeightGradientTechnique::kSimt;
}

ConvWeightGradientSplit split_conv_weight_gradient(const ConvWeightGradientShape& shape,
                                                   ConvWeightGradientTechnique technique,
                                                   int multiprocessors) {
  // Blocks for every multiprocessor, twice, so that the last ones to end leave few idle.
  constexpr std::int64_t kWaves = 2;
  constexpr std::int64_t kChainPixels = 8192;     // of one sum in f32, about, at most
  constexpr std::int64_t kMostFloats = 16 << 20;  // of all sums, if short chains ask for them
  const auto pieces = [](std::int64_t extent, std::int64_t side) {
    return (extent + side - 1) / side;
  };
  const std::int64_t taps = shape.kernel * shape.kernel;
  const std::int64_t across = technique == ConvWeightGradientTechnique::kMma
                                  ? shape.kernel * pieces(shape.b_channels, kConvWeightTile)
                                  : pieces(taps * shape.b_channels, kConvWeightTile);
  const std::int64_t tiles = pieces(shape.a_channels, kConvWeightTile) * across;
  const std::int64_t blocks = kWaves * kConvWeightBlocks * std::max(multiprocessors, 1);
  const std::int64_t rows = std::int64_t{shape.n} * shape.rows;
  const std::int64_t short_chains =
      std::min(pieces(rows * shape.columns, kChainPixels), kMostFloats / shape.weights);
  const std::int64_t wanted = std::max({std::int64_t{1}, blocks / tiles, short_chains});
  const std::int64_t slice_rows = pieces(rows, std::min(wanted, rows));
  return {slice_rows, pieces(rows, slice_rows)};
}

ConvWeightGradientStep conv_weight_gradient(const ConvWeightGradientShape& shape,
                                            const CudaSetup& setup) {
  const ConvWeightGradientTechnique technique =
      choose_conv_weight_gradient(shape, setup.math, setup.traits.capability);
  const ConvWeightGradientSplit split =
      split_conv_weight_gradient(shape, technique, setup.traits.multiprocessors);
  const std::size_t bytes = static_cast<std::size_t>(split.slices * shape.weights) * sizeof(float);
  return {bytes, [=, stream = setup.stream](const void* a, const void* b, float* weight_gradient,
                                            std::byte* scratch) {
            const ConvWeightGradientArgs args{.shape = shape,
                                              .split = split,
                                              .a = a,
                                              .b = b,
                                              .sums = reinterpret_cast<float*>(scratch),
                                              .weight_gradient = weight_gradient};
            if (technique == ConvWeightGradientTechnique::kMma) {
              conv_weight_gradient_mma_cuda(args, stream);
            } else {
              conv_weight_gradient_fma_cuda(args, stream);
            }
            add_conv_weight_slices_cuda(args, stream);
          }};
}

MaskedGradient::MaskedGradient(std::int64_t rows, std::int64_t channels, DType dtype, bool relu)
    : rows_(rows), channels_(channels), dtype_(dtype), relu_(relu) {}

std::size_t MaskedGradient::masked_bytes() const {
  const auto elements = static_cast<std::size_t>(rows_ * channels_);
  return relu_ ? in_whole_parts(elements * size_of(dtype_)) : 0;
}

std::size_t MaskedGradient::scratch_bytes() const {
  return masked_bytes() + in_whole_parts(output_gradient_scratch(rows_, channels_));
}

const void* MaskedGradient::run(const void* gradient, const void* y, float* bias_gradient,
                                std::byte* scratch, CudaStream stream) const {
  output_gradient_cuda({.gradient = gradient,
                        .y = relu_ ? y : nullptr,
                        .masked = relu_ ? scratch : nullptr,
                        .bias_gradient = bias_gradient,
                        .partial = reinterpret_cast<float*>(scratch + masked_bytes()),
                        .rows = rows_,
                        .channels = channels_,
                        .dtype = dtype_},
                       stream);
  return relu_ ? scratch : gradient;
}

TrainStep cuda_train(const Conv& op, const CudaSetup& setup) {
  saved_for_backward(op, setup.inputs);
  require_plain(op);
  const ConvGeometry g = geometry_of(op, setup.inputs);
  const DType x_type = setup.inputs[0].dtype;
  const int taps = op.window.kernel[0] * op.window.kernel[0];
  const auto in_order = [c_in = g.c_in, taps](std::int64_t o, std::int64_t i, int tap) {
    return (o * c_in + i) * taps + tap;
  };
  const RepackedConv conv(setup, "trained", conv_args(op, g, x_type),
                          choose_conv(op, g, x_type, setup).tile, op.bias, in_order);
  return {conv.scratch_bytes(), [=, bias = op.bias, stream = setup.stream](
                                    const TrainOperands& operands, std::byte* scratch) {
            conv.run(operands.inputs[0].pointer, operands.weights[0].as<float>(),
                     bias ? operands.weights[1].as<float>() : nullptr, operands.outputs[0].pointer,
                     scratch, stream);
          }};
}

BackwardStep cuda_backward(const Conv& op, const CudaSetup& setup) {
  saved_for_backward(op, setup.inputs);
  require_plain(op);
  const ConvGeometry g = geometry_of(op, setup.inputs);
  const MaskedGradient output(g.n * g.ho * g.wo, g.c_out, op.dtype, op.relu);
  const RepackedConv data = data_gradient(op, g, setup);
  const ConvWeightGradientStep weights = conv_weight_gradient(
      {.n = conv_extent(g.n),
       .rows = conv_extent(g.ho),
       .columns = conv_extent(g.wo),
       .b_rows = conv_extent(g.h),
       .b_columns = conv_extent(g.w),
       .a_channels = conv_extent(g.c_out),
       .b_channels = conv_extent(g.c_in),
       .kernel = op.window.kernel[0],
       .stride = 1,
       .pad = conv_extent(g.top),
       .a_type = op.dtype,
       .b_type = setup.inputs[0].dtype,
       .weights = g.c_out * g.c_in * op.window.kernel[0] * op.window.kernel[0]},
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
              weights.run(gradient, operands.inputs[0].pointer, dw->as<float>(),
                          scratch + parts_at);
            if (const TensorView* dx = wanted(operands.input_gradients, 0))
              data.run(gradient, operands.weights[0].as<float>(), nullptr, dx->pointer,
                       scratch + parts_at, stream);
          }};
}

}  // namespace tessera
