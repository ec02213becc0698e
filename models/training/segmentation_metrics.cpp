#include "models/training/segmentation_metrics.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "kernels/error.h"
#include "models/image/instances.h"
#include "models/training/confusion_matrix.h"
#include "models/training/simple_points.h"

namespace tessera {
namespace {

constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

std::uint64_t key_of(std::uint32_t a, std::uint32_t b) {
  return static_cast<std::uint64_t>(a) << 32 | b;
}

// Each pair once, ordered by (a, b).
std::vector<Overlap> joined_pairs(std::vector<Overlap> runs) {
  std::ranges::sort(runs, {}, [](const Overlap& run) { return key_of(run.a, run.b); });
  std::vector<Overlap> merged;
  for (const Overlap& run : runs) {
    if (!merged.empty() && merged.back().a == run.a && merged.back().b == run.b) {
      merged.back().pixels += run.pixels;
    } else {
      merged.push_back(run);
    }
  }
  return merged;
}

// The non-zero counts, ordered by (a, b). Rows of equal pairs are counted first: segments are much
// longer than one pixel, so that little is left to sort.
std::vector<Overlap> overlaps(std::span<const std::uint32_t> a, std::span<const std::uint32_t> b) {
  require(a.size() == b.size(), "metrics: {} true pixels and {} predicted ones", a.size(),
          b.size());
  std::vector<Overlap> runs;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (!runs.empty() && runs.back().a == a[i] && runs.back().b == b[i]) {
      ++runs.back().pixels;
    } else {
      runs.push_back({a[i], b[i], 1});
    }
  }
  return joined_pairs(std::move(runs));
}

// Pixels by id, without 0.
struct Areas {
  std::vector<std::pair<std::uint32_t, std::int64_t>> sorted;

  explicit Areas(std::vector<std::pair<std::uint32_t, std::int64_t>> parts) {
    std::ranges::sort(parts);
    for (const auto& [id, pixels] : parts) {
      if (id == 0) continue;
      if (!sorted.empty() && sorted.back().first == id) {
        sorted.back().second += pixels;
      } else {
        sorted.emplace_back(id, pixels);
      }
    }
  }

  std::int64_t of(std::uint32_t id) const {
    return std::ranges::lower_bound(sorted, id, {}, &std::pair<std::uint32_t, std::int64_t>::first)
        ->second;
  }
  std::int64_t count() const { return static_cast<std::int64_t>(sorted.size()); }
};

double square(std::int64_t value) {
  return static_cast<double>(value) * static_cast<double>(value);
}

constexpr double kLeastThreshold = 0.5;
constexpr int kThresholds = 10;

double object_threshold(int step) {
  return (50 + 5 * step) / 100.0;
}

// Cells and membrane, (height, width).
struct Picture {
  std::span<const std::uint8_t> cells;
  std::int64_t height, width;

