#include "kernels/cpu/reference_step.h"

#include <algorithm>

#include "kernels/check.h"
#include "kernels/cpu/convert.h"

namespace tessera {

namespace {

bool is_narrow(const TensorType& type) {
  return type.dtype == DType::kBF16 || type.dtype == DType::kF16;
}

// Bytes of an output in f32, in whole lines.
std::size_t wide_bytes(const TensorType& type) {
  return (static_cast<std::size_t>(type.shape.elements()) * sizeof(float) + 63) / 64 * 64;
}

}  // namespace

void store_f32(const float* from, const TensorView& to) {
  const std::int64_t count = to.shape().elements();
  if (to.type.dtype == DType::kF32) {
    std::copy_n(from, count, to.as<float>());
    return;
  }
  const auto narrow = to.type.dtype == DType::kBF16 ? f32_to_bf16 : f32_to_f16;
  std::transform(from, from + count, to.as<std::uint16_t>(), narrow);
}

Step reference_step(Types outputs, std::function<void(const Operands&)> reference) {
  Step step;
  for (const TensorType& type : outputs)
    if (is_narrow(type)) step.scratch_bytes += wide_bytes(type);
  step.run = [reference = std::move(reference)](const Operands& operands, std::byte* scratch) {
    std::vector<TensorView> wide(operands.outputs.begin(), operands.outputs.end());
    for (TensorView& view : wide) {
      if (!is_narrow(view.type)) continue;
      view = {scratch, {DType::kF32, view.shape()}};
      scratch += wide_bytes(view.type);
    }
    reference({operands.inputs, operands.weights, wide});
    for (std::size_t i = 0; i < wide.size(); ++i)
      if (is_narrow(operands.outputs[i].type))
        store_f32(wide[i].as<const float>(), operands.outputs[i]);
  };
  return step;
}

}  // namespace tessera
