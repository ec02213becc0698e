#include "models/export/onnx_writer.h"

#include <fmt/format.h>
#include <onnx.pb.h>

#include <cstring>

#include "engine/files/atomic_file.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using Proto = onnx::TensorProto;

void fill(onnx::ValueInfoProto& info, const std::string& name, OnnxWriter::Type type,
          const std::vector<OnnxWriter::Axis>& axes) {
  info.set_name(name);
  onnx::TypeProto_Tensor& tensor = *info.mutable_type()->mutable_tensor_type();
  tensor.set_elem_type(type == OnnxWriter::Type::kFloat   ? Proto::FLOAT
                       : type == OnnxWriter::Type::kInt64 ? Proto::INT64
                                                          : Proto::UINT8);
  for (const OnnxWriter::Axis& axis : axes) {
    auto& dim = *tensor.mutable_shape()->add_dim();
    if (const auto* extent = std::get_if<std::int64_t>(&axis)) dim.set_dim_value(*extent);
    const auto* any = std::get_if<std::string>(&axis);
    if (any != nullptr && !any->empty()) dim.set_dim_param(*any);
  }
}

template <class Value>
std::string bytes_of(std::span<const Value> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

}  // namespace

OnnxWriter::OnnxWriter() : model_(std::make_unique<onnx::ModelProto>()) {
  model_->set_ir_version(kIr);
  model_->set_producer_name("tessera");
  model_->mutable_graph()->set_name("network");
  auto& opset = *model_->add_opset_import();
  opset.set_domain("");
  opset.set_version(kOpset);
}

OnnxWriter::~OnnxWriter() = default;

void OnnxWriter::add_input(const std::string& name, Type type, const std::vector<Axis>& axes) {
  names_.insert(name);
  fill(*model_->mutable_graph()->add_input(), name, type, axes);
}

void OnnxWriter::add_output(const std::string& name, const std::string& value, Type type,
                            const std::vector<Axis>& axes) {
  fill(*model_->mutable_graph()->add_output(), name, type, axes);
  onnx::NodeProto& node = *model_->mutable_graph()->add_node();
  node.set_op_type("Identity");
  node.set_name(unique(name + "/output"));
  node.add_input(value);
  node.add_output(name);
}

void OnnxWriter::set_metadata(const std::string& key, const std::string& text) {
  auto& entry = *model_->add_metadata_props();
  entry.set_key(key);
  entry.set_value(text);
}

std::string OnnxWriter::unique(const std::string& wanted) {
  std::string name = wanted;
  for (int copy = 2; !names_.insert(name).second; ++copy) name = fmt::format("{}~{}", wanted, copy);
  return name;
}

std::string OnnxWriter::add(const std::string& op, const Texts& inputs,
                            const Attributes& attributes) {
  onnx::NodeProto& node = *model_->mutable_graph()->add_node();
  const std::string name = unique(node_ + "/" + op);
  node.set_op_type(op);
  node.set_name(name);
  for (const std::string& input : inputs) node.add_input(input);
  node.add_output(name);
  for (const Attribute& attribute : attributes) {
    onnx::AttributeProto& proto = *node.add_attribute();
    proto.set_name(attribute.name);
    switch (attribute.kind) {
      case Attribute::Kind::kInteger:
        proto.set_type(onnx::AttributeProto::INT);
        proto.set_i(attribute.integer);
        break;
      case Attribute::Kind::kNumber:
        proto.set_type(onnx::AttributeProto::FLOAT);
        proto.set_f(attribute.number);
        break;
      case Attribute::Kind::kText:
        proto.set_type(onnx::AttributeProto::STRING);
        proto.set_s(attribute.text);
        break;
      case Attribute::Kind::kIntegers:
        proto.set_type(onnx::AttributeProto::INTS);
        for (const std::int64_t value : attribute.integers) proto.add_ints(value);
        break;
      case Attribute::Kind::kTexts:
        proto.set_type(onnx::AttributeProto::STRINGS);
        for (const std::string& value : attribute.texts) proto.add_strings(value);
        break;
    }
  }
  return name;
}

std::string OnnxWriter::constant(int type, const Integers& shape, std::string bytes,
                                 std::string name) {
  Proto& tensor = *model_->mutable_graph()->add_initializer();
  tensor.set_name(unique(name));
  tensor.set_data_type(type);
  for (const std::int64_t extent : shape) tensor.add_dims(extent);
  tensor.set_raw_data(std::move(bytes));
  return tensor.name();
}

std::string OnnxWriter::integers(const Integers& values) {
  const std::string bytes = bytes_of(std::span(values));
  const Integers shape{static_cast<std::int64_t>(values.size())};
  const auto [entry, is_new] = constants_.try_emplace({Proto::INT64, shape, bytes});
  if (is_new) entry->second = constant(Proto::INT64, shape, bytes, "integers");
  return entry->second;
}

std::string OnnxWriter::integer(std::int64_t value) {
  const std::string bytes = bytes_of(std::span<const std::int64_t>(&value, 1));
  const auto [entry, is_new] = constants_.try_emplace({Proto::INT64, {}, bytes});
  if (is_new) entry->second = constant(Proto::INT64, {}, bytes, "integer");
  return entry->second;
}

std::string OnnxWriter::number(float value) {
  const std::string bytes = bytes_of(std::span<const float>(&value, 1));
  const auto [entry, is_new] = constants_.try_emplace({Proto::FLOAT, {}, bytes});
  if (is_new) entry->second = constant(Proto::FLOAT, {}, bytes, "number");
  return entry->second;
}

std::string OnnxWriter::weight(const std::string& name, const Shape& shape,
                               std::span<const float> values) {
  const auto [entry, is_new] = weights_.try_emplace(name);
  if (is_new) {
    const auto dims = shape.dims();
    entry->second = constant(Proto::FLOAT, {dims.begin(), dims.end()}, bytes_of(values), name);
  }
  return entry->second;
}

std::vector<std::filesystem::path> OnnxWriter::save(const std::filesystem::path& path,
                                                    std::size_t inline_bytes) {
  auto& initializers = *model_->mutable_graph()->mutable_initializer();
  std::size_t bytes = 0;
  for (const Proto& tensor : initializers) bytes += tensor.raw_data().size();
  AtomicFile file(path);
  std::unique_ptr<AtomicFile> data;
  if (bytes > inline_bytes) {
    require(!file.is_direct(), "{}: weights of {} bytes lie beside the file, which needs a name",
            path.string(), bytes);
    constexpr std::size_t kPage = 4096;  // what runtimes can map
    constexpr std::size_t kSmall = 1024;
    data = std::make_unique<AtomicFile>(path.string() + ".data");
    std::size_t offset = 0;
    for (Proto& tensor : initializers) {
      const std::string& raw = tensor.raw_data();
      if (raw.size() < kSmall) continue;
      const std::size_t gap = (kPage - offset % kPage) % kPage;
      data->stream() << std::string(gap, '\0') << raw;
      offset += gap;
      tensor.set_data_location(Proto::EXTERNAL);
      const auto say = [&](const char* key, const std::string& value) {
        auto& entry = *tensor.add_external_data();
        entry.set_key(key);
        entry.set_value(value);
      };
      say("location", path.filename().string() + ".data");
      say("offset", std::to_string(offset));
      say("length", std::to_string(raw.size()));
      offset += raw.size();
      tensor.clear_raw_data();
    }
  }
  if (!model_->SerializeToOstream(&file.stream())) file.fail_write("");
  if (data) data->commit();
  file.commit();
  if (!data) return {path};
  return {path, data->target()};
}

}  // namespace tessera
