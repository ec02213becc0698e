// What was prepared for the input shapes that ran last: documents come in many, images in few.
#pragma once

#include <algorithm>
#include <list>
#include <vector>

#include "kernels/operator.h"

namespace tessera {

// `Prepared` has the input types it was made for in its member `inputs`.
template <class Prepared>
class RecentShapes {
 public:
  static constexpr std::size_t kKept = 16;

  // That of `inputs`, made by `make()` where it is not there; the one unused longest makes room.
  template <class Make>
  Prepared& find_or_make(Types inputs, const Make& make) {
    return find_or_make(
        inputs, [](const Prepared&) { return true; }, make);
  }

  // The same among those of `inputs` that serve.
  template <class Serves, class Make>
  Prepared& find_or_make(Types inputs, const Serves& serves, const Make& make) {
    const auto known = std::ranges::find_if(list_, [&](const Prepared& prepared) {
      return std::ranges::equal(prepared.inputs, inputs) && serves(prepared);
    });
    if (known != list_.end()) {
      list_.splice(list_.begin(), list_, known);
    } else {
      list_.push_front(make());
      if (list_.size() > kKept) list_.pop_back();
    }
    return list_.front();
  }

  auto begin() { return list_.begin(); }
  auto end() { return list_.end(); }

 private:
  std::list<Prepared> list_;  // most recently used first
};

}  // namespace tessera
