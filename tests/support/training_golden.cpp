#include "tests/support/training_golden.h"
#include "tests/support/paths.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "engine/files/weights.h"
#include "engine/passes/passes.h"
#include "engine/train/gradients.h"
#include "models/model_file.h"

namespace tessera::test {
namespace {

using nlohmann::json;

Optimiser::Config optimiser_of(const json& training) {
  using Kind = Optimiser::Kind;
  const std::string kind = training.at("kind");
  Optimiser::Config config;
  config.kind = kind == "sgd" ? Kind::kSgd : kind == "adam" ? Kind::kAdam : Kind::kAdamW;
  config.momentum = training.value("momentum", 0.0);
  config.weight_decay = training.value("weight_decay", 0.0);
  config.clip_norm = training.value("clip_norm", 0.0);
  return config;
}

Tensor copied(const TensorView& view) {
  Tensor tensor(view.type);
  std::memcpy(tensor.view().pointer, view.pointer, view.type.bytes());
  return tensor;
}

// The tensors below "<prefix>/".
FloatTensors weights_below(Weights& file, const std::string& prefix) {
  FloatTensors tensors;
  for (const std::string& name : file.names()) {
    if (!name.starts_with(prefix + "/")) continue;
    const TensorView view = file.take_any_shape(name);
    FloatTensor& tensor = tensors[name.substr(prefix.size() + 1)] = FloatTensor(view.shape());
    std::memcpy(tensor.values.data(), view.pointer, view.type.bytes());
  }
  return tensors;
}

std::vector<double> numbers(Weights& file, const char* name) {
  const std::vector<float> values = to_f32(file.take_any_shape(name));
  return {values.begin(), values.end()};
}

}  // namespace

TrainingGolden load_training_golden(std::string_view name) {
  Weights file =
      Weights::open(source_dir() / "tests/golden/training" / fmt::format("{}.safetensors", name));
  const ModelConfig config =
      model_config_from_json(json::parse(file.metadata("tessera").value()), file.file());
  const json training = json::parse(file.metadata("training").value());
  TrainingGolden golden;
  golden.name = name;
  golden.graph = training_graph(config.is_of_images() ? segmentation_graph(config, false)
                                                      : remove_dropout(build_han(*config.han)));
  golden.optimiser = optimiser_of(training);
  golden.rate = training.at("rate");
  golden.before = weights_below(file, "initial");
  golden.after = weights_below(file, "final");
  golden.losses = numbers(file, "losses");
  golden.losses_in_double = numbers(file, "losses_in_double");
  for (std::size_t i = 0; i < golden.losses.size(); ++i) {
    const std::string batch = fmt::format("batch{}/", i);
    TrainingGolden::Batch& made = golden.batches.emplace_back();
    for (std::size_t j = 0; j < golden.graph.inputs.size(); ++j)
      made.inputs.push_back(copied(file.take_any_shape(fmt::format("{}input{}", batch, j))));
    made.labels = copied(file.take_any_shape(batch + "labels"));
    if (file.contains(batch + "weights"))
      made.weights = copied(file.take_any_shape(batch + "weights"));
  }
  file.check_all_used();
  return golden;
}

TrainingRun run_training(const TrainingGolden& golden, const std::shared_ptr<Device>& device,
                         bool recompute) {
  const WeightSource source = [&](const std::string& name, const Shape& shape) {
    const auto found = golden.before.find(name);
    require(found != golden.before.end() && found->second.shape == shape,
            "the golden has no '{}' of shape {}", name, shape.to_string());
    return found->second.view();
  };
  const std::vector<TensorType> example = types(golden.batches.at(0).inputs);
  const std::shared_ptr<Queue> queue = device->queue();
  Gradients gradients(golden.graph, source, example, queue, {}, recompute);
  Optimiser optimiser(golden.optimiser, trained_parameters(golden.graph, example), queue);
  std::vector<TensorView> weights, weight_gradients;
  for (const Gradients::Weight& weight : gradients.weights()) {
    weights.push_back(weight.value);
    weight_gradients.push_back(weight.gradient);
  }
  TrainingRun run;
  for (const TrainingGolden::Batch& batch : golden.batches) {
    gradients.clear();
    const float* pixel_weights = batch.weights ? batch.weights->view().as<float>() : nullptr;
    const LossResult result = gradients.add(
        views(batch.inputs), {.labels = batch.labels.view(), .weights = pixel_weights}, {});
    run.losses.push_back(result.loss);
    optimiser.step(weights, weight_gradients, golden.rate);
  }
  run.weights = gradients.values();
  return run;
}

TrainingDistance check_training(const TrainingGolden& golden, const TrainingRun& run,
                                TrainingDistance bound) {
  TrainingDistance distance;
  EXPECT_EQ(run.losses.size(), golden.losses.size());
  for (std::size_t i = 0; i < std::min(run.losses.size(), golden.losses.size()); ++i) {
    for (const double expected : {golden.losses[i], golden.losses_in_double[i]}) {
      const double share = std::abs(run.losses[i] / expected - 1);
      EXPECT_LE(share, bound.loss)
          << "step " << i << ": " << run.losses[i] << " is not " << expected;
      distance.loss = std::max(distance.loss, share);
    }
  }
  EXPECT_EQ(run.weights.size(), golden.after.size());
  for (const auto& [name, expected] : golden.after) {
    const auto found = run.weights.find(name);
    if (found == run.weights.end() || found->second.shape != expected.shape) {
      ADD_FAILURE() << "no weight '" << name << "' of " << expected.shape.to_string();
      continue;
    }
    double furthest = 0;
    for (std::size_t i = 0; i < expected.values.size(); ++i) {
      const double want = expected.values[i];
      const double off = std::abs(found->second.values[i] - want) / std::max(1.0, std::abs(want));
      // Written so that NaN counts.
      if (!(off <= furthest)) furthest = off;
    }
    EXPECT_LE(furthest, bound.weight) << name;
    distance.weight = std::max(distance.weight, furthest);
  }
  return distance;
}

}  // namespace tessera::test
