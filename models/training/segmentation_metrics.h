// How well a segmentation agrees with the truth, beyond pixels and classes (confusion_matrix.h):
// membranes by the measures of the ISBI 2012 challenge, objects by their overlap. Each evaluation
// takes image after image and pools their counts, so that large images weigh more.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <unordered_map>
#include <vector>

#include "models/image/instances.h"

namespace tessera {

// The foreground-restricted Rand score (Arganda-Carreras et al., "Crowdsourcing the creation of
// image segmentation algorithms for connectomics", Frontiers in Neuroanatomy 2015, eq. 1-3). With
// p_ij the pixels in segment i of the proposal and j of the truth, s_i = sum_j p_ij and
// t_j = sum_i p_ij over the truth's foreground alone:
//   V_split = sum p_ij^2 / sum t_j^2     falls where the proposal splits what is one
//   V_merge = sum p_ij^2 / sum s_i^2     falls where it merges what is several
//   V       = 2 sum p_ij^2 / (sum s_i^2 + sum t_j^2), their harmonic mean
// Pixels that the proposal calls membrane where the truth does not are segments of one pixel each,
// as in the challenge's own script (Fiji's Trainable Segmentation). Its "Rand error" is 1 - V.
class RandScore {
 public:
  // Segments by pixel; 0 is membrane. Throws Error for sizes that differ.
  void add(std::span<const std::uint32_t> truth, std::span<const std::uint32_t> proposal);

  // NaN where the truth has no foreground.
  double split() const { return joint_ / truth_; }
  double merge() const { return joint_ / proposal_; }
  double f_score() const { return 2 * joint_ / (truth_ + proposal_); }

 private:
  double joint_ = 0, truth_ = 0, proposal_ = 0;  // sums of squares
};

// What still differs after the truth was deformed towards the proposal without change of topology
// (warp_topologically): merged, split, added and lost objects count, shifted borders do not. Jain
// et al., CVPR 2010. The ISBI 2012 challenge counted splits and merges alone, as the pixels where
// they happen; their definition here is that of its script (Fiji's Trainable Segmentation):
//   merge  a pixel of membrane, called cell by the proposal, with two different cells around it
//   split  a pixel of a cell, called membrane, without which its neighbours by edges are no longer
//          connected within 20 pixels
struct WarpingError {
  std::int64_t pixels = 0;  // of the pictures
  std::int64_t differing = 0;
  std::int64_t merges = 0, splits = 0;  // of these

  void add(const WarpingError& other);
  // Shares of all pixels; NaN without any.
  double total() const;
  double splits_and_merges() const;
};

// Of pictures (height, width), 1 in cells, 0 on membrane.
WarpingError warping_error(std::span<const std::uint8_t> truth,
                           std::span<const std::uint8_t> proposal, std::int64_t height,
                           std::int64_t width);

// Segments of a picture of 0 and 1: its 4-connected cells counted from 1, 0 on membrane.
std::vector<std::uint32_t> cell_segments(std::span<const std::uint8_t> cells, std::int64_t height,
                                         std::int64_t width);

// What one threshold on the probability of "cell" gives.
struct MembraneScore {
  double threshold = 0;
  RandScore rand;          // of the segments as they are
  RandScore rand_thinned;  // of the segments after thin_membranes: the challenge's main score
  WarpingError warping;
  double pixel_error = 0;
};

// The challenge takes the best threshold, one for all images.
class MembraneEvaluation {
 public:
  static constexpr std::uint8_t kIgnored = 255;

  // 0.1, 0.2 .. 0.9 unless told.
  explicit MembraneEvaluation(std::vector<double> thresholds = {});

  // `truth`: 1 in cells, 0 on membrane, kIgnored where nobody knows; `cell`: probability of cell.
  // Throws Error for sizes that differ.
  void add(std::span<const std::uint8_t> truth, std::span<const float> cell, std::int64_t height,
           std::int64_t width);

  std::vector<MembraneScore> scores() const;  // by threshold

 private:
  struct Counts {
    RandScore rand, rand_thinned;
    WarpingError warping;
    std::int64_t wrong = 0;  // pixels
  };
  std::vector<double> thresholds_;
  std::vector<Counts> counts_;
  std::int64_t pixels_ = 0;
};

// {"rand_f_score": {"value", "threshold", "split", "merge"}, "rand_f_score_thinned": {..},
// "warping_error": {"value", "threshold"}, "splits_and_merges": {..}, "pixel_error": {..}}: each at
// its best threshold.
nlohmann::json best_scores(std::span<const MembraneScore> scores);

// Objects at one threshold: a pair whose IoU is ABOVE the threshold is a match. From 0.5 on an
// object can be part of one match only, so that no assignment is to be chosen.
struct ObjectScore {
  double threshold = 0;
  std::int64_t matched = 0, spurious = 0, missed = 0;  // TP, FP, FN
  double precision() const;
  double recall() const;
  double f1() const;
  double average_precision() const;  // TP / (TP + FP + FN), of the Data Science Bowl 2018
};

// How many pixels have the ids (a, b).
struct Overlap {
  std::uint32_t a, b;
  std::int64_t pixels;
};

class ObjectEvaluation {
 public:
  // Object ids by pixel; 0 is background. Throws Error for sizes that differ.
  void add(std::span<const std::uint32_t> truth, std::span<const std::uint32_t> predicted);
  // Of true and predicted ids, each pair once, ordered by both.
  void add(const std::vector<Overlap>& pairs);

  std::int64_t truths() const { return truths_; }
  std::int64_t predictions() const { return predictions_; }
  ObjectScore at(double threshold) const;  // Throws Error below 0.5.
  // Over the thresholds 0.5, 0.55 .. 0.95.
  double mean_f1() const;
  double mean_average_precision() const;
  double mean_matched_iou() const;  // of the matches at 0.5; NaN without any
  // The Cell Tracking Challenge's SEG, which the U-Net paper reports as IoU: the mean over the true
  // objects of the IoU with the predicted object that covers more than half of it, 0 without one
  // (Maska et al., Bioinformatics 2014).
  double seg() const;

  // {"truth", "predicted", "precision", "recall", "f1", "average_precision", "mean_f1",
  // "mean_average_precision", "mean_matched_iou", "seg"}
  nlohmann::json json() const;

 private:
  std::int64_t truths_ = 0, predictions_ = 0;
  std::vector<double> ious_;  // of the pairs above 0.5
  double seg_sum_ = 0;
};

// The overlaps of a picture whose rows come one by one, from above to below. Memory grows with the
// width and the number of objects.
class ObjectRows {
 public:
  // Objects are the connected components of classes; true ones only where the truth has no ids.
  ObjectRows(std::int64_t width, const InstanceOptions& truth, const InstanceOptions& predicted);

  // `ids`: the truth's own, or null in every row. What has the true class `ignored` counts nothing.
  void add_row(const std::uint8_t* truth, const std::uint32_t* ids, const std::uint8_t* predicted,
               std::uint8_t ignored);
  std::vector<Overlap> finish();

 private:
  InstanceFinder truth_, predicted_;
  bool has_ids_ = false;
  std::vector<std::uint32_t> true_row_, predicted_row_;
  std::unordered_map<std::uint64_t, std::int64_t> pixels_;  // of pairs of provisional ids
};

}  // namespace tessera
