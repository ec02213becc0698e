// The checks that open an operator's `infer`: what it takes, what it got, what to do.
#pragma once

#include <string_view>

#include "kernels/operator.h"

namespace tessera {

inline void require_inputs(std::string_view op, Types inputs, std::size_t count) {
  require(inputs.size() == count,
          "{} takes {} input(s), but got {}: connect as many as its header says", op, count,
          inputs.size());
}

// What activations and weights are stored as. Activations in f16 are for CUDA alone.
inline bool is_float(DType dtype) {
  return dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF16;
}

// Floats without empty axes.
inline void require_floats(std::string_view op, const TensorType& type) {
  require(is_float(type.dtype), "{} takes f32, bf16 or f16, but got {}: convert the tensor first",
          op, type);
  for (const std::int64_t extent : type.shape.dims())
    require(extent > 0, "{} got the empty tensor {}: every extent must be at least 1", op, type);
}

// Floats (n, h, w, c).
inline void require_image(std::string_view op, const TensorType& type) {
  require(type.shape.rank() == 4,
          "{} takes an image (n, h, w, c), but got {}: add the missing axes", op, type);
  require_floats(op, type);
}

// Floats (..., c).
inline void require_channels(std::string_view op, const TensorType& type) {
  require(type.shape.rank() >= 1, "{} takes a tensor (..., c), but got {}: add a last axis", op,
          type);
  require_floats(op, type);
}

}  // namespace tessera
