// Segments images of any size: at once, in bands of rows, or in tiles, each made by the part of the
// network that it takes, with mirrored borders, and puts them together: equal to the whole to the
// byte.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "engine/files/weights.h"
#include "engine/graph/window.h"
#include "engine/run/executor.h"
#include "models/image/image_rows.h"
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
  // Of so many images of one size, as one; `progress` hears of tiles.
  std::vector<Segmentation> segment(std::span<const Image> images,
                                    const Session::Progress& progress,
                                    std::vector<NodeTiming>* timings);
  SegmentationPlan plan(std::int64_t height, std::int64_t width);
  // Images of this size that run as one.
  std::int64_t batch(std::int64_t height, std::int64_t width);

  // What models/session.h says of windows.
  std::vector<SegmentationWindow> windows(std::int64_t height, std::int64_t width,
                                          std::int64_t tile) const;
  SegmentationWindow window_of(std::int64_t image_height, std::int64_t image_width, std::int64_t y,
                               std::int64_t x, std::int64_t height, std::int64_t width) const;
  Segmentation segment(const Image& pixels, const SegmentationWindow& window,
                       const std::optional<LinearScale>& scale, const Session::Progress& progress,
                       std::vector<NodeTiming>* timings);
  // Throws Error unless `window` is one of this model, for pixels of this size.
  void require_window(const SegmentationWindow& window, std::int64_t height,
                      std::int64_t width) const;
  // `pixel_bytes`: of the image; 0: of one of 8 bits.
  SegmentationPlan plan(const SegmentationWindow& window, std::uint64_t pixel_bytes);
  WindowGrid window_grid(std::int64_t height, std::int64_t width, const WindowWish& wish);

  const ImageSizes& sizes() const { return sizes_; }

 private:
  // How one image is cut: rows and columns of tiles.
  struct Tiling {
    std::vector<AxisPiece> rows, columns;
    std::int64_t height = 0, width = 0;  // of the largest input
    std::int64_t band = 0;   // above 0: the rows are one piece, which runs in bands of so many
    std::int64_t batch = 1;  // images that run as one; of bands one alone
    std::int64_t largest_side() const { return std::max(height, width); }
  };

  // An image, or the part of it that begins with pixel (y, x).
  struct Source {
    const Image& pixels;
    std::int64_t height, width;  // of the whole image
    std::int64_t y, x;
  };
  class Reader;

  // What of images a plan counts: bytes of pixels, pixels of the result, and what else the caller
  // makes of each.
  struct HeldImage {
    std::uint64_t pixels, kept, caller = 0;
  };

  struct Corner {
    std::int64_t y, x;
  };

  // The piece along an axis, rows 0 or columns 1, that holds `kept` of so many pixels.
  AxisPiece piece_along(int axis, std::int64_t pixels, Interval kept) const;
  // Those of the image that it takes: what lies beyond a border mirrors to what lies before it.
  Interval read_along(int axis, std::int64_t pixels, Interval kept) const;
  // Of windows that keep `side` of so many pixels, what one keeps that reads the most.
  Interval widest_along(int axis, std::int64_t pixels, std::int64_t side) const;
  Segmentation empty_result(std::int64_t height, std::int64_t width) const;
  // Runs all tiles, or bands, of images as one; `results` begin with pixel `corner` of the images.
  void run(const Tiling& tiling, std::span<Reader> readers, Corner corner,
           std::span<Segmentation> results, const Session::Progress& progress,
           std::vector<NodeTiming>* timings);
  // Runs one tile of each.
  void run_tile(std::span<Reader> readers, const AxisPiece& row, const AxisPiece& column,
                Corner corner, std::span<Segmentation> results, std::vector<NodeTiming>* timings);
  // Copies rows `wanted`, and the columns that are wanted, of rows `rows` of the graph's output k.
  void keep(const TensorView& from, std::size_t k, Interval rows, Interval wanted,
            const AxisPiece& column, Corner corner, Segmentation& result) const;
  // With inputs of at most `tile` pixels a side; throws Error, with the least, where none are that
  // small.
  Tiling tiles_of(std::int64_t height, std::int64_t width, std::int64_t tile) const;
  Tiling choose_tiling(std::int64_t height, std::int64_t width);
  // The least cut that fits into the limit: of rows in bands, where the network allows that, and
  // of columns where a band of all is too large. None where nothing fits; then `least` are the
  // bytes of the smallest.
  std::optional<Tiling> choose_by_memory(std::int64_t height, std::int64_t width,
                                         std::uint64_t& least);
  static std::int64_t largest_input(const Graph& graph, const std::vector<AxisPiece>& pieces);
  bool can_run_in_bands(std::int64_t height, std::int64_t width) const;
  BandedPlan bands_of(std::int64_t height, std::int64_t width, const Tiling& tiling,
                      const AxisPiece& columns);
  // As many as are asked for, or are worth it, and fit into memory.
  std::int64_t batch_of(std::int64_t height, std::int64_t width, Tiling tiling);
  // Operations of all tiles, over those of the whole at once.
  double work(std::int64_t height, std::int64_t width, const Tiling& tiling) const;
  // With inputs of at most `tile_height` x `tile_width` pixels; none where no pieces are that
  // small.
  std::optional<Tiling> cut_image(std::int64_t height, std::int64_t width, std::int64_t tile_height,
                                  std::int64_t tile_width) const;
  std::optional<Tiling> cut_image(std::int64_t height, std::int64_t width,
                                  std::int64_t tile) const {
    return cut_image(height, width, tile, tile);
  }
  // The whole that tiles of an image are cut from.
  TensorType whole(std::int64_t height, std::int64_t width) const;
  // Tiles and memory of this tiling.
  SegmentationPlan memory(std::int64_t height, std::int64_t width, const Tiling& tiling,
                          const HeldImage& held);
  // Of the whole image, in 8 bits.
  SegmentationPlan memory(std::int64_t height, std::int64_t width, const Tiling& tiling) {
    const auto pixels = static_cast<std::uint64_t>(height * width);
    return memory(height, width, tiling,
                  {pixels * static_cast<std::uint64_t>(image_channels(file_.config)), pixels,
                   options_.caller_bytes_per_pixel});
  }
  // A window as the one tile that it is, and how it runs: the first way that fits into memory, or
  // whose maps fit into `maps` bytes, where they are above 0; or the last one.
  Tiling cut_window(const SegmentationWindow& window) const;
  SegmentationPlan fit(const SegmentationWindow& window, const HeldImage& held, Tiling& tiling,
                       std::uint64_t maps = 0);
  Tiling tiling_of(const SegmentationWindow& window);
  // The arenas that a run reuses or replaces, or that others of the sharers have.
  std::size_t arena_bytes() const;
  // Resident bytes without those.
  std::size_t held() const;
  // Bytes that a plan may take: of the process, or on a GPU of its memory.
  std::size_t limit() const { return limit(options_.max_memory, sharers_); }
  // `most`: what is asked for, or 0.
  std::size_t limit(std::size_t most, int sharers) const;
  // All that it could take, if nothing else wanted any.
  std::size_t available() const;
  std::uint64_t needed(const SegmentationPlan& plan) const {
    return on_gpu() ? plan.device : plan.peak;
  }
  // A tile that the user chose must fit into memory: throws Error with one that does.
  void require_memory(std::int64_t height, std::int64_t width, const Tiling& tiling);
  // That tiles repeat most of the work, and what would not; empty where they do not.
  std::string advice(std::int64_t height, std::int64_t width, const Tiling& tiling);
  // Says it once.
  void note_work(std::int64_t height, std::int64_t width, const Tiling& tiling);
  bool on_gpu() const { return !executor_.device().is_host(); }

  const ModelFile& file_;
  SessionOptions options_;
  int sharers_;
  ImageSizes sizes_;
  std::int64_t outputs_ = 0;  // channels of the probabilities, if they are asked for
  Executor executor_;
  bool work_noted_ = false;
  std::uint64_t grid_maps_ = 0;  // bytes for maps in the plan of the last window_grid()
};

}  // namespace tessera
