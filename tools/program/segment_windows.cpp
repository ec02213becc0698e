#include "tools/program/segment_windows.h"

#include <algorithm>
#include <future>

#include "engine/device/free_memory.h"
#include "engine/device/machine.h"
#include "kernels/error.h"
#include "models/image/tiff.h"
#include "models/image/zarr_labels.h"

namespace tessera {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::int64_t kTile = TiledWriter::kTile;
// Windows of each process that shares an image: the last ones to end wait for little.
constexpr std::int64_t kWindowsEach = 4;
// Pixels of a window, about: what a run that is killed loses.
constexpr std::int64_t kWindowPixels = std::int64_t{1} << 26;

ImageWindow read_by(const SegmentationWindow& w) {
  return {w.read_y, w.read_x, w.read_y + w.read_height, w.read_x + w.read_width};
}

// A mask may replace one of the same image alone.
void require_same_geometry(const fs::path& mask, const ImageLayout& image) {
  std::error_code ignored;
  if (mask.extension() == kZarrEnding)
    return require_zarr_labels_may_be(mask, image.height, image.width);
  if (!fs::is_regular_file(mask, ignored)) return;
  ImageLayout there;
  try {
    ImageReader reader(mask);
    if (reader.reads_parts()) there = reader.layout();
  } catch (const Error&) {
    fail("'{}' is there and is no mask, so it is not replaced; remove it, or choose another -o",
         mask.string());
  }
  require(there.height == image.height && there.width == image.width && there.channels == 1,
          "'{}' is there and has {} x {} pixels, so it is no mask of this image of {} x {}; remove "
          "it, or choose another -o",
          mask.string(), there.height, there.width, image.height, image.width);
}

}  // namespace

WindowedFiles::WindowedFiles(ImageReader reader, Session& session, const SegmentOutputs& outputs,
                             WindowJob job)
    : session_(session),
      outputs_(windowed(outputs)),
      job_(std::move(job)),
      source_(std::move(reader)),
      folder_(mask_path(job_.base, true, outputs)),
      statistics_(outputs_) {
  require(
      !outputs.probabilities,
      "probabilities of an image in windows are not written, {} x {} x {} bytes for each output; "
      "leave out --probabilities, or cut out the part that matters",
      source_.layout().height, source_.layout().width, sizeof(float));
  require_same_geometry(mask_path(job_.base, true, outputs), source_.layout());
  if (outputs_.instances)
    require_same_geometry(instances_path(job_.base, outputs), source_.layout());
  return_large_blocks_at_once();
  begin();
}

void WindowedFiles::begin() {
  const ImageLayout& image = source_.layout();
  json manifest;
  if (folder_.exists()) {
    manifest = folder_.manifest();
    const bool same = manifest.value("made_from", json()) == job_.made_from;
    require(same || !job_.joins,
            "the windows in '{}' are of another image, model or options; remove the folder, or "
            "choose another -o",
            folder_.path().string());
    if (!same || !(job_.joins || job_.resumes)) {
      note_ = same ? fmt::format(
                         "finished windows of an earlier run are made again; --resume keeps "
                         "them")
                   : "done again: windows of another image, model or options";
      folder_.remove();
      manifest = nullptr;
    }
  }
  // The session counts pixels twice, its own and ours. We hold two windows, the one at work and the
  // next one, and a mask that is written.
  WindowWish wish{.height_multiple = kTile,
                  .width_multiple = kTile,
                  .pixel_bytes = (3 * source_.pixel_bytes() + 2) / 2,
                  .beside_bytes = source_.bytes_beside()};
  const auto sharers = static_cast<std::int64_t>(job_.joins ? job_.share.count : 0);
  wish.at_least = std::max(
      {std::int64_t{1}, image.height * image.width / kWindowPixels, kWindowsEach * sharers});
  if (manifest.is_null()) {
    const WindowGrid chosen = session_.window_grid(image.height, image.width, wish);
    manifest = {{"made_from", job_.made_from}, {"window", {chosen.height, chosen.width}}};
    if (session_.needs_pixel_scale()) {
      const fs::path parent = folder_.path().parent_path();
      const PixelScale scale = session_.pixel_scale([&](const auto& take) {
        source_.read_rows([&](const Image& rows) { take(view_of(rows)); },
                          parent.empty() ? "." : parent);
      });
      manifest["scale"] = {scale.offset, scale.divisor};
    }
    manifest = folder_.begin(manifest);
  }
  try {
    require(manifest.at("made_from") == job_.made_from,
            "another process has begun windows of another image, model or options");
    wish.height = manifest.at("window").at(0).get<std::int64_t>();
    wish.width = manifest.at("window").at(1).get<std::int64_t>();
    require(
        wish.height > 0 && wish.width > 0 && wish.height % kTile == 0 && wish.width % kTile == 0,
        "windows of {} x {}, expected multiples of {}", wish.height, wish.width, kTile);
    if (session_.needs_pixel_scale())
      scale_ = {manifest.at("scale").at(0).get<float>(), manifest.at("scale").at(1).get<float>()};
  } catch (const std::exception& error) {
    fail("the windows in '{}' cannot be gone on with: {}; remove the folder, or choose another -o",
         folder_.path().string(), error.what());
  }
  grid_ = session_.window_grid(image.height, image.width, wish);
  rows_ = (image.height - 1) / grid_.height + 1;
  columns_ = (image.width - 1) / grid_.width + 1;
}

