// Small images side by side. On a CPU one a thread, which keeps every thread at work whatever else
// the machine does; on each GPU some at once, so that it computes while others are read, copied and
// written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <utility>
#include <vector>

#include "models/image/image.h"
#include "models/session.h"

namespace tessera {

class SegmentLanes {
 public:
  // Of `session`, which must outlive them. `max_memory`: bytes of the whole process; 0: no limit is
  // set.
  SegmentLanes(Session& session, std::uint64_t max_memory)
      : session_(session), max_memory_(max_memory) {}

  // Opens them, where there is memory for it and images are small, as far as was seen. `left`
  // images are still to be done.
  void open(std::size_t left);
  // How many images run() should be given: 0 where no lane is open.
  std::size_t images_at_once() const { return lanes_.size() * images_per_lane_; }

  // Lets `work` do the images 0 to `count` - 1, some neighbours at a time, `begin` to `end` - 1,
  // side by side; it returns how many of them are too large for the lane. They are left to the
  // caller, and where most are the rest is too, so that they are not read for nothing.
  using Work = std::function<std::size_t(std::size_t begin, std::size_t end, Session& lane)>;
  void run(std::size_t count, const Work& work);
  // Gives their memory back.
  void close() { lanes_.clear(); }

  // Whether a lane has the memory for `image`: what a network pads counts too. Any thread may ask.
  bool fits(Session& lane, const Image& image);

 private:
  void open_on_cpu(std::size_t left);
  void open_on_gpus(std::size_t left);

  Session& session_;
  std::uint64_t max_memory_;
  std::vector<Session> lanes_;       // they share the packed weights
  std::size_t images_per_lane_ = 0;  // finished ones may wait for their turn so long
  std::size_t neighbours_ = 1;       // that one lane does at a time
  std::uint64_t lane_bytes_ = 0;     // of maps and images of the largest image for one
  bool images_are_small_ = true;     // as far as was seen
  std::mutex mutex_;                 // of `fits_`
  std::map<std::pair<std::int64_t, std::int64_t>, bool> fits_;  // by height and width
};

}  // namespace tessera
