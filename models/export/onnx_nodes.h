// From our operators to nodes of ONNX: what onnx_images.cpp and onnx_documents.cpp, which know the
// operators, are written with.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "models/export/layouts.h"
#include "models/export/onnx_writer.h"

namespace tessera {

// One node on its way. Members throw Error for what opset 17 cannot say, without naming the node.
class OnnxExport {
 public:
  OnnxExport(OnnxWriter& writer, Layouts& layouts, ModelFile& file, const ExportedNetwork& network,
             const Node& node)
      : out(writer), layouts_(layouts), file_(file), network_(network), node_(node) {}

  OnnxWriter& out;

  std::size_t inputs() const { return node_.inputs.size(); }
  const TensorType& type(std::size_t input) const { return network_.types[node_.inputs[input]]; }
  int rank(std::size_t input) const { return type(input).shape.rank(); }
  // Of (..., c).
  std::int64_t channels(std::size_t input) const { return type(input).shape[-1]; }

  Layout layout(std::size_t input) const { return layouts_.of(node_.inputs[input]); }
  const std::string& input(std::size_t i, Layout layout) {
    return layouts_.name(node_.inputs[i], layout);
  }
  const std::string& image(std::size_t i) { return input(i, Layout::kChannelsFirst); }
  const std::string& ours(std::size_t i) { return input(i, Layout::kOurs); }
  // One layout for all maps of 4 axes: that of the first that has them.
  Layout common_layout() const;

  void set(const std::string& value, Layout layout, std::size_t output = 0) {
    layouts_.set(node_.outputs[output], value, layout);
  }
  void set_image(const std::string& value) { set(value, Layout::kChannelsFirst); }
  void set_ours(const std::string& value, std::size_t output = 0) {
    set(value, Layout::kOurs, output);
  }

  // ---- weights

  FloatTensor weight(const std::string& parameter);
  // As it is, or in another shape.
  std::string constant(const std::string& parameter) { return constant(parameter, {}); }
  std::string constant(const std::string& parameter, std::vector<std::int64_t> shape);
  // A tensor that was made of weights, under a name of this node's.
  std::string constant_of(const std::string& name, const FloatTensor& tensor);
  // `value` for each of `count`.
  std::string repeated(std::int64_t count, float value);

  // ---- several nodes

  std::string call(const std::string& op, const OnnxWriter::Texts& values,
                   const OnnxWriter::Attributes& attributes = {}) {
    return out.add(op, values, attributes);
  }
  // Extents [first, last) of a value, as integers.
  std::string extents(const std::string& value, std::int64_t first, std::int64_t last);
  std::string plus_bias(const std::string& value, bool has_bias);  // along the last axis

 private:
  Layouts& layouts_;
  ModelFile& file_;
  const ExportedNetwork& network_;
  const Node& node_;
};

// Of a matrix (rows, columns).
FloatTensor transposed(const FloatTensor& matrix);

// Adds the nodes that `op` is. `crop`, of a CropConcat: rows and columns that the skip has more
// than the map, where that is the same at every size: then the file says it as numbers, and sizes
// that do not run fail there as they do here.
using ConstantCrop = std::optional<std::array<std::int64_t, 2>>;
void export_operator(OnnxExport& to, const Op& op, const ConstantCrop& crop);

// Those of documents (onnx_documents.cpp).
void export_node(OnnxExport& to, const BiRnn& op);
void export_node(OnnxExport& to, const Attention& op);

}  // namespace tessera
