// metrics.jsonl across interruptions, and the picture of the learning curves.
#include "models/training/training_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>

#include "kernels/error.h"
#include "tests/support/error.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using test::error_of;

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class TrainingLog : public testing::Test {
 protected:
  std::string text() const {
    std::ifstream stream(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(stream), {}};
  }
  void write(const std::string& bytes) const { std::ofstream(path_, std::ios::binary) << bytes; }

  const test::TempFolder scratch_;
  const std::filesystem::path folder_ = scratch_.path(), path_ = folder_ / "metrics.jsonl";
};

TEST_F(TrainingLog, LinesAreAppendedInTheOrderOfTheirKeys) {
  MetricsLog log(path_, std::nullopt);
  log.append({{"step", 1}, {"loss", 0.1 + 0.2}, {"epoch", 1}});
  log.append({{"step", 2}, {"loss", std::numeric_limits<double>::quiet_NaN()}});
  EXPECT_EQ(text(),
            "{\"step\":1,\"loss\":0.30000000000000004,\"epoch\":1}\n{\"step\":2,\"loss\":null}\n");
  const auto lines = read_metrics(path_);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(lines[0].at("loss"), 0.1 + 0.2);
}

TEST_F(TrainingLog, ANewRunStartsAnew) {
  write("{\"step\":1}\n");
  MetricsLog log(path_, std::nullopt);
  EXPECT_EQ(text(), "");
}

TEST_F(TrainingLog, AResumedRunGoesOnAfterItsCheckpoint) {
  // Steps 3 and 4 were logged after the checkpoint of step 2, and the last line is torn.
  write("{\"step\":1}\n{\"step\":2}\n{\"step\":2,\"epoch\":1}\n{\"step\":3}\n{\"step\":4}\n{\"st");
  {
    MetricsLog log(path_, 2);
    log.append({{"step", 3}, {"again", true}});
  }
  EXPECT_EQ(text(),
            "{\"step\":1}\n{\"step\":2}\n{\"step\":2,\"epoch\":1}\n{\"step\":3,\"again\":true}\n");
  write("{\"step\":1}\n{\"st");
  MetricsLog(path_, 5).append({{"step", 2}});
  EXPECT_EQ(text(), "{\"step\":1}\n{\"step\":2}\n");
  std::filesystem::remove(path_);
  MetricsLog(path_, 5).append({{"step", 6}});
  EXPECT_EQ(text(), "{\"step\":6}\n");
}

TEST_F(TrainingLog, WhatIsNoLogIsRefusedAndLeftAlone) {
  for (const char* bad : {"{\"step\":1}\nhello\n", "{\"step\":1}\n{\"loss\":1}\n",
                          "{\"step\":1}\n[2]\n", "{\"step\":1}\n{\"step\":\"2\"}\n"}) {
    write(bad);
    EXPECT_THAT(error_of([&] { MetricsLog(path_, 9); }), HasSubstr("metrics.jsonl, line 2")) << bad;
    EXPECT_EQ(text(), bad);
    EXPECT_THAT(error_of([&] { read_metrics(path_); }), HasSubstr("line 2"));
  }
  EXPECT_THAT(error_of([&] { MetricsLog(folder_ / "absent/a", std::nullopt); }),
              HasSubstr("cannot write"));
  EXPECT_THAT(error_of([&] { read_metrics(folder_ / "absent"); }), HasSubstr("cannot be read"));
}

TEST_F(TrainingLog, AFullDiskIsAnError) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full";
  std::filesystem::create_symlink("/dev/full", path_);
  // A device cannot be cut to a length: the log says so before any training.
  EXPECT_THAT(error_of([&] {
                MetricsLog(path_, std::nullopt).append({{"step", 1}});
              }),
              HasSubstr("cannot write"));
}

TEST_F(TrainingLog, EpochsAreTheLinesWithACurve) {
  write(
      "{\"step\":1,\"loss\":3}\n"
      "{\"step\":5,\"epoch\":1,\"train_loss\":0.7,\"validation_loss\":0.6,"
      "\"train_accuracy\":0.5,\"validation_accuracy\":null}\n"
      "{\"step\":9,\"epoch\":2,\"note\":\"x\"}\n"
      "{\"step\":10,\"epoch\":2,\"validation_loss\":0.5,\"best\":true}\n");
  const std::vector<EpochMetrics> epochs = epochs_of(read_metrics(path_));
  ASSERT_EQ(epochs.size(), 2u);
  EXPECT_EQ(epochs[0].train_loss, 0.7);
  EXPECT_EQ(epochs[0].train_accuracy, 0.5);
  EXPECT_FALSE(epochs[0].validation_accuracy.has_value());
  EXPECT_EQ(epochs[1].epoch, 2);
  EXPECT_EQ(epochs[1].validation_loss, 0.5);
  EXPECT_FALSE(epochs[0].best);
  EXPECT_TRUE(epochs[1].best);
}

std::size_t count_of(const std::string& text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1))
    ++count;
  return count;
}

TEST_F(TrainingLog, TheCurvesShowBothPanelsAndTheBestEpoch) {
  std::vector<EpochMetrics> epochs;
  for (int i = 1; i <= 5; ++i)
    epochs.push_back(
        {1.0 * i, 1.0 / i, 0.5 + 0.01 * (i - 3) * (i - 3), 0.7 + 0.05 * i, 0.7, i <= 3});
  const std::string svg = learning_curves_svg(epochs, "A <b> & c");
  EXPECT_EQ(count_of(svg, "<polyline"), 4u);
  EXPECT_EQ(count_of(svg, "<circle"), 20u);
  EXPECT_EQ(count_of(svg, ">best: epoch 3</text>"), 2u);
  EXPECT_EQ(count_of(svg, "A &lt;b&gt; &amp; c"), 2u);
  EXPECT_EQ(count_of(svg, ">Accuracy</text>"), 1u);
  EXPECT_EQ(svg, learning_curves_svg(epochs, "A <b> & c"));
}

TEST_F(TrainingLog, CurvesOfLittleOrOddDataAreStillPictures) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<std::vector<EpochMetrics>> cases{
      {},
      {{1, 0.5, {}, {}, {}}},
      {{1, nan, nan, nan, nan}},
      {{1, 0.0, 0.0, 1.0, 1.0}, {2, 0.0, 0.0, 1.0, 1.0}},
      {{1, 1e9, 1e-9, {}, {}}, {1000, -1e9, 0, {}, {}}}};
  for (const auto& epochs : cases) {
    const std::string svg = learning_curves_svg(epochs, "t");
    EXPECT_TRUE(svg.ends_with("</svg>\n"));
    EXPECT_THAT(svg, Not(HasSubstr("nan")));
    EXPECT_THAT(svg, Not(HasSubstr("inf")));
    EXPECT_LT(svg.size(), 20'000u);
  }
}

}  // namespace
}  // namespace tessera
