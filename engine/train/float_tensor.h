// A tensor of f32 that owns its memory: weights in training, and what belongs to each of them.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kernels/tensor.h"

namespace tessera {

struct FloatTensor {
  Shape shape;
  std::vector<float> values;

  FloatTensor() = default;
  explicit FloatTensor(const Shape& extents)
      : shape(extents), values(static_cast<std::size_t>(extents.elements())) {}

  // Valid as long as `values` is not resized; it may be written through.
  TensorView view() const { return {const_cast<float*>(values.data()), {DType::kF32, shape}}; }
};

// By the tensors' names in the model file.
using FloatTensors = std::map<std::string, FloatTensor>;
using TensorViews = std::map<std::string, TensorView>;

inline TensorViews views_of(const FloatTensors& tensors) {
  TensorViews views;
  for (const auto& [name, tensor] : tensors) views.emplace(name, tensor.view());
  return views;
}

}  // namespace tessera
