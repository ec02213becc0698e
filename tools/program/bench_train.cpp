// `tessera bench --train`: the time of an optimiser step on made-up data.
#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>

#include "engine/device/machine.h"
#include "engine/passes/passes.h"
#include "engine/train/gradients.h"
#include "engine/train/initialise.h"
#include "engine/train/optimiser.h"
#include "models/import/import.h"
#include "tools/program/bench.h"
#include "tools/program/program.h"

namespace tessera {

using nlohmann::json;

namespace {

constexpr double kRate = 1e-3;
// Forward, and backward the gradients of inputs and of weights, which are as much work each.
constexpr double kPasses = 3;

ModelConfig config_of(const WorkloadOptions& options) {
  if (options.preset.empty()) return open_model(options.model).config;
  ModelConfig config;
  if (options.preset == "unet-paper") {
    config.unet = UNetConfig{.depth = options.depth, .base = options.base};
  } else if (options.preset == "han-paper") {
    constexpr int kWords = 20'000;
    config.han = HanConfig{.words = kWords};
  } else {
    throw UsageError("--train: name unet-paper, han-paper or a model with -m");
  }
  return config;
}

// A batch of random inputs and labels. All that is drawn are the numbers of std::mt19937(1), one
// each in the order of the tensors, so that another program can make the same.
class Batch {
 public:
  Batch(const ModelConfig& config, const Graph& graph, const BenchOptions& options) {
    const WorkloadOptions& workload = options.workload;
    if (config.unet) {
      make_images(*config.unet, workload);
    } else {
      make_documents(*config.han, workload, options.ragged);
    }
    const std::vector<TensorType> values = infer_types(graph, types());
    const Shape& logits = values[graph.outputs[0]].shape;
    const auto classes = static_cast<std::uint32_t>(std::max<std::int64_t>(logits[-1], 2));
    TensorType type{config.unet ? DType::kU8 : DType::kI32, {}};
    type.shape = config.unet ? Shape{logits[0], logits[1], logits[2]} : Shape{logits[0]};
    labels_ = allocate(type);
    for (std::int64_t i = 0; i < type.shape.elements(); ++i) {
      const std::uint32_t label = draw() % classes;
      if (config.unet) {
        labels_.as<std::uint8_t>()[i] = static_cast<std::uint8_t>(label);
      } else {
        labels_.as<std::int32_t>()[i] = static_cast<std::int32_t>(label);
      }
    }
  }

  const std::vector<TensorView>& inputs() const { return inputs_; }
  std::vector<TensorType> types() const {
    std::vector<TensorType> types;
    for (const TensorView& input : inputs_) types.push_back(input.type);
    return types;
  }
  const TensorView& labels() const { return labels_; }
  const std::string& size() const { return size_; }  // "4 x 256 x 256 x 1"

 private:
  std::uint32_t draw() { return static_cast<std::uint32_t>(random_()); }

  TensorView allocate(const TensorType& type) {
    memory_.emplace_back(type.bytes());
    return {memory_.back().get(), type};
  }

  void make_images(const UNetConfig& config, const WorkloadOptions& options) {
    constexpr std::int64_t kOutput = 388;  // of the paper's network
    std::int64_t height = unet_input_size(config, kOutput), width = height;
    if (!options.size.empty()) std::tie(height, width) = parse_size(options.size);
    for (const std::int64_t size : {height, width}) {
      if (!unet_output_size(config, size))
        throw UsageError(
            fmt::format("--size: the network itself does not take {} pixels; the next size that it "
                        "takes is {}",
                        size, next_size(config, size)));
    }
    inputs_ = {allocate({DType::kF32, {options.batch, height, width, config.channels}})};
    for (std::int64_t i = 0; i < inputs_[0].shape().elements(); ++i)
      inputs_[0].as<float>()[i] = static_cast<float>(draw()) / 4294967295.0f;
    size_ = fmt::format("{} x {} x {} x {}", options.batch, height, width, config.channels);
  }

  static std::int64_t next_size(const UNetConfig& config, std::int64_t size) {
    while (!unet_output_size(config, size)) ++size;
    return size;
  }

