#include "models/training/confusion_matrix.h"

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>

#include "kernels/error.h"

namespace tessera {

double ratio(std::int64_t part, std::int64_t whole) {
  if (whole == 0) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(part) / static_cast<double>(whole);
}

void ConfusionMatrix::add(std::size_t truth, std::size_t predicted, std::int64_t count) {
  require(truth < classes_ && predicted < classes_,
          "confusion: class {} predicted as {}, expected classes 0 to {}", truth, predicted,
          static_cast<std::int64_t>(classes_) - 1);
  counts_[truth * classes_ + predicted] += count;
}

void ConfusionMatrix::add(std::span<const std::uint8_t> truth,
                          std::span<const std::uint8_t> predicted, std::uint8_t ignored) {
  require(truth.size() == predicted.size(), "confusion: {} true classes and {} predicted ones",
          truth.size(), predicted.size());
  for (std::size_t i = 0; i < truth.size(); ++i) {
    if (truth[i] != ignored) add(truth[i], predicted[i]);
  }
}

void ConfusionMatrix::add(const ConfusionMatrix& other) {
  require(classes_ == other.classes_, "confusion: {} classes and {}", classes_, other.classes_);
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
}

std::int64_t ConfusionMatrix::total() const {
  return std::reduce(counts_.begin(), counts_.end());
}

std::int64_t ConfusionMatrix::right() const {
  std::int64_t sum = 0;
  for (std::size_t c = 0; c < classes_; ++c) sum += at(c, c);
  return sum;
}

std::int64_t ConfusionMatrix::of_truth(std::size_t c) const {
  std::int64_t sum = 0;
  for (std::size_t other = 0; other < classes_; ++other) sum += at(c, other);
  return sum;
}

std::int64_t ConfusionMatrix::of_prediction(std::size_t c) const {
  std::int64_t sum = 0;
  for (std::size_t other = 0; other < classes_; ++other) sum += at(other, c);
  return sum;
}

double ConfusionMatrix::accuracy() const {
  return ratio(right(), total());
}

double ConfusionMatrix::precision(std::size_t c) const {
  return ratio(at(c, c), of_prediction(c));
}

double ConfusionMatrix::recall(std::size_t c) const {
  return ratio(at(c, c), of_truth(c));
}

double ConfusionMatrix::f1(std::size_t c) const {
  return ratio(2 * at(c, c), of_truth(c) + of_prediction(c));
}

double ConfusionMatrix::iou(std::size_t c) const {
  return ratio(at(c, c), of_truth(c) + of_prediction(c) - at(c, c));
}

double ConfusionMatrix::mean(double (ConfusionMatrix::*figure)(std::size_t) const) const {
  double sum = 0;
  int count = 0;
  for (std::size_t c = 0; c < classes_; ++c) {
    const double value = (this->*figure)(c);
    if (std::isnan(value)) continue;
    sum += value;
    ++count;
  }
  return count > 0 ? sum / count : std::numeric_limits<double>::quiet_NaN();
}

nlohmann::json ConfusionMatrix::json(std::span<const std::string> names) const {
  require(names.size() == classes_, "confusion: {} names for {} classes", names.size(), classes_);
  nlohmann::json result = {{"accuracy", accuracy()},
                           {"total", total()},
                           {"right", right()},
                           {"mean_iou", mean(&ConfusionMatrix::iou)},
                           {"mean_f1", mean(&ConfusionMatrix::f1)},
                           {"classes", nlohmann::json::array()},
                           {"matrix", nlohmann::json::array()}};
  for (std::size_t c = 0; c < classes_; ++c) {
    result["classes"].push_back({{"name", names[c]},
                                 {"precision", precision(c)},
                                 {"recall", recall(c)},
                                 {"f1", f1(c)},
                                 {"iou", iou(c)},
                                 {"truth", of_truth(c)},
                                 {"predicted", of_prediction(c)}});
    nlohmann::json row = nlohmann::json::array();
    for (std::size_t other = 0; other < classes_; ++other) row.push_back(at(c, other));
    result["matrix"].push_back(std::move(row));
  }
  return result;
}

}  // namespace tessera
