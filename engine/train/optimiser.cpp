#include "engine/train/optimiser.h"

#include <algorithm>
#include <cmath>
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

// Elements of each tensor that are shared.
std::vector<std::int64_t> trained_elements(std::span<const TrainedParameter> parameters) {
  std::vector<std::int64_t> elements;
  for (const TrainedParameter& parameter : parameters)
    elements.push_back(parameter.frozen ? 0 : parameter.shape.elements());
  return elements;
}

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
                     std::shared_ptr<Queue> queue, std::shared_ptr<Transport> transport)
    : config_(config),
      parameters_(std::move(parameters)),
      queue_(std::move(queue)),
      sharing_(trained_elements(parameters_),
               transport ? std::move(transport) : host_transport(queue_, one_rank())),
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
  for (const TrainedParameter& parameter : parameters_)
    require(names.insert(parameter.name).second, "optimiser: the tensor '{}' is given twice",
            parameter.name);

  if (config.kind != Kind::kSgd) {
    parts_ = {{"mean/"}, {"square/"}};
  } else if (config.momentum > 0) {
    parts_ = {{"momentum/"}};
  }
  const std::uint64_t bytes = own_state_bytes();
  memory_ = queue_->device().allocate(bytes);
  queue_->clear(memory_->get(), bytes);
  auto* next = reinterpret_cast<float*>(memory_->get());
  for (Part& part : parts_) {
    for (const SharedPiece& piece : sharing_.own()) {
      part.own.emplace_back(next, static_cast<std::size_t>(piece.count));
      next += in_lines(piece.count);
    }
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

std::vector<double> Optimiser::squares(std::span<const OptimiserTensor> own) {
  // Of the pieces of all ranks, then of each tensor over its pieces: one order for any ranks.
  const std::vector<double> of_pieces = gather_values(sharing_.ranks(), updates_->squares(own));
  std::vector<double> sums(parameters_.size());
  for (std::size_t i = 0; i < of_pieces.size(); ++i) sums[sharing_.all()[i].tensor] += of_pieces[i];
  return sums;
}

double Optimiser::step(std::span<const TensorView> weights, std::span<const TensorView> gradients,
                       double rate, double gradient_scale) {
  require_operands(weights, gradients);
  std::vector<OptimiserTensor> tensors;
  for (const SharedPiece& piece : sharing_.own()) {
    const std::size_t i = tensors.size();
    tensors.push_back({weights[piece.tensor].as<float>() + piece.begin,
                       gradients[piece.tensor].as<const float>() + piece.begin,
                       !parts_.empty() ? parts_[0].own[i].data() : nullptr,
                       parts_.size() > 1 ? parts_[1].own[i].data() : nullptr, piece.count});
  }

  const std::vector<double> squares = this->squares(tensors);
  double sum = 0;
  for (std::size_t i = 0; i < squares.size(); ++i) {
    // Squares of finite f32 numbers cannot overflow a double.
    require(std::isfinite(squares[i]),
            "the gradient of '{}' is not finite: the training diverged; lower the learning rate or "
            "clip gradients",
            parameters_[i].name);
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
    for (const SharedPiece& piece : sharing_.own()) {
      const TrainedParameter& parameter = parameters_[piece.tensor];
      const double decay = parameter.decays ? config_.weight_decay : 0;
      updates.push_back({.gradient_scale = static_cast<float>(scale),
                         .decay = static_cast<float>(decay),
                         .momentum = static_cast<float>(config_.momentum),
                         .nesterov = config_.nesterov,
                         .rate = static_cast<float>(rate * parameter.rate_scale)});
    }
    updates_->sgd(tensors, updates);
    sharing_.gather(weights);
    return norm;
  }
  const auto t = static_cast<double>(steps_);
  const double correction1 = 1 - std::pow(config_.beta1, t);
  const double correction2 = 1 - std::pow(config_.beta2, t);
  const bool decoupled = config_.kind == Kind::kAdamW;
  std::vector<AdamUpdate> updates;
  for (const SharedPiece& piece : sharing_.own()) {
    const TrainedParameter& parameter = parameters_[piece.tensor];
    const double r = rate * parameter.rate_scale;
    const double decay = parameter.decays ? config_.weight_decay : 0;
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
  sharing_.gather(weights);
  return norm;
}

TensorViews Optimiser::state_types() const {
  TensorViews types;
  for (const Part& part : parts_) {
    for (const TrainedParameter& parameter : parameters_) {
      if (!parameter.frozen)
        types.emplace(part.prefix + parameter.name,
                      TensorView{nullptr, {DType::kF32, parameter.shape}});
    }
  }
  return types;
}

FloatTensors Optimiser::state() const {
  FloatTensors tensors;
  for (const Part& part : parts_) {
    std::vector<TensorView> whole;
    for (const TrainedParameter& parameter : parameters_) {
      if (!sharing_.ranks().is_first()) break;
      whole.emplace_back();
      if (parameter.frozen) continue;
      FloatTensor& tensor = tensors[part.prefix + parameter.name] = FloatTensor(parameter.shape);
      whole.back() = tensor.view();
    }
    sharing_.collect(part.own, whole);
  }
  return tensors;
}

std::uint64_t Optimiser::state_bytes() const {
  std::uint64_t bytes = 0;
  for (const auto& entry : state_types()) bytes += entry.second.type.bytes();
  return bytes;
}

std::uint64_t Optimiser::own_state_bytes() const {
  std::uint64_t floats = 0;
  for (const SharedPiece& piece : sharing_.own()) floats += in_lines(piece.count);
  return floats * parts_.size() * sizeof(float);
}

void Optimiser::restore(const TensorViews& saved, std::int64_t steps) {
  const TensorViews types = state_types();
  require(steps >= 0, "optimiser: a state after {} steps", steps);
  for (const auto& [name, view] : types) {
    const auto found = saved.find(name);
    require(found != saved.end(), "optimiser: the saved state has no '{}'", name);
    require(found->second.type == view.type, "optimiser: the saved '{}' is {}, expected {}", name,
            found->second.type, view.type);
  }
  for (const auto& entry : saved) {
    require(types.contains(entry.first), "optimiser: the saved '{}' belongs to no trained tensor",
            entry.first);
  }
  for (const Part& part : parts_) {
    for (std::size_t i = 0; i < part.own.size(); ++i) {
      const SharedPiece& piece = sharing_.own()[i];
      float* const from =
          saved.at(part.prefix + parameters_[piece.tensor].name).as<float>() + piece.begin;
      queue_->upload({from, {DType::kF32, {piece.count}}},
                     reinterpret_cast<std::byte*>(part.own[i].data()));
    }
  }
  steps_ = steps;
}

}  // namespace tessera
