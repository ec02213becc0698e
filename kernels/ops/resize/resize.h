// An image in another size (ONNX Resize; torch.nn.functional.interpolate).
//
// inputs:  x (n, h, w, c), and where a skip tells the size, that map (n, ho, wo, any)
// outputs: y (n, ho, wo, c), of x's type
//          ho = that of the second input, else sizes[0], or floor(h scale_h) where that is 0;
//          columns alike
//
// The place of output i among the inputs, where scale is ho / h if ho is given and `stretch`, else
// the given one, so that a map in another size is cut off or its edge repeated:
//   half_pixel          (i + 1/2) / scale - 1/2
//   pytorch_half_pixel  the same, but 0 for a single output
//   align_corners       i (h - 1) / (ho - 1)
//   asymmetric          i / scale
// nearest rounds it; linear and cubic (Keys 1981, a = -3/4) weigh the 2 or 4 pixels around it. The
// edge is repeated. PyTorch: "nearest" is asymmetric with floor, "nearest-exact" half_pixel with
// round_prefer_ceil, bilinear and bicubic are half_pixel or align_corners.
#pragma once

#include <array>

#include "kernels/operator.h"

namespace tessera {

struct Resize {
  static constexpr std::string_view kName = "resize";
  enum class Mode : std::uint8_t { kNearest, kLinear, kCubic };
  enum class Coordinates : std::uint8_t {
    kHalfPixel,
    kPytorchHalfPixel,
    kAlignCorners,
    kAsymmetric
  };
  enum class Nearest : std::uint8_t { kRoundPreferFloor, kRoundPreferCeil, kFloor, kCeil };
  Mode mode = Mode::kNearest;
  Coordinates coordinates = Coordinates::kHalfPixel;
  Nearest nearest = Nearest::kRoundPreferFloor;
  double scale_h = 1, scale_w = 1;
  std::array<int, 2> sizes{0, 0};
  bool stretch = true;

  // Of a piece, along rows and columns: outputs `made` of a map of `whole` elements (0: no piece),
  // of which the input begins at `held`.
  struct Piece {
    std::int64_t whole = 0, held = 0;
    Interval made;
    bool operator==(const Piece&) const = default;
  };
  std::array<Piece, 2> pieces{};

  bool operator==(const Resize&) const = default;
};
// With the sizes of a second input.
Resize sized(Resize op, Types inputs);

// What one output reads along an axis: input index[k], times weight[k].
struct ResizeTaps {
  int count = 0;
  std::array<std::int64_t, 4> index{};
  std::array<double, 4> weight{};
};
// Of each output along axis 0 (rows) or 1 (columns) of `size` inputs; `op` is sized.
std::vector<ResizeTaps> resize_taps(const Resize& op, std::size_t axis, std::int64_t size);

constexpr std::array<std::string_view, 3> names_of(Resize::Mode) {
  return {"nearest", "linear", "cubic"};
}
constexpr std::array<std::string_view, 4> names_of(Resize::Coordinates) {
  return {"half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"};
}
constexpr std::array<std::string_view, 4> names_of(Resize::Nearest) {
  return {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil"};
}
void fields(auto&& visit, Of<Resize> auto& op) {
  visit("mode", op.mode);
  visit("coordinates", op.coordinates);
  visit("nearest", op.nearest);
  visit("scale_h", op.scale_h, Range{kAboveZero, 1 << 12});
  visit("scale_w", op.scale_w, Range{kAboveZero, 1 << 12});
  visit("sizes", op.sizes, Range{0, 1 << 24});
  visit("stretch", op.stretch);
}
std::vector<TensorType> infer(const Resize& op, Types inputs);
std::vector<Parameter> parameters(const Resize& op, Types inputs);
Cost cost(const Resize& op, Types inputs);
Extent extent(const Resize& op, const Along& along, std::span<const Interval> wanted);
Resize part(const Resize& op, const Along& along, Extent& piece);
void reference(const Resize& op, const Operands& operands);

}  // namespace tessera
