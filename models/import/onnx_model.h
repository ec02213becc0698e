// An ONNX file as it lies there: nodes, constants, inputs and outputs, checked, with nothing
// interpreted. https://github.com/onnx/onnx/blob/main/docs/IR.md
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/import/contents.h"

namespace tessera {

// The opsets and versions of the format that are read.
inline constexpr std::int64_t kLeastOpset = 7, kMostOpset = 22;
inline constexpr std::int64_t kLeastIr = 3, kMostIr = 10;

struct OnnxAttribute {
  enum class Kind : std::uint8_t { kInt, kFloat, kText, kInts, kFloats, kTexts, kTensor, kOther };
  Kind kind = Kind::kOther;        // kOther: a graph, a type, a sparse tensor
  std::vector<std::int64_t> ints;  // one of kInt
  std::vector<double> floats;      // one of kFloat
  std::vector<std::string> texts;  // one of kText
  StoredTensor tensor;             // of kTensor
};

struct OnnxNode {
  std::string name;  // may be empty
  std::string op;    // "Conv"; with its domain in front where that is not ONNX's: "com.foo::Bar"
  std::vector<std::string> inputs, outputs;  // "" where an optional one is left out
  std::map<std::string, OnnxAttribute> attributes;
};

// What goes in or comes out.
struct OnnxValueInfo {
  std::string name;
  bool has_type = false;  // a dense tensor of a type that StoredTensor knows
  StoredTensor::Type type = StoredTensor::Type::kF32;
  bool has_shape = false;
  std::vector<std::int64_t> dims;  // -1: any
};

struct OnnxModel {
  std::string file;
  std::string producer;  // "pytorch 2.15"
  std::string config;    // a model file's JSON, where we exported it
  std::int64_t opset = 0;
  std::vector<OnnxNode> nodes;             // each reads what stands before it
  std::vector<StoredTensor> initializers;  // constants, no name twice
  std::vector<OnnxValueInfo> inputs;       // those that no initializer fills
  std::vector<OnnxValueInfo> outputs;
  std::vector<std::string> notes;
  std::vector<std::shared_ptr<const void>> owners;  // of the tensors' bytes
};

// Whether bytes can be the beginning of an ONNX file: a protobuf whose first field is a version.
bool may_be_onnx(std::span<const std::byte> bytes);

// `bytes` need not outlive the result; data beside it is read from `folder` alone. Throws Error for
// what is no ONNX model, for versions out of range, for tensors whose bytes are not as many as
// their shape says, or that are sparse, quantised, of strings or of a type that no network here
// has, and for nodes in no order in which they can run. Safe for hostile bytes.
OnnxModel read_onnx(std::span<const std::byte> bytes, const std::string& file,
                    const std::filesystem::path& folder);

// One TensorProto by itself, as the test suite of ONNX stores inputs and outputs.
StoredTensor read_onnx_tensor(std::span<const std::byte> bytes, const std::string& file,
                              std::vector<std::shared_ptr<const void>>& owners);

}  // namespace tessera
