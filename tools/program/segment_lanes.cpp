#include "tools/program/segment_lanes.h"

#include <algorithm>
#include <atomic>
#include <exception>

#include "engine/device/machine.h"
#include "kernels/cpu/parallel.h"
#include "tools/program/program.h"

namespace tessera {

namespace {

// Finished images that wait for their turn, of each lane: enough that no lane waits long for
// another, few enough that a run that is killed loses little.
constexpr std::size_t kImagesPerLane = 16;
// Maps of an image that one thread is given: beyond, all threads on one image are as fast.
constexpr std::uint64_t kMostLaneBytes = std::uint64_t{512} << 20;

}  // namespace

void SegmentLanes::open(std::size_t left) {
  const auto lanes = std::min(static_cast<std::size_t>(session_.threads()), left);
  if (lanes < 2 || session_.device() != "cpu" || !lanes_.empty() || !images_are_small_) return;
  const std::uint64_t limit =
      max_memory_ > 0 ? max_memory_ : resident_bytes() + available_bytes() / 2;
  for (const std::int64_t side : {1024, 512, 256, 128}) {
    const SegmentationPlan plan = session_.plan(side, side);
    lane_bytes_ = plan.arena + plan.images;
    const std::uint64_t others = (lanes - 1) * lane_bytes_;
    if (plan.tiles > 1 || plan.bands || plan.arena > kMostLaneBytes || plan.peak + others > limit)
      continue;
    for (std::size_t i = 0; i < lanes; ++i) lanes_.push_back(session_.clone(1));
    return;
  }
}

std::size_t SegmentLanes::images_at_once() const {
  return std::max<std::size_t>(1, kImagesPerLane * lanes_.size());
}

void SegmentLanes::run(std::size_t count, const std::function<bool(std::size_t, Session&)>& work) {
  if (lanes_.empty()) return;
  std::atomic<std::size_t> small = 0, large = 0;
  parallel_for(static_cast<int>(lanes_.size()), static_cast<std::int64_t>(count),
               [&](std::int64_t at, int lane) {
                 if (interrupted() != 0 || large > small + lanes_.size()) return;
                 try {
                   const bool fitted =
                       work(static_cast<std::size_t>(at), lanes_[static_cast<std::size_t>(lane)]);
                   ++(fitted ? small : large);
                 } catch (const std::exception&) {
                   // The caller tries it again, with all memory, and reports it.
                 }
               });
  images_are_small_ = small > 0 || large == 0;
}

bool SegmentLanes::fits(Session& lane, const Image& image) {
  const std::pair size(image.height, image.width);
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = fits_.find(size); known != fits_.end()) return known->second;
  }
  const SegmentationPlan plan = lane.plan(image.height, image.width);
  const bool fits = plan.tiles == 1 && !plan.bands && plan.arena + plan.images <= lane_bytes_;
  const std::lock_guard lock(mutex_);
  return fits_[size] = fits;
}

}  // namespace tessera
