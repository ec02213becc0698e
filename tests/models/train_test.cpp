// Training through the public interface (models/train.h): from memory as from files, what its
// events hear, how it ends, and what it refuses.
#include "models/train.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>

#include "engine/train/random.h"
#include "models/image/png.h"
#include "models/model_file.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr std::int64_t kSide = 24;

std::string bytes_of(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  EXPECT_TRUE(stream.good()) << path;
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

ImageView view(const std::vector<std::uint8_t>& pixels) {
  return {pixels.data(), kSide, kSide};
}

// The weights of a model file, whatever it says of its making.
std::string weights_of(const fs::path& path) {
  ModelFile model = ModelFile::open(path);
  std::string bytes;
  for (const std::string& name : model.weights.names()) {
    const TensorView tensor = model.weights.take_any_shape(name);
    bytes.append(tensor.as<char>(), tensor.type.bytes());
  }
  return bytes;
}

class TrainInterface : public ::testing::Test {
 protected:
  // Bright discs on a dark ground.
  TrainInterface() {
    for (std::uint64_t i = 0; i < 5; ++i) {
      Random random(1, i);
      const double y0 = random.uniform(6, 18), x0 = random.uniform(6, 18);
      for (std::int64_t p = 0; p < kSide * kSide; ++p) {
        const bool inside = std::hypot(static_cast<double>(p / kSide) - y0,
                                       static_cast<double>(p % kSide) - x0) < 6;
        masks_[i].push_back(inside ? 1 : 0);
        images_[i].push_back(
            static_cast<std::uint8_t>((inside ? 160 : 80) + random.uniform(-30, 30)));
      }
    }
  }

  std::string at(const std::string& name) const { return (scratch_.path() / name).string(); }

  UNetTrainOptions options(const std::string& output) const {
    UNetTrainOptions options;
    for (std::size_t i = 0; i < images_.size(); ++i)
      options.source.pairs.push_back({view(images_[i]), view(masks_[i])});
    options.source.validation = "names:0";
    options.classes = {"ground", "disc"};
    options.output = at(output);
    options.depth = 1;
    options.base = 4;
    options.tile = 16;
    options.batch = 2;
    options.tiles = 8;
    options.epochs = 4;
    options.rate = 1e-2;
    options.device = "cpu";
    options.threads = 2;
    options.seed = 3;
    return options;
  }

  HanTrainOptions texts(const std::string& output) const {
    HanTrainOptions options;
    options.output = at(output);
    options.units = options.features = options.attention = 4;
    options.batch = 4;
    options.epochs = 3;
    options.device = "cpu";
    options.threads = 2;
    for (int i = 0; i < 12; ++i) {
      options.documents.push_back(
          {i % 2 == 0 ? "good" : "bad", i % 2 == 0 ? "A lovely film. Lovely!" : "Dull. So dull."});
    }
    return options;
  }

  const test::TempFolder scratch_;
  std::array<std::vector<std::uint8_t>, 5> images_, masks_;
};

TEST_F(TrainInterface, PixelsInMemoryTeachWhatFilesTeach) {
  UNetTrainOptions held = options("held.safetensors");
  std::vector<double> losses, others;
  TrainEvents events;
  events.epoch = [&](const TrainEvents::Epoch& epoch) {
    losses.push_back(epoch.training.loss);
    EXPECT_EQ(epoch.step, static_cast<std::int64_t>(4 * losses.size()));
    EXPECT_EQ(epoch.epoch, static_cast<double>(losses.size()));
    EXPECT_GT(epoch.validation.value().more.at("iou/ground"), 0);
    EXPECT_TRUE(epoch.validation->more.contains("mean_iou"));
    return true;
  };
  const TrainResult result = train_unet(held, events);
  EXPECT_EQ(result.end, TrainResult::End::kDone);
  EXPECT_EQ(result.step, 16);
  EXPECT_EQ(losses.size(), 4u);

  UNetTrainOptions read = held;
  read.source.pairs.clear();
  read.source.data = at("data");
  read.output = at("read.safetensors");
  for (const char* folder : {"data/images", "data/masks"}) fs::create_directories(at(folder));
  for (std::size_t i = 0; i < images_.size(); ++i) {
    write_png(at(fmt::format("data/images/{}.png", i)), {kSide, kSide, 1, images_[i]});
    write_png(at(fmt::format("data/masks/{}.png", i)), {kSide, kSide, 1, masks_[i]});
  }
  events.epoch = [&](const TrainEvents::Epoch& epoch) {
    others.push_back(epoch.training.loss);
    return true;
  };
  train_unet(read, events);
  EXPECT_EQ(losses, others);
  EXPECT_TRUE(weights_of(held.output) == weights_of(read.output));

  // The model runs at once.
  Session session = result.open({.device = "cpu"});
  EXPECT_EQ(session.classes()[1].name, "disc");
  EXPECT_EQ(session.segment(view(images_[0])).mask.size(), images_[0].size());
}

TEST_F(TrainInterface, TextsInMemoryTeachWhatFilesTeach) {
  const HanTrainOptions held = texts("held.safetensors");
  const TrainResult result = train_han(held);
  EXPECT_EQ(result.end, TrainResult::End::kDone);
  HanTrainOptions read = held;
  read.documents.clear();
  read.data = at("train.tsv");
  read.output = at("read.safetensors");
  std::ofstream file(read.data);
  for (const LabelledText& one : held.documents) file << one.label << '\t' << one.text << '\n';
  file.close();
  train_han(read);
  EXPECT_TRUE(weights_of(held.output) == weights_of(read.output));
  EXPECT_EQ(result.open({.device = "cpu"}).classify("Lovely!").error, "");
}

TEST_F(TrainInterface, ARunThatItsCallerEndsGoesOnToTheSameBytes) {
  const UNetTrainOptions whole = options("whole.safetensors");
  train_unet(whole);
  UNetTrainOptions parts = options("parts.safetensors");
  TrainEvents events;
  events.epoch = [](const TrainEvents::Epoch&) { return false; };
  const TrainResult first = train_unet(parts, events);
  EXPECT_EQ(first.end, TrainResult::End::kStopped);
  EXPECT_EQ(first.step, 4);
  EXPECT_EQ(first.open({.device = "cpu"}).task(), Session::Task::kSegment);  // as far as it came
  parts.resume = true;
  int steps = 0;
  events = {};
  events.stop = [&] { return ++steps == 5 + 3; };  // behind five images that are looked at
  EXPECT_EQ(train_unet(parts, events).step, 7);
  events.stop = nullptr;  // as if there were none
  EXPECT_EQ(train_unet(parts, events).end, TrainResult::End::kDone);
  EXPECT_TRUE(bytes_of(whole.output) == bytes_of(parts.output));
}

TEST_F(TrainInterface, NothingIsWrittenBeforeTheFirstStep) {
  UNetTrainOptions some = options("none.safetensors");
  TrainEvents events;
  events.stop = [] { return true; };
  const TrainResult stopped = train_unet(some, events);
  EXPECT_EQ(stopped.end, TrainResult::End::kStopped);
  EXPECT_THAT(error_of([&] { stopped.open(); }), HasSubstr("no model was written"));
  some.check = true;
  const TrainResult checked = train_unet(some);
  EXPECT_EQ(checked.end, TrainResult::End::kChecked);
  EXPECT_THAT(error_of([&] { checked.open(); }), HasSubstr("no model was written"));
  EXPECT_FALSE(fs::exists(some.output));
}

TEST_F(TrainInterface, WhatAnEventThrowsReachesTheCaller) {
  struct Own {};
  const UNetTrainOptions some = options("some.safetensors");
  const auto run = [&](const auto& set) {
    TrainEvents events;
    set(events);
    train_unet(some, events);
  };
  EXPECT_THROW(run([](TrainEvents& e) { e.step = [](const auto&) { throw Own(); }; }), Own);
  EXPECT_THROW(run([](TrainEvents& e) { e.epoch = [](const auto&) -> bool { throw Own(); }; }),
               Own);
  EXPECT_THROW(run([](TrainEvents& e) { e.data = [](auto, auto) { throw Own(); }; }), Own);
  EXPECT_EQ(train_unet(some).end, TrainResult::End::kDone);
}

TEST_F(TrainInterface, OptionsThatAreNoneAreNamed) {
  const auto refused = [&](const char* name, const auto& change) {
    UNetTrainOptions some = options("x.safetensors");
    change(some);
    EXPECT_THROW(train_unet(some), OptionError) << name;
    EXPECT_THAT(error_of([&] { train_unet(some); }), HasSubstr(name));
    EXPECT_FALSE(fs::exists(some.output)) << name;
  };
  using Options = UNetTrainOptions;
  refused("-o:", [](Options& o) { o.output = ""; });
  refused("--epochs", [](Options& o) { o.epochs = 0; });
  refused("--epochs", [](Options& o) { o.epochs = std::int64_t{1} << 62; });
  refused("--batch", [](Options& o) { o.batch = -1; });
  refused("--accumulate", [](Options& o) { o.accumulate = 0; });
  refused("--rate", [](Options& o) { o.rate = NAN; });
  refused("--rate", [](Options& o) { o.rate = INFINITY; });
  refused("--average", [](Options& o) { o.average = 1; });
  refused("--optimiser", [](Options& o) { o.optimiser = "adagrad"; });
  refused("--schedule", [](Options& o) { o.schedule = "cosin"; });
  refused("--best", [](Options& o) { o.best = "mean_f1"; });
  refused("--precision", [](Options& o) { o.precision = "fp16"; });
  refused("--threads", [](Options& o) { o.threads = -2; });
  refused("--early-stop needs", [](Options& o) {
    o.early_stop = 2;
    o.source.validation = "none";
  });
  refused("--validation", [](Options& o) { o.source.validation = "names:9"; });
  refused("--mask-format", [](Options& o) { o.source.mask_format = "greys"; });
  refused("more than one source", [](Options& o) { o.source.data = "folder"; });
  refused("no images", [](Options& o) { o.source.pairs.clear(); });
  refused("--depth", [](Options& o) { o.depth = 9; });
  refused("--base", [](Options& o) { o.base = 0; });
  refused("padding", [](Options& o) { o.padding = "valued"; });
  refused("scale", [](Options& o) { o.scale = "units"; });
  refused("--tile", [](Options& o) { o.tile = 0; });
  refused("--tiles", [](Options& o) { o.tiles = std::int64_t{1} << 40; });
  refused("--loss", [](Options& o) { o.loss = "hinge"; });
  refused("--class-weights", [](Options& o) { o.class_weights = "1,2,3"; });
  refused("--sigmoid", [](Options& o) {
    o.sigmoid = true;
    o.classes = {"a", "b", "c"};
  });
  refused("--depth: the network and its pixels", [](Options& o) { o.from = "m.safetensors"; });

  HanTrainOptions some = texts("y.safetensors");
  some.units = -3;
  EXPECT_THAT(error_of([&] { train_han(some); }), HasSubstr("--units"));
  some = texts("y.safetensors");
  some.data = "train.tsv";
  EXPECT_THAT(error_of([&] { train_han(some); }), HasSubstr("more than one source"));
  some = texts("y.safetensors");
  some.files.format = "xls";
  EXPECT_THROW(train_han(some), OptionError);
}

TEST_F(TrainInterface, PixelsThatAreNoneAreNamed) {
  const auto refused = [&](const std::string& text, const auto& change) {
    UNetTrainOptions some = options("x.safetensors");
    some.source.mask_format = "ids";
    change(some.source.pairs.at(2));
    EXPECT_THAT(error_of([&] { train_unet(some); }), HasSubstr(text));
    EXPECT_FALSE(fs::exists(some.output)) << text;
  };
  refused("image 2: the image has no pixels", [](auto& pair) { pair.image.pixels = nullptr; });
  refused("mask 2: the image has no pixels", [](auto& pair) { pair.mask = {}; });
  refused("mask 2: the mask is 23 x 24, its image 'image 2' is 24 x 24",
          [](auto& pair) { pair.mask.height = kSide - 1; });
  refused("image 2:", [](auto& pair) { pair.image.height = std::int64_t{1} << 62; });
  refused("channels, not 7", [](auto& pair) { pair.image.channels = 7; });
  const std::vector<float> bad(kSide * kSide, NAN);
  refused("not finite", [&](auto& pair) {
    pair.image = {bad.data(), kSide, kSide, 1, ImageView::Type::kF32};
  });
  std::vector<std::uint8_t> sevens(kSide * kSide, 7);
  refused("mask 2:", [&](auto& pair) { pair.mask = view(sevens); });

  HanTrainOptions some = texts("y.safetensors");
  some.documents[4].label = "";
  EXPECT_THAT(error_of([&] { train_han(some); }), HasSubstr("documents, line 5"));
  some.documents[4] = {"good", " ... "};
  EXPECT_THAT(error_of([&] { train_han(some); }), HasSubstr("no words"));
  some.skip_bad = true;
  EXPECT_EQ(train_han(some).end, TrainResult::End::kDone);
}

}  // namespace
}  // namespace tessera
