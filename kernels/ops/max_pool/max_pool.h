// Max-pooling: y = max of the pixels in each window, per channel; pads hold -inf, and NaN wins
// (torch.nn.MaxPool2d). By default 2x2 of stride 2, which drops a last odd row or column.
//
// inputs:  x (n, h, w, c)     outputs: y (n, ho, wo, c), same type; sizes: kernels/pool.h
#pragma once

#include "kernels/operator.h"
#include "kernels/window.h"

namespace tessera {

struct MaxPool {
  static constexpr std::string_view kName = "max_pool";
  Window window = square(2, 0, 2);
  bool ceil_mode = false;

  bool operator==(const MaxPool&) const = default;
};

void fields(auto&& visit, Of<MaxPool> auto& op) {
  fields(visit, op.window);
  visit("ceil_mode", op.ceil_mode);
}
// The default, which convolutions fuse and a GPU trains.
inline bool is_halving(const MaxPool& op) {
  return op.window == square(2, 0, 2) && !op.ceil_mode;
}
std::vector<TensorType> infer(const MaxPool& op, Types inputs);
std::vector<Parameter> parameters(const MaxPool& op, Types inputs);
Cost cost(const MaxPool& op, Types inputs);
Extent extent(const MaxPool& op, const Along& along, std::span<const Interval> wanted);
MaxPool part(const MaxPool& op, const Along& along, Extent& piece);
void reference(const MaxPool& op, const Operands& operands);

}  // namespace tessera
