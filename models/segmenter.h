// Segments images of any size: cuts the answer into tiles, makes each by the part of the network
// that it takes, with mirrored borders, and puts them together: equal to the untiled one to the
// byte.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <vector>

#include "engine/files/weights.h"
#include "engine/graph/window.h"
#include "engine/run/executor.h"
#include "models/image/image.h"
#include "models/model_file.h"
#include "models/session.h"

namespace tessera {

class Segmenter {
 public:
  // The network of `file`, with all weights that it has; `file` must outlive it. Uses of `options`:
  // probabilities, winograd.
  static std::shared_ptr<const Compiled> compile(ModelFile& file, const SessionOptions& options,
                                                 std::shared_ptr<const Device> device);
  // `compiled` is what `compile` made of `file` and `options`; segmenters of several threads share
  // it. `file` must outlive it. Uses of `options`: threads, max_memory, tile, probabilities.
  // `sharers` segmenters divide the memory for maps and images among them.
  Segmenter(const ModelFile& file, const SessionOptions& options,
            std::shared_ptr<const Compiled> compiled, int sharers);

  Segmentation segment(const Image& image, const Session::Progress& progress,
                       std::vector<NodeTiming>* timings);
  SegmentationPlan plan(std::int64_t height, std::int64_t width);
  const ImageSizes& sizes() const { return sizes_; }

 private:
  // How one image is cut: rows and columns of tiles.
  struct Tiling {
    std::vector<AxisPiece> rows, columns;
    std::int64_t height = 0, width = 0;  // of the largest input
    std::int64_t largest_side() const { return std::max(height, width); }
  };

  Tiling choose_tiling(std::int64_t height, std::int64_t width);
  // Operations of all tiles, over those of the whole at once.
  double work(std::int64_t height, std::int64_t width, const Tiling& tiling) const;
  // With inputs of at most `tile` pixels a side; none where no pieces are that small.
  std::optional<Tiling> cut_image(std::int64_t height, std::int64_t width, std::int64_t tile) const;
  // The whole that tiles of an image are cut from.
  TensorType whole(std::int64_t height, std::int64_t width) const;
  // Tiles and memory of this tiling, for an 8-bit image.
  SegmentationPlan memory(std::int64_t height, std::int64_t width, const Tiling& tiling);
  // The arenas that a run reuses or replaces, or that others of the sharers have.
  std::size_t arena_bytes() const;
  // Resident bytes without those.
  std::size_t held() const;
  // Bytes that a plan may take: of the process, or on a GPU of its memory.
  std::size_t limit() const;
  // All that it could take, if nothing else wanted any.
  std::size_t available() const;
  std::uint64_t needed(const SegmentationPlan& plan) const {
    return on_gpu() ? plan.device : plan.peak;
  }
  // A tile that the user chose must fit into memory: throws Error with one that does.
  void require_memory(std::int64_t height, std::int64_t width, const Tiling& tiling);
  // Says once that tiles repeat most of the work, and what would not.
  void note_work(std::int64_t height, std::int64_t width, const Tiling& tiling);
  bool on_gpu() const { return !executor_.device().is_host(); }

  const ModelFile& file_;
  SessionOptions options_;
  int sharers_;
  ImageSizes sizes_;
  std::int64_t outputs_ = 0;  // channels of the probabilities, if they are asked for
  Executor executor_;
  bool work_noted_ = false;
};

}  // namespace tessera
