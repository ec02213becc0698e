// A folder of images and masks for tests, made by themselves.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/train/random.h"
#include "models/image/png.h"
#include "models/training/labelled_images.h"
#include "tests/support/error.h"
#include "tests/support/temp_folder.h"

namespace tessera {

namespace fs = std::filesystem;
using Bytes = std::vector<std::uint8_t>;

using test::error_of;

class TrainingImages : public testing::Test {
 protected:
  void write(const std::string& name, const Image& image) const {
    fs::create_directories((folder_ / name).parent_path());
    write_png(folder_ / name, image);
  }
  void write_text(const std::string& name, std::string_view text) const {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }

  // A grey gradient with noise, and a mask of two classes.
  void write_pair(const std::string& name, std::int64_t height, std::int64_t width,
                  std::uint64_t seed = 0) const {
    Random random(seed, stream_of(name));
    Bytes grey, mask;
    for (std::int64_t i = 0; i < height * width; ++i) {
      grey.push_back(static_cast<std::uint8_t>(100 + i % width + random.below(50)));
      mask.push_back(i % width > width / 2 + i / width % 5 ? 255 : 0);
    }
    write("images/" + name + ".png", {height, width, 1, grey});
    write("masks/" + name + ".png", {height, width, 1, mask});
  }

  ImagePairs pairs(DataReport& report) const {
    return find_pairs(folder_ / "images", folder_ / "masks", report);
  }
  LabelledImages images(const WeightRules& weights = {}) const {
    DataReport report;
    ImagePairs found = pairs(report);
    report.require_none();
    return {found, MaskRules::parse("binary", 2), Preprocessing{}, weights, std::size_t{1} << 30};
  }

  const test::TempFolder scratch_;
  const fs::path folder_ = scratch_.path();
};

inline std::vector<std::string> names_of(const ImagePairs& pairs) {
  std::vector<std::string> names;
  for (const ImagePair& pair : pairs) names.push_back(pair.name);
  return names;
}

inline std::vector<std::string> texts_of(const DataReport& report) {
  std::vector<std::string> texts;
  for (const DataProblem& problem : report.problems()) texts.push_back(problem.to_string());
  return texts;
}

}  // namespace tessera
