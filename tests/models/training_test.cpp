// The training loop with both networks on tiny data: that it learns, that an interrupted run goes
// on to the same bytes, and what it says when something is wrong.
#include "models/training/training.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>

#include "engine/files/atomic_file.h"
#include "engine/passes/passes.h"
#include "engine/train/initialise.h"
#include "engine/train/random.h"
#include "engine/train/weight_average.h"
#include "kernels/train/loss/loss.h"
#include "models/image/png.h"
#include "models/training/checkpoint.h"
#include "models/training/han_training.h"
#include "models/training/training_log.h"
#include "models/training/unet_training.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_training.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using namespace test;  // the tiny networks and their data
using ::testing::HasSubstr;

class TrainingTest : public ::testing::Test {
 protected:
  const test::TempFolder scratch_;
  const fs::path folder_ = scratch_.path();
};

TEST_F(TrainingTest, UNetLearns) {
  UNetData data = unet_data(folder_);
  UNetTraining task(data.config, data.images, data.split, unet_options(1));
  LoopOptions options = options_in(folder_);
  options.epochs = 20;
  const TrainResult result = train(task, options, open_cpu_device(1));
  EXPECT_EQ(result.end, TrainResult::End::kDone);
  EXPECT_EQ(result.step, 80);
  // It begins near log 2; a network that only knows the classes' shares stays above 0.4.
  EXPECT_LT(result.train_loss, 0.3);
  ASSERT_TRUE(result.best);
  EXPECT_LT(*result.best, 0.25);
  const auto lines = read_metrics(options.folder / "metrics.jsonl");
  ASSERT_EQ(lines.size(), 20u);
  EXPECT_GT(lines.back()["validation_accuracy"].get<double>(), 0.9);
  EXPECT_TRUE(lines.back()["validation_iou"].contains("disc"));
  EXPECT_THAT(bytes_of(options.folder / "learning_curves.svg"), HasSubstr("<svg"));
  const ModelFile model = ModelFile::open(options.model);
  EXPECT_DOUBLE_EQ(model.config.provenance["training"]["validation_loss"].get<double>(),
                   *result.best);
}

// ---- which validation is the best --------------------------------------------------------------

// Gradients that change nothing, and validations that are told beforehand.
class ToldTask : public UNetTraining {
 public:
  ToldTask(UNetData& data, std::vector<Evaluation> told)
      : UNetTraining(data.config, data.images, data.split, unet_options(1)),
        told_(std::move(told)) {}
  std::optional<Evaluation> validate(const TensorViews&, const Device&, Ranks&) override {
    return told_.at(next_++);
  }

 private:
  std::vector<Evaluation> told_;
  std::size_t next_ = 0;
};

TEST_F(TrainingTest, TheBestIsByTheFigureThatIsAskedFor) {
  const std::vector<Evaluation> told{{0.5, 0.6, {{"mean_iou", 0.9}}},
                                     {0.4, 0.8, {{"mean_iou", 0.3}}},
                                     {0.3, 0.7, {{"mean_iou", 0.4}}}};
  UNetData data = unet_data(folder_);
  struct Case {
    const char* figure;
    std::int64_t epoch;
    double value;
  };
  for (const Case& one :
       {Case{"loss", 3, 0.3}, Case{"accuracy", 2, 0.8}, Case{"mean_iou", 1, 0.9}}) {
    ToldTask task(data, told);
    LoopOptions options = options_in(folder_);
    options.epochs = 3;
    options.best = one.figure;
    const TrainResult result = train(task, options, open_cpu_device(1));
    EXPECT_EQ(result.best_epoch, one.epoch) << one.figure;
    EXPECT_EQ(result.best, one.value) << one.figure;
    const ModelFile model = ModelFile::open(options.model);
    EXPECT_EQ(model.config.provenance["training"]["epoch"], one.epoch) << one.figure;
  }
  ToldTask task(data, told);
  LoopOptions options = options_in(folder_);
  options.best = "dice";
  EXPECT_THROW(train(task, options, open_cpu_device(1)), Error);
}

