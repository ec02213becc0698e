#include "models/networks/torch_names.h"

#include <algorithm>
#include <set>
#include <variant>

namespace tessera {
namespace {

// "down0/conv1" -> "down0.conv1", without parts that are empty.
std::string dotted(std::string_view name) {
  std::string path;
  for (const char c : name) {
    const bool separates = c == '/' || c == '.';
    if (separates && (path.empty() || path.back() == '.')) path += '_';
    path += separates ? '.' : c;
  }
  if (path.empty() || path.back() == '.') path += '_';
  return path;
}

// torch.nn's name of a parameter.
std::string torch_parameter(const Op& op, const std::string& parameter) {
  if (!std::holds_alternative<BiRnn>(op)) return parameter;
  constexpr std::string_view kReverse = "_reverse";
  const bool reverse = parameter.ends_with(kReverse);
  return parameter.substr(0, parameter.size() - (reverse ? kReverse.size() : 0)) + "_l0" +
         (reverse ? "_reverse" : "");
}

// What all weights of the node have before their parameters' names, or none.
std::string common_path(const Node& node, const std::vector<Parameter>& parameters) {
  std::string path;
  for (const Parameter& parameter : parameters) {
    const std::string name = weight_name(node, parameter.name);
    const std::string ending = torch_parameter(node.op, parameter.name);
    if (name.size() <= ending.size() + 1 || !name.ends_with(ending)) return "";
    const std::string before = name.substr(0, name.size() - ending.size() - 1);
    if (name[before.size()] != '.' && name[before.size()] != '/') return "";
    if (!path.empty() && path != before) return "";
    path = before;
  }
  return path;
}

}  // namespace

std::map<const Node*, TorchModule> torch_modules(const Graph& graph,
                                                 std::span<const TensorType> types) {
  std::map<const Node*, TorchModule> modules;
  std::map<std::string, const Node*> owners;  // by path
  for (const Node& node : graph.nodes) {
    const std::vector<Parameter> parameters = parameters_of(node, input_types(node, types));
    if (parameters.empty()) continue;
    const std::string common = node.weight_names.empty() ? "" : common_path(node, parameters);
    TorchModule module{dotted(common.empty() ? node.name : common), {}};
    const auto shares = [&](const Node& other) {
      return other.op == node.op &&
             std::ranges::all_of(parameters, [&](const Parameter& parameter) {
               return weight_name(node, parameter.name) == weight_name(other, parameter.name);
             });
    };
    const std::string wanted = module.path;
    for (int copy = 2;; ++copy) {
      const auto [owner, is_new] = owners.try_emplace(module.path, &node);
      if (is_new || shares(*owner->second)) break;
      module.path = fmt::format("{}_{}", wanted, copy);
    }
    for (const Parameter& parameter : parameters)
      module.entries[parameter.name] = module.path + "." + torch_parameter(node.op, parameter.name);
    modules.emplace(&node, std::move(module));
  }
  return modules;
}

}  // namespace tessera
