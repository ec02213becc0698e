// Metrics of segmentations against brute force and cases counted by hand.
#include "models/training/segmentation_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/train/random.h"
#include "kernels/error.h"
#include "models/image/instances.h"
#include "models/training/confusion_matrix.h"
#include "models/training/simple_points.h"

namespace tessera {
namespace {

using Bytes = std::vector<std::uint8_t>;
using Ids = std::vector<std::uint32_t>;

// Smooth blobs, as cells are: the signs of a sum of a few waves.
Bytes blobs(std::int64_t height, std::int64_t width, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::array<double, 3>> waves;
  for (int i = 0; i < 5; ++i)
    waves.push_back({random.uniform(-0.6, 0.6), random.uniform(-0.6, 0.6), random.uniform(0, 6)});
  Bytes cells;
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      double sum = 0;
      for (const auto& [a, b, phase] : waves)
        sum += std::sin(a * static_cast<double>(y) + b * static_cast<double>(x) + phase);
      cells.push_back(sum > 0 ? 1 : 0);
    }
  }
  return cells;
}

Bytes picture(const std::vector<std::string>& rows) {
  Bytes cells;
  for (const std::string& row : rows) {
    for (const char c : row) cells.push_back(c == '.' ? 0 : 1);
  }
  return cells;
}

std::size_t count_components(Bytes values, std::int64_t height, std::int64_t width,
                             int connectivity) {
  return find_instances(values, height, width, {.connectivity = connectivity}).objects.size();
}

// Cells and, inside a frame of it, pieces of membrane: what a deformation must keep.
std::pair<std::size_t, std::size_t> topology(const Bytes& cells, std::int64_t height,
                                             std::int64_t width) {
  Bytes membrane(static_cast<std::size_t>((height + 2) * (width + 2)), 1);
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      membrane[static_cast<std::size_t>((y + 1) * (width + 2) + x + 1)] =
          cells[static_cast<std::size_t>(y * width + x)] == 0 ? 1 : 0;
    }
  }
  return {count_components(cells, height, width, 4),
          count_components(membrane, height + 2, width + 2, 8)};
}

// ---- classes -----------------------------------------------------------------------------------

TEST(ConfusionMatrix, GivesFiguresCountedByHand) {
  ConfusionMatrix confusion(3);
  // Truth 0: three right, one taken for 1. Truth 1: two right, two taken for 0. Class 2: nowhere.
  const Bytes truth{0, 0, 0, 0, 1, 1, 1, 1, 255}, predicted{0, 0, 0, 1, 1, 1, 0, 0, 2};
  confusion.add(truth, predicted, 255);
  EXPECT_EQ(confusion.total(), 8);
  EXPECT_EQ(confusion.at(1, 0), 2);
  EXPECT_DOUBLE_EQ(confusion.accuracy(), 5.0 / 8);
  EXPECT_DOUBLE_EQ(confusion.precision(0), 3.0 / 5);
  EXPECT_DOUBLE_EQ(confusion.recall(0), 3.0 / 4);
  EXPECT_DOUBLE_EQ(confusion.f1(0), 6.0 / 9);
  EXPECT_DOUBLE_EQ(confusion.iou(0), 3.0 / 6);
  EXPECT_DOUBLE_EQ(confusion.iou(1), 2.0 / 5);
  EXPECT_TRUE(std::isnan(confusion.iou(2)));
  EXPECT_DOUBLE_EQ(confusion.mean(&ConfusionMatrix::iou), (3.0 / 6 + 2.0 / 5) / 2);
  ConfusionMatrix twice(3);
  twice.add(confusion);
  twice.add(confusion);
  EXPECT_EQ(twice.at(0, 0), 6);
  EXPECT_DOUBLE_EQ(twice.iou(1), confusion.iou(1));
  const std::vector<std::string> names{"a", "b", "c"};
  const nlohmann::json json = confusion.json(names);
  EXPECT_EQ(json["matrix"], nlohmann::json({{3, 1, 0}, {2, 2, 0}, {0, 0, 0}}));
  EXPECT_EQ(nlohmann::json::parse(json.dump())["classes"][2]["iou"], nullptr);
  EXPECT_THROW(confusion.add(3, 0), Error);
}