  // The first document is as long as they may be.
  void make_documents(const HanConfig& config, const WorkloadOptions& options, bool ragged) {
    const std::int64_t sentences = options.sentences.value_or(config.max_sentences);
    const std::int64_t words = options.words.value_or(config.max_words);
    const TensorView ids = allocate({DType::kI32, {options.batch, sentences, words}});
    const TensorView word_counts = allocate({DType::kI32, {options.batch, sentences}});
    const TensorView sentence_counts = allocate({DType::kI32, {options.batch}});
    const auto length = [&](std::int64_t most, bool full) {
      const std::uint32_t drawn = draw() % static_cast<std::uint32_t>(most);
      return full || !ragged ? static_cast<std::int32_t>(most)
                             : 1 + static_cast<std::int32_t>(drawn);
    };
    for (std::int64_t d = 0; d < options.batch; ++d)
      sentence_counts.as<std::int32_t>()[d] = length(sentences, d == 0);
    for (std::int64_t row = 0; row < options.batch * sentences; ++row) {
      const std::int32_t count = length(words, row == 0);
      const bool exists = row % sentences < sentence_counts.as<std::int32_t>()[row / sentences];
      word_counts.as<std::int32_t>()[row] = exists ? count : 0;
    }
    const auto known = static_cast<std::uint32_t>(config.words - Vocabulary::kFirstWordId);
    for (std::int64_t i = 0; i < ids.shape().elements(); ++i) {
      const std::int32_t id = Vocabulary::kFirstWordId + static_cast<std::int32_t>(draw() % known);
      const bool exists = i % words < word_counts.as<std::int32_t>()[i / words];
      ids.as<std::int32_t>()[i] = exists ? id : 0;
    }
    inputs_ = {ids};
    if (config.masked) inputs_.insert(inputs_.end(), {word_counts, sentence_counts});
    size_ = fmt::format("{}{} x {} sentences x {} words", ragged ? "up to " : "", options.batch,
                        sentences, words);
  }

