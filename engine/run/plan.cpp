#include "engine/run/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace tessera {

namespace {

std::size_t align(std::size_t bytes) {
  return (bytes + kPlanAlignment - 1) / kPlanAlignment * kPlanAlignment;
}

bool lives_overlap(const PlanBuffer& a, const PlanBuffer& b) {
  return a.first <= b.last && b.first <= a.last;
}

}  // namespace

Plan make_plan(std::vector<PlanBuffer> buffers) {
  std::vector<std::size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(
      order, [&](std::size_t a, std::size_t b) { return buffers[a].bytes > buffers[b].bytes; });

  Plan plan;
  std::vector<const PlanBuffer*> placed;  // by offset
  for (const std::size_t index : order) {
    PlanBuffer& buffer = buffers[index];
    std::size_t offset = 0;
    for (const PlanBuffer* other : placed) {
      if (!lives_overlap(buffer, *other)) continue;
      if (offset + align(buffer.bytes) <= other->offset) break;
      offset = std::max(offset, other->offset + align(other->bytes));
    }
    buffer.offset = offset;
    plan.peak = std::max(plan.peak, offset + align(buffer.bytes));
    placed.insert(std::ranges::upper_bound(placed, offset, {}, &PlanBuffer::offset), &buffer);
  }
  plan.buffers = std::move(buffers);
  return plan;
}

std::size_t Plan::lower_bound() const {
  std::size_t bound = 0;
  for (const PlanBuffer& at : buffers) {
    std::size_t live = 0;
    for (const PlanBuffer& other : buffers) {
      if (other.first <= at.first && at.first <= other.last) live += align(other.bytes);
    }
    bound = std::max(bound, live);
  }
  return bound;
}

std::string Plan::memory_map() const {
  std::string text = fmt::format("{:>14} {:>14} {:>11}  {}\n", "offset", "bytes", "steps", "what");
  for (const PlanBuffer& buffer : buffers) {
    text += fmt::format("{:>14} {:>14} {:>5}-{:<5}  {}\n", buffer.offset, buffer.bytes,
                        buffer.first, buffer.last, buffer.name);
  }
  constexpr double kMiB = 1 << 20;
  text += fmt::format("peak {:.1f} MiB (lower bound {:.1f} MiB)\n",
                      static_cast<double>(peak) / kMiB, static_cast<double>(lower_bound()) / kMiB);
  return text;
}

}  // namespace tessera