// ---- topology ----------------------------------------------------------------------------------

// A change of the middle is harmless where it changes no count of components in the 3x3 square.
TEST(SimplePoints, AreThoseThatChangeNoComponents) {
  for (unsigned bits = 0; bits < 256; ++bits) {
    constexpr std::size_t kRing[] = {0, 1, 2, 5, 8, 7, 6, 3};  // in the order of the bits
    Bytes with(9, 0);
    for (std::size_t k = 0; k < 8; ++k) with[kRing[k]] = bits >> k & 1;
    Bytes without = with;
    with[4] = 1;
    const auto inverted = [](Bytes cells) {
      for (std::uint8_t& value : cells) value ^= 1;
      return cells;
    };
    // Components that do not touch the middle are the same on both sides.
    const bool harmless =
        count_components(with, 3, 3, 4) == count_components(without, 3, 3, 4) &&
        count_components(inverted(with), 3, 3, 8) == count_components(inverted(without), 3, 3, 8);
    EXPECT_EQ(is_simple(static_cast<std::uint8_t>(bits)), harmless) << bits;
  }
}

TEST(SimplePoints, WarpingKeepsTheTopology) {
  constexpr std::int64_t kHeight = 41, kWidth = 37;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Bytes from = blobs(kHeight, kWidth, seed), to = blobs(kHeight, kWidth, seed + 100);
    const Bytes warped = warp_topologically(from, to, kHeight, kWidth);
    EXPECT_EQ(topology(warped, kHeight, kWidth), topology(from, kHeight, kWidth)) << seed;
    EXPECT_EQ(warp_topologically(warped, to, kHeight, kWidth), warped) << seed;
    for (std::size_t i = 0; i < warped.size(); ++i)
      EXPECT_TRUE(warped[i] == to[i] || warped[i] == from[i]);
  }
}

TEST(SimplePoints, ThinningLeavesLinesOfOnePixel) {
  const Bytes thick = picture({"xxx...xxx",  //
                               "xxx...xxx",  //
                               "xxx...xxx",  //
                               "xxx.....x"});
  EXPECT_EQ(thin_membranes(thick, 4, 9), picture({"xxxx.xxxx",  //
                                                  "xxxx.xxxx",  //
                                                  "xxxx.xxxx",  //
                                                  "xxxxx.xxx"}));
  constexpr std::int64_t kHeight = 50, kWidth = 60;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Bytes cells = blobs(kHeight, kWidth, seed);
    const Bytes thin = thin_membranes(cells, kHeight, kWidth);
    EXPECT_EQ(topology(thin, kHeight, kWidth), topology(cells, kHeight, kWidth));
    EXPECT_EQ(thin_membranes(thin, kHeight, kWidth), thin);
    // A square of membrane would have had a corner to give away, unless four lines meet there.
    std::int64_t squares = 0;
    for (std::int64_t y = 0; y + 1 < kHeight; ++y) {
      for (std::int64_t x = 0; x + 1 < kWidth; ++x) {
        const auto i = static_cast<std::size_t>(y * kWidth + x);
        squares += thin[i] + thin[i + 1] + thin[i + kWidth] + thin[i + kWidth + 1] == 0 ? 1 : 0;
      }
    }
    EXPECT_LE(squares, 4) << seed;
  }
}

