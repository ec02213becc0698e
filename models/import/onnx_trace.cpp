#include "models/import/onnx_trace.h"

#include <algorithm>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/onnx_recurrence.h"

namespace tessera {

namespace {

constexpr std::int64_t kMostTraceWork = std::int64_t{1} << 33;  // some seconds
constexpr std::int64_t kMostTraced = std::int64_t{1} << 27;     // elements: 1 GiB

}  // namespace

OnnxTrace::OnnxTrace(const OnnxModel& model, const std::map<std::string, OnnxConstantPtr>& inputs,
                     const See& see)
    : work_(kMostTraceWork), room_(kMostTraced) {
  for (const StoredTensor& tensor : model.initializers)
    values_[tensor.name] = {onnx_constant(tensor), -1};
  for (const auto& [name, constant] : inputs) values_[name] = {constant, 0};
  for (const OnnxNode& node : model.nodes) {
    // What reads a value that could not be made is not to be told of.
    if (std::ranges::any_of(node.inputs, [&](const std::string& name) {
          return !name.empty() && !values_.contains(name);
        }))
      continue;
    try {
      compute_node(node, model.opset, see);
    } catch (const Error& error) {
      const std::string& name =
          node.name.empty() && !node.outputs.empty() ? node.outputs[0] : node.name;
      errors_.push_back(fmt::format("{} {}: {}", node.op, in_quotes(name), error.what()));
    }
  }
}

const OnnxTraced* OnnxTrace::find(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? nullptr : &found->second;
}

void OnnxTrace::compute_node(const OnnxNode& node, std::int64_t opset, const See& see) {
  std::vector<OnnxConstantPtr> read;
  int level = -1;
  for (const std::string& name : node.inputs) {
    const OnnxTraced* value = name.empty() ? nullptr : &values_.at(name);
    read.push_back(value == nullptr ? nullptr : value->constant);
    if (value != nullptr) level = std::max(level, value->level);
  }
  const std::vector<OnnxConstantPtr> made = compute(node, opset, read, work_);
  // A state that goes from sequence to sequence makes no deeper level.
  const bool deeper = is_onnx_recurrence(node) && !values_.at(node.inputs[0]).is_fixed();
  if (deeper) level = values_.at(node.inputs[0]).level + 1;
  if (node.op == "Shape" || node.op == "Size") level = -1;
  for (std::size_t i = 0; i < made.size() && i < node.outputs.size(); ++i) {
    room_ -= static_cast<std::int64_t>(made[i]->made.size());
    require(room_ >= 0, "the network has more than {} numbers at once", kMostTraced);
    if (!node.outputs[i].empty()) values_[node.outputs[i]] = {made[i], level};
  }
  if (see) see(*this, node);
}

}  // namespace tessera