  std::mt19937 random_{1};
  std::vector<AlignedBuffer> memory_;
  std::vector<TensorView> inputs_;
  TensorView labels_;
  std::string size_;
};

struct MeasuredSteps {
  std::vector<double> seconds, losses;
  std::size_t arena = 0, weights = 0, peak_memory = 0;
  double flops = 0;
  Peaks peaks;
};

json to_json(const MeasuredSteps& measured, const std::string& title, const Device& device,
             int threads, const char* item, double items) {
  const double median = percentile(measured.seconds, 0.5);
  const double rate = measured.flops / median, peak = measured.peaks.flops(device.precision());
  json result = {{"workload", title},
                 {"training", true},
                 {"precision", name_of(device.precision())},
                 {"threads", threads},
                 {"runs", measured.seconds.size()},
                 {"median_seconds", median},
                 {"p10_seconds", percentile(measured.seconds, 0.1)},
                 {"p90_seconds", percentile(measured.seconds, 0.9)},
                 {"seconds", measured.seconds},
                 {"steps_per_second", 1 / median},
                 {"item", item},
                 {"items_per_second", items / median},
                 {"flops", measured.flops},
                 {"flops_per_second", rate},
                 {"peak_flops_per_second", peak},
                 {"share_of_peak", rate / peak},
                 {"arena_bytes", measured.arena},
                 {"weights_bytes", measured.weights},
                 {"measured_peak_bytes", measured.peak_memory},
                 {"losses", measured.losses}};
  if (!device.is_host()) result["device"] = device_json(device);
  return result;
}

void print(const MeasuredSteps& measured, const std::string& title, const Device& device,
           int threads, const char* item, double items) {
  const double median = percentile(measured.seconds, 0.5);
  const double rate = measured.flops / median, peak = measured.peaks.flops(device.precision());
  std::cout << fmt::format("{}, {}, {}\n", title, name_of(device.precision()),
                           runs_on(device, threads));
  std::cout << fmt::format("  median   {:.3f} ms a step   p10 {:.3f}   p90 {:.3f}   ({} steps)\n",
                           1e3 * median, 1e3 * percentile(measured.seconds, 0.1),
                           1e3 * percentile(measured.seconds, 0.9), measured.seconds.size());
  std::cout << fmt::format("  rate     {:.4g} steps/s   {:.4g} {}s/s   {:.1f} GFLOP/s\n",
                           1 / median, items / median, item, 1e-9 * rate);
  std::cout << fmt::format("  of peak  {:.1f} % of the {:.1f} GFLOP/s measured here\n",
                           100 * rate / peak, 1e-9 * peak);
  std::cout << fmt::format(
      "  memory   {} measured{}; of it maps and their gradients {}, weights with theirs and Adam's "
      "moments {}\n",
      format_bytes(measured.peak_memory), device.is_host() ? "" : " on the GPU",
      format_bytes(measured.arena), format_bytes(measured.weights));
}

}  // namespace

int bench_training(const BenchOptions& options) {
  const WorkloadOptions& workload = options.workload;
  if (workload.technique != "auto") throw UsageError("--technique: training chooses its own");
  const int threads = workload.threads > 0 ? workload.threads : default_threads();
  const ModelConfig config = config_of(workload);
  const Graph plain =
      config.unet ? build_unet(*config.unet, false) : remove_dropout(build_han(*config.han));
  const Graph graph = training_graph(plain);
  const Batch batch(config, graph, options);
  const std::vector<TensorType> types = batch.types();

  OpenedDevice opened = open_device(
      device_options(config.unet.has_value(), workload.device, workload.precision, threads));
  if (!opened.note.empty()) fmt::print(stderr, "{}\n", opened.note);
  const std::shared_ptr<Device> device = std::move(opened.device);
  const std::shared_ptr<Queue> queue = device->queue();
  const std::size_t available = device->is_host() ? 0 : device->available_bytes();
  std::unique_ptr<Gradients> gradients;
  if (workload.preset.empty()) {
    ModelFile file = ModelFile::open(workload.model);
    const WeightSource source = [&](const std::string& name, const Shape& shape) {
      return file.weights.take(name, shape);
    };
    gradients = std::make_unique<Gradients>(graph, source, types, queue);
  } else {
    constexpr std::uint64_t kSeed = 1;
    const FloatTensors initial = initial_weights(graph, types, kSeed, threads);
    const WeightSource source = [&](const std::string& name, const Shape&) {
      return initial.at(name).view();
    };
    gradients = std::make_unique<Gradients>(graph, source, types, queue);
  }
  Optimiser optimiser({.kind = Optimiser::Kind::kAdam}, trained_parameters(graph, types), queue);

  MeasuredSteps measured;
  std::vector<TensorView> weights, weight_gradients;
  for (const Gradients::Weight& weight : gradients->weights()) {
    weights.push_back(weight.value);
    weight_gradients.push_back(weight.gradient);
    // Value, gradient and two moments.
    measured.weights += (weight.trained ? 4 : 1) * weight.value.type.bytes();
  }
  const std::vector<TensorType> values = infer_types(graph, types);
  for (const Node& node : graph.nodes)
    measured.flops += kPasses * cost_of(node, input_types(node, values)).flops;
  measured.arena = gradients->plan(types).peak;

  forget_peak_memory();
  measured.seconds = measure_runs(options, [&] {
    gradients->clear();
    measured.losses.push_back(gradients->add(batch.inputs(), {.labels = batch.labels()}, {}).loss);
    optimiser.step(weights, weight_gradients, kRate);
    queue->finish();
  });
  require(!measured.seconds.empty(), "interrupted before a step was complete");
  measured.peak_memory = device->is_host()
                             ? peak_resident_bytes()
                             : available - std::min(available, device->available_bytes());
  measured.peaks = device->measure_peaks();

  const std::string title = fmt::format(
      "{}, training, {}", workload.preset.empty() ? workload.model : workload.preset, batch.size());
  const char* const item = config.unet ? "pixel" : "document";
  const auto items = static_cast<double>(batch.labels().shape().elements());
  if (options.json) {
    std::cout << to_json(measured, title, *device, threads, item, items).dump(2) << '\n';
  } else {
    print(measured, title, *device, threads, item, items);
  }
  return interrupted() == 0 ? kExitDone : 128 + interrupted();
}

}  // namespace tessera