TEST(WarpingError, CountsMergesAndSplitsAndNotShiftedBorders) {
  const Bytes truth = picture({"xxx.xxxx", "xxx.xxxx", "xxx.xxxx"});
  const auto error = [&](const std::vector<std::string>& proposal) {
    const WarpingError found = warping_error(truth, picture(proposal), 3, 8);
    EXPECT_EQ(found.pixels, 24);
    return std::vector{found.differing, found.merges, found.splits};
  };
  using testing::ElementsAre;
  EXPECT_THAT(error({"xxxx.xxx", "xxx.xxxx", "xxxx.xxx"}), ElementsAre(0, 0, 0));
  EXPECT_THAT(error({"xxx.xxxx", "xxxxxxxx", "xxx.xxxx"}), ElementsAre(1, 1, 0));
  EXPECT_THAT(error({"xxx.xxxx", "xxx.xx.x", "xxx.xxxx"}), ElementsAre(1, 0, 0));  // a hole
  // A second wall grows from both sides; the pixel where it would close stays open.
  EXPECT_THAT(error({"xxx.xx.x", "xxx.xx.x", "xxx.xx.x"}), ElementsAre(1, 0, 1));
  const WarpingError half{.pixels = 8, .differing = 4, .merges = 1, .splits = 1};
  WarpingError sum = half;
  sum.add(half);
  EXPECT_EQ(sum.total(), 0.5);
  EXPECT_EQ(sum.splits_and_merges(), 0.25);
  EXPECT_THROW(warping_error(truth, truth, 3, 7), Error);
}

// ---- membranes ---------------------------------------------------------------------------------

// Over all ordered pairs of the truth's foreground pixels: together in both, in either.
TEST(RandScore, EqualsTheCountOfPairs) {
  Random random(3);
  RandScore pooled;
  double joint = 0, of_truth = 0, of_proposal = 0;
  for (int image = 0; image < 5; ++image) {
    Ids truth(60), proposal(60);
    for (std::uint32_t& id : truth) id = static_cast<std::uint32_t>(random.below(4));
    for (std::uint32_t& id : proposal) id = static_cast<std::uint32_t>(random.below(5)) * 70000;
    for (std::size_t a = 0; a < truth.size(); ++a) {
      for (std::size_t b = 0; b < truth.size(); ++b) {
        if (truth[a] == 0 || truth[b] == 0) continue;
        const bool in_truth = truth[a] == truth[b];
        const bool in_proposal = a == b || (proposal[a] == proposal[b] && proposal[a] != 0);
        joint += in_truth && in_proposal ? 1 : 0;
        of_truth += in_truth ? 1 : 0;
        of_proposal += in_proposal ? 1 : 0;
      }
    }
    pooled.add(truth, proposal);
  }
  EXPECT_DOUBLE_EQ(pooled.split(), joint / of_truth);
  EXPECT_DOUBLE_EQ(pooled.merge(), joint / of_proposal);
  EXPECT_DOUBLE_EQ(pooled.f_score(), 2 * joint / (of_truth + of_proposal));
}

TEST(RandScore, TellsSplitsFromMerges) {
  const Ids two{1, 1, 1, 1, 0, 2, 2, 2, 2}, one{5, 5, 5, 5, 5, 5, 5, 5, 5};
  RandScore same, merged, split;
  same.add(two, two);
  EXPECT_EQ(same.f_score(), 1);
  merged.add(two, one);  // 2 * 4^2 of 8^2
  EXPECT_DOUBLE_EQ(merged.merge(), 32.0 / 64);
  EXPECT_EQ(merged.split(), 1);
  split.add(one, two);  // 4^2 + 4^2 + 1 of 9^2: the membrane's pixel is a segment
  EXPECT_DOUBLE_EQ(split.split(), 33.0 / 81);
  EXPECT_EQ(split.merge(), 1);
  EXPECT_THROW(same.add(two, Ids{1}), Error);
}

