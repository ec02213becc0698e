// What the files that compute with constants of an ONNX graph are written with: onnx_folding.cpp,
// shapes and what surrounds them, and onnx_numbers.cpp, whole networks of documents.
#pragma once

#include <functional>
#include <map>
#include <span>
#include <string_view>
#include <vector>

#include "models/import/onnx_constant.h"

namespace tessera {

// A node and its inputs, null where they are left out.
struct OnnxFold {
  const OnnxNode& node;
  std::int64_t opset;
  std::span<const OnnxConstantPtr> inputs;
  OnnxAttributes attributes;

  bool has(std::size_t i) const { return i < inputs.size() && inputs[i] != nullptr; }
  // Throws Error where it is left out.
  const OnnxConstant& input(std::size_t i) const;
  // Numbers that are an input or, in older opsets, an attribute.
  std::vector<int> list(std::size_t i, const std::string& name,
                        std::vector<int> otherwise = {}) const {
    return has(i) ? input(i).integers(name) : attributes.integers(name, std::move(otherwise));
  }
  std::size_t axis(std::int64_t axis, std::size_t rank) const {
    return static_cast<std::size_t>(onnx_axis(axis, rank));
  }
};

// Zeros. Throws Error for more than kMostMadeElements.
std::shared_ptr<OnnxConstant> onnx_blank(StoredTensor::Type type,
                                         const std::vector<std::int64_t>& shape);

// Axes of `rank`, each at most once.
std::vector<std::size_t> onnx_axes(std::span<const int> axes, std::size_t rank);

// Of a dense row-major tensor.
std::vector<std::int64_t> onnx_strides(const std::vector<std::int64_t>& shape);
// With which a constant of `from` is read as one of `to`.
std::vector<std::int64_t> onnx_broadcast_steps(const std::vector<std::int64_t>& from,
                                               const std::vector<std::int64_t>& to);
// Calls body(i, offset) for each element i of `shape`, where offset moves by `steps`.
void onnx_each(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& steps,
               std::int64_t first, const std::function<void(std::size_t, std::size_t)>& body);
// Elements of `x` as they lie from `first` on, by `steps`.
OnnxConstantPtr onnx_gathered(const OnnxConstant& x, const std::vector<std::int64_t>& shape,
                              const std::vector<std::int64_t>& steps, std::int64_t first = 0);
OnnxConstantPtr onnx_reshaped(const OnnxConstant& x, std::vector<std::int64_t> shape);

// Elements of a, combined with those of b by numpy's broadcasting.
OnnxConstantPtr onnx_combined(const OnnxFold& call, double (*function)(double, double));
OnnxConstantPtr onnx_compared(const OnnxFold& call, double (*function)(double, double));
OnnxConstantPtr onnx_mapped(const OnnxFold& call, double (*function)(double));
OnnxConstantPtr onnx_reduced(const OnnxFold& call, double start,
                             double (*function)(double, double));

}  // namespace tessera
