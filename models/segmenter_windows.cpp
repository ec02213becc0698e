// Windows: parts of an image that are segmented by themselves, and how large they are chosen.
#include <algorithm>
#include <array>
#include <numeric>
#include <utility>

#include "engine/device/machine.h"
#include "models/image/pixel_steps.h"
#include "models/segmenter.h"

namespace tessera {

namespace {

// Rows that a window keeps at most: more would make little less work, and a run that is stopped
// loses those of one window.
constexpr std::int64_t kMostWindowRows = 8192;
// Sides are multiples of it where others are not asked for: most lie on a network's grid, and read
// alike.
constexpr std::int64_t kLeastWindowSide = 16;
// A multiple of the grids of networks.
constexpr std::int64_t kCoarsestGrid = 256;
constexpr std::int64_t kMostImageSide = std::int64_t{1} << 31;
// That are listed at once: each is counted, and kept.
constexpr std::int64_t kMostWindows = std::int64_t{1} << 20;
// What the caller's codecs and threads, and the allocator's gaps, take while windows are made.
constexpr std::uint64_t kBeside = std::uint64_t{24} << 20;
// Bands of a window, as kBandRows of whole images.
constexpr std::array<std::int64_t, 4> kWindowBands{128, 64, 32, 16};

std::int64_t round_up(std::int64_t size, std::int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

}  // namespace

AxisPiece Segmenter::piece_along(int axis, std::int64_t pixels, Interval kept) const {
  const TensorType input = axis == 0 ? whole(pixels, 1) : whole(1, pixels);
  const Graph& graph = executor_.graph();
  return window(graph, 1 + axis, sizes_along(infer_types(graph, {&input, 1}), 1 + axis), kept);
}

Interval Segmenter::read_along(int axis, std::int64_t pixels, Interval kept) const {
  Interval inside;
  const Interval input = piece_along(axis, pixels, kept).input(executor_.graph());
  for (std::int64_t i = input.begin; i < input.end; ++i) {
    const std::int64_t at = mirror_index(i - sizes_.margin(axis), pixels);
    inside = hull(inside, {at, at + 1});
  }
  return inside;
}

Interval Segmenter::widest_along(int axis, std::int64_t pixels, std::int64_t side) const {
  // Where windows lie on the grid repeats; those in the middle have neighbours on both sides.
  const std::int64_t count = (pixels - 1) / side + 1;
  const std::int64_t some = std::min(kCoarsestGrid / std::gcd(side, kCoarsestGrid), count);
  Interval widest;
  std::int64_t most = 0;
  for (std::int64_t i = (count - some) / 2; i < (count + some + 1) / 2; ++i) {
    const Interval kept{i * side, std::min((i + 1) * side, pixels)};
    const std::int64_t read = read_along(axis, pixels, kept).size();
    if (read > most) {
      most = read;
      widest = kept;
    }
  }
  return widest;
}

SegmentationWindow Segmenter::window_of(std::int64_t image_height, std::int64_t image_width,
                                        std::int64_t y, std::int64_t x, std::int64_t height,
                                        std::int64_t width) const {
  const auto lies_in = [](std::int64_t begin, std::int64_t size, std::int64_t all) {
    return 0 < all && all < kMostImageSide && 0 <= begin && 0 < size && size <= all &&
           begin <= all - size;
  };
  require(
      lies_in(y, height, image_height) && lies_in(x, width, image_width),
      "a window of {} x {} pixels at {}, {} does not lie in an image of {} x {} (each side below "
      "2^31)",
      height, width, y, x, image_height, image_width);
  const Interval rows = read_along(0, image_height, {y, y + height});
  const Interval columns = read_along(1, image_width, {x, x + width});
  return {image_height, image_width,   y, x, height, width, rows.begin, columns.begin,
          rows.size(),  columns.size()};
}

std::vector<SegmentationWindow> Segmenter::windows(std::int64_t height, std::int64_t width,
                                                   std::int64_t tile) const {
  require(height > 0 && width > 0 && tile > 0,
          "windows of {} pixels of an image of {} x {}; expected numbers above 0", tile, height,
          width);
  require(height < kMostImageSide && width < kMostImageSide &&
              ((height - 1) / tile + 1) * ((width - 1) / tile + 1) <= kMostWindows,
          "windows of {} pixels of an image of {} x {}, more than {} of them or a side of 2^31; "
          "take larger ones, or window() for each part",
          tile, height, width, kMostWindows);
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

void Segmenter::require_window(const SegmentationWindow& w, std::int64_t height,
                               std::int64_t width) const {
  require(
      w == window_of(w.image_height, w.image_width, w.y, w.x, w.height, w.width),
      "the window of {} x {} pixels at {}, {} of an image of {} x {} reads other pixels than it "
      "says; take it from windows() or window() of this model",
      w.height, w.width, w.y, w.x, w.image_height, w.image_width);
  require(std::ranges::none_of(file_.config.preprocessing.steps, measures),
          "the model's preprocessing measures the whole image in a step of its own; segment the "
          "image as a whole");
  require(height == w.read_height && width == w.read_width,
          "{} x {} pixels were given to a window that reads {} x {}", height, width, w.read_height,
          w.read_width);
}

Segmenter::Tiling Segmenter::cut_window(const SegmentationWindow& w) const {
  Tiling tiling{{piece_along(0, w.image_height, {w.y, w.y + w.height})},
                {piece_along(1, w.image_width, {w.x, w.x + w.width})}};
  tiling.height = tiling.rows[0].input(executor_.graph()).size();
  tiling.width = tiling.columns[0].input(executor_.graph()).size();
  return tiling;
}

SegmentationPlan Segmenter::fit(const SegmentationWindow& w, const HeldImage& held, Tiling& tiling,
                                std::uint64_t maps) {
  std::vector<std::int64_t> bands{0};
  if (can_run_in_bands(w.image_height, w.image_width)) {
    if (tiling.height > 2 * kWindowBands[0]) bands.clear();
    bands.insert(bands.end(), kWindowBands.begin(), kWindowBands.end());
  }
  SegmentationPlan plan;
  for (const std::int64_t band : bands) {
    tiling.band = band;
    plan = memory(w.image_height, w.image_width, tiling, held);
    if (maps > 0 ? plan.arena <= maps : needed(plan) <= limit()) break;
  }
  return plan;
}

Segmenter::Tiling Segmenter::tiling_of(const SegmentationWindow& w) {
  Tiling tiling = cut_window(w);
  // Its pixels are there already. What the next window's and the last one's mask will take beside
  // it, while it runs, the process's memory does not tell; the grid's plan has counted them.
  const SegmentationPlan plan =
      fit(w, {0, static_cast<std::uint64_t>(w.height * w.width)}, tiling, grid_maps_);
  require(
      needed(plan) <= available(),
      "a window that keeps {} x {} pixels and reads {} x {} needs {}, the limit is {}; allow more "
      "with --max-memory, or take smaller windows",
      w.height, w.width, w.read_height, w.read_width, format_bytes(needed(plan)),
      format_bytes(limit()));
  return tiling;
}

SegmentationPlan Segmenter::plan(const SegmentationWindow& w, std::uint64_t pixel_bytes) {
  require_window(w, w.read_height, w.read_width);
  Tiling tiling = cut_window(w);
  // The caller's pixels, and the session's.
  const auto read = static_cast<std::uint64_t>(w.read_height * w.read_width);
  return fit(w, {2 * read * pixel_bytes, static_cast<std::uint64_t>(w.height * w.width)}, tiling);
}

WindowGrid Segmenter::window_grid(std::int64_t height, std::int64_t width, const WindowWish& wish) {
  require(0 < height && height < kMostImageSide && 0 < width && width < kMostImageSide,
          "windows of an image of {} x {} pixels; expected sides of 1 to 2^31 - 1", height, width);
  require(wish.height_multiple > 0 && wish.width_multiple > 0 && wish.at_least > 0 &&
              wish.height >= 0 && wish.width >= 0 && wish.tile >= 0,
          "windows of multiples of {} x {} pixels, at least {}, of {} x {} that read {}; expected "
          "numbers above 0",
          wish.height_multiple, wish.width_multiple, wish.at_least, wish.height, wish.width,
          wish.tile);
  const std::int64_t tile = wish.tile > 0 ? wish.tile : options_.tile;
  const std::size_t most_memory =
      limit(wish.max_memory > 0 ? wish.max_memory : options_.max_memory, 1);

  const auto count = [&](const WindowGrid& grid) {
    return ((height - 1) / grid.height + 1) * ((width - 1) / grid.width + 1);
  };
  const auto largest = [&](const WindowGrid& grid) {
    const Interval rows = widest_along(0, height, grid.height);
    const Interval columns = widest_along(1, width, grid.width);
    return window_of(height, width, rows.begin, columns.begin, rows.size(), columns.size());
  };
  const auto share = [](const SegmentationWindow& w) {
    return static_cast<double>(w.read_height) * static_cast<double>(w.read_width) /
           (static_cast<double>(w.height) * static_cast<double>(w.width));
  };
  const std::uint64_t beside = on_gpu() ? 0 : kBeside + wish.beside_bytes;
  const auto fits = [&](const WindowGrid& grid) {
    const SegmentationWindow w = largest(grid);
    return (tile == 0 || std::max(w.read_height, w.read_width) <= tile) &&
           needed(plan(w, wish.pixel_bytes)) + beside <= most_memory;
  };
  const auto finish = [&](WindowGrid grid) {
    require(std::max((height - 1) / grid.height, (width - 1) / grid.width) < kMostWindows / 4,
            "windows that keep {} x {} pixels of an image of {} x {} are too many; allow more with "
            "--max-memory or --tile",
            grid.height, grid.width, height, width);
    grid.plan = plan(largest(grid), wish.pixel_bytes);
    grid_maps_ = grid.plan.arena;
    grid.plan.images += kBeside + wish.beside_bytes;
    grid.plan.peak += kBeside + wish.beside_bytes;
    Tiling all;
    for (std::int64_t y = 0; y < height; y += grid.height)
      all.rows.push_back(piece_along(0, height, {y, std::min(y + grid.height, height)}));
    for (std::int64_t x = 0; x < width; x += grid.width)
      all.columns.push_back(piece_along(1, width, {x, std::min(x + grid.width, width)}));
    grid.plan.tiles = count(grid);
    grid.plan.tile_height = largest_input(executor_.graph(), all.rows);
    grid.plan.tile_width = largest_input(executor_.graph(), all.columns);
    grid.plan.work = work(height, width, all);
    return grid;
  };
  if (wish.height > 0 && wish.width > 0) return finish({wish.height, wish.width, {}});

  struct Multiples {
    std::int64_t rows, columns;
  };
  const auto wanted = [](std::int64_t multiple) {
    return multiple > 1 ? std::min(multiple, kMostImageSide) : kLeastWindowSide;
  };
  std::vector<Multiples> multiples{{wanted(wish.height_multiple), wanted(wish.width_multiple)}};
  if (wish.or_any) multiples.push_back({kLeastWindowSide, kLeastWindowSide});
  // Of so many rows the widest that fit; they are as wide as each other.
  const auto widest = [&](std::int64_t rows, std::int64_t multiple,
                          std::int64_t at_least) -> std::optional<WindowGrid> {
    WindowGrid grid{rows, 0, {}};
    const auto is_good = [&](std::int64_t columns) {
      grid.width = round_up((width - 1) / columns + 1, multiple);
      return count(grid) >= at_least && fits(grid);
    };
    std::int64_t columns = 1, most = (width - 1) / multiple + 1;
    if (!is_good(most)) return std::nullopt;
    while (columns < most) {
      const std::int64_t some = (columns + most) / 2;
      if (is_good(some)) {
        most = some;
      } else {
        columns = some + 1;
      }
    }
    grid.width = round_up((width - 1) / columns + 1, multiple);
    return grid;
  };
  for (const Multiples& of : multiples) {
    const std::int64_t all_rows = round_up(height, of.rows);
    for (const std::int64_t at_least : {wish.at_least, std::int64_t{1}}) {
      std::optional<WindowGrid> best;
      double least = 0;  // the share of `best`
      std::int64_t before = 0;
      // A tile is a bound that is hit closely, and is soon known not to fit.
      for (std::int64_t most = kMostWindowRows; most >= kLeastWindowSide;
           most = tile > 0 ? most * 3 / 4 : most / 2) {
        const std::int64_t rows = std::min(round_up(most, of.rows), all_rows);
        if (rows == std::exchange(before, rows)) continue;
        if (best && share(largest({rows, width, {}})) >= least) break;  // of fewer rows too
        const std::optional<WindowGrid> grid = widest(rows, of.columns, at_least);
        if (!grid) continue;
        const double read = share(largest(*grid));
        if (!best || read < least) {
          best = grid;
          least = read;
        }
      }
      if (best) return finish(*best);
    }
  }
  const SegmentationWindow w = largest({multiples.back().rows, multiples.back().columns, {}});
  const std::int64_t side = std::max(w.read_height, w.read_width);
  require(tile == 0 || side <= tile,
          "the smallest windows keep {} x {} pixels and read {} x {}; use --tile {} or more, or "
          "leave the choice to --max-memory",
          w.height, w.width, w.read_height, w.read_width, side);
  const TensorType input = whole(height, width);
  const std::string reason = why_not_in_bands(
      executor_.graph(), sizes_along(infer_types(executor_.graph(), {&input, 1}), 1));
  fail(
      "an image of {} x {} pixels needs {} in the smallest windows, which keep {} x {}; the limit "
      "is {}, allow more with --max-memory{}",
      height, width, format_bytes(needed(plan(w, wish.pixel_bytes)) + beside), w.height, w.width,
      format_bytes(most_memory), reason.empty() ? "" : ". No part is read by itself: " + reason);
}

}  // namespace tessera
