#include "kernels/cuda/output_gradient.h"
#include "kernels/cuda/step.h"
#include "kernels/ops/linear/cuda_weights.h"
#include "kernels/ops/linear/train/backward.h"

namespace tessera {

namespace {

RepackedWeight weight_of(const Linear& op, const CudaSetup& setup, bool transposed) {
  return repacked_weight(setup, op.units, static_cast<int>(setup.inputs[0].shape[-1]), transposed);
}

}  // namespace

TrainStep cuda_train(const Linear& op, const CudaSetup& setup) {
  const std::int64_t rows = infer(op, setup.inputs)[0].shape.elements() / op.units;
  const RepackedWeight packed = weight_of(op, setup, false);
  const GemmRows block = choose_gemm_rows(rows, op.units, setup.traits.multiprocessors);
  const auto run = [=, bias = op.bias, stream = setup.stream](const TrainOperands& operands,
                                                              std::byte* scratch) {
    if (rows == 0) return;
    packed.pack(operands.weights[0], scratch, stream);
    gemm_cuda({.x = operands.inputs[0].as<float>(),
               .map = {},
               .w = scratch,
               .bias = bias ? operands.weights[1].as<float>() : nullptr,
               .y = operands.outputs[0].as<float>(),
               .rows = rows,
               .features = packed.layout.features,
               .units = packed.layout.units},
              packed.layout.rounding, block, stream);
  };
  return {packed.bytes(), run};
}

BackwardStep cuda_backward(const Linear& op, const CudaSetup& setup) {
  const std::int64_t rows = infer(op, setup.inputs)[0].shape.elements() / op.units;
  const RepackedWeight packed = weight_of(op, setup, true);
  const int units = op.units, features = packed.layout.units;
  const GemmRows block = choose_gemm_rows(rows, features, setup.traits.multiprocessors);
  // W^T, then the sums of dW, then those of db.
  const std::size_t of_weight = packed.bytes();
  const std::size_t of_bias = of_weight + in_whole_parts(gemm_sum_scratch(rows, units, features));
  const std::size_t bytes =
      of_bias + (op.bias ? in_whole_parts(output_gradient_scratch(rows, units)) : 0);
  const auto run = [=, bias = op.bias, stream = setup.stream](const BackwardOperands& operands,
                                                              std::byte* scratch) {
    if (rows == 0) return;
    const auto* dy = operands.output_gradients[0].as<float>();
    const Precision rounding = packed.layout.rounding;
    if (const TensorView* dw = wanted(operands.weight_gradients, 0)) {
      gemm_sum_cuda({.a = dy,
                     .b = operands.inputs[0].as<float>(),
                     .sum = dw->as<float>(),
                     .scratch = scratch + of_weight,
                     .rows = rows,
                     .a_pitch = units,
                     .b_pitch = features,
                     .sum_pitch = features,
                     .m = units,
                     .n = features,
                     .lengths = nullptr,
                     .t = 1,
                     .b_delay = 0},
                    rounding, stream);
    }
    if (const TensorView* db = bias ? wanted(operands.weight_gradients, 1) : nullptr) {
      output_gradient_cuda({.gradient = dy,
                            .y = nullptr,
                            .masked = nullptr,
                            .bias_gradient = db->as<float>(),
                            .partial = reinterpret_cast<float*>(scratch + of_bias),
                            .rows = rows,
                            .channels = units,
                            .dtype = DType::kF32},
                           stream);
    }
    if (const TensorView* dx = wanted(operands.input_gradients, 0)) {
      packed.pack(operands.weights[0], scratch, stream);
      gemm_cuda({.x = dy,
                 .map = {},
                 .w = scratch,
                 .bias = nullptr,
                 .y = dx->as<float>(),
                 .rows = rows,
                 .features = units,
                 .units = features},
                rounding, block, stream);
    }
  };
  return {bytes, run};
}

}  // namespace tessera
