#include "models/import/onnx_model.h"

#include <google/protobuf/io/zero_copy_stream.h>
#include <onnx.pb.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <set>

#include "engine/files/mapped_file.h"
#include "engine/files/mapped_pages.h"
#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using StoredType = StoredTensor::Type;
using Proto = onnx::TensorProto;
using AttributeKind = OnnxAttribute::Kind;

constexpr std::size_t kMostNodes = 1 << 16, kMostRank = 64;

// The numbers of TensorProto.DataType, also those that the installed proto does not know yet.
std::string_view onnx_type_name(int type) {
  constexpr std::string_view kNames[] = {
      "undefined",      "float",      "uint8",          "int8",       "uint16",   "int16",
      "int32",          "int64",      "string",         "bool",       "float16",  "double",
      "uint32",         "uint64",     "complex64",      "complex128", "bfloat16", "float8e4m3fn",
      "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "uint4",      "int4",     "float4e2m1"};
  return type >= 0 && type < static_cast<int>(std::size(kNames)) ? kNames[type] : "unknown";
}

std::optional<StoredType> onnx_stored_type(int type) {
  switch (type) {
    case Proto::FLOAT:
      return StoredType::kF32;
    case Proto::UINT8:
      return StoredType::kU8;
    case Proto::INT8:
      return StoredType::kI8;
    case Proto::INT16:
      return StoredType::kI16;
    case Proto::INT32:
      return StoredType::kI32;
    case Proto::INT64:
      return StoredType::kI64;
    case Proto::BOOL:
      return StoredType::kBool;
    case Proto::FLOAT16:
      return StoredType::kF16;
    case Proto::DOUBLE:
      return StoredType::kF64;
    case Proto::BFLOAT16:
      return StoredType::kBF16;
    default:
      return std::nullopt;
  }
}

std::int64_t external_number(const std::string& tensor, const std::string& key,
                             const std::string& text) {
  std::int64_t value = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  require(error == std::errc() && end == text.data() + text.size() && value >= 0,
          "tensor {}: the {} of its external data is {}, expected a whole number from 0",
          in_quotes(tensor), key, in_quotes(text));
  return value;
}

// Makes stored tensors of protos, and keeps what their bytes lie in.
class TensorReader {
 public:
  TensorReader(const std::filesystem::path& folder,
               std::vector<std::shared_ptr<const void>>& owners)
      : folder_(folder), owners_(owners) {}

  StoredTensor read(const Proto& proto) {
    StoredTensor tensor;
    tensor.name = proto.name();
    const std::string shown = in_quotes(tensor.name);
    const std::optional<StoredType> type = onnx_stored_type(proto.data_type());
    require(type.has_value(),
            "tensor {} is {} (type {}), which no network here has; export the model in float32, "
            "not quantised",
            shown, onnx_type_name(proto.data_type()), proto.data_type());
    require(!proto.has_segment(), "tensor {} is stored in segments, which nobody writes any more",
            shown);
    tensor.type = *type;
    require(static_cast<std::size_t>(proto.dims_size()) <= kMostRank,
            "tensor {} has {} axes, at most {} are supported", shown, proto.dims_size(), kMostRank);
    tensor.shape.assign(proto.dims().begin(), proto.dims().end());
    if (proto.data_location() == Proto::EXTERNAL) {
      tensor.bytes = external(proto);
    } else if (proto.has_raw_data()) {
      tensor.bytes = bytes_of(proto.raw_data().data(), proto.raw_data().size());
    } else {
      tensor.bytes = typed(proto, *type);
    }
    check_stored(tensor);
    const std::size_t expected = static_cast<std::size_t>(tensor.elements()) * size_of(*type);
    require(tensor.bytes.size() == expected,
            "tensor {} is {} {}, which takes {} bytes, but {} are there", shown, name_of(*type),
            shape_text(tensor.shape), expected, tensor.bytes.size());
    return tensor;
  }

 private:
  static std::span<const std::byte> bytes_of(const void* data, std::size_t size) {
    return {static_cast<const std::byte*>(data), size};
  }
  template <class Field>
  static std::span<const std::byte> bytes_of(const Field& field) {
    return bytes_of(field.data(), static_cast<std::size_t>(field.size()) * sizeof(*field.data()));
  }
  // Narrow types lie in whole int32s.
  template <class To>
  std::span<const std::byte> narrowed(const Proto& proto) {
    const auto values = std::make_shared<std::vector<To>>();
    for (const std::int32_t value : proto.int32_data()) values->push_back(static_cast<To>(value));
    owners_.push_back(values);
    return bytes_of(*values);
  }

  std::span<const std::byte> typed(const Proto& proto, StoredType type) {
    switch (type) {
      case StoredType::kF32:
        return bytes_of(proto.float_data());
      case StoredType::kF64:
        return bytes_of(proto.double_data());
      case StoredType::kI64:
        return bytes_of(proto.int64_data());
      case StoredType::kI32:
        return bytes_of(proto.int32_data());
      case StoredType::kF16:
      case StoredType::kBF16:
      case StoredType::kI16:
        return narrowed<std::uint16_t>(proto);
      default:
        return narrowed<std::uint8_t>(proto);
    }
  }

  std::span<const std::byte> external(const Proto& proto) {
    const std::string shown = in_quotes(proto.name());
    std::string location;
    std::int64_t offset = 0, length = -1;
    for (const onnx::StringStringEntryProto& entry : proto.external_data()) {
      if (entry.key() == "location") location = entry.value();
      if (entry.key() == "offset") offset = external_number(proto.name(), "offset", entry.value());
      if (entry.key() == "length") length = external_number(proto.name(), "length", entry.value());
    }
    const std::span<const std::byte> all = file(shown, location).bytes();
    const auto size = static_cast<std::int64_t>(all.size());
    if (length < 0) length = std::max<std::int64_t>(size - offset, 0);
    require(offset <= size && length <= size - offset,
            "tensor {}: its {} bytes from {} on lie outside of {}, which has {}", shown, length,
            offset, in_quotes(location), size);
    return all.subspan(static_cast<std::size_t>(offset), static_cast<std::size_t>(length));
  }

  // A file of the model's folder; a location cannot lead out of it, not by a link either.
  const MappedFile& file(const std::string& tensor, const std::string& location) {
    if (const auto found = files_.find(location); found != files_.end()) return found->second;
    const std::filesystem::path path(location);
    const bool leaves = std::ranges::any_of(path, [](const auto& part) { return part == ".."; });
    require(!location.empty() && location.find('\0') == std::string::npos && path.is_relative() &&
                !leaves,
            "tensor {}: its data lies in {}, expected a file beside the model", tensor,
            in_quotes(location));
    std::error_code error;
    const std::filesystem::path root = std::filesystem::weakly_canonical(folder_, error);
    const std::filesystem::path full = std::filesystem::weakly_canonical(root / path, error);
    const auto [end, rest] = std::mismatch(root.begin(), root.end(), full.begin(), full.end());
    require(!error && end == root.end() && rest != full.end(),
            "tensor {}: its data lies in {}, which leads out of the model's folder", tensor,
            in_quotes(location));
    require(std::filesystem::is_regular_file(full, error),
            "tensor {}: its data lies in {}, which is not there; keep it beside the model", tensor,
            in_quotes(location));
    const MappedFile& mapped =
        files_.emplace(location, MappedFile::open(full, "a model's data")).first->second;
    owners_.push_back(mapped.owner());
    return mapped;
  }

  const std::filesystem::path& folder_;
  std::vector<std::shared_ptr<const void>>& owners_;
  std::map<std::string, MappedFile> files_;
};

OnnxAttribute read_attribute(const onnx::AttributeProto& proto, TensorReader& tensors) {
  using From = onnx::AttributeProto;
  OnnxAttribute attribute;
  From::AttributeType type = proto.type();
  if (type == From::UNDEFINED) {  // IR versions before 3 leave it out
    type = proto.has_f()             ? From::FLOAT
           : proto.has_i()           ? From::INT
           : proto.has_s()           ? From::STRING
           : proto.has_t()           ? From::TENSOR
           : proto.floats_size() > 0 ? From::FLOATS
           : proto.ints_size() > 0   ? From::INTS
                                     : From::UNDEFINED;
  }
  switch (type) {
    case From::FLOAT:
      attribute.kind = AttributeKind::kFloat;
      attribute.floats = {proto.f()};
      break;
    case From::INT:
      attribute.kind = AttributeKind::kInt;
      attribute.ints = {proto.i()};
      break;
    case From::STRING:
      attribute.kind = AttributeKind::kText;
      attribute.texts = {proto.s()};
      break;
    case From::FLOATS:
      attribute.kind = AttributeKind::kFloats;
      attribute.floats.assign(proto.floats().begin(), proto.floats().end());
      break;
    case From::INTS:
      attribute.kind = AttributeKind::kInts;
      attribute.ints.assign(proto.ints().begin(), proto.ints().end());
      break;
    case From::STRINGS:
      attribute.kind = AttributeKind::kTexts;
      attribute.texts.assign(proto.strings().begin(), proto.strings().end());
      break;
    case From::TENSOR:
      attribute.kind = AttributeKind::kTensor;
      attribute.tensor = tensors.read(proto.t());
      break;
    default:
      break;
  }
  return attribute;
}

OnnxNode read_node(const onnx::NodeProto& proto, TensorReader& tensors) {
  OnnxNode node;
  node.name = proto.name();
  const bool own = proto.domain().empty() || proto.domain() == "ai.onnx";
  node.op = own ? proto.op_type() : proto.domain() + "::" + proto.op_type();
  node.inputs.assign(proto.input().begin(), proto.input().end());
  node.outputs.assign(proto.output().begin(), proto.output().end());
  for (const onnx::AttributeProto& attribute : proto.attribute())
    node.attributes[attribute.name()] = read_attribute(attribute, tensors);
  return node;
}

OnnxValueInfo read_value(const onnx::ValueInfoProto& proto) {
  OnnxValueInfo info;
  info.name = proto.name();
  if (!proto.type().has_tensor_type()) return info;
  const onnx::TypeProto::Tensor& tensor = proto.type().tensor_type();
  if (const std::optional<StoredType> type = onnx_stored_type(tensor.elem_type())) {
    info.type = *type;
    info.has_type = true;
  }
  info.has_shape = tensor.has_shape();
  for (const onnx::TensorShapeProto::Dimension& dim : tensor.shape().dim())
    info.dims.push_back(dim.has_dim_value() && dim.dim_value() > 0 ? dim.dim_value() : -1);
  require(info.dims.size() <= kMostRank, "value {} has {} axes", in_quotes(info.name),
          info.dims.size());
  return info;
}

// Throws unless each name is made once, and before it is read.
void check_order(const OnnxModel& model) {
  std::set<std::string> made;
  const auto make = [&](const std::string& name) {
    require(made.insert(name).second, "two values are called {}", in_quotes(name));
  };
  for (const StoredTensor& tensor : model.initializers) make(tensor.name);
  for (const OnnxValueInfo& input : model.inputs) make(input.name);
  for (const OnnxNode& node : model.nodes) {
    for (const std::string& name : node.inputs)
      require(
          name.empty() || made.contains(name),
          "the node {} {} reads {}, which nothing before it makes: the graph has a cycle, or its "
          "nodes are in no order in which they can run",
          node.op, in_quotes(node.name), in_quotes(name));
    for (const std::string& name : node.outputs)
      if (!name.empty()) make(name);
  }
  for (const OnnxValueInfo& output : model.outputs)
    require(made.contains(output.name), "nothing makes the output {}", in_quotes(output.name));
}

OnnxModel read_model(const onnx::ModelProto& proto, const std::filesystem::path& folder) {
  OnnxModel model;
  require(proto.has_graph() && proto.graph().node_size() > 0,
          "the file holds no graph: it is no ONNX model, or it is cut off");
  require(proto.ir_version() >= kLeastIr && proto.ir_version() <= kMostIr + 3,
          "IR version {} of ONNX, expected {} to {}; save it anew with another version of onnx",
          proto.ir_version(), kLeastIr, kMostIr);
  for (const onnx::OperatorSetIdProto& set : proto.opset_import())
    if (set.domain().empty() || set.domain() == "ai.onnx") model.opset = set.version();
  require(model.opset >= kLeastOpset, "opset {} of ONNX, expected {} to {}; export it anew",
          model.opset, kLeastOpset, kMostOpset);
  if (model.opset > kMostOpset || proto.ir_version() > kMostIr)
    model.notes.push_back(
        fmt::format("opset {} and IR version {} of ONNX are newer than {} and {}: taken for those",
                    model.opset, proto.ir_version(), kMostOpset, kMostIr));
  model.producer = proto.producer_name();
  if (!proto.producer_version().empty()) model.producer += " " + proto.producer_version();
  for (const onnx::StringStringEntryProto& entry : proto.metadata_props())
    if (entry.key() == "tessera") model.config = entry.value();
  const onnx::GraphProto& graph = proto.graph();
  require(static_cast<std::size_t>(graph.node_size()) <= kMostNodes,
          "the graph has {} nodes, at most {} are supported", graph.node_size(), kMostNodes);
  require(graph.sparse_initializer_size() == 0,
          "tensor {} is sparse; export the model with dense weights",
          in_quotes(graph.sparse_initializer_size() == 0
                        ? ""
                        : graph.sparse_initializer(0).values().name()));
  require(graph.quantization_annotation_size() == 0,
          "tensor {} is quantised; export the model in float32",
          in_quotes(graph.quantization_annotation_size() == 0
                        ? ""
                        : graph.quantization_annotation(0).tensor_name()));
  TensorReader tensors(folder, model.owners);
  std::set<std::string> filled;
  for (const Proto& tensor : graph.initializer()) {
    model.initializers.push_back(tensors.read(tensor));
    filled.insert(tensor.name());
  }
  for (const onnx::ValueInfoProto& input : graph.input())  // IR 3 lists initializers among them
    if (!filled.contains(input.name())) model.inputs.push_back(read_value(input));
  for (const onnx::ValueInfoProto& output : graph.output())
    model.outputs.push_back(read_value(output));
  for (const onnx::NodeProto& node : graph.node()) model.nodes.push_back(read_node(node, tensors));
  require(!model.outputs.empty() && model.outputs.size() <= kMostNodes,
          "the graph has {} outputs, expected 1 to {}", model.outputs.size(), kMostNodes);
  check_order(model);
  return model;
}

// Hands the bytes out in pieces, and gives back the pages of those that were read: the message is
// a copy, and a file of a gigabyte need not be in memory twice.
class ReleasingStream : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit ReleasingStream(std::span<const std::byte> bytes) : bytes_(bytes) {}

  bool Next(const void** data, int* size) override {
    constexpr std::size_t kPiece = std::size_t{1} << 20;
    release_pages_of(bytes_.subspan(released_, at_ - released_));
    released_ = at_;
    const std::size_t piece = std::min(kPiece, bytes_.size() - at_);
    *data = bytes_.data() + at_;
    *size = static_cast<int>(piece);
    at_ += piece;
    return piece > 0;
  }
  void BackUp(int count) override { at_ -= static_cast<std::size_t>(count); }
  bool Skip(int count) override {
    const auto wanted = static_cast<std::size_t>(std::max(count, 0));
    const bool there = wanted <= bytes_.size() - at_;
    at_ = there ? at_ + wanted : bytes_.size();
    return there;
  }
  std::int64_t ByteCount() const override { return static_cast<std::int64_t>(at_); }

 private:
  std::span<const std::byte> bytes_;
  std::size_t at_ = 0, released_ = 0;
};

