#include "engine/train/optimiser.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include "kernels/train/optimiser/update.h"

namespace tessera {
namespace {

// Elements that a tensor takes of the state's memory.
std::size_t in_lines(std::int64_t elements) {
  constexpr std::size_t kLine = 64;
  return (static_cast<std::size_t>(elements) + kLine - 1) / kLine * kLine;
}

const char* first_name(Optimiser::Kind kind) {
  return kind == Optimiser::Kind::kSgd ? "momentum/" : "mean/";
}
constexpr const char* kSecondName = "square/";

}  // namespace

std::vector<TrainedParameter> trained_parameters(const Graph& graph, Types inputs,
                                                 std::span<const std::string> frozen) {
  const std::vector<TensorType> types = infer_types(graph, inputs);
  std::vector<TrainedParameter> list;
  std::set<std::string> seen;
  for (const Node& node : graph.nodes) {
    for (const Parameter& parameter : parameters_of(node, input_types(node, types))) {
      const std::string name = weight_name(node, parameter.name);
      if (!seen.insert(name).second) continue;
      const bool asked = std::ranges::any_of(
          frozen, [&](const std::string& prefix) { return name.starts_with(prefix); });
      list.push_back({.name = name,
                      .shape = parameter.shape,
                      .decays = parameter.role == Role::kWeight || parameter.role == Role::kTable,
                      .frozen = asked || parameter.role == Role::kStatistic});
    }
  }
  return list;
}

Optimiser::Optimiser(const Config& config, std::vector<TrainedParameter> parameters,
                     std::shared_ptr<Queue> queue)
    : config_(config),
      parameters_(std::move(parameters)),
      queue_(std::move(queue)),
      updates_(queue_->updates()) {
  const auto share = [](const char* what, double value) {
    require(value >= 0 && value < 1, "optimiser: {} is {}; expected 0 to below 1", what, value);
  };
  share("momentum", config.momentum);
  share("beta1", config.beta1);
  share("beta2", config.beta2);
  require(config.eps > 0, "optimiser: eps is {}; expected above 0", config.eps);
  require(config.weight_decay >= 0, "optimiser: the weight decay is {}; expected 0 or more",
          config.weight_decay);
  require(config.clip_norm >= 0, "optimiser: the clipping norm is {}; expected 0 (none) or more",
          config.clip_norm);
  require(!config.nesterov || config.momentum > 0,
          "optimiser: Nesterov's method needs a momentum above 0");

  std::set<std::string_view> names;
  const bool has_first = config.kind != Kind::kSgd || config.momentum > 0;
  const bool has_second = config.kind != Kind::kSgd;
  std::size_t elements = 0;
  for (const TrainedParameter& parameter : parameters_) {
    require(names.insert(parameter.name).second, "optimiser: the tensor '{}' is given twice",
            parameter.name);
    if (parameter.frozen) continue;
    elements += in_lines(parameter.shape.elements()) *
                std::size_t((has_first ? 1 : 0) + (has_second ? 1 : 0));
  }
  memory_ = queue_->device().allocate(elements * sizeof(float));
  queue_->clear(memory_->get(), elements * sizeof(float));
  auto* next = reinterpret_cast<float*>(memory_->get());
  for (const TrainedParameter& parameter : parameters_) {
    const auto take = [&](bool needed) -> float* {
      if (!needed || parameter.frozen) return nullptr;
      return std::exchange(next, next + in_lines(parameter.shape.elements()));
    };
    first_.push_back(take(has_first));
    second_.push_back(take(has_second));
  }
}

void Optimiser::require_operands(std::span<const TensorView> weights,
                                 std::span<const TensorView> gradients) const {
  require(weights.size() == parameters_.size() && gradients.size() == parameters_.size(),
          "optimiser: {} weights and {} gradients for {} tensors", weights.size(), gradients.size(),
          parameters_.size());
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const TrainedParameter& parameter = parameters_[i];
    if (parameter.frozen) continue;
    const TensorType expected{DType::kF32, parameter.shape};
    require(weights[i].type == expected && gradients[i].type == expected,
            "optimiser: '{}' is {}; its weight is {}, its gradient {}", parameter.name, expected,
            weights[i].type, gradients[i].type);
  }
}

