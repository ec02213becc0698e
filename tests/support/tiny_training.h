// Networks that learn in milliseconds, and what they learn from: a UNet bright discs on a dark
// ground, a HAN documents whose class is a word.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "engine/files/atomic_file.h"
#include "engine/train/random.h"
#include "models/image/png.h"
#include "models/training/han_training.h"
#include "models/training/unet_training.h"

namespace tessera::test {

namespace fs = std::filesystem;

inline std::string bytes_of(const fs::path& path) {
  std::ifstream stream(path, std::ios::binary);
  EXPECT_TRUE(stream.good()) << path;
  return {std::istreambuf_iterator<char>(stream), {}};
}

inline constexpr std::int64_t kSide = 24;

inline void write_discs(const fs::path& folder, int images) {
  fs::create_directories(folder / "images");
  fs::create_directories(folder / "masks");
  for (int i = 0; i < images; ++i) {
    Random random(1, static_cast<std::uint64_t>(i));
    const double y0 = random.uniform(6, 18), x0 = random.uniform(6, 18);
    std::vector<std::uint8_t> grey, mask;
    for (std::int64_t p = 0; p < kSide * kSide; ++p) {
      const double dy = static_cast<double>(p / kSide) - y0,
                   dx = static_cast<double>(p % kSide) - x0;
      const bool inside = dy * dy + dx * dx < 36;
      mask.push_back(inside ? 1 : 0);
      grey.push_back(static_cast<std::uint8_t>((inside ? 160 : 80) + random.uniform(-30, 30)));
    }
    write_png(folder / "images" / fmt::format("{}.png", i), {kSide, kSide, 1, grey});
    write_png(folder / "masks" / fmt::format("{}.png", i), {kSide, kSide, 1, mask});
  }
}

struct UNetData {
  ModelConfig config;
  LabelledImages images;
  Split split;
};

inline UNetData unet_data(const fs::path& folder, Conv::Norm norm = Conv::Norm::kBeforeRelu) {
  write_discs(folder, 5);
  DataReport report;
  ImagePairs pairs = find_pairs(folder / "images", folder / "masks", report);
  report.require_none();
  ModelConfig config;
  config.unet =
      UNetConfig{.depth = 1, .base = 4, .padding = UNetConfig::Padding::kSame, .norm = norm};
  config.classes = {{"outside", {0, 0, 0}}, {"disc", {255, 0, 0}}};
  Split split = split_pairs(pairs, "every:5", 0);
  return {config, LabelledImages(pairs, MaskRules{}, config.preprocessing, WeightRules{}, 1 << 20),
          split};
}

inline UNetTaskOptions unet_options(int threads) {
  return {.tile = 16,
          .batch = 2,
          .tiles = 8,
          .augmentation = Augmentation{},
          .seed = 3,
          .threads = threads};
}

inline LoopOptions options_in(const fs::path& folder) {
  return {
      .rate = 1e-2, .epochs = 6, .model = folder / "model.safetensors", .folder = folder / "run"};
}

inline std::string write_documents(const fs::path& folder) {
  std::string text;
  for (int i = 0; i < 60; ++i) {
    Random random(2, static_cast<std::uint64_t>(i));
    const int label = i % 2;
    text += fmt::format("{}\t", label == 0 ? "bad" : "good");
    const std::int64_t sentences = 1 + random.below(3), named = random.below(sentences);
    for (std::int64_t s = 0; s < sentences; ++s) {
      for (std::int64_t w = 1 + random.below(4); w > 0; --w)
        text += fmt::format("word{} ", random.below(12));
      text += fmt::format("{}. ", s == named ? (label == 0 ? "awful" : "lovely") : "end");
    }
    text += '\n';
  }
  const fs::path path = folder / "train.tsv";
  write_text(path, text);
  return path.string();
}

inline TextData han_text(const fs::path& folder) {
  DataReport report;
  TextDataOptions options{.train = write_documents(folder), .validation_share = 0.2, .seed = 1};
  options.documents.format = DocumentFormat::kTsv;
  TextData data = load_text_data(options, report);
  report.require_none();
  return data;
}

inline ModelConfig han_config(bool masked = true) {
  ModelConfig config;
  config.han = HanConfig{.features = 6, .units = 5, .attention = 4, .masked = masked};
  return config;
}

inline HanTaskOptions han_options(int threads) {
  return {.batch = 8, .dropout = 0.2, .tune_embedding = true, .seed = 5, .threads = threads};
}

inline Gradients gradients_of(const TrainingTask& task, bool recompute, int threads) {
  const FloatTensors initial = task.initial_weights();
  return Gradients(
      task.graph(), [&](const std::string& name, const Shape&) { return initial.at(name).view(); },
      example_inputs(task.config()), open_cpu_device(threads)->queue(), {}, recompute);
}

}  // namespace tessera::test
