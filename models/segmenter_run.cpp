// Runs what models/segmenter.cpp and segmenter_windows.cpp planned: bands, tiles and windows.
#include <algorithm>
#include <cstring>

#include "models/image/image_rows.h"
#include "models/segmenter.h"

namespace tessera {

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

  std::int64_t height() const { return source_.height; }  // of the whole image
  std::int64_t width() const { return source_.width; }

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
  return std::move(segment(std::span(&image, 1), progress, timings)[0]);
}

std::vector<Segmentation> Segmenter::segment(std::span<const Image> images,
                                             const Session::Progress& progress,
                                             std::vector<NodeTiming>* timings) {
  const std::int64_t height = images[0].height, width = images[0].width;
  const Tiling tiling = choose_tiling(height, width);
  note_work(height, width, tiling);
  std::vector<Reader> readers;
  for (const Image& image : images)
    readers.emplace_back(Source{image, height, width, 0, 0}, file_.config.preprocessing,
                         std::nullopt, sizes_);
  std::vector<Segmentation> results(images.size(), empty_result(height, width));
  run(tiling, readers, {0, 0}, results, progress, timings);
  file_.weights.release_pages();
  return results;
}

Segmentation Segmenter::segment(const Image& pixels, const SegmentationWindow& window,
                                const std::optional<LinearScale>& scale,
                                const Session::Progress& progress,
                                std::vector<NodeTiming>* timings) {
  const SegmentationWindow& w = window;
  const Tiling tiling = tiling_of(w);
  Reader reader({pixels, w.image_height, w.image_width, w.read_y, w.read_x},
                file_.config.preprocessing, scale, sizes_);
  Segmentation result = empty_result(w.height, w.width);
  run(tiling, {&reader, 1}, {w.y, w.x}, {&result, 1}, progress, timings);
  file_.weights.release_pages();
  return result;
}

void Segmenter::run(const Tiling& tiling, std::span<Reader> readers, Corner corner,
                    std::span<Segmentation> results, const Session::Progress& progress,
                    std::vector<NodeTiming>* timings) {
  const auto strips = static_cast<std::int64_t>(tiling.columns.size());
  std::int64_t done = 0;
  for (const AxisPiece& column : tiling.columns) {
    if (tiling.band > 0) {
      Reader& reader = readers[0];
      const BandedPlan plan = bands_of(reader.height(), reader.width(), tiling, column);
      executor_.run_bands(
          plan,
          [&](Interval rows, const TensorView& to) {
            reader.read(rows, column.input(executor_.graph()), to.as<float>());
          },
          [&](std::size_t k, Interval rows, const TensorView& from) {
            keep(from, k, rows, rows, column, corner, results[0]);
          },
          [&] {
            if (progress) progress(++done, strips * plan.layout.bands);
          },
          timings);
      continue;
    }
    for (const AxisPiece& row : tiling.rows) {
      run_tile(readers, row, column, corner, results, timings);
      if (progress) progress(++done, static_cast<std::int64_t>(tiling.rows.size()) * strips);
    }
  }
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

void Segmenter::run_tile(std::span<Reader> readers, const AxisPiece& row, const AxisPiece& column,
                         Corner corner, std::span<Segmentation> results,
                         std::vector<NodeTiming>* timings) {
  const Graph& graph = executor_.graph();
  const Interval to_y = row.output(graph), to_x = column.output(graph);
  const auto images = static_cast<std::int64_t>(readers.size());
  TensorType in = sizes_.type(row.input(graph).size(), column.input(graph).size());
  const auto samples = static_cast<std::size_t>(in.shape.elements());
  in.shape[0] = images;
  std::vector<float> input(readers.size() * samples);
  for (std::size_t i = 0; i < readers.size(); ++i)
    readers[i].read(row.input(graph), column.input(graph), input.data() + i * samples);
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(images * to_y.size() * to_x.size()));
  std::vector<float> probabilities;
  std::vector<TensorView> outputs{{mask.data(), {DType::kU8, {images, to_y.size(), to_x.size()}}}};
  if (options_.probabilities) {
    const TensorType type{DType::kF32, {images, to_y.size(), to_x.size(), outputs_}};
    probabilities.resize(static_cast<std::size_t>(type.shape.elements()));
    outputs.push_back({probabilities.data(), type});
  }
  executor_.run(piece_of(graph, row, column), std::vector<TensorView>{{input.data(), in}}, outputs,
                timings);
  for (std::size_t k = 0; k < outputs.size(); ++k) {
    TensorView one = outputs[k];
    one.type.shape[0] = 1;
    for (Segmentation& result : results) {
      keep(one, k, to_y, row.wanted, column, corner, result);
      one.pointer = one.as<std::byte>() + one.type.bytes();
    }
  }
}

}  // namespace tessera
