// Axes as model files give them: negative ones count from the last.
#pragma once

#include <string_view>

#include "kernels/operator.h"

namespace tessera {

// `axis` of a tensor of `rank` axes, in 0 .. rank - 1. Throws where it is none of them.
inline int axis_of(std::string_view op, int axis, int rank) {
  require(axis >= -rank && axis < rank, "{}: axis {} is none of {} axes: it must be in {} .. {}",
          op, axis, rank, -rank, rank - 1);
  return axis < 0 ? axis + rank : axis;
}

// Elements of any type, without empty axes.
inline void require_elements(std::string_view op, const TensorType& type) {
  for (const std::int64_t extent : type.shape.dims())
    require(extent > 0, "{} got the empty tensor {}: every extent must be at least 1", op, type);
}

}  // namespace tessera
