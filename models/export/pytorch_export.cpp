#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "engine/files/atomic_file.h"
#include "models/export/export.h"
#include "models/export/torch_file.h"
#include "models/export/torch_module.h"

namespace tessera {

std::vector<std::filesystem::path> export_pytorch(ModelFile& file,
                                                  const std::filesystem::path& path) {
  const ExportedNetwork network = exported_network(file.config);
  const std::map<const Node*, TorchModule> modules = torch_modules(network.graph, network.types);
  const std::string config = to_json(file.config).dump(-1, ' ', true);
  const std::string source =
      torch_module_source(network, modules, config, path.filename().string());
  std::vector<TorchEntry> entries;
  std::set<std::string> names;
  for (const Node& node : network.graph.nodes) {
    for (const Parameter& parameter : parameters_of(node, input_types(node, network.types))) {
      const std::string& name = modules.at(&node).entries.at(parameter.name);
      if (!names.insert(name).second) continue;  // of a module that nodes share
      entries.push_back({name, parameter.shape, [&file, &node, parameter] {
                           return exported_weight(file, node, parameter);
                         }});
    }
  }
  write_torch_file(path, entries, {{kTorchModelKey, config}});
  std::filesystem::path module = path;
  module.replace_extension(".py");
  write_text(module, source);
  std::vector<std::filesystem::path> written{path, module};
  export_words(file, path, written);
  return written;
}

void export_words(const ModelFile& file, const std::filesystem::path& path,
                  std::vector<std::filesystem::path>& written) {
  if (!file.vocabulary) return;
  std::string text = "{\n";
  for (std::int32_t id = Vocabulary::kFirstWordId; id < file.vocabulary->size(); ++id) {
    const std::string word = nlohmann::json(file.vocabulary->word(id)).dump(-1, ' ', true);
    text += fmt::format("{}: {}{}\n", word, id, id + 1 < file.vocabulary->size() ? "," : "");
  }
  text += "}\n";
  std::filesystem::path place = path;
  place.replace_extension(".words.json");
  write_text(place, text);
  written.push_back(place);
}

}  // namespace tessera