TEST(MembraneEvaluation, FindsTheBestThreshold) {
  const Bytes truth = picture({"xxxx.xxxx", "xxxx.xxxx", "xxxx.xxxx"});
  // At 0.5 the wall has a hole; at 0.7 it is whole and three pixels thick.
  std::vector<float> cell;
  for (std::size_t i = 0; i < truth.size(); ++i) {
    const std::size_t x = i % 9, y = i / 9;
    cell.push_back(x == 4 ? (y == 1 ? 0.65f : 0.1f) : x == 3 || x == 5 ? 0.66f : 0.95f);
  }
  MembraneEvaluation evaluation;
  evaluation.add(truth, cell, 3, 9);
  const std::vector<MembraneScore> scores = evaluation.scores();
  ASSERT_EQ(scores.size(), 9U);
  EXPECT_LT(scores[4].rand.f_score(), 0.8);
  EXPECT_DOUBLE_EQ(scores[4].pixel_error, 1.0 / 27);
  EXPECT_EQ(scores[4].warping.merges, 1);
  EXPECT_DOUBLE_EQ(scores[4].warping.total(), 1.0 / 27);
  EXPECT_DOUBLE_EQ(scores[6].rand_thinned.f_score(), 1);
  EXPECT_LT(scores[6].rand.f_score(), 1);
  EXPECT_EQ(scores[6].warping.total(), 0);
  const nlohmann::json best = best_scores(scores);
  EXPECT_EQ(best["rand_f_score_thinned"]["value"], 1);
  EXPECT_EQ(best["rand_f_score_thinned"]["threshold"], 0.7);
  EXPECT_EQ(best["warping_error"]["threshold"], 0.7);
  EXPECT_EQ(best["pixel_error"]["threshold"], 0.1);
}

TEST(MembraneEvaluation, LeavesOutWhatNobodyKnows) {
  Bytes truth = picture({"xx.xx"});
  std::vector<float> cell{1, 1, 0, 0, 1};
  truth[3] = MembraneEvaluation::kIgnored;
  MembraneEvaluation evaluation({0.5});
  evaluation.add(truth, cell, 1, 5);
  EXPECT_EQ(evaluation.scores()[0].pixel_error, 0);
  EXPECT_EQ(evaluation.scores()[0].rand.f_score(), 1);
}

// ---- objects -----------------------------------------------------------------------------------

TEST(ObjectEvaluation, EqualsSetsOfPixels) {
  Random random(8);
  ObjectEvaluation evaluation;
  std::vector<double> ious;
  double seg = 0;
  std::int64_t truths = 0, predictions = 0;
  for (int image = 0; image < 20; ++image) {
    // Rectangles, the predicted ones shifted by up to one pixel: some match, some do not.
    constexpr std::int64_t kSide = 30;
    Ids truth(kSide * kSide, 0), predicted(kSide * kSide, 0);
    for (std::uint32_t id = 1; id <= 6; ++id) {
      const std::int64_t y = random.below(24), x = random.below(24), h = 2 + random.below(5),
                         w = 2 + random.below(5), dy = random.below(2), dx = random.below(2);
      for (std::int64_t v = y; v < std::min(y + h, kSide); ++v) {
        for (std::int64_t u = x; u < std::min(x + w, kSide); ++u) {
          truth[static_cast<std::size_t>(v * kSide + u)] = id;
          if (v + dy < kSide && u + dx < kSide)
            predicted[static_cast<std::size_t>((v + dy) * kSide + u + dx)] = 100 + id;
        }
      }
    }
    std::map<std::uint32_t, std::set<std::size_t>> of_truth, of_prediction;
    for (std::size_t i = 0; i < truth.size(); ++i) {
      if (truth[i] != 0) of_truth[truth[i]].insert(i);
      if (predicted[i] != 0) of_prediction[predicted[i]].insert(i);
    }
    truths += static_cast<std::int64_t>(of_truth.size());
    predictions += static_cast<std::int64_t>(of_prediction.size());
    for (const auto& [a, in_truth] : of_truth) {
      for (const auto& [b, in_prediction] : of_prediction) {
        std::size_t both = 0;
        for (const std::size_t i : in_truth) both += in_prediction.count(i);
        const double iou = static_cast<double>(both) /
                           static_cast<double>(in_truth.size() + in_prediction.size() - both);
        if (iou > 0) ious.push_back(iou);
        if (2 * both > in_truth.size()) seg += iou;
      }
    }
    evaluation.add(truth, predicted);
  }
  EXPECT_EQ(evaluation.truths(), truths);
  EXPECT_EQ(evaluation.predictions(), predictions);
  double f1 = 0, ap = 0;
  for (int step = 0; step < 10; ++step) {
    const double threshold = (50 + 5 * step) / 100.0;
    std::int64_t matched = 0;
    for (const double iou : ious) matched += iou > threshold ? 1 : 0;
    const ObjectScore score = evaluation.at(threshold);
    EXPECT_EQ(score.matched, matched);
    EXPECT_DOUBLE_EQ(score.precision(),
                     static_cast<double>(matched) / static_cast<double>(predictions));
    EXPECT_DOUBLE_EQ(score.recall(), static_cast<double>(matched) / static_cast<double>(truths));
    f1 += 2 * static_cast<double>(matched) / static_cast<double>(truths + predictions);
    ap += static_cast<double>(matched) / static_cast<double>(truths + predictions - matched);
  }
  EXPECT_GT(evaluation.at(0.5).matched, 10);
  EXPECT_LT(evaluation.at(0.5).matched, truths);
  EXPECT_NEAR(evaluation.mean_f1(), f1 / 10, 1e-12);
  EXPECT_NEAR(evaluation.mean_average_precision(), ap / 10, 1e-12);
  EXPECT_NEAR(evaluation.seg(), seg / static_cast<double>(truths), 1e-12);
}

