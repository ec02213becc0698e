#include "engine/device/choice.h"

#include "engine/passes/passes.h"
#include "kernels/cpu/paths.h"

namespace tessera {

namespace {

std::string cpu_choice_of(const Conv& op, Types inputs) {
  if (op.technique == Conv::Technique::kWinograd) return "Winograd F(4x4, 3x3)";
  std::int64_t c_in = 0;
  for (const TensorType& input : inputs) c_in += input.shape[-1];
  std::string why;
  if (!is_winograd(op)) {
    why = "takes 3x3 filters of stride 1 and one group, in f32";
  } else if (c_in < kWinogradChannels || op.c_out < kWinogradChannels) {
    why = fmt::format("pays from {} channels on both sides, and there are {} and {}",
                      kWinogradChannels, c_in, op.c_out);
  } else {
    why = "was not asked for";
  }
  return fmt::format("direct\nnot Winograd: {}", why);
}

}  // namespace

std::string choice_of(const Device& device, const Node& node, Types inputs) {
  if (!device.is_host()) return cuda_choice_of(node, inputs, device.precision());
  return std::visit(
      [&](const auto& op) -> std::string {
        using Any = std::decay_t<decltype(op)>;
        if constexpr (std::is_same_v<Any, Conv>) return cpu_choice_of(op, inputs);
        return OnCpu<Any> ? "its path for vectors" : "plain loops: it has no path of the CPU's own";
      },
      node.op);
}

}  // namespace tessera
