// Bilinear 2x up-sampling, as torch.nn.Upsample(scale_factor=2, mode='bilinear').
//
// inputs:  x (n, h, w, c)     outputs: y (n, 2h, 2w, c), same type; of a piece its own sizes
// Source coordinate of output i: align_corners: i (h - 1) / (2h - 1); else max(i / 2 - 1/4, 0).
#pragma once

#include <array>
#include <optional>

#include "kernels/operator.h"

namespace tessera {

// What is up-sampled along an axis: x holds elements from `before` on of a map of `whole`, and y
// those from `first` on of the 2 whole.
struct UpsampleAxis {
  std::int64_t whole = 0, before = 0, first = 0, size = 0;

  bool operator==(const UpsampleAxis&) const = default;
};

struct Upsample {
  static constexpr std::string_view kName = "upsample";
  bool align_corners = false;
  std::array<std::optional<UpsampleAxis>, 2> piece = {};  // rows, columns

  bool operator==(const Upsample&) const = default;
};

// Of rows (side 0) or columns, where x holds `size` of them.
UpsampleAxis upsample_axis(const Upsample& op, std::size_t side, std::int64_t size);

// Output i of a whole axis lies between inputs `first` and `second`, part / over of the way: a
// fraction, so that rounding cannot move it to another pixel.
struct UpsampleSample {
  std::int64_t first = 0, second = 0, part = 0, over = 1;
};
UpsampleSample upsample_sample(const Upsample& op, std::int64_t i, std::int64_t whole);

void fields(auto&& visit, Of<Upsample> auto& op) {
  visit("align_corners", op.align_corners);
}
std::vector<TensorType> infer(const Upsample& op, Types inputs);
std::vector<Parameter> parameters(const Upsample& op, Types inputs);
Cost cost(const Upsample& op, Types inputs);
Extent extent(const Upsample& op, const Along& along, std::span<const Interval> wanted);
Upsample part(const Upsample& op, const Along& along, Extent& piece);
void reference(const Upsample& op, const Operands& operands);

}  // namespace tessera
