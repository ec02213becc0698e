// Counts of (true class, predicted class), and the figures that follow from them. Of pixels or of
// documents.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

namespace tessera {

double ratio(std::int64_t part, std::int64_t whole);  // NaN of nothing

// Figures are NaN where they have no value (a class that neither occurs nor is predicted: 0 / 0);
// means leave such classes out. With TP, FP, FN of one class against all others:
//   precision = TP / (TP + FP)           recall = TP / (TP + FN)
//   F1 = Dice = 2 TP / (2 TP + FP + FN)  IoU = Jaccard = TP / (TP + FP + FN)
class ConfusionMatrix {
 public:
  explicit ConfusionMatrix(std::size_t classes) : classes_(classes), counts_(classes * classes) {}

  // Throws Error for a class beyond the matrix.
  void add(std::size_t truth, std::size_t predicted, std::int64_t count = 1);
  // Pixel by pixel; truths of the class `ignored` do not count. Throws Error for sizes that differ.
  void add(std::span<const std::uint8_t> truth, std::span<const std::uint8_t> predicted,
           std::uint8_t ignored);
  void add(const ConfusionMatrix& other);

  std::size_t classes() const { return classes_; }
  std::int64_t at(std::size_t truth, std::size_t predicted) const {
    return counts_[truth * classes_ + predicted];
  }
  std::int64_t total() const;
  std::int64_t right() const;
  std::int64_t of_truth(std::size_t c) const;       // TP + FN
  std::int64_t of_prediction(std::size_t c) const;  // TP + FP

  double accuracy() const;  // 1 - the pixel error
  double precision(std::size_t c) const;
  double recall(std::size_t c) const;
  double f1(std::size_t c) const;
  double iou(std::size_t c) const;

  // The mean of one of the figures over the classes that have it: mean(&ConfusionMatrix::iou).
  double mean(double (ConfusionMatrix::*figure)(std::size_t) const) const;

  // {"accuracy", "total", "right", "mean_iou", "mean_f1", "classes": [{"name", "precision",
  // "recall", "f1", "iou", "truth", "predicted"}], "matrix": [[..]]}; NaN becomes null. `names`:
  // one per class.
  nlohmann::json json(std::span<const std::string> names) const;

 private:
  std::size_t classes_;
  std::vector<std::int64_t> counts_;  // (truth, predicted)
};

}  // namespace tessera