TEST_F(TrainingTest, NormMomentumReachesTheGraphAndTheRunningStatistics) {
  UNetData data = unet_data(folder_);
  UNetTaskOptions unet = unet_options(1);
  unet.norm_momentum = 1e-9;  // the statistics stay what they began with
  UNetTraining task(data.config, data.images, data.split, unet);
  LoopOptions options = options_in(folder_);
  options.epochs = 1;
  train(task, options, open_cpu_device(1));
  ModelFile model = ModelFile::open(options.model);
  int seen = 0;
  for (const auto& [name, tensor] : task.initial_weights()) {
    if (!name.ends_with("running_var")) continue;
    const TensorView now = model.weights.take(name, tensor.shape);
    for (std::int64_t i = 0; i < tensor.shape.elements(); ++i)
      EXPECT_NEAR(now.as<float>()[i], 1, 1e-6) << name;
    ++seen;
  }
  EXPECT_GT(seen, 0);
  unet.norm_momentum = 0;
  EXPECT_THROW(UNetTraining(data.config, data.images, data.split, unet), Error);
}

TEST_F(TrainingTest, OtherWeightsOfThePixelsAreAnotherRun) {
  UNetData data = unet_data(folder_);
  UNetTraining task(data.config, data.images, data.split, unet_options(1));
  LoopOptions options = options_in(folder_);
  options.epochs = 1;
  train(task, options, open_cpu_device(1));
  DataReport report;
  LabelledImages weighted(find_pairs(folder_ / "images", folder_ / "masks", report), MaskRules{},
                          data.config.preprocessing, WeightRules{.class_weights = {1, 2}}, 1 << 20);
  UNetTraining other(data.config, weighted, data.split, unet_options(1));
  options.resume = true;
  try {
    train(other, options, open_cpu_device(1));
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("settings/data/weights/classes"));
  }
}

TEST_F(TrainingTest, HanLearns) {
  const TextData text = han_text(folder_);
  for (const bool masked : {true, false}) {
    HanTraining task(han_config(masked), text, nullptr, han_options(1));
    LoopOptions options = options_in(folder_);
    options.epochs = 25;
    options.rate = 2e-2;
    const TrainResult result = train(task, options, open_cpu_device(1));
    EXPECT_LT(result.train_loss, 0.2) << masked;  // from log 2
    ASSERT_TRUE(result.best);
    EXPECT_LT(*result.best, 0.2) << masked;
    EXPECT_EQ(ModelFile::open(options.model).config.classes[1].name, "good");
  }
}

TEST_F(TrainingTest, StopsEarly) {
  const TextData text = han_text(folder_);
  HanTraining task(han_config(), text, nullptr, han_options(1));
  LoopOptions options = options_in(folder_);
  options.rate = 0.5;  // too much to get better for long
  options.epochs = 60;
  options.patience = 2;
  const TrainResult result = train(task, options, open_cpu_device(1));
  EXPECT_EQ(result.end, TrainResult::End::kEarly);
  EXPECT_LT(result.step, 60 * task.batches());
}

// ---- interruption ------------------------------------------------------------------------------

