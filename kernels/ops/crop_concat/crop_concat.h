// Crop-and-concat: joins the contracting path's map (skip) with the up-sampled one (up) along the
// channels (Ronneberger et al. 2015, section 2).
//
// inputs:  skip (n, hs, ws, cs), up (n, hu, wu, cu)
// outputs: y (n, h, w, cs + cu)
//   kCropSkip: y has the size of `up`; skip, which must not be smaller, is cropped at its centre
//              (offset = floor(difference / 2)).
//   kPadUp:    y has the size of `skip`; up, which must not be larger, gets zeros around it
//              (floor(difference / 2) before, the rest behind), as same-padding UNets do.
//   kEqual:    the maps have one size.
#pragma once

#include <array>
#include <optional>

#include "kernels/operator.h"

namespace tessera {

// Where the sources lie along an axis: element i of the joined map, i < size, is element i + skip
// of the skip map and i + up of the up-sampled one.
struct ConcatAxis {
  std::int64_t size = 0, skip = 0, up = 0;

  bool operator==(const ConcatAxis&) const = default;
};

struct CropConcat {
  static constexpr std::string_view kName = "crop_concat";
  enum class Align : std::uint8_t { kCropSkip, kPadUp, kEqual };
  Align align = Align::kCropSkip;
  bool skip_first = true;  // channel order (skip, up); false: (up, skip)
  // Rows and columns of a piece of larger maps, which `align` cannot tell from the piece's sizes.
  std::array<std::optional<ConcatAxis>, 2> piece = {};

  bool operator==(const CropConcat&) const = default;
};

// Of whole maps of `skip` and `up` elements along rows (side 0) or columns.
ConcatAxis concat_axis(const CropConcat& op, std::size_t side, std::int64_t skip, std::int64_t up);

// How pixel (y, x) of the joined map reads one source: pixel (y + dy, x + dx), zero outside.
struct ConcatSource {
  std::size_t input = 0;  // 0 = skip, 1 = up
  std::int64_t dy = 0, dx = 0;
};

// The two sources in channel order. Throws where sizes do not fit `align`.
std::array<ConcatSource, 2> concat_sources(const CropConcat& op, Types inputs);

constexpr std::array<std::string_view, 3> names_of(CropConcat::Align) {
  return {"crop_skip", "pad_up", "equal"};
}
void fields(auto&& visit, Of<CropConcat> auto& op) {
  visit("align", op.align);
  visit("skip_first", op.skip_first);
}
std::vector<TensorType> infer(const CropConcat& op, Types inputs);
std::vector<Parameter> parameters(const CropConcat& op, Types inputs);
Cost cost(const CropConcat& op, Types inputs);
Extent extent(const CropConcat& op, const Along& along, std::span<const Interval> wanted);
CropConcat part(const CropConcat& op, const Along& along, Extent& piece);
void reference(const CropConcat& op, const Operands& operands);

}  // namespace tessera
