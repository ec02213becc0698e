// From the nodes of an ONNX file to those of a graph: what the files that know the operators
// (onnx_layers.cpp, onnx_elements.cpp, ..) are written with.
//
// A graph is made for one size of its inputs, so that all shapes are known and what computes shapes
// is constant. Maps keep our axes: a value says which axis of ONNX each of its own is, so that
// nothing is transposed between convolutions, and transposes of the file cost nothing.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/graph/graph.h"
#include "models/import/onnx_constant.h"

namespace tessera {

// A weight of the graph: a constant in another order and shape, times a factor.
struct OnnxWeight {
  OnnxConstantPtr from;
  Shape shape;            // of the weight
  std::vector<int> axes;  // axis i is the constant's axes[i]; empty: as they are
  double factor = 1;

  FloatTensor read() const;
};

// A value of the file: a constant, or a map of the graph.
struct OnnxValue {
  OnnxConstantPtr constant;
  bool is_map = false;
  ValueId id = 0;
  std::vector<int> order;  // axis i of the map is ONNX's axis order[i]

  // How a map was made, for readers that do better without the node that made it.
  struct Origin {
    enum class Kind : std::uint8_t { kZeroPad, kReshape, kGroups, kErf } kind;
    std::shared_ptr<const OnnxValue> from;  // kZeroPad, kReshape: what was read
    std::array<int, 4> pads{};              // kZeroPad: top, bottom, left, right
    // kGroups: `from` is the normalised map that this one is a reshape of
  };
  std::shared_ptr<const Origin> origin;
};

class OnnxConverter {
 public:
  explicit OnnxConverter(const OnnxModel& model) : model_(model) {}

  // An input of the graph, f32; `shape` are ONNX's extents.
  void add_input(const std::string& name, std::span<const std::int64_t> shape,
                 std::vector<int> order);
  // Takes the nodes in their order. What cannot be taken is told by errors().
  void convert();
  const std::vector<std::string>& errors() const { return errors_; }

  const OnnxValue& value(const std::string& name) const;
  Graph& graph() { return graph_; }
  const std::vector<TensorType>& types() const { return types_; }
  // By their names in the model file.
  const std::map<std::string, OnnxWeight>& weights() const { return weights_; }
  // ONNX's extents of a value.
  std::vector<std::int64_t> shape(const OnnxValue& value) const;
  // Another order of a map's axes, by a node where it has another one.
  OnnxValue in_order(const OnnxValue& value, const std::vector<int>& order);

 private:
  friend class OnnxCall;
  void convert(const OnnxNode& node);
  ValueId emit(const std::string& name, Op op, std::vector<ValueId> from,
               std::map<std::string, OnnxWeight> weights);

  const OnnxModel& model_;
  Graph graph_;
  std::vector<TensorType> types_;  // by value of the graph
  std::map<std::string, OnnxWeight> weights_;
  std::map<std::string, OnnxValue, std::less<>> values_;
  std::set<std::string, std::less<>> names_;  // of the graph's values
  std::vector<std::string> errors_;
  std::size_t made_ = 0;  // elements of constants that nodes made
};

// One node on its way, for the function that converts its kind. All of its members throw Error for
// what cannot be taken, without naming the node.
class OnnxCall {
 public:
  OnnxCall(OnnxConverter& converter, const OnnxNode& of)
      : attributes(of), node(of), converter_(converter) {}

  const OnnxAttributes attributes;
  const OnnxNode& node;
  std::int64_t opset() const { return converter_.model_.opset; }
  std::size_t inputs() const { return node.inputs.size(); }
  bool has(std::size_t i) const { return i < inputs() && !node.inputs[i].empty(); }
  const OnnxValue& input(std::size_t i) const;
  const OnnxValue& map(std::size_t i) const;          // that is no constant
  const OnnxConstant& constant(std::size_t i) const;  // that is one
  OnnxConstantPtr constant_ptr(std::size_t i) const;
  // Numbers that are an input or, in older opsets, an attribute.
  std::vector<int> list(std::size_t i, const std::string& name) const;

  std::vector<std::int64_t> shape(const OnnxValue& value) const { return converter_.shape(value); }
  const TensorType& type(const OnnxValue& value) const { return converter_.types_[value.id]; }
  std::size_t rank(const OnnxValue& value) const { return shape(value).size(); }
  // Of an ONNX axis, from 0.
  int axis(const OnnxValue& value, std::int64_t axis) const { return onnx_axis(axis, rank(value)); }
  // Our axis of an ONNX one.
  int place(const OnnxValue& value, int axis) const;

  OnnxValue in_order(const OnnxValue& value, const std::vector<int>& order) const {
    return converter_.in_order(value, order);
  }
  OnnxValue image(const OnnxValue& value) const;                // of rank 4, as (n, h, w, c)
  OnnxValue with_last(const OnnxValue& value, int axis) const;  // whose last axis is that of ONNX
  // Reshapes to ONNX's extents, without moving data where axes of extent 1 come and go.
  OnnxValue reshape(const OnnxValue& value, const std::vector<std::int64_t>& shape) const;

  // Adds a node; its output has the axes of `like`.
  OnnxValue add(Op op, const std::vector<OnnxValue>& from, const OnnxValue& like,
                std::map<std::string, OnnxWeight> weights = {}, const char* suffix = "") const;
  // Two operands, of which one may be a constant, by numpy's broadcasting.
  OnnxValue combine(Binary::Kind kind, const OnnxValue& a, const OnnxValue& b) const;
  OnnxValue combine(Binary::Kind kind, const OnnxValue& a, double b) const;
  OnnxValue activate(const OnnxValue& x, const Activation& activation) const;

  void set(std::size_t output, OnnxValue value) const;
  void set(OnnxValue value) const { set(0, std::move(value)); }
  // Throws where an output that we do not make is read.
  void refuse_outputs_from(std::size_t first) const;

 private:
  OnnxConverter& converter_;
};

OnnxValue of_constant(OnnxConstantPtr constant);

// What an operator of ONNX becomes.
using OnnxOperator = void (*)(const OnnxCall& call);
const std::map<std::string_view, OnnxOperator>& onnx_layers();     // windows, norms, sizes
const std::map<std::string_view, OnnxOperator>& onnx_elements();   // arithmetic, activations
const std::map<std::string_view, OnnxOperator>& onnx_moves();      // products, shapes, reductions
const std::map<std::string_view, OnnxOperator>& onnx_classes();    // softmax, argmax
const std::map<std::string_view, OnnxOperator>& onnx_sequences();  // recurrent layers

}  // namespace tessera
