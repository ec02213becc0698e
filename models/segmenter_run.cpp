// Runs what models/segmenter.cpp planned: bands, tiles and windows.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/image/image_rows.h"
#include "models/image/pixel_steps.h"
#include "models/segmenter.h"

namespace tessera {

namespace {

bool needs_all_pixels(const Preprocessing& preprocessing) {
  return preprocessing.scale == Scale::kStandardize || preprocessing.scale == Scale::kMinMax ||
         (preprocessing.range && preprocessing.range->automatic);
}

}  // namespace

// Gives rows of what the network reads: the image's, normalised, mirrored beyond its borders.
class Segmenter::Reader {
 public:
  Reader(const Source& source, const Preprocessing& preprocessing,
         const std::optional<LinearScale>& scale, const ImageSizes& sizes)
      : source_(source),
        normaliser_(source.pixels, preprocessing, scale),
        sizes_(sizes),
        line_(static_cast<std::size_t>(source.pixels.width * preprocessing.channels)),
        channels_(preprocessing.channels) {}

  // Rows `y` and columns `x` of the whole input, which begins a margin outside of the image.
  void read(Interval y, Interval x, float* to) {
    for (std::int64_t i = y.begin; i < y.end; ++i, to += x.size() * channels_) {
      const std::int64_t row = mirror_index(i - sizes_.margin(0), source_.height) - source_.y;
      normaliser_.rows(row, row + 1, line_);
      mirror_row(line_.data(), source_.x, source_.width, channels_, x.begin - sizes_.margin(1),
                 x.end - sizes_.margin(1), to);
    }
  }

 private:
  Source source_;
  RowNormaliser normaliser_;
  const ImageSizes& sizes_;
  std::vector<float> line_;
  std::int64_t channels_;
};

Segmentation Segmenter::segment(const Image& image, const Session::Progress& progress,
                                std::vector<NodeTiming>* timings) {
  const std::int64_t height = image.height, width = image.width;
  const Tiling tiling = choose_tiling(height, width);
  note_work(height, width, tiling);
  Reader reader({image, height, width, 0, 0}, file_.config.preprocessing, {}, sizes_);
  Segmentation result = empty_result(height, width);
  const auto strips = static_cast<std::int64_t>(tiling.columns.size());
  std::int64_t done = 0;
  for (const AxisPiece& column : tiling.columns) {
    if (tiling.band > 0) {
      const BandedPlan plan = bands_of(height, width, tiling, column);
      executor_.run_bands(
          plan,
          [&](Interval rows, const TensorView& to) {
            reader.read(rows, column.input(executor_.graph()), to.as<float>());
          },
          [&](std::size_t k, Interval rows, const TensorView& from) {
            keep(from, k, rows, rows, column, {0, 0}, result);
          },
          [&] {
            if (progress) progress(++done, strips * plan.layout.bands);
          },
          timings);
      continue;
    }
    for (const AxisPiece& row : tiling.rows) {
      run_tile(reader, row, column, {0, 0}, result, timings);
      if (progress) progress(++done, static_cast<std::int64_t>(tiling.rows.size()) * strips);
    }
  }
  file_.weights.release_pages();
  return result;
}

Segmentation Segmenter::segment(const Image& pixels, const SegmentationWindow& window,
                                const PixelScale* scale, std::vector<NodeTiming>* timings) {
  const SegmentationWindow& w = window;
  require(
      w == window_of(w.image_height, w.image_width, w.y, w.x, w.height, w.width),
      "the window of {} x {} pixels at {}, {} of an image of {} x {} reads other pixels than it "
      "says; take it from windows() or window() of this model",
      w.height, w.width, w.y, w.x, w.image_height, w.image_width);
  require(pixels.height == w.read_height && pixels.width == w.read_width,
          "{} x {} pixels were given to a window that reads {} x {}", pixels.height, pixels.width,
          w.read_height, w.read_width);
  const Preprocessing& preprocessing = file_.config.preprocessing;
  require(std::ranges::none_of(preprocessing.steps, measures),
          "the model's preprocessing measures the whole image in a step of its own; segment the "
          "image as a whole");
  require(needs_all_pixels(preprocessing) == (scale != nullptr),
          "the scale of all pixels of an image was {}, the model's preprocessing {} it",
          scale != nullptr ? "given" : "not given", scale != nullptr ? "does not take" : "needs");
  require(
      scale == nullptr ||
          (std::isfinite(scale->offset) && scale->divisor > 0 && std::isfinite(scale->divisor)),
      "the image's scale is not finite, or its divisor not above 0; take it from pixel_scale()");
  std::optional<LinearScale> whole;
  if (scale != nullptr) whole = LinearScale{scale->offset, scale->divisor};
  const AxisPiece row = piece_along(0, w.image_height, {w.y, w.y + w.height});
  const AxisPiece column = piece_along(1, w.image_width, {w.x, w.x + w.width});
  Reader reader({pixels, w.image_height, w.image_width, w.read_y, w.read_x}, preprocessing, whole,
                sizes_);
  Segmentation result = empty_result(w.height, w.width);
  run_tile(reader, row, column, {w.y, w.x}, result, timings);
  file_.weights.release_pages();
  return result;
}

Segmentation Segmenter::empty_result(std::int64_t height, std::int64_t width) const {
  Segmentation result{
      .height = height, .width = width, .mask = {}, .probabilities = {}, .outputs = outputs_};
  result.mask.resize(static_cast<std::size_t>(height * width));
  if (options_.probabilities)
    result.probabilities.resize(result.mask.size() * static_cast<std::size_t>(outputs_));
  return result;
}

void Segmenter::keep(const TensorView& from, std::size_t k, Interval rows, Interval wanted,
                     const AxisPiece& column, Corner corner, Segmentation& result) const {
  const Interval columns = column.output(executor_.graph());
  const std::size_t pixel = k == 0 ? 1 : sizeof(float) * static_cast<std::size_t>(outputs_);
  std::byte* to = k == 0 ? reinterpret_cast<std::byte*>(result.mask.data())
                         : reinterpret_cast<std::byte*>(result.probabilities.data());
  const std::int64_t first = column.wanted.begin;
  const std::int64_t count = std::min(column.wanted.end, corner.x + result.width) - first;
  for (std::int64_t y = wanted.begin; y < std::min(wanted.end, corner.y + result.height); ++y) {
    const std::int64_t at = (y - rows.begin) * columns.size() + first - columns.begin;
    const std::int64_t place = (y - corner.y) * result.width + first - corner.x;
    std::memcpy(to + static_cast<std::size_t>(place) * pixel,
                from.as<std::byte>() + static_cast<std::size_t>(at) * pixel,
                static_cast<std::size_t>(count) * pixel);
  }
}

void Segmenter::run_tile(Reader& reader, const AxisPiece& row, const AxisPiece& column,
                         Corner corner, Segmentation& result, std::vector<NodeTiming>* timings) {
  const Graph& graph = executor_.graph();
  const Interval to_y = row.output(graph), to_x = column.output(graph);
  const TensorType in = sizes_.type(row.input(graph).size(), column.input(graph).size());
  std::vector<float> input(static_cast<std::size_t>(in.shape.elements()));
  reader.read(row.input(graph), column.input(graph), input.data());
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(to_y.size() * to_x.size()));
  std::vector<float> probabilities;
  std::vector<TensorView> outputs{{mask.data(), {DType::kU8, {1, to_y.size(), to_x.size()}}}};
  if (options_.probabilities) {
    const TensorType type{DType::kF32, {1, to_y.size(), to_x.size(), outputs_}};
    probabilities.resize(static_cast<std::size_t>(type.shape.elements()));
    outputs.push_back({probabilities.data(), type});
  }
  executor_.run(piece_of(graph, row, column), std::vector<TensorView>{{input.data(), in}}, outputs,
                timings);
  for (std::size_t k = 0; k < outputs.size(); ++k)
    keep(outputs[k], k, to_y, row.wanted, column, corner, result);
}