// Trains undisturbed with one thread; then with stops after some steps and other threads: the files
// must be the same.
void expect_same_after_stops(const std::function<std::unique_ptr<TrainingTask>(int)>& make,
                             const fs::path& folder) {
  LoopOptions whole = options_in(folder / "whole");
  fs::create_directories(folder / "whole");
  whole.epochs = 3;
  whole.accumulate = 2;
  whole.average = 0.9;
  whole.schedule = {.kind = Schedule::Kind::kCosine, .warmup_steps = 2, .total_steps = 12};
  train(*make(1), whole, open_cpu_device(1));
  for (const int threads : {1, 2}) {
    const fs::path parts_folder = folder / fmt::format("parts{}", threads);
    fs::create_directories(parts_folder);
    LoopOptions parts = whole;
    parts.model = parts_folder / "model.safetensors";
    parts.folder = parts_folder / "run";
    TrainResult result;
    int runs = 0;
    do {
      int steps = 0;
      TrainEvents events;
      events.stop = [&] { return ++steps == 1 + runs; };
      parts.resume = runs > 0;
      result = train(*make(threads), parts, open_cpu_device(threads), events);
      ++runs;
    } while (result.end == TrainResult::End::kStopped && runs < 100);
    EXPECT_GT(runs, 2);
    EXPECT_TRUE(bytes_of(whole.model) == bytes_of(parts.model)) << threads << " threads";
    for (const char* name : {"last.safetensors", "best.safetensors"})
      EXPECT_TRUE(bytes_of(whole.folder / name) == bytes_of(parts.folder / name)) << name;
    EXPECT_EQ(read_metrics(whole.folder / "metrics.jsonl").size(),
              read_metrics(parts.folder / "metrics.jsonl").size());
  }
}

TEST_F(TrainingTest, ResumedUNetHasTheSameBytes) {
  UNetData data = unet_data(folder_);
  expect_same_after_stops(
      [&](int threads) {
        return std::make_unique<UNetTraining>(data.config, data.images, data.split,
                                              unet_options(threads));
      },
      folder_);
}

TEST_F(TrainingTest, ResumedHanHasTheSameBytes) {
  const TextData text = han_text(folder_);
  expect_same_after_stops(
      [&](int threads) {
        return std::make_unique<HanTraining>(han_config(), text, nullptr, han_options(threads));
      },
      folder_);
}

TEST_F(TrainingTest, AnotherRunIsNotResumed) {
  const TextData text = han_text(folder_);
  LoopOptions options = options_in(folder_);
  options.epochs = 1;
  HanTraining task(han_config(), text, nullptr, han_options(1));
  options.resume = true;
  EXPECT_THROW(train(task, options, open_cpu_device(1)), Error);  // there is nothing yet
  options.resume = false;
  train(task, options, open_cpu_device(1));
  options.resume = true;
  options.rate = 1e-4;
  try {
    train(task, options, open_cpu_device(1));
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("settings/rate: 0.01 in the checkpoint, 0.0001 now"));
  }
}

// Equal counts of documents and words, but one label or one word is another.
TEST_F(TrainingTest, OtherDocumentsAreAnotherRun) {
  const TextData text = han_text(folder_);
  HanTraining task(han_config(), text, nullptr, han_options(1));
  LoopOptions options = options_in(folder_);
  options.epochs = 1;
  train(task, options, open_cpu_device(1));
  options.resume = true;
  const auto refused = [&](const TextData& changed) -> std::string {
    HanTraining other(han_config(), changed, nullptr, han_options(1));
    try {
      train(other, options, open_cpu_device(1));
    } catch (const Error& error) {
      return error.what();
    }
    return "resumed";
  };
  const auto with_other_document = [&](std::int32_t label, std::int32_t word) {
    TextData changed = text;
    changed.train = {};
    for (std::size_t d = 0; d < text.train.size(); ++d) {
      for (std::size_t s = 0; s < text.train.sentences(d); ++s) {
        for (const std::int32_t id : text.train.sentence(d, s))
          changed.train.add_word(d == 0 && s == 0 ? word : id);
        changed.train.end_sentence();
      }
      changed.train.end_document(d == 0 ? label : text.train.label(d), text.train.line(d));
    }
    return changed;
  };
  const std::int32_t label = text.train.label(0);
  EXPECT_THAT(refused(with_other_document(1 - label, text.train.sentence(0, 0)[0])),
              HasSubstr("settings/data/documents_digest"));
  EXPECT_THAT(refused(with_other_document(label, Vocabulary::kUnknownId)),
              HasSubstr("settings/data/documents_digest"));
  TextData other_words = text;
  std::string words = text.vocabulary.to_blob();
  words[0] = words[0] == 'x' ? 'y' : 'x';
  other_words.vocabulary = Vocabulary::from_blob(words);
  EXPECT_THAT(refused(other_words), HasSubstr("settings/data/vocabulary_digest"));
  EXPECT_EQ(refused(text), "resumed");
}

