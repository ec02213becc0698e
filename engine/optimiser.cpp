#include "engine/optimiser.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <string_view>
#include <utility>

#include "engine/optimiser_update.h"
#include "kernels/cpu/parallel.h"

namespace tessera {
namespace {

constexpr std::size_t kPiece = 1 << 14;  // elements: 64 KiB of each array

bool decays(const Node& node, std::string_view parameter) {
  if (std::holds_alternative<BatchNorm>(node.op) || parameter.starts_with("norm/")) return false;
  return parameter != "context" && parameter.find("bias") == std::string_view::npos;
}

bool is_statistic(std::string_view parameter) {
  return parameter.ends_with("running_mean") || parameter.ends_with("running_var");
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
                      .decays = decays(node, parameter.name),
                      .frozen = asked || is_statistic(parameter.name)});
    }
  }
  return list;
}

Optimiser::Optimiser(const Config& config, std::vector<TrainedParameter> parameters)
    : config_(config), parameters_(std::move(parameters)) {
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
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const TrainedParameter& parameter = parameters_[i];
    require(names.insert(parameter.name).second, "optimiser: the tensor '{}' is given twice",
            parameter.name);
    const bool trained = !parameter.frozen;
    first_.push_back(trained && has_first ? FloatTensor(parameter.shape) : FloatTensor());
    second_.push_back(trained && config.kind != Kind::kSgd ? FloatTensor(parameter.shape)
                                                           : FloatTensor());
    if (!trained) continue;
    const auto count = static_cast<std::size_t>(parameter.shape.elements());
    for (std::size_t begin = 0; begin < count; begin += kPiece)
      pieces_.push_back({i, begin, std::min(kPiece, count - begin)});
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
            "optimiser: '{}' is {}; its weight is {}, its gradient {}", parameter.name,
            expected.to_string(), weights[i].type.to_string(), gradients[i].type.to_string());
  }
}

double Optimiser::gradient_norm(std::span<const TensorView> gradients, int threads) const {
  std::vector<double> sums(pieces_.size());
  parallel_for(threads, static_cast<std::int64_t>(pieces_.size()), [&](std::int64_t i) {
    const Piece& piece = pieces_[static_cast<std::size_t>(i)];
    sums[static_cast<std::size_t>(i)] =
        sum_of_squares(gradients[piece.parameter].as<const float>() + piece.begin, piece.count);
  });
  double sum = 0;
  for (std::size_t i = 0; i < pieces_.size(); ++i) {
    // Squares of finite f32 numbers cannot overflow a double.
    require(std::isfinite(sums[i]),
            "the gradient of '{}' is not finite: the training diverged; lower the learning rate or "
            "clip gradients",
            parameters_[pieces_[i].parameter].name);
    sum += sums[i];
  }
  return std::sqrt(sum);
}

double Optimiser::step(std::span<const TensorView> weights, std::span<const TensorView> gradients,
                       double rate, int threads, double gradient_scale) {
  require_operands(weights, gradients);
  const double norm = gradient_scale * gradient_norm(gradients, threads);
  double scale = gradient_scale;
  if (config_.clip_norm > 0) {
    constexpr double kMargin = 1e-6;  // torch.nn.utils.clip_grad_norm_
    scale *= std::min(1.0, config_.clip_norm / (norm + kMargin));
  }

  ++steps_;
  const auto t = static_cast<double>(steps_);
  const double correction1 = 1 - std::pow(config_.beta1, t);
  const double correction2 = 1 - std::pow(config_.beta2, t);
  parallel_for(threads, static_cast<std::int64_t>(pieces_.size()), [&](std::int64_t index) {
    const auto [i, begin, count] = pieces_[static_cast<std::size_t>(index)];
    const TrainedParameter& parameter = parameters_[i];
    const double r = rate * parameter.rate_scale;
    const double decay = parameter.decays ? config_.weight_decay : 0;
    float* const weight = weights[i].as<float>() + begin;
    const float* const gradient = gradients[i].as<const float>() + begin;
    if (config_.kind == Kind::kSgd) {
      const SgdUpdate update{.gradient_scale = static_cast<float>(scale),
                             .decay = static_cast<float>(decay),
                             .momentum = static_cast<float>(config_.momentum),
                             .nesterov = config_.nesterov,
                             .rate = static_cast<float>(r)};
      float* const velocity = config_.momentum > 0 ? first_[i].values.data() + begin : nullptr;
      update_sgd(update, weight, gradient, velocity, count);
      return;
    }
    const bool decoupled = config_.kind == Kind::kAdamW;
    const AdamUpdate update{.gradient_scale = static_cast<float>(scale),
                            .decay = static_cast<float>(decoupled ? 0 : decay),
                            .weight_scale = static_cast<float>(decoupled ? 1 - r * decay : 1),
                            .beta1 = static_cast<float>(config_.beta1),
                            .beta2 = static_cast<float>(config_.beta2),
                            .one_minus_beta1 = static_cast<float>(1 - config_.beta1),
                            .one_minus_beta2 = static_cast<float>(1 - config_.beta2),
                            .step_size = static_cast<float>(r / correction1),
                            .root_correction = static_cast<float>(std::sqrt(correction2)),
                            .eps = static_cast<float>(config_.eps)};
    update_adam(update, weight, gradient, first_[i].values.data() + begin,
                second_[i].values.data() + begin, count);
  });
  return norm;
}

TensorViews Optimiser::state() const {
  TensorViews views;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const std::string& name = parameters_[i].name;
    if (!first_[i].values.empty()) views.emplace(first_name(config_.kind) + name, first_[i].view());
    if (!second_[i].values.empty()) views.emplace(kSecondName + name, second_[i].view());
  }
  return views;
}

void Optimiser::restore(const TensorViews& saved, std::int64_t steps) {
  const TensorViews own = state();
  require(steps >= 0, "optimiser: a state after {} steps", steps);
  for (const auto& [name, view] : own) {
    const auto found = saved.find(name);
    require(found != saved.end(), "optimiser: the saved state has no '{}'", name);
    require(found->second.type == view.type, "optimiser: the saved '{}' is {}, expected {}", name,
            found->second.type.to_string(), view.type.to_string());
  }
  for (const auto& entry : saved) {
    require(own.contains(entry.first), "optimiser: the saved '{}' belongs to no trained tensor",
            entry.first);
  }
  for (const auto& [name, view] : own)
    std::memcpy(view.pointer, saved.at(name).pointer, view.type.bytes());
  steps_ = steps;
}

}  // namespace tessera