// Rows one by one give the figures of whole pictures, to the digit.
TEST(ObjectRows, EqualTheWholePicture) {
  constexpr std::int64_t kHeight = 61, kWidth = 83;
  constexpr std::uint8_t kIgnored = 255;
  Bytes truth = blobs(kHeight, kWidth, 5), predicted = blobs(kHeight, kWidth, 5);
  Random random(2);
  for (std::size_t i = 0; i < truth.size(); ++i) {
    if (random.below(15) == 0) predicted[i] ^= 1;
    if (random.below(30) == 0) truth[i] = kIgnored;
  }
  const auto ids_of = [&](const Bytes& classes, const InstanceOptions& options) {
    const Instances found = find_instances(classes, kHeight, kWidth, options);
    const auto& labels = std::get<std::vector<std::uint16_t>>(found.labels.pixels);
    return Ids(labels.begin(), labels.end());
  };
  const InstanceOptions whole{.background = {0, kIgnored}};
  const InstanceOptions some{.background = {0, kIgnored}, .connectivity = 4, .min_area = 9};
  Ids own = ids_of(truth, whole);
  for (std::uint32_t& id : own) id = id == 0 ? 0 : 70000 - id;  // a file's, in any order
  for (const bool has_ids : {false, true}) {
    Ids true_ids = has_ids ? own : ids_of(truth, whole), predicted_ids = ids_of(predicted, some);
    ObjectRows rows(kWidth, whole, some);
    for (std::size_t y = 0; y < kHeight; ++y)
      rows.add_row(truth.data() + y * kWidth, has_ids ? own.data() + y * kWidth : nullptr,
                   predicted.data() + y * kWidth, kIgnored);
    for (std::size_t i = 0; i < truth.size(); ++i) {
      if (truth[i] == kIgnored) true_ids[i] = predicted_ids[i] = 0;
    }
    ObjectEvaluation expected, found;
    expected.add(true_ids, predicted_ids);
    found.add(rows.finish());
    EXPECT_GT(expected.at(0.5).matched, 0);
    EXPECT_EQ(found.json(), expected.json());
  }
}

TEST(ObjectEvaluation, AMatchIsAboveTheThreshold) {
  const Ids truth{1, 1, 0, 2, 2, 2}, predicted{7, 0, 0, 8, 8, 8};  // IoU 1/2 and 1
  ObjectEvaluation evaluation;
  evaluation.add(truth, predicted);
  EXPECT_EQ(evaluation.at(0.5).matched, 1);
  EXPECT_EQ(evaluation.at(0.5).missed, 1);
  EXPECT_EQ(evaluation.at(0.5).spurious, 1);
  EXPECT_EQ(evaluation.mean_matched_iou(), 1);
  EXPECT_EQ(evaluation.seg(), 0.5);  // a half is not more than a half
  EXPECT_THROW(evaluation.at(0.4), Error);
  const ObjectEvaluation nothing;
  EXPECT_TRUE(std::isnan(nothing.at(0.5).f1()));
  EXPECT_TRUE(std::isnan(nothing.seg()));
}

}  // namespace
}  // namespace tessera
