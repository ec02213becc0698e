// Average pooling: y = mean of the pixels in each window, per channel (torch.nn.AvgPool2d).
//
// inputs:  x (n, h, w, c)     outputs: y (n, ho, wo, c), same type; sizes: kernels/pool.h
// Pads hold 0 and count as pixels if `count_include_pad`; what a last window of ceil_mode holds
// behind the padding never counts.
#pragma once

#include "kernels/operator.h"
#include "kernels/window.h"

namespace tessera {

struct AvgPool {
  static constexpr std::string_view kName = "avg_pool";
  Window window = square(2, 0, 2);
  bool ceil_mode = false;
  bool count_include_pad = true;

  bool operator==(const AvgPool&) const = default;
};

void fields(auto&& visit, Of<AvgPool> auto& op) {
  fields(visit, op.window);
  visit("ceil_mode", op.ceil_mode);
  visit("count_include_pad", op.count_include_pad);
}
std::vector<TensorType> infer(const AvgPool& op, Types inputs);
std::vector<Parameter> parameters(const AvgPool& op, Types inputs);
Cost cost(const AvgPool& op, Types inputs);
Extent extent(const AvgPool& op, const Along& along, std::span<const Interval> wanted);
AvgPool part(const AvgPool& op, const Along& along, Extent& piece);
void reference(const AvgPool& op, const Operands& operands);

}  // namespace tessera
