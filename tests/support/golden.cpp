#include "tests/support/golden.h"

#include <cstring>

#include "engine/files/weights.h"
#include "tests/support/paths.h"

namespace tessera::test {
namespace {

// "<prefix>0", "<prefix>1", ... up to the last there is.
std::vector<Tensor> numbered(Weights& file, const std::string& prefix) {
  std::vector<Tensor> list;
  for (std::string name = prefix + "0"; file.contains(name);
       name = prefix + std::to_string(list.size()))
    list.push_back(copy_of(file.take_any_shape(name)));
  return list;
}

// Those whose names begin with `prefix`, by the rest of their names.
std::map<std::string, Tensor> named(Weights& file, const std::string& prefix) {
  std::map<std::string, Tensor> tensors;
  for (const std::string& name : file.names())
    if (name.starts_with(prefix))
      tensors[name.substr(prefix.size())] = copy_of(file.take_any_shape(name));
  return tensors;
}

}  // namespace

Tensor copy_of(const TensorView& view) {
  Tensor tensor(view.type);
  std::memcpy(tensor.view().pointer, view.pointer, view.type.bytes());
  return tensor;
}

std::vector<GoldenCase> load_goldens(std::string_view op, std::string_view folder) {
  Weights file =
      Weights::open(source_dir() / "tests/golden" / folder / fmt::format("{}.safetensors", op));
  std::vector<GoldenCase> cases;
  for (const auto& entry : nlohmann::json::parse(file.metadata("cases").value())) {
    GoldenCase golden;
    golden.name = entry.at("name");
    golden.attributes = entry.at("attributes");
    golden.inputs = numbered(file, golden.name + "/input");
    golden.outputs = numbered(file, golden.name + "/output");
    golden.output_gradients = numbered(file, golden.name + "/output_gradient");
    golden.input_gradients = numbered(file, golden.name + "/input_gradient");
    golden.weights = named(file, golden.name + "/weight/");
    golden.weight_gradients = named(file, golden.name + "/weight_gradient/");
    golden.weights_after = named(file, golden.name + "/weight_after/");
    cases.push_back(std::move(golden));
  }
  file.check_all_used();
  return cases;
}

}  // namespace tessera::test