  bool has(std::int64_t y, std::int64_t x) const {
    return y >= 0 && y < height && x >= 0 && x < width;
  }
  std::size_t index(std::int64_t y, std::int64_t x) const {
    return static_cast<std::size_t>(y * width + x);
  }
  bool is_cell(std::int64_t y, std::int64_t x) const {
    return has(y, x) && cells[index(y, x)] == 1;
  }
};

constexpr std::pair<int, int> kEdges[] = {{-1, 0}, {0, 1}, {1, 0}, {0, -1}};

std::size_t cells_around(const Picture& picture, const std::vector<std::uint32_t>& segments,
                         std::int64_t y, std::int64_t x) {
  std::set<std::uint32_t> around;
  for (std::int64_t v = y - 1; v <= y + 1; ++v) {
    for (std::int64_t u = x - 1; u <= x + 1; ++u) {
      if (picture.is_cell(v, u)) around.insert(segments[picture.index(v, u)]);
    }
  }
  return around.size();
}

// Whether the neighbours by edges of a cell's pixel are apart without it, seen from a window.
bool splits_its_cell(const Picture& picture, std::int64_t y, std::int64_t x) {
  constexpr std::int64_t kRadius = 20, kSide = 2 * kRadius + 1;
  std::vector<bool> reached(kSide * kSide);
  const auto in_window = [&](std::int64_t v, std::int64_t u) {
    return static_cast<std::size_t>((v - y + kRadius) * kSide + u - x + kRadius);
  };
  std::vector<std::pair<std::int64_t, std::int64_t>> stack;
  const auto reach = [&](std::int64_t v, std::int64_t u) {
    if (std::abs(v - y) > kRadius || std::abs(u - x) > kRadius || (v == y && u == x) ||
        !picture.is_cell(v, u) || reached[in_window(v, u)])
      return;
    reached[in_window(v, u)] = true;
    stack.emplace_back(v, u);
  };
  bool started = false;
  for (const auto& [dy, dx] : kEdges) {
    if (!picture.is_cell(y + dy, x + dx)) continue;
    if (started && !reached[in_window(y + dy, x + dx)]) return true;
    if (started) continue;
    started = true;
    reach(y + dy, x + dx);
    while (!stack.empty()) {
      const auto [v, u] = stack.back();
      stack.pop_back();
      for (const auto& [ey, ex] : kEdges) reach(v + ey, u + ex);
    }
  }
  return false;
}

std::int64_t differing(std::span<const std::uint8_t> a, std::span<const std::uint8_t> b) {
  std::int64_t count = 0;
  for (std::size_t i = 0; i < a.size(); ++i) count += a[i] != b[i] ? 1 : 0;
  return count;
}

}  // namespace

void RandScore::add(std::span<const std::uint32_t> truth, std::span<const std::uint32_t> proposal) {
  std::vector<std::pair<std::uint32_t, std::int64_t>> of_truth, of_proposal;
  std::int64_t single = 0;
  for (const Overlap& overlap : overlaps(truth, proposal)) {
    if (overlap.a == 0) continue;
    of_truth.emplace_back(overlap.a, overlap.pixels);
    if (overlap.b == 0) {
      single += overlap.pixels;
      continue;
    }
    of_proposal.emplace_back(overlap.b, overlap.pixels);
    joint_ += square(overlap.pixels);
  }
  for (const auto& [id, pixels] : Areas(std::move(of_truth)).sorted) truth_ += square(pixels);
  for (const auto& [id, pixels] : Areas(std::move(of_proposal)).sorted) proposal_ += square(pixels);
  joint_ += static_cast<double>(single);  // one squared, each
  proposal_ += static_cast<double>(single);
}

void WarpingError::add(const WarpingError& other) {
  pixels += other.pixels;
  differing += other.differing;
  merges += other.merges;
  splits += other.splits;
}

double WarpingError::total() const {
  return ratio(differing, pixels);
}

double WarpingError::splits_and_merges() const {
  return ratio(merges + splits, pixels);
}

WarpingError warping_error(std::span<const std::uint8_t> truth,
                           std::span<const std::uint8_t> proposal, std::int64_t height,
                           std::int64_t width) {
  const auto warped = warp_topologically(truth, proposal, height, width);
  const Picture picture{warped, height, width};
  const std::vector<std::uint32_t> segments = cell_segments(warped, height, width);
  WarpingError error{.pixels = height * width, .differing = 0, .merges = 0, .splits = 0};
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      const std::size_t i = picture.index(y, x);
      if (warped[i] == proposal[i]) continue;
      ++error.differing;
      if (warped[i] == 0) {
        error.merges += cells_around(picture, segments, y, x) > 1 ? 1 : 0;
      } else {
        error.splits += splits_its_cell(picture, y, x) ? 1 : 0;
      }
    }
  }
  return error;
}

std::vector<std::uint32_t> cell_segments(std::span<const std::uint8_t> cells, std::int64_t height,
                                         std::int64_t width) {
  const Instances found = find_instances(cells, height, width, {.connectivity = 4});
  return std::visit(
      [](const auto& labels) {
        std::vector<std::uint32_t> ids(labels.size());
        std::ranges::transform(labels, ids.begin(),
                               [](auto label) { return static_cast<std::uint32_t>(label); });
        return ids;
      },
      found.labels.pixels);
}

