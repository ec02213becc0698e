#include "tools/program/segment_lanes.h"

#include <algorithm>
#include <atomic>
#include <exception>

#include "engine/device/at_once.h"
#include "engine/device/machine.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "tools/program/program.h"

namespace tessera {

namespace {

// Enough that no lane waits long for another, few enough that a run that is killed loses little.
constexpr std::size_t kImagesPerLane = 16;
// Those of one size among them run as one.
constexpr std::size_t kMostNeighbours = 32;
// Maps of an image that one thread is given: beyond, all threads on one image are as fast.
constexpr std::uint64_t kMostLaneBytes = std::uint64_t{512} << 20;

}  // namespace

void SegmentLanes::open(std::size_t left) {
  if (!lanes_.empty() || !images_are_small_) return;
  if (session_.device() == "cpu") {
    open_on_cpu(left);
  } else {
    open_on_gpus(left);
  }
}

void SegmentLanes::open_on_gpus(std::size_t left) {
  const auto each = static_cast<std::size_t>(Model::kGpuSessions);
  const std::size_t lanes = std::min(each * session_.devices().size(), left);
  if (lanes < 2) return;
  neighbours_ = std::clamp<std::size_t>(left / (2 * lanes), 1, kMostNeighbours);
  images_per_lane_ = 2 * neighbours_;
  const int threads = std::max(1, session_.threads() / static_cast<int>(lanes));
  try {
    for (std::size_t i = 0; i < lanes; ++i)
      lanes_.push_back(session_.clone(threads, Model::kGpuSessions));
  } catch (const DeviceError&) {
    close();  // no GPU is left: the session tells so of each image
  }
}

void SegmentLanes::open_on_cpu(std::size_t left) {
  const auto lanes = std::min(static_cast<std::size_t>(session_.threads()), left);
  if (lanes < 2) return;
  const std::uint64_t limit =
      max_memory_ > 0 ? max_memory_ : resident_bytes() + available_bytes() / 2;
  for (const std::int64_t side : {1024, 512, 256, 128}) {
    const SegmentationPlan plan = session_.plan(side, side);
    lane_bytes_ = plan.arena + plan.images;
    const std::uint64_t others = (lanes - 1) * lane_bytes_;
    if (plan.tiles > 1 || plan.bands || plan.arena > kMostLaneBytes || plan.peak + others > limit)
      continue;
    for (std::size_t i = 0; i < lanes; ++i) lanes_.push_back(session_.clone(1));
    images_per_lane_ = kImagesPerLane;
    return;
  }
}

void SegmentLanes::run(std::size_t count, const Work& work) {
  if (lanes_.empty()) return;
  std::atomic<std::size_t> small = 0, large = 0;
  const auto pieces = static_cast<std::int64_t>((count + neighbours_ - 1) / neighbours_);
  const auto work_on = [&](std::int64_t at, std::size_t lane) {
    if (interrupted() != 0 || large > small + lanes_.size() * neighbours_) return;
    const std::size_t begin = static_cast<std::size_t>(at) * neighbours_;
    const std::size_t end = std::min(begin + neighbours_, count);
    const std::size_t left = work(begin, end, lanes_[lane]);
    small += end - begin - left;
    large += left;
  };
  if (session_.device() == "cpu") {
    parallel_for(static_cast<int>(lanes_.size()), pieces,
                 [&](std::int64_t at, int lane) { work_on(at, static_cast<std::size_t>(lane)); });
  } else {
    std::atomic<std::int64_t> next = 0;
    run_at_once(lanes_.size(), [&](std::size_t lane) {
      for (std::int64_t at; (at = next++) < pieces;) work_on(at, lane);
    });
  }
  images_are_small_ = small > 0 || large == 0;
}

bool SegmentLanes::fits(Session& lane, const Image& image) {
  const std::pair size(image.height, image.width);
  {
    const std::lock_guard lock(mutex_);
    if (const auto known = fits_.find(size); known != fits_.end()) return known->second;
  }
  const SegmentationPlan plan = lane.plan(image.height, image.width);
  const bool fits = plan.tiles == 1 && !plan.bands &&
                    (lane.device() != "cpu" || plan.arena + plan.images <= lane_bytes_);
  const std::lock_guard lock(mutex_);
  return fits_[size] = fits;
}

}  // namespace tessera
