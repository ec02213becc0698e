// Writes a file of ONNX node by node: names, constants, and where weights lie.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/tensor.h"

namespace onnx {
class ModelProto;
class ValueInfoProto;
}  // namespace onnx

namespace tessera {

class OnnxWriter {
 public:
  // IR 8 goes with opset 17, which every runtime since 2022 reads.
  static constexpr int kOpset = 17, kIr = 8;
  // Bytes that a protobuf can hold, less room for the nodes.
  static constexpr std::size_t kInlineBytes = (std::size_t{2} << 30) - (std::size_t{16} << 20);

  using Texts = std::vector<std::string>;
  using Integers = std::vector<std::int64_t>;
  struct Attribute {
    enum class Kind : std::uint8_t { kInteger, kNumber, kText, kIntegers, kTexts } kind;
    std::string name;
    std::int64_t integer = 0;
    float number = 0;
    std::string text = {};
    Integers integers = {};
    Texts texts = {};

    Attribute(const char* of, std::int64_t value)
        : kind(Kind::kInteger), name(of), integer(value) {}
    Attribute(const char* of, float value) : kind(Kind::kNumber), name(of), number(value) {}
    Attribute(const char* of, std::string value)
        : kind(Kind::kText), name(of), text(std::move(value)) {}
    Attribute(const char* of, Integers values)
        : kind(Kind::kIntegers), name(of), integers(std::move(values)) {}
    Attribute(const char* of, Texts values)
        : kind(Kind::kTexts), name(of), texts(std::move(values)) {}
  };
  using Attributes = std::vector<Attribute>;

  // An axis is a number or, where it may be any, a name; "" is one without a name.
  using Axis = std::variant<std::int64_t, std::string>;
  enum class Type : std::uint8_t { kFloat, kInt64, kByte };

  OnnxWriter();
  ~OnnxWriter();
  OnnxWriter(const OnnxWriter&) = delete;
  OnnxWriter& operator=(const OnnxWriter&) = delete;

  void add_input(const std::string& name, Type type, const std::vector<Axis>& axes);
  // `value` under the name of an output, which no value may have had.
  void add_output(const std::string& name, const std::string& value, Type type,
                  const std::vector<Axis>& axes);
  // No value gets this name by itself.
  void reserve(const std::string& name) { names_.insert(name); }
  void set_metadata(const std::string& key, const std::string& text);

  // What is added from now on is named after this node of the network.
  void begin(std::string node) { node_ = std::move(node); }
  // Appends a node, and returns the name of its output.
  std::string add(const std::string& op, const Texts& inputs, const Attributes& attributes = {});

  // Constants. Those of equal content are one.
  std::string integers(const Integers& values);  // of one axis
  std::string integer(std::int64_t value);       // of none
  std::string number(float value);               // of none
  // A tensor of floats; of one name there is one.
  std::string weight(const std::string& name, const Shape& shape, std::span<const float> values);

  // Writes the file; beside it, where the weights are more than `inline_bytes`, they go into a file
  // of its name with ".data" behind it. Returns what it wrote. Throws Error where it cannot.
  std::vector<std::filesystem::path> save(const std::filesystem::path& path,
                                          std::size_t inline_bytes);

 private:
  std::string unique(const std::string& wanted);
  std::string constant(int type, const Integers& shape, std::string bytes, std::string name);

  std::unique_ptr<onnx::ModelProto> model_;
  std::string node_;
  std::set<std::string> names_;
  std::map<std::tuple<int, Integers, std::string>, std::string> constants_;
  std::map<std::string, std::string> weights_;
};

}  // namespace tessera
