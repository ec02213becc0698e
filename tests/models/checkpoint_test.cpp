// Checkpoints that go on to the same bytes, refuse what does not fit and survive a full disk; and
// model files written by save_model.
#include "models/training/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>

#include "engine/files/safetensors.h"
#include "engine/train/initialise.h"
#include "kernels/cpu/convert.h"
#include "kernels/error.h"
#include "models/model_file.h"
#include "tests/support/error.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using test::error_of;

using ::testing::AllOf;
using ::testing::HasSubstr;

std::string bytes_of(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

ModelConfig unet_config() {
  ModelConfig config;
  config.unet = UNetConfig{.depth = 1, .base = 3, .norm = Conv::Norm::kAfterRelu};
  config.preprocessing.channels = 1;
  config.classes = {{"outside", {0, 0, 0}}, {"cell", {255, 0, 0}}};
  config.provenance = {{"trained_on", "nothing"}, {"seed", 1}};
  return config;
}

ModelConfig han_config() {
  ModelConfig config;
  config.han = HanConfig{
      .words = 6, .features = 5, .units = 3, .attention = 4, .max_sentences = 3, .max_words = 7};
  config.text.html_breaks = HtmlBreaks::kKeep;
  config.text.max_sentences = 3;
  config.text.max_words = 7;
  config.classes = {{"bad", {1, 2, 3}}, {"good", {4, 5, 6}}};
  return config;
}

FloatTensors weights_of(const ModelConfig& config, std::uint64_t seed) {
  return initial_weights(build_network(config), example_inputs(config), seed, 1);
}

class CheckpointTest : public testing::Test {
 protected:
  const test::TempFolder scratch_;
  const std::filesystem::path folder_ = scratch_.path();
};

// A run of AdamW on a UNet whose "gradients" follow from the step.
struct TrainingRun {
  explicit TrainingRun(std::uint64_t seed = 1)
      : weights(weights_of(unet_config(), seed)),
        optimiser({.kind = Optimiser::Kind::kAdamW, .weight_decay = 0.1},
                  trained_parameters(build_network(unet_config()), example_inputs(unet_config())),
                  open_cpu_device(1)->queue()),
        setup{.optimiser = &optimiser,
              .schedule = {.kind = Schedule::Kind::kCosine, .warmup_steps = 2, .total_steps = 10},
              .settings = {{"seed", 1}, {"model", to_json(unet_config())}}} {}

  void step() {
    FloatTensors gradients;
    std::vector<TensorView> weight_list, gradient_list;
    for (const TrainedParameter& parameter : optimiser.parameters()) {
      FloatTensor& gradient = gradients[parameter.name] = FloatTensor(parameter.shape);
      Random random(1, stream_of(parameter.name, static_cast<std::uint64_t>(state.step)));
      for (float& value : gradient.values) value = static_cast<float>(random.normal());
      weight_list.push_back(weights.at(parameter.name).view());
      gradient_list.push_back(gradient.view());
    }
    optimiser.step(weight_list, gradient_list, 0.1 * rate_factor(setup.schedule, state.step));
    ++state.step;
  }

  FloatTensors weights;
  Optimiser optimiser;
  TrainingSetup setup;
  TrainingState state;
};

void save_run(const std::filesystem::path& path, const TrainingRun& run) {
  const FloatTensors optimiser = run.optimiser.state();
  save_checkpoint(path, views_of(run.weights), views_of(optimiser), run.setup, run.state);
}

TEST_F(CheckpointTest, AResumedRunWritesTheBytesOfOneThatNeverStopped) {
  TrainingRun whole;
  for (int i = 0; i < 6; ++i) whole.step();
  save_run(folder_ / "whole", whole);

  TrainingRun first;
  for (int i = 0; i < 3; ++i) first.step();
  save_run(folder_ / "cut", first);
  TrainingRun second(2);  // all of its own weights are overwritten
  second.state = load_checkpoint(folder_ / "cut", views_of(second.weights), second.setup);
  EXPECT_EQ(second.state.step, 3);
  EXPECT_EQ(second.optimiser.steps(), 3);
  for (int i = 0; i < 3; ++i) second.step();
  save_run(folder_ / "resumed", second);
  EXPECT_EQ(bytes_of(folder_ / "whole"), bytes_of(folder_ / "resumed"));
  EXPECT_GT(bytes_of(folder_ / "whole").size(),
            checkpoint_bytes(views_of(whole.weights), whole.optimiser));
}

TEST_F(CheckpointTest, TheStateComesBackAsItWas) {
  TrainingRun run;
  run.state = {.epoch = 3,
               .batch = 17,
               .step = 1234,
               .best_metric = 0.1 + 0.2,
               .best_epoch = 2,
               .random = {{"shuffle", {~0ull, 1ull << 63, 5}}, {"a b", {0, 0, 0}}},
               .extra = {{"loss_sum", 1e-300}, {"list", {1, 2}}}};
  save_run(folder_ / "a", run);
  EXPECT_EQ(load_checkpoint(folder_ / "a", views_of(run.weights), run.setup), run.state);
  run.state.best_metric.reset();
  save_run(folder_ / "a", run);
  EXPECT_EQ(load_checkpoint(folder_ / "a", views_of(run.weights), run.setup), run.state);
  run.state.best_metric = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(error_of([&] { save_run(folder_ / "a", run); }), HasSubstr("best metric"));
}

TEST_F(CheckpointTest, OtherSettingsAreListedAndNothingChanges) {
  TrainingRun run;
  run.step();
  save_run(folder_ / "a", run);
  TrainingRun other(2);
  const FloatTensors before = other.weights;
  other.setup.settings["seed"] = 2;
  other.setup.settings["batch"] = 32;
  other.setup.settings["model"]["unet"].erase("base");
  other.setup.schedule.total_steps = 11;
  EXPECT_THAT(
      error_of([&] { load_checkpoint(folder_ / "a", views_of(other.weights), other.setup); }),
      AllOf(HasSubstr("of another run"), HasSubstr("settings/seed: 1 in the checkpoint, 2 now"),
            HasSubstr("settings/batch: nothing in the checkpoint, 32 now"),
            HasSubstr("settings/model/unet/base: 3 in the checkpoint, nothing now"),
            HasSubstr("schedule/total_steps: 10 in the checkpoint, 11 now")));
  EXPECT_EQ(other.optimiser.steps(), 0);
  for (const auto& [name, tensor] : before) EXPECT_EQ(tensor.values, other.weights.at(name).values);
}

TEST_F(CheckpointTest, OtherOptimisersAndTensorsAreRefused) {
  TrainingRun run;
  save_run(folder_ / "a", run);
  Optimiser sgd({.kind = Optimiser::Kind::kSgd}, run.optimiser.parameters(),
                open_cpu_device(1)->queue());
  TrainingSetup other = run.setup;
  other.optimiser = &sgd;
  EXPECT_THAT(error_of([&] { load_checkpoint(folder_ / "a", views_of(run.weights), other); }),
              HasSubstr("optimiser/kind: \"adamw\" in the checkpoint, \"sgd\" now"));
  TensorViews fewer = views_of(run.weights);
  fewer.erase("head/conv/bias");
  EXPECT_THAT(error_of([&] { load_checkpoint(folder_ / "a", fewer, run.setup); }),
              HasSubstr("weights/head/conv/bias"));
  FloatTensors reshaped = run.weights;
  reshaped.at("head/conv/bias") = FloatTensor({3});
  EXPECT_THAT(error_of([&] { load_checkpoint(folder_ / "a", views_of(reshaped), run.setup); }),
              HasSubstr("weights/head/conv/bias"));
}

TEST_F(CheckpointTest, FilesThatAreNoCheckpointAreRefused) {
  TrainingRun run;
  const auto load = [&](const char* name) {
    return error_of([&] { load_checkpoint(folder_ / name, views_of(run.weights), run.setup); });
  };
  EXPECT_THAT(load("absent"), HasSubstr("absent"));
  save_model(folder_ / "model", unet_config(), views_of(run.weights), std::nullopt);
  EXPECT_THAT(load("model"), HasSubstr("no checkpoint of a training"));
  save_run(folder_ / "cut", run);
  std::filesystem::resize_file(folder_ / "cut", std::filesystem::file_size(folder_ / "cut") - 1);
  EXPECT_THAT(load("cut"), HasSubstr("cut"));
  for (const char* text :
       {"{", "[]", "{}", R"({"format": 2})", R"({"format": 1, "optimiser_steps": -1})",
        R"({"format": 1, "optimiser_steps": 1, "state": {"epoch": 0.5}})"}) {
    write_safetensors(folder_ / "odd", views_of(run.weights), {{"tessera_checkpoint", text}});
    EXPECT_THAT(load("odd"), HasSubstr("odd")) << text;
  }
}

// Limits the size of files for its life: writing beyond it fails as on a full disk.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    handler_ = ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FullDisk() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int);
};