AxisPiece Segmenter::piece_along(int axis, std::int64_t pixels, Interval kept) const {
  const TensorType input = axis == 0 ? whole(pixels, 1) : whole(1, pixels);
  const Graph& graph = executor_.graph();
  return window(graph, 1 + axis, sizes_along(infer_types(graph, {&input, 1}), 1 + axis), kept);
}

SegmentationWindow Segmenter::window_of(std::int64_t image_height, std::int64_t image_width,
                                        std::int64_t y, std::int64_t x, std::int64_t height,
                                        std::int64_t width) const {
  const auto lies_in = [](std::int64_t begin, std::int64_t size, std::int64_t all) {
    constexpr std::int64_t kMost = std::int64_t{1} << 31;
    return 0 < all && all < kMost && 0 <= begin && 0 < size && size <= all && begin <= all - size;
  };
  require(
      lies_in(y, height, image_height) && lies_in(x, width, image_width),
      "a window of {} x {} pixels at {}, {} does not lie in an image of {} x {} (each side below "
      "2^31)",
      height, width, y, x, image_height, image_width);
  // What lies beyond a border mirrors to what lies before it.
  const auto read = [&](int axis, std::int64_t pixels, Interval kept) {
    Interval inside;
    const Interval input = piece_along(axis, pixels, kept).input(executor_.graph());
    for (std::int64_t i = input.begin; i < input.end; ++i) {
      const std::int64_t at = mirror_index(i - sizes_.margin(axis), pixels);
      inside = hull(inside, {at, at + 1});
    }
    return inside;
  };
  const Interval rows = read(0, image_height, {y, y + height});
  const Interval columns = read(1, image_width, {x, x + width});
  return {image_height, image_width,   y, x, height, width, rows.begin, columns.begin,
          rows.size(),  columns.size()};
}

std::vector<SegmentationWindow> Segmenter::windows(std::int64_t height, std::int64_t width,
                                                   std::int64_t tile) const {
  require(height > 0 && width > 0 && tile > 0,
          "windows of {} pixels of an image of {} x {}; expected numbers above 0", tile, height,
          width);
  const Tiling tiling = tiles_of(height, width, tile);
  const auto kept = [](const AxisPiece& piece, std::int64_t pixels) {
    return std::min(piece.wanted.end, pixels) - piece.wanted.begin;
  };
  std::vector<SegmentationWindow> windows;
  for (const AxisPiece& row : tiling.rows) {
    for (const AxisPiece& column : tiling.columns)
      windows.push_back(window_of(height, width, row.wanted.begin, column.wanted.begin,
                                  kept(row, height), kept(column, width)));
  }
  return windows;
}

}  // namespace tessera