TEST_F(TrainingTest, ANewRunRemovesTheCheckpointsOfAnOlderOne) {
  const TextData text = han_text(folder_);
  HanTraining task(han_config(), text, nullptr, han_options(1));
  LoopOptions options = options_in(folder_);
  options.epochs = 1;
  train(task, options, open_cpu_device(1));
  ASSERT_TRUE(fs::exists(options.folder / "last.safetensors"));
  ASSERT_TRUE(fs::exists(options.folder / "best.safetensors"));
  TrainEvents events;
  events.step = [&](const TrainEvents::Step&) {
    EXPECT_FALSE(fs::exists(options.folder / "last.safetensors"));
    EXPECT_FALSE(fs::exists(options.folder / "best.safetensors"));
    throw std::runtime_error("as if killed in the first step");
  };
  EXPECT_THROW(train(task, options, open_cpu_device(1), events), std::runtime_error);
  options.resume = true;
  EXPECT_THROW(train(task, options, open_cpu_device(1)), Error);  // nothing to resume
}

// ---- gradients ---------------------------------------------------------------------------------

TEST_F(TrainingTest, FrozenTensorsStay) {
  const TextData text = han_text(folder_);
  HanTaskOptions frozen = han_options(1);
  frozen.tune_embedding = false;
  HanTraining task(han_config(), text, nullptr, frozen);
  LoopOptions options = options_in(folder_);
  options.epochs = 1;
  train(task, options, open_cpu_device(1));
  ModelFile model = ModelFile::open(options.model);
  for (const auto& [name, tensor] : task.initial_weights()) {
    const TensorView now = model.weights.take(name, tensor.shape);
    const bool same = std::memcmp(now.pointer, tensor.values.data(), now.type.bytes()) == 0;
    EXPECT_EQ(same, name.starts_with("embedding/")) << name;
  }
}

bool same_weights(const Gradients& a, const Gradients& b) {
  const auto same = [](const TensorView& x, const TensorView& y) {
    if (x.pointer == nullptr || y.pointer == nullptr) return x.pointer == y.pointer;
    return std::memcmp(x.pointer, y.pointer, x.type.bytes()) == 0;
  };
  for (std::size_t i = 0; i < a.weights().size(); ++i) {
    if (!same(a.weights()[i].gradient, b.weights()[i].gradient)) return false;
    if (!same(a.weights()[i].value, b.weights()[i].value)) return false;  // running statistics
  }
  return true;
}

TEST_F(TrainingTest, RecomputingGivesTheSameBytes) {
  UNetData data = unet_data(folder_);
  data.config.unet->depth = 2;
  UNetTraining unet(data.config, data.images, data.split, unet_options(1));
  const TextData text = han_text(folder_);
  HanTraining han(han_config(), text, nullptr, han_options(1));
  for (TrainingTask* task : {static_cast<TrainingTask*>(&unet), static_cast<TrainingTask*>(&han)}) {
    Gradients kept = gradients_of(*task, false, 1);
    Gradients again = gradients_of(*task, true, 1);
    for (const std::int64_t batch : {0, 1}) {
      EXPECT_EQ(task->add(kept, 0, batch).loss, task->add(again, 0, batch).loss);
      EXPECT_TRUE(same_weights(kept, again)) << task->config().architecture();
    }
  }
  const TensorType input = unet.batch_type();
  EXPECT_LT(gradients_of(unet, true, 1).plan({&input, 1}).peak,
            gradients_of(unet, false, 1).plan({&input, 1}).peak);
}

