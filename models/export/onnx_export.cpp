#include "engine/graph/node_checks.h"
#include "kernels/error.h"
#include "models/export/export.h"
#include "models/export/onnx_nodes.h"

namespace tessera {

Layout OnnxExport::common_layout() const {
  for (std::size_t i = 0; i < inputs(); ++i)
    if (rank(i) == 4) return layout(i);
  return Layout::kOurs;
}

FloatTensor OnnxExport::weight(const std::string& parameter) {
  for (const Parameter& one : parameters_of(node_, input_types(node_, network_.types)))
    if (one.name == parameter) return exported_weight(file_, node_, one);
  fail("it has no weight {}", parameter);
}

std::string OnnxExport::constant(const std::string& parameter, std::vector<std::int64_t> shape) {
  const FloatTensor tensor = weight(parameter);
  std::string name = weight_name(node_, parameter);
  for (const std::int64_t extent : shape) name += fmt::format("/{}", extent);
  return out.weight(name, shape.empty() ? tensor.shape : Shape(shape), tensor.values);
}

std::string OnnxExport::constant_of(const std::string& name, const FloatTensor& tensor) {
  return out.weight(node_.name + "/" + name, tensor.shape, tensor.values);
}

std::string OnnxExport::repeated(std::int64_t count, float value) {
  const std::vector<float> values(static_cast<std::size_t>(count), value);
  return out.weight(fmt::format("{} times {}", value, count), {count}, values);
}

std::string OnnxExport::extents(const std::string& value, std::int64_t first, std::int64_t last) {
  return call("Shape", {value}, {{"start", first}, {"end", last}});
}

FloatTensor transposed(const FloatTensor& matrix) {
  const std::int64_t rows = matrix.shape[0], columns = matrix.shape[1];
  FloatTensor result(Shape{columns, rows});
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t k = 0; k < columns; ++k)
      result.values[static_cast<std::size_t>(k * rows + i)] =
          matrix.values[static_cast<std::size_t>(i * columns + k)];
  return result;
}

std::string OnnxExport::plus_bias(const std::string& value, bool has_bias) {
  return has_bias ? call("Add", {value, constant("bias")}) : value;
}

std::vector<std::filesystem::path> export_onnx(ModelFile& file, const std::filesystem::path& path,
                                               std::size_t inline_bytes) {
  const ExportedNetwork network = exported_network(file.config);
  OnnxWriter writer;
  Layouts layouts([&](const std::string& value, std::array<int, 4> order) {
    return writer.add("Transpose", {value},
                      {{"perm", OnnxWriter::Integers(order.begin(), order.end())}});
  });
  for (const ExportedNetwork::End& output : network.outputs) writer.reserve(output.name);
  const auto is_channels = [&](const ExportedNetwork::End& end, int axis) {
    return axis == placed_axis(-1, network.types[end.value].shape.rank(), end.layout);
  };
  const bool of_images = file.config.is_of_images();
  for (const ExportedNetwork::End& input : network.inputs) {
    const Shape& shape = network.types[input.value].shape;
    std::vector<OnnxWriter::Axis> axes;
    if (!of_images)
      axes = {"documents", "sentences", "words"};
    else if (shape.rank() == 4 && input.layout == Layout::kChannelsFirst)
      axes = {"batch", shape[-1], "height", "width"};
    else if (shape.rank() == 4)
      axes = {"batch", "height", "width", shape[-1]};
    else
      axes.assign(shape.dims().begin(), shape.dims().end());
    if (!of_images) axes.resize(static_cast<std::size_t>(shape.rank()));
    writer.add_input(input.name, of_images ? OnnxWriter::Type::kFloat : OnnxWriter::Type::kInt64,
                     axes);
    layouts.set(input.value, input.name, input.layout);
  }
  // The types at another size tell what does not depend on it.
  std::vector<TensorType> larger = network.types;
  if (of_images) {
    const ImageSizes sizes = image_sizes(file.config);
    const TensorType least = sizes.least();
    const TensorType next =
        sizes.type(sizes.next(0, least.shape[1] + 1), sizes.next(1, least.shape[2] + 1));
    larger = infer_types(network.graph, {&next, 1});
  }
  const auto constant_crop = [&](const Node& node) -> ConstantCrop {
    std::array<std::int64_t, 2> more{};
    for (const int axis : {1, 2}) {
      const auto at = [&](const std::vector<TensorType>& types) {
        return types[node.inputs[0]].shape[axis] - types[node.inputs[1]].shape[axis];
      };
      if (at(network.types) != at(larger)) return std::nullopt;
      more[static_cast<std::size_t>(axis) - 1] = at(larger);
    }
    return more;
  };
  for (const Node& node : network.graph.nodes) {
    writer.begin(node.name);
    named(node, [&] {
      OnnxExport to(writer, layouts, file, network, node);
      const bool crops = std::holds_alternative<CropConcat>(node.op);
      export_operator(to, node.op, crops ? constant_crop(node) : std::nullopt);
    });
  }
  for (const ExportedNetwork::End& output : network.outputs) {
    const TensorType& type = network.types[output.value];
    std::vector<OnnxWriter::Axis> axes;
    for (int axis = 0; axis < type.shape.rank(); ++axis) {
      if (is_channels(output, axis) && type.dtype == DType::kF32 && of_images)
        axes.emplace_back(type.shape[-1]);
      else
        axes.emplace_back("");
    }
    writer.add_output(output.name, layouts.name(output.value, output.layout),
                      type.dtype == DType::kU8 ? OnnxWriter::Type::kByte : OnnxWriter::Type::kFloat,
                      axes);
  }
  writer.set_metadata(kModelKey, to_json(file.config).dump());
  std::vector<std::filesystem::path> written = writer.save(path, inline_bytes);
  export_words(file, path, written);
  return written;
}

}  // namespace tessera
