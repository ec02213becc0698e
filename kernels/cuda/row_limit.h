// What the kernels of rows.cuh ask of an image.
#pragma once

#include <string_view>

#include "kernels/error.h"
#include "kernels/tensor.h"

namespace tessera {

// `image` is (n, h, w, c).
inline void require_row(std::string_view op, const TensorType& image) {
  constexpr std::int64_t kMost = 0x7fffffff;
  require(image.shape.elements(2, 4) <= kMost,
          "{} on CUDA takes rows of at most {} elements, but got {}: cut the image into tiles", op,
          kMost, image);
}

}  // namespace tessera