SegmentationWindow WindowedFiles::window(std::int64_t index) const {
  const ImageLayout& image = source_.layout();
  const std::int64_t y = index / columns_ * grid_.height, x = index % columns_ * grid_.width;
  return session_.window(image.height, image.width, y, x, std::min(grid_.height, image.height - y),
                         std::min(grid_.width, image.width - x));
}

bool WindowedFiles::is_there(std::int64_t index) const {
  const SegmentationWindow w = window(index);
  return folder_.has(index / columns_, index % columns_, w.height, w.width);
}

std::int64_t WindowedFiles::finished() const {
  std::int64_t there = 0;
  for (std::int64_t i = 0; i < windows(); ++i) there += is_there(i) ? 1 : 0;
  return there;
}

std::string WindowedFiles::explanation() const {
  const SegmentationPlan& plan = grid_.plan;
  return fmt::format(
      "{} x {} in {} window{} that keep{} up to {} x {} and read{} up to {} x {}, {:.0f} % of the "
      "work done twice, on {}; memory: weights {}, maps {}, images {}, predicted peak {}",
      source_.layout().height, source_.layout().width, plan.tiles, plan.tiles == 1 ? "" : "s",
      plan.tiles == 1 ? "s" : "", std::min(grid_.height, source_.layout().height),
      std::min(grid_.width, source_.layout().width), plan.tiles == 1 ? "s" : "", plan.tile_height,
      plan.tile_width, 100 * std::max(0.0, 1 - 1 / plan.work), session_.device(),
      format_bytes(plan.weights), format_bytes(plan.arena), format_bytes(plan.images),
      format_bytes(plan.peak));
}

void WindowedFiles::make(const std::function<void(double)>& progress) {
  std::vector<std::int64_t> missing;
  std::vector<SegmentationWindow> made_here;
  std::vector<ImageWindow> reads;
  std::int64_t kept = 0;
  // Neighbours read much that is the same, so that a process makes those in a row.
  const auto part = [&](std::size_t parts) {
    return windows() * static_cast<std::int64_t>(parts) /
           static_cast<std::int64_t>(job_.share.count);
  };
  for (std::int64_t i = part(job_.share.index - 1); i < part(job_.share.index); ++i) {
    if (is_there(i)) continue;
    missing.push_back(i);
    made_here.push_back(window(i));
    reads.push_back(read_by(made_here.back()));
    kept += made_here.back().height * made_here.back().width;
  }
  source_.expect(reads, kept, folder_.path());
  const auto all = static_cast<double>(windows());
  const auto others = static_cast<std::int64_t>(windows()) - std::ssize(missing);
  progress(static_cast<double>(others) / all);

  // One thread reads the next window while this one computes, and one writes the last.
  std::future<std::shared_ptr<const Image>> ahead;
  std::future<void> behind;
  const auto read_ahead = [&](std::size_t i) {
    if (i == reads.size()) return;
    ahead = std::async(std::launch::async, [this, &reads, i] {
      return source_.read(reads[i], i + 1 < reads.size() ? reads[i + 1] : ImageWindow{});
    });
  };
  const auto end_writing = [&] {
    if (!behind.valid()) return;
    behind.get();
    ++made_;
  };
  read_ahead(0);
  for (std::size_t i = 0; i < missing.size(); ++i) {
    const auto advance = [&](std::int64_t done, std::int64_t bands) {
      if (interrupted() != 0) {
        end_writing();
        fail("interrupted; {} of {} windows are finished, and --resume goes on with them",
             finished(), windows());
      }
      progress((static_cast<double>(others) + static_cast<double>(i) +
                static_cast<double>(done) / static_cast<double>(bands)) /
               all);
    };
    const std::shared_ptr<const Image> pixels = ahead.get();
    return_free_memory();  // of windows before
    read_ahead(i + 1);
    Segmentation made = session_.segment_window(view_of(*pixels), made_here[i],
                                                scale_ ? &*scale_ : nullptr, advance);
    end_writing();
    behind = std::async(
        std::launch::async,
        [this, at = missing[i], mask = Image{made.height, made.width, 1, std::move(made.mask)}] {
          folder_.add(at / columns_, at % columns_, mask);
        });
  }
  end_writing();
}

void WindowedFiles::assemble() {
  // The maps of windows have ended; objects take memory of their own.
  session_ = session_.clone();
  return_free_memory();
  const ImageLayout& image = source_.layout();
  mask_ = begin_file(paths().back(), std::vector<std::uint8_t>(), true);
  statistics_.begin_page(image.height, image.width);
  for (std::int64_t row = 0; row < rows_; ++row) copy(row);
  mask_->finish();
  if (outputs_.instances) find_objects();
}