double Optimiser::step(std::span<const TensorView> weights, std::span<const TensorView> gradients,
                       double rate, double gradient_scale) {
  require_operands(weights, gradients);
  std::vector<OptimiserTensor> tensors;
  std::vector<const TrainedParameter*> trained;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (parameters_[i].frozen) continue;
    tensors.push_back({weights[i].as<float>(), gradients[i].as<const float>(), first_[i],
                       second_[i], parameters_[i].shape.elements()});
    trained.push_back(&parameters_[i]);
  }

  const std::vector<double> squares = updates_->squares(tensors);
  double sum = 0;
  for (std::size_t i = 0; i < squares.size(); ++i) {
    // Squares of finite f32 numbers cannot overflow a double.
    require(std::isfinite(squares[i]),
            "the gradient of '{}' is not finite: the training diverged; lower the learning rate or "
            "clip gradients",
            trained[i]->name);
    sum += squares[i];
  }
  const double norm = gradient_scale * std::sqrt(sum);
  double scale = gradient_scale;
  if (config_.clip_norm > 0) {
    constexpr double kMargin = 1e-6;  // torch.nn.utils.clip_grad_norm_
    scale *= std::min(1.0, config_.clip_norm / (norm + kMargin));
  }

  ++steps_;
  if (config_.kind == Kind::kSgd) {
    std::vector<SgdUpdate> updates;
    for (const TrainedParameter* parameter : trained) {
      const double decay = parameter->decays ? config_.weight_decay : 0;
      updates.push_back({.gradient_scale = static_cast<float>(scale),
                         .decay = static_cast<float>(decay),
                         .momentum = static_cast<float>(config_.momentum),
                         .nesterov = config_.nesterov,
                         .rate = static_cast<float>(rate * parameter->rate_scale)});
    }
    updates_->sgd(tensors, updates);
    return norm;
  }
  const auto t = static_cast<double>(steps_);
  const double correction1 = 1 - std::pow(config_.beta1, t);
  const double correction2 = 1 - std::pow(config_.beta2, t);
  const bool decoupled = config_.kind == Kind::kAdamW;
  std::vector<AdamUpdate> updates;
  for (const TrainedParameter* parameter : trained) {
    const double r = rate * parameter->rate_scale;
    const double decay = parameter->decays ? config_.weight_decay : 0;
    updates.push_back({.gradient_scale = static_cast<float>(scale),
                       .decay = static_cast<float>(decoupled ? 0 : decay),
                       .weight_scale = static_cast<float>(decoupled ? 1 - r * decay : 1),
                       .beta1 = static_cast<float>(config_.beta1),
                       .beta2 = static_cast<float>(config_.beta2),
                       .one_minus_beta1 = static_cast<float>(1 - config_.beta1),
                       .one_minus_beta2 = static_cast<float>(1 - config_.beta2),
                       .step_size = static_cast<float>(r / correction1),
                       .root_correction = static_cast<float>(std::sqrt(correction2)),
                       .eps = static_cast<float>(config_.eps)});
  }
  updates_->adam(tensors, updates);
  return norm;
}

TensorViews Optimiser::state_views() const {
  TensorViews views;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const TensorType type{DType::kF32, parameters_[i].shape};
    const std::string& name = parameters_[i].name;
    if (first_[i] != nullptr)
      views.emplace(first_name(config_.kind) + name, TensorView{first_[i], type});
    if (second_[i] != nullptr) views.emplace(kSecondName + name, TensorView{second_[i], type});
  }
  return views;
}

FloatTensors Optimiser::state() const {
  FloatTensors tensors;
  for (const auto& [name, view] : state_views()) {
    FloatTensor& tensor = tensors[name] = FloatTensor(view.shape());
    queue_->download(view.as<std::byte>(), tensor.view());
  }
  queue_->finish();
  return tensors;
}

std::uint64_t Optimiser::state_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& entry : state_views()) bytes += entry.second.type.bytes();
  return bytes;
}

void Optimiser::restore(const TensorViews& saved, std::int64_t steps) {
  const TensorViews own = state_views();
  require(steps >= 0, "optimiser: a state after {} steps", steps);
  for (const auto& [name, view] : own) {
    const auto found = saved.find(name);
    require(found != saved.end(), "optimiser: the saved state has no '{}'", name);
    require(found->second.type == view.type, "optimiser: the saved '{}' is {}, expected {}", name,
            found->second.type, view.type);
  }
  for (const auto& entry : saved) {
    require(own.contains(entry.first), "optimiser: the saved '{}' belongs to no trained tensor",
            entry.first);
  }
  for (const auto& [name, view] : own) queue_->upload(saved.at(name), view.as<std::byte>());
  steps_ = steps;
}

}  // namespace tessera
