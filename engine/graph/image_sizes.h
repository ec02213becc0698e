// Which sizes of an image a network takes, and what it gives for them: from `infer` alone.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>

#include "engine/graph/graph.h"

namespace tessera {

// Axis 0 are rows, axis 1 columns; sizes are pixels along one of them. Not for two threads at once.
class ImageSizes {
 public:
  // `graph`, unfused, maps one image of `channels` to a map of the same resolution, its first
  // output. Only multiples of `multiple` run, which a network may need beyond what `infer` refuses.
  // Throws Error, with the reason of the largest size tried, where none runs, and where the map has
  // another resolution.
  ImageSizes(Graph graph, std::int64_t channels, std::int64_t multiple = 1);

  // Pixels of the map for `input` pixels. None where `infer` refuses them, or where a skip's
  // centred crop would not be centred: the size picks the mirrored border, and so the answer.
  std::optional<std::int64_t> output(int axis, std::int64_t input) const;

  // The smallest that runs and gives `output` pixels or more. Throws Error where none does.
  std::int64_t input(int axis, std::int64_t output) const;

  // The smallest that runs and is not below `input`: what to take instead of one that does not run.
  std::int64_t next(int axis, std::int64_t input) const;

  // Input pixels lost on each side: the map's first pixel is that of the image `margin` further in.
  std::int64_t margin(int axis) const { return margin_[index(axis)]; }

  TensorType type(std::int64_t height, std::int64_t width, std::int64_t batch = 1) const {
    return {DType::kF32, {batch, height, width, channels_}};
  }
  TensorType least() const { return type(least_[0], least_[1]); }  // the smallest that runs

 private:
  static std::size_t index(int axis) { return static_cast<std::size_t>(axis); }
  // Throws infer's Error.
  std::optional<std::int64_t> try_output(int axis, const TensorType& image) const;

  Graph graph_;
  std::int64_t channels_, multiple_;
  std::array<std::int64_t, 2> least_{}, margin_{};
  mutable std::array<std::map<std::int64_t, std::optional<std::int64_t>>, 2> known_;
};

}  // namespace tessera
