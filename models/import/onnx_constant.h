// Constants of an ONNX graph, and what nodes make of constants: exporters compute shapes with the
// same operators as maps.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/import/onnx_model.h"

namespace tessera {

// Elements of constants that are computed with: shapes, and here and there a table or a weight in
// another order.
inline constexpr std::int64_t kMostMadeElements = 1 << 24;

// Elements of a shape. Throws Error for negative extents, and where a product of some of them
// overflows, even where another is 0.
std::int64_t onnx_elements(std::span<const std::int64_t> extents);

struct OnnxConstant {
  StoredTensor::Type type = StoredTensor::Type::kI64;
  std::vector<std::int64_t> shape;
  std::optional<StoredTensor> stored;  // as it lies in the file
  std::vector<double> made;            // else its values, row-major; whole numbers up to 2^53

  std::int64_t elements() const;
  bool is_float() const { return type >= StoredTensor::Type::kF16; }
  std::vector<double> values() const;
  // Values of a constant that is used as numbers. Throws Error for floats (`what` names them), and
  // beyond the range of an int those are its ends.
  std::vector<int> integers(std::string_view what) const;
};
using OnnxConstantPtr = std::shared_ptr<const OnnxConstant>;

OnnxConstantPtr onnx_constant(const StoredTensor& tensor);
OnnxConstantPtr onnx_integers(std::vector<std::int64_t> values);  // (n), i64

// A node's attributes, with the defaults that ONNX gives them.
class OnnxAttributes {
 public:
  explicit OnnxAttributes(const OnnxNode& node) : node_(node) {}

  bool has(const std::string& name) const { return node_.attributes.contains(name); }
  // Throw Error where the attribute is there and of another kind, or no int holds it.
  std::int64_t integer(const std::string& name, std::int64_t otherwise) const;
  double number(const std::string& name, double otherwise) const;
  std::string text(const std::string& name, const std::string& otherwise) const;
  std::vector<int> integers(const std::string& name, std::vector<int> otherwise = {}) const;
  const OnnxAttribute* find(const std::string& name) const;

 private:
  const OnnxAttribute* find(const std::string& name, OnnxAttribute::Kind kind) const;
  const OnnxNode& node_;
};

// What `node`, an operator other than Shape, makes of constants alone; `inputs` may hold nulls for
// those left out. None where the operator is not one of shapes. Throws Error where it cannot be
// computed, or would be too large.
std::optional<std::vector<OnnxConstantPtr>> evaluate(const OnnxNode& node, std::int64_t opset,
                                                     std::span<const OnnxConstantPtr> inputs);

// The outputs of any node that Tessera can compute, of constants alone: those of evaluate(), and
// the layers of networks of documents, in plain loops. What is multiplied is taken off `work`.
// Throws Error for other operators, where it cannot be computed, and where `work` does not suffice.
std::vector<OnnxConstantPtr> compute(const OnnxNode& node, std::int64_t opset,
                                     std::span<const OnnxConstantPtr> inputs, std::int64_t& work);

// Extents of numpy's broadcasting. Throws Error where they do not fit.
std::vector<std::int64_t> broadcast_shape(std::span<const std::int64_t> a,
                                          std::span<const std::int64_t> b);

// The extents that ONNX's Reshape makes of `shape`: 0 copies (unless `allow_zero`), one -1 is what
// is left. Throws Error where elements do not fit.
std::vector<std::int64_t> reshaped(std::span<const std::int64_t> shape, std::vector<int> wanted,
                                   bool allow_zero);

// Those that Squeeze (without axes: of all of extent 1), Unsqueeze and Flatten make of it, and
// those of Split's parts along an axis of `extent`; `given` may be empty. Throw Error.
std::vector<std::int64_t> squeezed(std::span<const std::int64_t> shape, std::span<const int> axes);
std::vector<std::int64_t> unsqueezed(std::span<const std::int64_t> shape,
                                     std::span<const int> axes);
std::vector<std::int64_t> flattened(std::span<const std::int64_t> shape, std::int64_t axis);
std::vector<int> split_sizes(std::int64_t extent, std::size_t parts, std::vector<int> given);

// What Shape gives, or the part of it that its attributes name.
OnnxConstantPtr onnx_shape(std::span<const std::int64_t> shape, const OnnxAttributes& attributes);

// `axis` of `rank` axes, from 0. Throws Error.
int onnx_axis(std::int64_t axis, std::size_t rank);

}  // namespace tessera
