#include "models/training/simple_points.h"

#include <array>
#include <deque>

#include "kernels/error.h"

namespace tessera {
namespace {

struct Offset {
  int y, x;
};
// The neighbours in the order of their bits; those with an odd position share an edge.
constexpr std::array<Offset, 8> kRing = {
    {{-1, -1}, {-1, 0}, {-1, 1}, {0, 1}, {1, 1}, {1, 0}, {1, -1}, {0, -1}}};

constexpr bool shares_edge(int position) {
  return position % 2 == 1;
}

// Components among the ring's members (bit set) under 4- or 8-connectivity within the 3x3 square,
// counting those that touch the middle under the same connectivity.
constexpr int components(unsigned members, int connectivity) {
  std::array<bool, 8> seen{};
  int count = 0;
  for (int start = 0; start < 8; ++start) {
    if ((members >> start & 1) == 0 || seen[static_cast<std::size_t>(start)]) continue;
    bool touches = false;
    std::array<int, 8> stack{};
    int size = 0;
    stack[static_cast<std::size_t>(size++)] = start;
    seen[static_cast<std::size_t>(start)] = true;
    while (size > 0) {
      const int at = stack[static_cast<std::size_t>(--size)];
      touches |= connectivity == 8 || shares_edge(at);
      for (int other = 0; other < 8; ++other) {
        const int dy =
            kRing[static_cast<std::size_t>(at)].y - kRing[static_cast<std::size_t>(other)].y;
        const int dx =
            kRing[static_cast<std::size_t>(at)].x - kRing[static_cast<std::size_t>(other)].x;
        const int squared = dy * dy + dx * dx;
        const bool adjacent = squared == 1 || (connectivity == 8 && squared == 2);
        if (!adjacent || (members >> other & 1) == 0 || seen[static_cast<std::size_t>(other)])
          continue;
        seen[static_cast<std::size_t>(other)] = true;
        stack[static_cast<std::size_t>(size++)] = other;
      }
    }
    count += touches ? 1 : 0;
  }
  return count;
}

constexpr std::array<bool, 256> kSimple = [] {
  std::array<bool, 256> table{};
  for (unsigned cells = 0; cells < 256; ++cells)
    table[cells] = components(cells, 4) == 1 && components(~cells & 255u, 8) == 1;
  return table;
}();

// A picture inside a frame of membrane, and the pixels that may be about to change.
class Deformation {
 public:
  Deformation(std::span<const std::uint8_t> cells, std::int64_t height, std::int64_t width)
      : height_(height),
        width_(width),
        row_(width + 2),
        cells_(static_cast<std::size_t>((height + 2) * row_)),
        queued_(cells_.size()) {
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x)
        cells_[index(y, x)] = cells[static_cast<std::size_t>(y * width + x)];
    }
  }

  // Changes every simple point that `wanted(y, x, value)` asks for, until none is left.
  template <class Wanted>
  void run(const Wanted& wanted) {
    const auto consider = [&](std::int64_t y, std::int64_t x) {
      if (y < 0 || y >= height_ || x < 0 || x >= width_) return;
      const std::size_t i = index(y, x);
      if (queued_[i] || !wanted(y, x, cells_[i])) return;
      queued_[i] = true;
      queue_.push_back({y, x});
    };
    for (std::int64_t y = 0; y < height_; ++y) {
      for (std::int64_t x = 0; x < width_; ++x) {
        if (is_simple(neighbours(index(y, x)))) consider(y, x);
      }
    }
    while (!queue_.empty()) {
      const auto [y, x] = queue_.front();
      queue_.pop_front();
      const std::size_t i = index(y, x);
      queued_[i] = false;
      // A neighbour that changed since may have made it another case; its own change asks again.
      if (!is_simple(neighbours(i))) continue;
      cells_[i] ^= 1;
      for (const Offset& offset : kRing) consider(y + offset.y, x + offset.x);
    }
  }

  std::vector<std::uint8_t> result() const {
    std::vector<std::uint8_t> inner;
    inner.reserve(static_cast<std::size_t>(height_ * width_));
    for (std::int64_t y = 0; y < height_; ++y) {
      for (std::int64_t x = 0; x < width_; ++x) inner.push_back(cells_[index(y, x)]);
    }
    return inner;
  }

 private:
  struct Pixel {
    std::int64_t y, x;
  };

  std::size_t index(std::int64_t y, std::int64_t x) const {
    return static_cast<std::size_t>((y + 1) * row_ + x + 1);
  }

  std::uint8_t neighbours(std::size_t i) const {
    unsigned bits = 0;
    for (std::size_t k = 0; k < kRing.size(); ++k) {
      const std::int64_t offset = kRing[k].y * row_ + kRing[k].x;
      bits |= static_cast<unsigned>(
                  cells_[static_cast<std::size_t>(static_cast<std::int64_t>(i) + offset)])
              << k;
    }
    return static_cast<std::uint8_t>(bits);
  }

  std::int64_t height_, width_, row_;
  std::vector<std::uint8_t> cells_;  // (height + 2, width + 2)
  std::vector<bool> queued_;
  std::deque<Pixel> queue_;
};

void require_size(std::size_t pixels, std::int64_t height, std::int64_t width) {
  require(height > 0 && width > 0 && static_cast<std::int64_t>(pixels) == height * width,
          "simple points: {} pixels, expected {} x {}", pixels, height, width);
}

}  // namespace

bool is_simple(std::uint8_t cells) {
  return kSimple[cells];
}

std::vector<std::uint8_t> warp_topologically(std::span<const std::uint8_t> from,
                                             std::span<const std::uint8_t> to, std::int64_t height,
                                             std::int64_t width) {
  require_size(from.size(), height, width);
  require_size(to.size(), height, width);
  Deformation deformation(from, height, width);
  deformation.run([&](std::int64_t y, std::int64_t x, std::uint8_t value) {
    return value != to[static_cast<std::size_t>(y * width + x)];
  });
  return deformation.result();
}

std::vector<std::uint8_t> thin_membranes(std::span<const std::uint8_t> cells, std::int64_t height,
                                         std::int64_t width) {
  require_size(cells.size(), height, width);
  Deformation deformation(cells, height, width);
  deformation.run([](std::int64_t, std::int64_t, std::uint8_t value) { return value == 0; });
  return deformation.result();
}

}  // namespace tessera
