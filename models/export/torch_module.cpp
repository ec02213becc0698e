#include "models/export/torch_module.h"

#include <cctype>
#include <filesystem>

#include "engine/graph/node_checks.h"
#include "models/export/torch_helpers.h"
#include "models/export/torch_module_writer.h"

namespace tessera {
namespace {

using fmt::format;

}  // namespace

std::string TorchModuleWriter::write(const std::string& config, const std::string& weights) {
  std::vector<std::string> arguments, answers, names;
  for (const ExportedNetwork::End& input : network_.inputs) {
    arguments.push_back(variable(input.name));
    layouts_.set(input.value, arguments.back(), input.layout);
  }
  for (const Node& node : network_.graph.nodes) {
    node_ = &node;
    named(node, [&] { std::visit([&](const auto& op) { write(op); }, node.op); });
  }
  for (const ExportedNetwork::End& output : network_.outputs) {
    names.push_back(output.name);
    answers.push_back(
        format("{}: {}", text_of(output.name), layouts_.name(output.value, output.layout)));
  }
  std::string helpers;
  for (const TorchHelper& helper : kTorchHelpers)
    if (used_.contains(helper.name)) helpers += format("\n\n{}", helper.source);
  const std::string module = std::filesystem::path(weights).stem().string();
  return format(
      R"("""A network that was exported from Tessera.

    network = Network()
    network.load_state_dict(torch.load({weights}, weights_only=True))
    answers = network.eval()({arguments})  # by name: {names}

Maps are (n, c, h, w). CONFIG says how images or texts are prepared, and what the classes are; a state
dict of this module carries it, so that `tessera import` reads it back, trained further or not.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

CONFIG = {config}
{helpers}

class Network(nn.Module):
    def __init__(self):
        super().__init__()
        object.__setattr__(self, "at", {{}})
{layers}
    def put(self, path, layer):
        """Makes `layer` the module of a dotted name."""
        parent, (*above, name) = self, path.split(".")
        for part in above:
            parent = parent._modules.setdefault(part, nn.Module())
        if name in parent._modules:
            layer._modules.update(parent._modules[name]._modules)
        parent._modules[name] = self.at[path] = layer

    def get_extra_state(self):
        return CONFIG

    def set_extra_state(self, state):
        pass

    def forward(self, {arguments}):
        at = self.at
{lines}        return {{{answers}}}
)",
      fmt::arg("weights", text_of(weights)), fmt::arg("arguments", fmt::join(arguments, ", ")),
      fmt::arg("names", fmt::join(names, ", ")), fmt::arg("config", text_of(config)),
      fmt::arg("helpers", helpers), fmt::arg("layers", layers_), fmt::arg("lines", lines_),
      fmt::arg("answers", fmt::join(answers, ", ")));
}

Layout TorchModuleWriter::common_layout() const {
  for (std::size_t i = 0; i < node_->inputs.size(); ++i)
    if (rank(i) == 4) return layout(i);
  return Layout::kOurs;
}

std::string TorchModuleWriter::variable(const std::string& wanted) {
  std::string plain;
  for (const char c : wanted) plain += std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  if (plain.empty() || std::isdigit(static_cast<unsigned char>(plain[0])) != 0) plain = "x" + plain;
  std::string name = plain;
  for (int copy = 2; !variables_.insert(name).second; ++copy) name = format("{}_{}", plain, copy);
  return name;
}

std::string TorchModuleWriter::line(const std::string& wanted, const std::string& expression) {
  const std::string name = variable(wanted);
  lines_ += format("        {} = {}\n", name, expression);
  return name;
}

void TorchModuleWriter::set(const std::string& expression, Layout layout, std::size_t output) {
  layouts_.set(node_->outputs[output], line(node_->name, expression), layout);
}

std::string TorchModuleWriter::layer(const std::string& expression) {
  const std::string& path = modules_.at(node_).path;
  if (paths_.insert(path).second)
    layers_ += format("        self.put({}, {})\n", text_of(path), expression);
  return format("at[{}]", text_of(path));
}

std::string TorchModuleWriter::padded(std::string x, Window& window, const std::string& value) {
  const auto& p = window.pads;
  const std::array pads{p[2], p[3], p[0], p[1]};
  window.pads = {0, 0, 0, 0};
  return format("F.pad({}, {}, value={})", x, tuple_of(pads), value);
}

std::string torch_module_source(const ExportedNetwork& network,
                                const std::map<const Node*, TorchModule>& modules,
                                const std::string& config, const std::string& weights) {
  return TorchModuleWriter(network, modules).write(config, weights);
}

}  // namespace tessera
