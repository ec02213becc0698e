// How ranks share the parameters of a training (ZeRO stage 1; Rajbhandari et al. 2020, "ZeRO:
// memory optimizations toward training trillion parameter models"): each has a share of their
// elements, sums its gradients, alone keeps the optimiser's state of it, and hands all others what
// it made of its weights. That moves as many bytes as if all ranks got the whole sum.
//
// A parameter is cut into pieces that depend on no rank, and a share is a run of pieces: what is
// summed within a piece, and then over pieces in their order, has equal bytes for any number of
// ranks.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/train/transport.h"

namespace tessera {

// Elements [begin, begin + count) of a tensor.
struct SharedPiece {
  std::size_t tensor;
  std::int64_t begin, count;
};

class Sharing {
 public:
  // Of tensors of so many elements, 0 where nothing of one is shared.
  Sharing(std::span<const std::int64_t> elements, std::shared_ptr<Transport> transport);

  Ranks& ranks() const { return transport_->ranks(); }
  // This rank's, in the order of tensors; and those of all, rank by rank.
  std::span<const SharedPiece> own() const;
  std::span<const SharedPiece> all() const { return pieces_; }

  // In all that follow `tensors` are f32, in the order of the constructor's; those of which nothing
  // is shared are not read.

  // What `tensors`, in the device's memory, hold on the first `senders` ranks is summed as the tree
  // of engine/train/gradient_sum.h has it. Each rank's share of them becomes the sum; the rest
  // stays. No element may be -0.
  void sum(std::span<const TensorView> tensors, int senders);
  // All ranks get each share of `tensors`, in the device's memory, from its rank.
  void gather(std::span<const TensorView> tensors);
  // What each rank has in the device's memory for its pieces, one behind the other, gathered into
  // `whole`, in host memory; a rank that gives none takes part and gets nothing.
  void collect(const Stretches& own, std::span<const TensorView> whole) const;

 private:
  Stretches stretches(int rank, std::span<const TensorView> tensors) const;
  std::vector<Stretches> all_stretches(std::span<const TensorView> tensors) const;
  std::int64_t longest() const;  // floats of the greatest share

  std::shared_ptr<Transport> transport_;
  std::vector<SharedPiece> pieces_;
  std::vector<std::size_t> begins_;  // of each rank's among them, and the end
  GrowingMemory received_;
};

}  // namespace tessera
