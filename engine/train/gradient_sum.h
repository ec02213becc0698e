// The gradients of an optimiser step, summed over its batches in an order that depends on their
// number alone: equal bytes for any number of ranks, and for one process that takes all batches in
// turn.
//
// The batches are the leaves of a binary tree, whose nodes are blocks that begin at a multiple of
// their size, a power of two:
//
//   0   1   2   3   4   5
//    \ /     \ /     \ /        a node without a right half is its left half
//     +       +       +
//      \     /       /
//         +         /
//            \     /
//               +
//
// A rank takes a block; within it sums are merged as the carries of a binary counter. The tree
// above is summed by shares: every rank gets its share of each block's sum, and adds
// (engine/train/sharing.h).
//
// Batch norms see one batch at a time, and a run takes their running statistics r to k r + s. Two
// batches, or blocks, in turn take them to k2 (k1 r + s1) + s2: the same tree gives the k and s of
// all, from what each batch makes of statistics of zero.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "engine/train/gradients.h"
#include "engine/train/sharing.h"

namespace tessera {

class GradientSum {
 public:
  // Of steps of at most so many batches. Both must outlive this; the ranks are those of `sharing`,
  // which is of the gradients' weights.
  GradientSum(Gradients& gradients, Sharing& sharing, std::int64_t batches);

  // Calls add(i) for this rank's part of the batches 0 <= i < count, each of which adds its
  // gradients. On return each rank has the sum of its share in `gradients`, and all have equal
  // statistics and every result.
  std::vector<LossResult> run(std::int64_t count,
                              const std::function<LossResult(std::int64_t)>& add);

  // Ranks that take part in a step of so many batches.
  std::int64_t working(std::int64_t count) const;
  // Of the device's memory that steps of so many batches take, beside the gradients.
  std::size_t bytes(std::int64_t count) const;

 private:
  std::int64_t block(std::int64_t count) const;  // batches of a rank, a power of two
  int levels(std::int64_t count) const;          // of the tree of a block
  TensorView kept(std::size_t level) const;
  std::vector<float> statistics() const;
  void set_statistics(const std::vector<float>& values);
  // `right` becomes the statistics of both blocks; it has so many batches.
  void merge(const float* left, float* right, std::int64_t batches) const;

  struct Statistic {
    TensorView value;
    double share;  // k of one batch
  };

  Gradients& gradients_;
  Sharing& sharing_;
  Ranks& ranks_;
  std::vector<TensorView> tensors_;                  // the gradients of all weights
  std::vector<std::unique_ptr<DeviceMemory>> sums_;  // by level: of 1, 2, 4, .. batches
  std::vector<std::vector<float>> added_;            // s of the same batches
  std::vector<Statistic> statistics_;
  std::size_t statistic_size_ = 0;  // floats
};

}  // namespace tessera
