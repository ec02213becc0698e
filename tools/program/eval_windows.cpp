#include "tools/program/eval_windows.h"

#include <algorithm>

#include "engine/device/free_memory.h"
#include "kernels/error.h"
#include "tools/program/program.h"
#include "tools/program/segment_files.h"

namespace tessera {

namespace fs = std::filesystem;

void segment_rows(Session& session, PixelSource& image, const std::function<void(double)>& progress,
                  const std::function<void(std::int64_t, std::span<const std::uint8_t>)>& take) {
  return_large_blocks_at_once();
  constexpr std::int64_t kMultiple = 64, kPixelsAtOnce = 1 << 22;
  const std::int64_t height = image.layout().height, width = image.layout().width;
  const fs::path folder = fs::temp_directory_path();
  std::optional<PixelScale> scale;
  if (session.needs_pixel_scale())
    scale = session.pixel_scale([&](const auto& take_rows) {
      image.read_rows([&](const Image& rows) { take_rows(view_of(rows)); }, folder);
    });
  const WindowGrid grid = session.window_grid(height, width,
                                              {.height_multiple = kMultiple,
                                               .width_multiple = kMultiple,
                                               .pixel_bytes = image.pixel_bytes(),
                                               .beside_bytes = image.bytes_beside()});
  std::vector<SegmentationWindow> windows;
  std::vector<ImageWindow> reads;
  for (std::int64_t y = 0; y < height; y += grid.height) {
    for (std::int64_t x = 0; x < width; x += grid.width) {
      const SegmentationWindow w = session.window(
          height, width, y, x, std::min(grid.height, height - y), std::min(grid.width, width - x));
      windows.push_back(w);
      reads.push_back({w.read_y, w.read_x, w.read_y + w.read_height, w.read_x + w.read_width});
    }
  }
  image.expect(reads, height * width, folder);
  ScratchPicture mask(folder, width, 1, std::vector<std::uint8_t>());
  for (std::size_t i = 0; i < windows.size(); ++i) {
    const SegmentationWindow& w = windows[i];
    const auto advance = [&](std::int64_t done, std::int64_t bands) {
      if (interrupted() != 0) fail("interrupted");
      progress((static_cast<double>(i) + static_cast<double>(done) / static_cast<double>(bands)) /
               static_cast<double>(windows.size()));
    };
    {
      const std::shared_ptr<const Image> pixels =
          image.read(reads[i], i + 1 < reads.size() ? reads[i + 1] : ImageWindow{});
      Segmentation made =
          session.segment_window(view_of(*pixels), w, scale ? &*scale : nullptr, advance);
      mask.write(w.y, w.x, {w.height, w.width, 1, std::move(made.mask)});
    }
    return_free_memory();
    if (w.x + w.width < width) continue;
    const std::int64_t some = std::max<std::int64_t>(1, kPixelsAtOnce / width);
    for (std::int64_t y = w.y; y < w.y + w.height; y += some) {
      const Image rows = mask.read({y, 0, std::min(y + some, w.y + w.height), width});
      take(y, std::get<std::vector<std::uint8_t>>(rows.pixels));
    }
    mask.forget(w.y, w.y + w.height);
  }
}

}  // namespace tessera
