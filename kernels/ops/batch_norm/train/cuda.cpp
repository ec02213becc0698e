#include "kernels/ops/batch_norm/train/cuda.h"

#include "kernels/cuda/training.h"
#include "kernels/ops/batch_norm/train/backward.h"

namespace tessera {

namespace {

BatchNormTiling tiling_of(const TensorType& x) {
  const std::int64_t c = x.shape[-1];
  const int wide = 16 / static_cast<int>(size_of(x.dtype));
  return batch_norm_tiling(x.shape.elements() / c, c, c % wide == 0 ? wide : 1);
}

// Two numbers for each slice and channel.
std::size_t partial_bytes(const BatchNormTiling& tiling) {
  return in_whole_parts(2 * static_cast<std::size_t>(tiling.c * tiling.slices) * sizeof(float));
}

std::size_t channel_bytes(const BatchNormTiling& tiling) {
  return static_cast<std::size_t>(tiling.c) * sizeof(float);
}

float* pointer_of(const TensorView* gradient) {
  return gradient == nullptr ? nullptr : gradient->as<float>();
}

}  // namespace

BatchNormTiling batch_norm_tiling(std::int64_t rows, std::int64_t c, int width) {
  constexpr std::int64_t kEnoughBlocks = 1024;  // fill the largest device
  constexpr std::int64_t kFewestRows = 4 * kBatchNormUnroll,
                         kMostRows = 1024;  // of a thread, in one sum
  const auto ceil_div = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
  BatchNormTiling tiling{};
  tiling.rows = rows;
  tiling.c = c;
  tiling.width = width;
  const std::int64_t all_groups = c / width;
  tiling.tiles = ceil_div(all_groups, kBatchNormMostGroups);
  tiling.groups = static_cast<int>(ceil_div(all_groups, tiling.tiles));
  tiling.lanes = kBatchNormThreads / tiling.groups;
  std::int64_t slices = ceil_div(kEnoughBlocks, tiling.tiles);
  const std::int64_t most = ceil_div(rows, tiling.lanes * kFewestRows);
  const std::int64_t least = ceil_div(rows, tiling.lanes * kMostRows);
  if (slices > most) slices = most;
  if (slices < least) slices = least;
  tiling.extent = static_cast<int>(ceil_div(rows, slices));
  tiling.slices = ceil_div(rows, tiling.extent);
  return tiling;
}

TrainStep cuda_train(const BatchNorm& op, const CudaSetup& setup) {
  saved_for_backward(op, setup.inputs);  // which checks the extents
  const TensorType x = setup.inputs[0];
  const BatchNormTiling tiling = tiling_of(x);
  const auto run = [op, tiling, dtype = x.dtype, stream = setup.stream](
                       const TrainOperands& operands, std::byte* scratch) {
    const auto weight = [&](std::size_t i) { return operands.weights[i].as<float>(); };
    batch_norm_train_cuda({.tiling = tiling,
                           .x = operands.inputs[0].pointer,
                           .y = operands.outputs[0].pointer,
                           .gamma = weight(0),
                           .beta = weight(1),
                           .running_mean = weight(2),
                           .running_var = weight(3),
                           .mean = operands.saved[0].as<float>(),
                           .inverse = operands.saved[1].as<float>(),
                           .partial = reinterpret_cast<float*>(scratch),
                           .scale = reinterpret_cast<float*>(scratch + partial_bytes(tiling)),
                           .eps = op.eps,
                           .momentum = op.momentum,
                           .dtype = dtype},
                          stream);
  };
  return {partial_bytes(tiling) + channel_bytes(tiling), run};
}

BackwardStep cuda_backward(const BatchNorm& op, const CudaSetup& setup) {
  saved_for_backward(op, setup.inputs);
  const TensorType x = setup.inputs[0];
  const BatchNormTiling tiling = tiling_of(x);
  const auto run = [tiling, dtype = x.dtype, stream = setup.stream](
                       const BackwardOperands& operands, std::byte* scratch) {
    const TensorView* dx = wanted(operands.input_gradients, 0);
    float* dgamma = pointer_of(wanted(operands.weight_gradients, 0));
    float* dbeta = pointer_of(wanted(operands.weight_gradients, 1));
    if (dx == nullptr && dgamma == nullptr && dbeta == nullptr) return;
    batch_norm_backward_cuda({.tiling = tiling,
                              .x = operands.inputs[0].pointer,
                              .dy = operands.output_gradients[0].pointer,
                              .dx = dx == nullptr ? nullptr : dx->pointer,
                              .gamma = operands.weights[0].as<float>(),
                              .mean = operands.saved[0].as<float>(),
                              .inverse = operands.saved[1].as<float>(),
                              .dgamma = dgamma,
                              .dbeta = dbeta,
                              .partial = reinterpret_cast<float*>(scratch),
                              .factors = reinterpret_cast<float*>(scratch + partial_bytes(tiling)),
                              .dtype = dtype},
                             stream);
  };
  constexpr std::size_t kFactors = 3;
  return {partial_bytes(tiling) + kFactors * channel_bytes(tiling), run};
}

}  // namespace tessera
