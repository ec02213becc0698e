#include "engine/train/weight_average.h"

#include <algorithm>

namespace tessera {

WeightAverage::WeightAverage(const Gradients& gradients, std::shared_ptr<Queue> queue, double decay)
    : queue_(std::move(queue)), decay_(decay), updates_(queue_->updates()) {
  require(decay > 0 && decay < 1, "the average's decay is {}; expected above 0 and below 1", decay);
  constexpr std::size_t kPart = 256;  // bytes: tensors begin at multiples of it
  const auto in_parts = [](std::size_t bytes) { return (bytes + kPart - 1) / kPart * kPart; };
  std::size_t bytes = 0;
  for (const Gradients::Weight& weight : gradients.weights())
    bytes += in_parts(weight.value.type.bytes());
  memory_ = queue_->device().allocate(bytes);
  std::byte* next = memory_->get();
  for (const Gradients::Weight& weight : gradients.weights()) {
    names_.push_back(weight.name);
    averages_.emplace_back(next, weight.value.type);
    tensors_.push_back({averages_.back().as<float>(), weight.value.as<const float>(), nullptr,
                        nullptr, weight.value.shape().elements()});
    next += in_parts(weight.value.type.bytes());
  }
  set_values(views_of(gradients.values()));
}

void WeightAverage::add(std::int64_t step) {
  const auto t = static_cast<double>(step);
  const double kept = std::min(decay_, (1 + t) / (10 + t));
  // average -= (1 - d) (average - weight): a step of SGD whose gradient is -weight and whose decay
  // is 1.
  const std::vector<SgdUpdate> updates(tensors_.size(),
                                       SgdUpdate{.gradient_scale = -1,
                                                 .decay = 1,
                                                 .momentum = 0,
                                                 .nesterov = false,
                                                 .rate = static_cast<float>(1 - kept)});
  updates_->sgd(tensors_, updates);
}

FloatTensors WeightAverage::values() const {
  FloatTensors values;
  for (std::size_t i = 0; i < names_.size(); ++i) {
    FloatTensor& tensor = values[names_[i]] = FloatTensor(averages_[i].shape());
    queue_->download(averages_[i].as<std::byte>(), tensor.view());
  }
  queue_->finish();
  return values;
}

void WeightAverage::set_values(const TensorViews& values) {
  for (std::size_t i = 0; i < names_.size(); ++i) {
    const auto found = values.find(names_[i]);
    require(found != values.end() && found->second.type == averages_[i].type,
            "the values given have no '{}' of {}", names_[i], averages_[i].type);
    queue_->upload(found->second, averages_[i].as<std::byte>());
  }
}

}  // namespace tessera
