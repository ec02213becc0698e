// Small images of a batch, one a thread: this keeps every thread at work whatever else the machine
// does, and reading and writing go on side by side too.
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

  // Opens one for each thread, where there is memory for it and images are small, as far as was
  // seen. `left` images are still to be done.
  void open(std::size_t left);
  // How many images run() should be given: 1 where no lane is open.
  std::size_t images_at_once() const;

  // Lets `work` do the images 0 to `count` - 1, side by side; it returns false where one does not
  // fit the lane that it is given. Images that throw are left to the caller, and where most do not
  // fit the rest is too, so that they are not read for nothing.
  void run(std::size_t count, const std::function<bool(std::size_t, Session&)>& work);
  // Gives their memory back.
  void close() { lanes_.clear(); }

  // Whether a lane has the memory for `image`: what a network pads counts too. Any thread may ask.
  bool fits(Session& lane, const Image& image);

 private:
  Session& session_;
  std::uint64_t max_memory_;
  std::vector<Session> lanes_;    // of one thread each; they share the packed weights
  std::uint64_t lane_bytes_ = 0;  // of maps and images of the largest image for one
  bool images_are_small_ = true;  // as far as was seen
  std::mutex mutex_;              // of `fits_`
  std::map<std::pair<std::int64_t, std::int64_t>, bool> fits_;  // by height and width
};

}  // namespace tessera