TEST_F(TrainingTest, TwoHalvesOfABatchEqualIt) {
  UNetData data = unet_data(folder_, Conv::Norm::kNone);  // a norm would see each half alone
  UNetTaskOptions whole = unet_options(1);
  whole.batch = 4;
  UNetTraining one(data.config, data.images, data.split, whole);
  UNetTraining two(data.config, data.images, data.split, unet_options(1));
  Gradients at_once = gradients_of(one, false, 1);
  Gradients in_halves = gradients_of(two, false, 1);
  const double loss = one.add(at_once, 0, 0).loss;
  const double halves = two.add(in_halves, 0, 0).loss + two.add(in_halves, 0, 1).loss;
  EXPECT_NEAR(loss, halves / 2, 1e-6);
  for (std::size_t i = 0; i < at_once.weights().size(); ++i) {
    const auto& a = at_once.weights()[i];
    const auto& b = in_halves.weights()[i];
    double norm = 0, error = 0;
    const auto *x = a.gradient.as<float>(), *y = b.gradient.as<float>();
    for (std::int64_t k = 0; x != nullptr && k < a.gradient.shape().elements(); ++k) {
      norm += x[k] * x[k];
      error += std::pow(x[k] - y[k] / 2, 2);
    }
    // Sums of 1024 pixels in another order: 1024 * 2^-24, in the norm.
    EXPECT_LE(std::sqrt(error), 6e-5 * std::sqrt(norm)) << a.name;
  }
}

TEST_F(TrainingTest, TheModelGetsTheAverageOfTheWeights) {
  const TextData text = han_text(folder_);
  HanTraining task(han_config(), text, nullptr, han_options(1));
  Gradients gradients = gradients_of(task, false, 1);
  WeightAverage average(gradients, open_cpu_device(1)->queue(), 0.5);
  const std::string name = "output/bias";
  const auto weight = std::ranges::find(gradients.weights(), name, &Gradients::Weight::name);
  ASSERT_NE(weight, gradients.weights().end());
  double expected = average.values().at(name).values[0];
  for (std::int64_t step = 1; step <= 20; ++step) {
    weight->value.as<float>()[0] = static_cast<float>(step);
    average.add(step);
    const auto t = static_cast<double>(step);
    const double kept = std::min(0.5, (1 + t) / (10 + t));
    expected = kept * expected + (1 - kept) * t;
    EXPECT_NEAR(average.values().at(name).values[0], expected, 1e-5 * t) << step;
  }
  // The file of a training holds it, and not the weights that the checkpoint goes on from.
  LoopOptions options = options_in(folder_);
  options.average = 0.9;
  train(task, options, open_cpu_device(1));
  ModelFile model = ModelFile::open(options.model);
  Weights best = Weights::open(options.folder / "best.safetensors");
  const Shape shape{2};
  const auto bytes = [&](const TensorView& view) { return std::string(view.as<char>(), 8); };
  EXPECT_EQ(bytes(model.weights.take(name, shape)),
            bytes(best.take("weights/average/" + name, shape)));
  EXPECT_NE(bytes(model.weights.take(name, shape)), bytes(best.take("weights/" + name, shape)));
}

TEST_F(TrainingTest, ANanNamesItsNode) {
  UNetData data = unet_data(folder_);
  UNetTraining task(data.config, data.images, data.split, unet_options(1));
  Gradients gradients = gradients_of(task, false, 1);
  std::vector<float> image(static_cast<std::size_t>(task.batch_type().shape.elements()), 0.5f);
  image[7] = std::numeric_limits<float>::quiet_NaN();
  const TensorView input{image.data(), task.batch_type()};
  std::vector<std::uint8_t> labels(image.size());
  const LossTarget target{
      .labels = {labels.data(), {DType::kU8, Shape(input.shape().dims().first(3))}}};
  try {
    gradients.add({&input, 1}, target, {});
    FAIL() << "expected an Error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("'down0/conv1'"));
  }
}

}  // namespace
}  // namespace tessera
