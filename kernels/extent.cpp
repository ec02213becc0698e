#include "kernels/extent.h"

#include <algorithm>

namespace tessera {

Interval hull(Interval a, Interval b) {
  if (a.is_empty()) return b;
  if (b.is_empty()) return a;
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

Interval clip(Interval a, std::int64_t size) {
  const std::int64_t begin = std::clamp<std::int64_t>(a.begin, 0, size - 1);
  return {begin, std::clamp<std::int64_t>(a.end, begin + 1, size)};
}

Interval grow(Interval a, std::int64_t group, std::int64_t size) {
  return {a.begin / group * group, std::min((a.end + group - 1) / group * group, size)};
}

Extent elementwise_extent(const Along& along, std::span<const Interval> wanted) {
  Interval all;
  for (const Interval& one : wanted) all = hull(all, one);
  return {std::vector(along.outputs.size(), all), std::vector(along.inputs.size(), all)};
}

void take_all(Extent& piece) {
  Interval all;
  for (const Interval& one : piece.inputs) all = hull(all, one);
  piece.inputs.assign(piece.inputs.size(), all);
  piece.outputs.assign(piece.outputs.size(), all);
}

Extent global_extent(const Along& along) {
  Extent all;
  for (const std::int64_t size : along.outputs) all.outputs.push_back({0, size});
  for (const std::int64_t size : along.inputs) all.inputs.push_back({0, size});
  return all;
}

}  // namespace tessera