template <class Message>
std::shared_ptr<Message> parse_message(std::span<const std::byte> bytes) {
  require(bytes.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()),
          "{} bytes are more than a protobuf can have; save it with its weights beside it",
          bytes.size());
  auto message = std::make_shared<Message>();
  ReleasingStream stream(bytes);
  require(message->ParseFromZeroCopyStream(&stream),
          "no ONNX file: its protobuf is broken or cut off");
  return message;
}

}  // namespace

bool may_be_onnx(std::span<const std::byte> bytes) {
  // Field 1 (ir_version) as a varint, then another field of ModelProto: 2 (producer_name), 7
  // (graph) or 8 (opset_import) of texts and messages, as all exporters write it.
  constexpr std::size_t kHead = 3;
  if (bytes.size() < kHead || bytes[0] != std::byte{0x08}) return false;
  const auto version = std::to_integer<int>(bytes[1]), next = std::to_integer<int>(bytes[2]);
  return version >= 1 && version < 0x40 && (next & 7) == 2 && next >> 3 >= 2 && next >> 3 <= 8;
}

OnnxModel read_onnx(std::span<const std::byte> bytes, const std::string& file,
                    const std::filesystem::path& folder) {
  try {
    const auto proto = parse_message<onnx::ModelProto>(bytes);
    OnnxModel model = read_model(*proto, folder);
    model.file = file;
    model.owners.push_back(proto);
    return model;
  } catch (const Error& error) {
    fail("{}: {}", file, error.what());
  }
}

StoredTensor read_onnx_tensor(std::span<const std::byte> bytes, const std::string& file,
                              std::vector<std::shared_ptr<const void>>& owners) {
  try {
    const auto proto = parse_message<Proto>(bytes);
    const std::filesystem::path folder = ".";
    StoredTensor tensor = TensorReader(folder, owners).read(*proto);
    owners.push_back(proto);
    return tensor;
  } catch (const Error& error) {
    fail("{}: {}", file, error.what());
  }
}

}  // namespace tessera
