// State dicts that `tessera export` wrote, or that were trained on from there: they carry the model
// file's JSON, which says the network and the names of its weights.
#include "models/import/families/tessera.h"

#include <set>

#include "engine/files/json_text.h"
#include "engine/files/safetensors.h"
#include "models/import/han_words.h"
#include "models/networks/torch_names.h"

namespace tessera {
namespace {

constexpr int kMostModelNesting = 64;

std::optional<Imported> match_tessera(const Contents& contents, const ImportOptions& options,
                                      std::string&) {
  const auto entries = contents.said.find("entries");
  if (entries == contents.said.end() || !entries->is_object()) return std::nullopt;
  const auto text = entries->find(kTorchModelKey);
  if (text == entries->end() || !text->is_string()) return std::nullopt;
  const auto& config = text->get_ref<const std::string&>();
  check_json_limits(config, kMostModelNesting);
  require(options.choices.empty(), "{}: --set {}: the file says everything about its network",
          contents.file, options.choices.begin()->first);
  Imported imported;
  imported.config = model_config_from_json(parse_json(config), contents.file);
  const Graph graph = build_network(imported.config);
  const std::vector<TensorType> types = infer_types(graph, example_inputs(imported.config));
  const std::map<const Node*, TorchModule> modules = torch_modules(graph, types);
  std::set<std::string> used;
  for (const Node& node : graph.nodes) {
    for (const Parameter& parameter : parameters_of(node, input_types(node, types))) {
      const std::string& name = modules.at(&node).entries.at(parameter.name);
      const StoredTensor* tensor = contents.find(name);
      require(tensor != nullptr, "{}: the tensor {} is missing", contents.file, in_quotes(name));
      require(Shape(tensor->shape) == parameter.shape, "{}: the tensor {} is {}, expected {}",
              contents.file, in_quotes(name), shape_text(tensor->shape), parameter.shape);
      imported.add(weight_name(node, parameter.name), *tensor);
      used.insert(name);
    }
  }
  for (const StoredTensor& tensor : contents.tensors)
    if (!used.contains(tensor.name)) imported.unused.push_back(tensor.name);
  if (imported.config.han) imported.vocabulary = exported_words(contents.file, options);
  return imported;
}

}  // namespace

constinit const Family kTesseraFamily{"Tessera", "what `tessera export --to pytorch` wrote",
                                      match_tessera};

}  // namespace tessera
