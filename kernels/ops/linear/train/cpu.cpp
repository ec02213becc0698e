// Backward of Linear on the CPU: two matrix products of kernels/cpu/row_products.h. Compute binds
// from about thirty rows on.
#include "kernels/cpu/row_products.h"
#include "kernels/ops/linear/train/backward.h"

namespace tessera {

Saved saved_for_backward(const Linear&, Types) {
  return {.inputs = {true}, .outputs = {false}, .extra = {}};
}

BackwardStep cpu_backward(const Linear& op, const CpuSetup& setup) {
  const std::int64_t units = op.units, features = setup.inputs[0].shape[-1];
  const std::int64_t rows = infer(op, setup.inputs)[0].shape.elements() / units;
  const auto run = [=, bias = op.bias, threads = setup.threads](const BackwardOperands& operands,
                                                                std::byte* scratch) {
    const Rows dy{operands.output_gradients[0].as<float>(), units};
    const TensorView* dw = wanted(operands.weight_gradients, 0);
    const TensorView* db = bias ? wanted(operands.weight_gradients, 1) : nullptr;
    const RowRun all{0, 0, rows};
    const TransposedProduct product{.runs = {&all, 1},
                                    .a = dy,
                                    .b = {operands.inputs[0].as<float>(), features},
                                    .m = units,
                                    .n = features,
                                    .c = dw != nullptr ? dw->as<float>() : nullptr,
                                    .ldc = features,
                                    .sums = db != nullptr ? db->as<float>() : nullptr};
    add_transposed_products({&product, 1}, threads);
    if (const TensorView* dx = wanted(operands.input_gradients, 0))
      row_product(dy, rows, {operands.weights[0].as<float>(), features}, units, features, threads,
                  reinterpret_cast<float*>(scratch), dx->as<float>(), features);
  };
  return {row_product_floats(units, features) * sizeof(float), run};
}

}  // namespace tessera