std::unique_ptr<TiledWriter> WindowedFiles::begin_file(const fs::path& path,
                                                       const Image::Pixels& like,
                                                       bool has_classes) const {
  const std::int64_t height = source_.layout().height, width = source_.layout().width;
  if (path.extension() != kZarrEnding)
    return std::make_unique<TiledTiffWriter>(path, height, width, like, outputs_.pyramid);
  std::vector<LabelClass> classes;
  for (const ClassInfo& one : outputs_.classes)
    if (has_classes) classes.push_back({std::ssize(classes), one.name, one.colour});
  return std::make_unique<ZarrLabels>(path, folder_.path(), height, width, like, classes);
}

// Row by row of tiles, so that the file is the same whatever the windows.
void WindowedFiles::copy(std::int64_t row) {
  std::vector<ImageReader> parts;
  for (std::int64_t column = 0; column < columns_; ++column)
    parts.push_back(folder_.open(row, column));
  const auto read = [&](std::int64_t column, const ImageWindow& part) {
    try {
      return parts[static_cast<std::size_t>(column)].read_part(part);
    } catch (const Error& error) {
      folder_.discard(row, column);  // it does not count as finished any more
      fail("{}; the window is removed, and --resume makes it again", error.what());
    }
  };
  const std::int64_t height = window(row * columns_).height;
  for (std::int64_t y = 0; y < height; y += kTile) {
    for (std::int64_t column = 0; column < columns_; ++column) {
      const SegmentationWindow w = window(row * columns_ + column);
      for (std::int64_t x = 0; x < w.width; x += kTile) {
        const Image tile =
            read(column, {y, x, std::min(y + kTile, height), std::min(x + kTile, w.width)});
        statistics_.count(std::get<std::vector<std::uint8_t>>(tile.pixels));
        mask_->write(w.y + y, w.x + x, tile);
      }
    }
  }
}

// Row by row, as find_instances does, so that windows have no say in it.
void WindowedFiles::find_objects() {
  const std::int64_t width = source_.layout().width;
  InstanceFinder finder(width, outputs_.instance_options, folder_.path());
  std::vector<std::uint32_t> provisional(static_cast<std::size_t>(width));
  for_each_row(finder, [&](const std::uint8_t* ids) { finder.add_row(ids, provisional.data()); });
  table_.emplace(object_table_path(job_.base, outputs_), outputs_.object_format, outputs_.classes);
  const std::int64_t objects = finder.finish([&](const Instance& one) { table_->add(one); });
  statistics_.set_objects(static_cast<std::size_t>(objects));
  if (static_cast<std::size_t>(objects) <= kMax16BitLabel) {
    write_labels<std::uint16_t>(finder);
  } else {
    write_labels<std::uint32_t>(finder);
  }
  labels_->finish();
}

void WindowedFiles::for_each_row(InstanceFinder& finder,
                                 const std::function<void(const std::uint8_t*)>& see) const {
  PixelSource(ImageReader(mask_->path()))
      .read_rows(
          [&](const Image& rows) {
            const auto& ids = std::get<std::vector<std::uint8_t>>(rows.pixels);
            for (std::int64_t row = 0; row < rows.height; ++row) see(ids.data() + row * rows.width);
            finder.release();
          },
          folder_.path());
}

// Labels come in rows and are written in tiles, between which they wait on disk: rows of tiles of a
// wide image would not fit into memory.
template <class T>
void WindowedFiles::write_labels(InstanceFinder& finder) {
  const std::int64_t height = source_.layout().height, width = source_.layout().width;
  labels_ = begin_file(instances_path(job_.base, outputs_), std::vector<T>(), false);
  ScratchPicture waiting(folder_.path(), width, 1, std::vector<T>());
  std::vector<std::uint32_t> labels(static_cast<std::size_t>(width));
  Image line{1, width, 1, std::vector<T>(labels.size())};
  std::int64_t y = 0;
  for_each_row(finder, [&](const std::uint8_t* ids) {
    finder.label_row(ids, labels.data());
    std::ranges::transform(labels, std::get<std::vector<T>>(line.pixels).begin(),
                           [](std::uint32_t label) { return static_cast<T>(label); });
    waiting.write(y++, 0, line);
    if (y % kTile != 0 && y < height) return;
    const std::int64_t top = (y - 1) / kTile * kTile;
    for (std::int64_t x = 0; x < width; x += kTile)
      labels_->write(top, x, waiting.read({top, x, y, std::min(x + kTile, width)}));
    waiting.forget(top, y);
  });
}

bool WindowedFiles::made_elsewhere() const {
  std::error_code ignored;
  return job_.joins && !folder_.exists() && fs::exists(paths().back(), ignored);
}

json WindowedFiles::summary() const {
  const auto pixels = static_cast<double>(source_.layout().height * source_.layout().width);
  return {{"windows", windows()},
          {"windows_made", made_},
          {"work", grid_.plan.work},
          {"reads", static_cast<double>(source_.pixels_read()) / pixels}};
}

std::vector<fs::path> WindowedFiles::paths() const {
  return result_paths(job_.base, true, outputs_);
}

void WindowedFiles::commit() {
  if (labels_) labels_->commit();
  if (table_) table_->commit();
  mask_->commit();
}

}  // namespace tessera