TEST_F(CheckpointTest, AFullDiskKeepsTheOldCheckpoint) {
  TrainingRun run;
  save_run(folder_ / "a", run);
  const std::string before = bytes_of(folder_ / "a");
  run.step();
  for (const std::size_t room : {std::size_t{0}, std::size_t{100}, before.size() - 1}) {
    const FullDisk full(room);
    EXPECT_THAT(error_of([&] { save_run(folder_ / "a", run); }), HasSubstr("cannot write"));
  }
  EXPECT_EQ(bytes_of(folder_ / "a"), before);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(CheckpointTest, SpaceIsAskedForInAdvance) {
  require_space(folder_ / "a", 1);
  require_space("a", 1);
  EXPECT_THAT(error_of([&] { require_space(folder_ / "a", 1ull << 62); }), HasSubstr("MiB left"));
  EXPECT_THAT(error_of([&] { require_space(folder_ / "absent/a", 1); }), HasSubstr("folder"));
}

TEST_F(CheckpointTest, SavedModelsAreRead) {
  const FloatTensors unet = weights_of(unet_config(), 1);
  save_model(folder_ / "unet", unet_config(), views_of(unet), std::nullopt);
  ModelFile file = ModelFile::open(folder_ / "unet");
  EXPECT_EQ(to_json(file.config), to_json(unet_config()));
  for (const auto& [name, tensor] : unet) {
    const TensorView view = file.weights.take(name, tensor.shape);
    EXPECT_EQ(std::memcmp(view.pointer, tensor.values.data(), view.type.bytes()), 0) << name;
  }
  file.weights.check_all_used();

  const FloatTensors han = weights_of(han_config(), 1);
  const Vocabulary vocabulary = Vocabulary::from_blob("one\ntwo\nthree\nfour\n");
  save_model(folder_ / "han", han_config(), views_of(han), vocabulary);
  const std::string once = bytes_of(folder_ / "han");
  save_model(folder_ / "han", han_config(), views_of(han), vocabulary);
  EXPECT_EQ(bytes_of(folder_ / "han"), once);
  file = ModelFile::open(folder_ / "han");
  EXPECT_EQ(to_json(file.config), to_json(han_config()));
  EXPECT_EQ(file.vocabulary->to_blob(), vocabulary.to_blob());
}

TEST_F(CheckpointTest, Bf16HalvesMatricesAndKeepsVectors) {
  const FloatTensors weights = weights_of(unet_config(), 1);
  save_model(folder_ / "a", unet_config(), views_of(weights), std::nullopt, WeightStorage::kBF16);
  ModelFile file = ModelFile::open(folder_ / "a");
  for (const auto& [name, tensor] : weights) {
    const TensorView view = file.weights.take(name, tensor.shape);
    EXPECT_EQ(view.type.dtype, tensor.shape.rank() > 1 ? DType::kBF16 : DType::kF32) << name;
    for (std::size_t i = 0; i < tensor.values.size(); ++i) {
      // bf16 has 8 significant bits: half a unit is 2^-9 of the value.
      EXPECT_LE(std::abs(element_f32(view, static_cast<std::int64_t>(i)) - tensor.values[i]),
                std::abs(tensor.values[i]) * 0x1p-8);
    }
  }
}

TEST_F(CheckpointTest, ModelsThatNoReaderTakesAreNotWritten) {
  const FloatTensors weights = weights_of(unet_config(), 1);
  const auto save = [&](const ModelConfig& config, const TensorViews& views,
                        std::optional<Vocabulary> vocabulary = std::nullopt) {
    return error_of([&] { save_model(folder_ / "a", config, views, vocabulary); });
  };
  TensorViews views = views_of(weights);
  views.erase("head/conv/weight");
  EXPECT_THAT(save(unet_config(), views), HasSubstr("'head/conv/weight' is missing"));
  views = views_of(weights);
  views.emplace("extra", views.begin()->second);
  EXPECT_THAT(save(unet_config(), views), HasSubstr("no weight 'extra'"));
  FloatTensors bad = weights;
  bad.at("head/conv/bias").values[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(save(unet_config(), views_of(bad)), HasSubstr("'head/conv/bias' holds numbers"));
  ModelConfig config = unet_config();
  config.classes.pop_back();
  EXPECT_THAT(save(config, views_of(weights)), HasSubstr("expected a list of 2"));
  config = unet_config();
  config.classes[0].name = "\xFF";
  EXPECT_THAT(save(config, views_of(weights)), HasSubstr("not UTF-8"));
  config = unet_config();
  config.unet->base = 4;
  EXPECT_THAT(save(config, views_of(weights)), HasSubstr("the network has"));
  const FloatTensors han = weights_of(han_config(), 1);
  EXPECT_THAT(save(han_config(), views_of(han)), HasSubstr("needs its vocabulary"));
  EXPECT_THAT(save(han_config(), views_of(han), Vocabulary::from_blob("a\nb\nc\nd\ne\n")),
              HasSubstr("7 ids, the embedding 6 rows"));
  EXPECT_FALSE(std::filesystem::exists(folder_ / "a"));
}

}  // namespace
}  // namespace tessera
