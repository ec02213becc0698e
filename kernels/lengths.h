// True lengths of padded sequences: what the operators with a mask have in common.
#pragma once

#include <string_view>

#include "kernels/operator.h"

namespace tessera {

// Throws unless input 1 is i32 with the extents of x (..., t, features) or ids (..., t) before the
// axis `t_axis` (negative: from the last).
inline void require_lengths_type(std::string_view op, Types inputs, int t_axis) {
  const Shape& shape = inputs[0].shape;
  const int leading = shape.rank() + t_axis;
  const TensorType expected{DType::kI32,
                            Shape(shape.dims().first(static_cast<std::size_t>(leading)))};
  require(inputs[1] == expected,
          "{}: lengths must be {} (one per sequence of {}), not {}; pass the number of valid steps "
          "of each sequence, or use the unmasked operator",
          op, expected, shape, inputs[1]);
}

// Throws unless 0 <= length <= t for each of the sequences.
inline void require_lengths(std::string_view op, const TensorView& lengths, std::int64_t t) {
  const std::int64_t count = lengths.shape().elements();
  const auto* length = lengths.as<std::int32_t>();
  for (std::int64_t row = 0; row < count; ++row) {
    require(length[row] >= 0 && length[row] <= t,
            "{}: length {} of sequence {} is not within 0 .. {}; pass the number of its valid "
            "steps, or pad the sequences further",
            op, length[row], row, t);
  }
}

}  // namespace tessera
