#include "tools/program/workload.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <random>

#include "engine/device/machine.h"
#include "models/import/import.h"
#include "models/networks/published_images.h"
#include "tools/program/program.h"

namespace tessera {

namespace {

constexpr int kVocabulary = 20'000;
constexpr int kTutorialClasses = 30;
constexpr int kImageClasses = 2;

UNetConfig paper_unet(const WorkloadOptions& options) {
  UNetConfig config;
  config.base = options.base;
  config.depth = options.depth;
  return config;
}

// The Keras tutorial's network, or the paper's.
HanConfig preset_han(const WorkloadOptions& options) {
  HanConfig config;
  config.words = kVocabulary;
  config.max_sentences = options.sentences.value_or(64);
  config.max_words = options.words.value_or(150);
  if (options.preset == "han") {
    config.cell = BiRnn::Cell::kLstm;
    config.units = 150;
    config.dense = config.attention = 200;
    config.masked = false;
    config.classes = kTutorialClasses;
  }
  return config;
}

}  // namespace

void WorkloadOptions::add_to(CLI::App& command) {
  command.add_option("--size", size, "of a UNet's input: HxW or one number")->type_name("HxW");
  command.add_option("--base", base, "unet-paper: channels of the first level")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  command.add_option("--depth", depth, "unet-paper: poolings")
      ->type_name("N")
      ->check(CLI::Range(1, 8));
  command.add_option("--batch", batch, "images or documents of one run")
      ->type_name("N")
      ->check(at_least(1));
  command.add_option("--sentences", sentences, "of a document")->type_name("N")->check(at_least(1));
  command.add_option("--words", words, "of a sentence")->type_name("N")->check(at_least(1));
  add_device_options(command, device, precision);
  command.add_option("--technique", technique, "auto, or direct: no Winograd convolutions")
      ->type_name("NAME")
      ->check(CLI::IsMember({"auto", "direct"}));
  command.add_option("--threads", threads, "0: OMP_NUM_THREADS, else every processor")
      ->type_name("N")
      ->check(CLI::Range(0, 4096));
}

TensorView RandomWeights::take(const std::string& name, const Shape& shape) {
  const auto [entry, is_new] = made_.try_emplace(name);
  std::vector<float>& values = entry->second;
  if (is_new) {
    values.resize(static_cast<std::size_t>(shape.elements()));
    const auto rows = static_cast<double>(shape.rank() > 0 ? shape[0] : 1);
    const double fan_in = static_cast<double>(shape.elements()) / rows;
    const double half_width = shape.rank() > 1 ? std::sqrt(6.0 / fan_in) : 0.01;
    // Scale and variance of a normalisation are about 1, all that has one axis else about 0.
    const bool scales =
        shape.rank() == 1 && (name.ends_with("norm/weight") || name.ends_with("running_var"));
    std::uint32_t seed = 2166136261;  // FNV-1a, the same on every machine
    for (const char c : name) seed = (seed ^ static_cast<unsigned char>(c)) * 16777619;
    std::mt19937 random(seed);
    for (float& value : values) {
      const double unit = static_cast<double>(random()) / 4294967295.0;
      value = static_cast<float>((scales ? 1 : 0) + half_width * (2 * unit - 1));
    }
  }
  return {values.data(), {DType::kF32, shape}};
}

nlohmann::json device_json(const Device& device) {
  nlohmann::json result = {{"name", device.name()}};
  for (const auto& [key, value] : device.details()) result[key] = value;
  return result;
}

std::string runs_on(const Device& device, int threads) {
  if (!device.is_host()) return device.name();
  return fmt::format("{} thread{}", threads, threads == 1 ? "" : "s");
}

Workload::Workload(const WorkloadOptions& options)
    : batch_(options.batch), threads_(options.threads > 0 ? options.threads : default_threads()) {
  configure(options);
  if (config_.is_of_images()) {
    make_image_inputs(options);
  } else {
    make_han_inputs(options);
  }
  start(options);
}

void Workload::configure(const WorkloadOptions& options) {
  if (options.preset.empty()) {
    title_ = options.model;
    config_ = open_model(options.model).config;  // opened again when time is taken
  } else {
    title_ = options.preset;
    if (options.preset == "unet-paper") {
      config_.unet = paper_unet(options);
    } else if (options.preset == "resnet34-unet") {
      config_.graph = resnet_unet({3, 4, 6, 3}, 64, kImageClasses);
    } else if (options.preset == "nnunet") {
      config_.graph = plain_nnunet(1, {32, 64, 128, 256, 512, 512, 512, 512}, kImageClasses);
    } else {
      config_.han = preset_han(options);
    }
  }
}

TensorView Workload::allocate(const TensorType& type) {
  memory_.emplace_back(type.bytes());
  std::memset(memory_.back().get(), 0, type.bytes());
  return {memory_.back().get(), type};
}

void Workload::make_image_inputs(const WorkloadOptions& options) {
  constexpr std::int64_t kPaperSize = 572, kImageSize = 512;
  const ImageSizes sizes = image_sizes(config_);
  const bool paper = options.preset == "unet-paper";
  std::int64_t height = paper ? kPaperSize : sizes.input(0, kImageSize);
  std::int64_t width = paper ? kPaperSize : sizes.input(1, kImageSize);
  if (!options.size.empty()) std::tie(height, width) = parse_size(options.size);
  for (const auto& [axis, size] : {std::pair{0, height}, {1, width}}) {
    if (sizes.output(axis, size)) continue;
    throw UsageError(
        fmt::format("--size: the network itself does not take {} pixels, {} is the next size that "
                    "it takes",
                    size, sizes.next(axis, size)));
  }
  inputs_ = {allocate(sizes.type(height, width, batch_))};
  std::mt19937 random(1);
  const std::int64_t count = inputs_[0].shape().elements();
  for (std::int64_t i = 0; i < count; ++i)
    inputs_[0].as<float>()[i] = static_cast<float>(random()) / 4294967295.0f;
  title_ += fmt::format(", {} x {} x {} x {}", batch_, height, width, image_channels(config_));
}

void Workload::make_han_inputs(const WorkloadOptions& options) {
  const HanConfig& config = *config_.han;
  const std::int64_t sentences = options.sentences.value_or(config.max_sentences);
  const std::int64_t words = options.words.value_or(config.max_words);
  inputs_ = {allocate({DType::kI32, {batch_, sentences, words}})};
  // Words of equal frequency and sentences of full length: the least that repeats and padding save.
  std::mt19937 random(1);
  const auto known = static_cast<std::uint32_t>(config.words - Vocabulary::kFirstWordId);
  for (std::int64_t i = 0; i < inputs_[0].shape().elements(); ++i) {
    inputs_[0].as<std::int32_t>()[i] =
        Vocabulary::kFirstWordId + static_cast<std::int32_t>(random() % known);
  }
  if (config.masked) {
    inputs_.push_back(allocate({DType::kI32, {batch_, sentences}}));
    std::fill_n(inputs_[1].as<std::int32_t>(), batch_ * sentences,
                static_cast<std::int32_t>(words));
    inputs_.push_back(allocate({DType::kI32, {batch_}}));
    std::fill_n(inputs_[2].as<std::int32_t>(), batch_, static_cast<std::int32_t>(sentences));
  }
  title_ += fmt::format(", {} x {} sentences x {} words", batch_, sentences, words);
}

void Workload::start(const WorkloadOptions& options) {
  const std::vector<TensorType> types = this->types();
  const Graph plain =
      config_.is_of_images() ? segmentation_graph(config_, false) : build_han(*config_.han);
  const std::vector<TensorType> values = infer_types(plain, types);
  for (const ValueId output : plain.outputs) outputs_.push_back(allocate(values[output]));
  for (const Node& node : plain.nodes) {
    flops_ += cost_of(node, input_types(node, values)).flops;
    if (options.preset.empty()) continue;
    for (const Parameter& p : parameters_of(node, input_types(node, values)))
      random_.take(weight_name(node, p.name), p.shape);
  }

  const std::size_t before = resident_bytes();
  const auto begin = std::chrono::steady_clock::now();
  WeightSource source = [this](const std::string& name, const Shape& shape) {
    return random_.take(name, shape);
  };
  if (options.preset.empty()) {
    file_ = std::make_unique<ModelFile>(open_model(options.model));
    source = [this](const std::string& name, const Shape& shape) {
      return file_->weights.take(name, shape);
    };
  }
  OpenedDevice opened = open_device(
      device_options(config_.is_of_images(), options.device, options.precision, threads_));
  if (!opened.note.empty()) fmt::print(stderr, "{}\n", opened.note);
  if (!opened.device->is_host()) available_before_ = opened.device->available_bytes();
  Graph graph = opened.device->optimise(plain, types, options.technique == "auto");
  executor_ = std::make_unique<Executor>(std::move(graph), source, types, std::move(opened.device));
  run();
  start_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (file_) file_->weights.release_pages();
  arena_bytes_ = executor_->plan(types).peak;
  predicted_ =
      device().is_host() ? before + packed_bytes() + arena_bytes_ : packed_bytes() + arena_bytes_;
}

std::size_t Workload::device_bytes_taken() const {
  const std::size_t available = device().available_bytes();
  return available_before_ - std::min(available_before_, available);
}

std::vector<TensorType> Workload::types() const {
  std::vector<TensorType> types;
  for (const TensorView& input : inputs_) types.push_back(input.type);
  return types;
}

double Workload::replay_seconds(int count) {
  return executor_->replay_seconds(types(), count);
}

void Workload::run(std::vector<NodeTiming>* timings) {
  executor_->run(inputs_, outputs_, timings);
}

}  // namespace tessera