MembraneEvaluation::MembraneEvaluation(std::vector<double> thresholds)
    : thresholds_(std::move(thresholds)) {
  if (thresholds_.empty()) {
    for (int tenth = 1; tenth < 10; ++tenth) thresholds_.push_back(tenth / 10.0);
  }
  counts_.resize(thresholds_.size());
}

void MembraneEvaluation::add(std::span<const std::uint8_t> truth, std::span<const float> cell,
                             std::int64_t height, std::int64_t width) {
  require(truth.size() == cell.size() && static_cast<std::int64_t>(truth.size()) == height * width,
          "membranes: {} true pixels and {} probabilities, expected {} x {}", truth.size(),
          cell.size(), height, width);
  std::vector<std::uint8_t> known(truth.begin(), truth.end());
  for (std::uint8_t& value : known) value = value == 1 ? 1 : 0;
  const std::vector<std::uint32_t> segments = cell_segments(known, height, width);
  pixels_ += static_cast<std::int64_t>(
      truth.size() - static_cast<std::size_t>(std::ranges::count(truth, kIgnored)));
  std::vector<std::uint8_t> proposal(truth.size()), compared(truth.size());
  for (std::size_t k = 0; k < thresholds_.size(); ++k) {
    const auto threshold = static_cast<float>(thresholds_[k]);
    for (std::size_t i = 0; i < truth.size(); ++i) {
      proposal[i] = cell[i] > threshold ? 1 : 0;
      compared[i] = truth[i] == kIgnored ? known[i] : proposal[i];
    }
    Counts& counts = counts_[k];
    counts.rand.add(segments, cell_segments(proposal, height, width));
    counts.rand_thinned.add(segments,
                            cell_segments(thin_membranes(proposal, height, width), height, width));
    counts.warping.add(warping_error(known, compared, height, width));
    counts.wrong += differing(known, compared);
  }
}

std::vector<MembraneScore> MembraneEvaluation::scores() const {
  std::vector<MembraneScore> scores;
  for (std::size_t k = 0; k < thresholds_.size(); ++k) {
    const Counts& counts = counts_[k];
    scores.push_back({thresholds_[k], counts.rand, counts.rand_thinned, counts.warping,
                      ratio(counts.wrong, pixels_)});
  }
  return scores;
}

nlohmann::json best_scores(std::span<const MembraneScore> scores) {
  nlohmann::json result = nlohmann::json::object();
  if (scores.empty()) return result;
  const auto rand = [&](RandScore MembraneScore::*kind) {
    const MembraneScore& best = *std::ranges::max_element(
        scores, {}, [&](const MembraneScore& score) { return (score.*kind).f_score(); });
    return nlohmann::json{{"value", (best.*kind).f_score()},
                          {"threshold", best.threshold},
                          {"split", (best.*kind).split()},
                          {"merge", (best.*kind).merge()}};
  };
  const auto least = [&](const auto& figure) {
    const MembraneScore& best = *std::ranges::min_element(scores, {}, figure);
    return nlohmann::json{{"value", figure(best)}, {"threshold", best.threshold}};
  };
  result["rand_f_score"] = rand(&MembraneScore::rand);
  result["rand_f_score_thinned"] = rand(&MembraneScore::rand_thinned);
  result["warping_error"] = least([](const MembraneScore& score) { return score.warping.total(); });
  result["splits_and_merges"] =
      least([](const MembraneScore& score) { return score.warping.splits_and_merges(); });
  result["pixel_error"] = least([](const MembraneScore& score) { return score.pixel_error; });
  return result;
}

double ObjectScore::precision() const {
  return ratio(matched, matched + spurious);
}
double ObjectScore::recall() const {
  return ratio(matched, matched + missed);
}
double ObjectScore::f1() const {
  return ratio(2 * matched, 2 * matched + spurious + missed);
}
double ObjectScore::average_precision() const {
  return ratio(matched, matched + spurious + missed);
}

void ObjectEvaluation::add(std::span<const std::uint32_t> truth,
                           std::span<const std::uint32_t> predicted) {
  add(overlaps(truth, predicted));
}

