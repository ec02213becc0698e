#include "tests/support/golden.h"

#include <cstring>

#include "engine/weights.h"

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

}  // namespace

Tensor copy_of(const TensorView& view) {
  Tensor tensor(view.type);
  std::memcpy(tensor.view().pointer, view.pointer, view.type.bytes());
  return tensor;
}

std::vector<GoldenCase> load_goldens(std::string_view op) {
  Weights file = Weights::open(
      fmt::format("{}/tests/golden/operators/{}.safetensors", TESSERA_SOURCE_DIR, op));
  std::vector<GoldenCase> cases;
  for (const auto& entry : nlohmann::json::parse(file.metadata("cases").value())) {
    GoldenCase golden{entry.at("name"), entry.at("attributes"), {}, {}, {}};
    golden.inputs = numbered(file, golden.name + "/input");
    golden.outputs = numbered(file, golden.name + "/output");
    const std::string weights = golden.name + "/weight/";
    for (const std::string& name : file.names())
      if (name.starts_with(weights))
        golden.weights[name.substr(weights.size())] = copy_of(file.take_any_shape(name));
    cases.push_back(std::move(golden));
  }
  file.check_all_used();
  return cases;
}

}  // namespace tessera::test