void ObjectEvaluation::add(const std::vector<Overlap>& pairs) {
  std::vector<std::pair<std::uint32_t, std::int64_t>> of_truth, of_prediction;
  for (const Overlap& pair : pairs) {
    of_truth.emplace_back(pair.a, pair.pixels);
    of_prediction.emplace_back(pair.b, pair.pixels);
  }
  const Areas truths(std::move(of_truth)), predictions(std::move(of_prediction));
  truths_ += truths.count();
  predictions_ += predictions.count();
  for (const Overlap& pair : pairs) {
    if (pair.a == 0 || pair.b == 0) continue;
    const std::int64_t area = truths.of(pair.a);
    const double iou = ratio(pair.pixels, area + predictions.of(pair.b) - pair.pixels);
    if (iou > kLeastThreshold) ious_.push_back(iou);
    if (2 * pair.pixels > area) seg_sum_ += iou;
  }
}

ObjectScore ObjectEvaluation::at(double threshold) const {
  require(threshold >= kLeastThreshold,
          "objects: the threshold {} allows an object several matches; give 0.5 or more",
          threshold);
  const std::int64_t matched =
      std::ranges::count_if(ious_, std::bind_front(std::less(), threshold));
  return {threshold, matched, predictions_ - matched, truths_ - matched};
}

double ObjectEvaluation::mean_f1() const {
  double sum = 0;
  for (int step = 0; step < kThresholds; ++step) sum += at(object_threshold(step)).f1();
  return sum / kThresholds;
}

double ObjectEvaluation::mean_average_precision() const {
  double sum = 0;
  for (int step = 0; step < kThresholds; ++step)
    sum += at(object_threshold(step)).average_precision();
  return sum / kThresholds;
}

double ObjectEvaluation::mean_matched_iou() const {
  double sum = 0;
  for (const double iou : ious_) sum += iou;
  return ious_.empty() ? kUndefined : sum / static_cast<double>(ious_.size());
}

double ObjectEvaluation::seg() const {
  return truths_ == 0 ? kUndefined : seg_sum_ / static_cast<double>(truths_);
}

nlohmann::json ObjectEvaluation::json() const {
  const ObjectScore half = at(kLeastThreshold);
  return {{"truth", truths_},
          {"predicted", predictions_},
          {"precision", half.precision()},
          {"recall", half.recall()},
          {"f1", half.f1()},
          {"average_precision", half.average_precision()},
          {"mean_f1", mean_f1()},
          {"mean_average_precision", mean_average_precision()},
          {"mean_matched_iou", mean_matched_iou()},
          {"seg", seg()}};
}

ObjectRows::ObjectRows(std::int64_t width, const InstanceOptions& truth,
                       const InstanceOptions& predicted)
    : truth_(width, truth),
      predicted_(width, predicted),
      true_row_(static_cast<std::size_t>(width)),
      predicted_row_(static_cast<std::size_t>(width)) {}

void ObjectRows::add_row(const std::uint8_t* truth, const std::uint32_t* ids,
                         const std::uint8_t* predicted, std::uint8_t ignored) {
  has_ids_ = ids != nullptr;
  if (!has_ids_) truth_.add_row(truth, true_row_.data());
  predicted_.add_row(predicted, predicted_row_.data());
  const std::uint32_t* const trues = has_ids_ ? ids : true_row_.data();
  std::uint64_t last = 0;  // pixels of no object count nothing
  std::int64_t run = 0;
  for (std::size_t x = 0; x < predicted_row_.size(); ++x) {
    const std::uint64_t key = truth[x] == ignored ? 0 : key_of(trues[x], predicted_row_[x]);
    if (key != last) {
      if (last != 0) pixels_[last] += run;
      last = key;
      run = 0;
    }
    ++run;
  }
  if (last != 0) pixels_[last] += run;
}

std::vector<Overlap> ObjectRows::finish() {
  if (!has_ids_) truth_.finish([](const Instance&) {});
  predicted_.finish([](const Instance&) {});
  std::vector<Overlap> pairs;
  for (const auto& [key, pixels] : pixels_) {
    const auto a = static_cast<std::uint32_t>(key >> 32), b = static_cast<std::uint32_t>(key);
    pairs.push_back({has_ids_ ? a : truth_.label_of(a), predicted_.label_of(b), pixels});
  }
  return joined_pairs(std::move(pairs));
}

}  // namespace tessera
