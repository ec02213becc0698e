// Warp-wide operations: the last lane of the mask to arrive does the work for all.
#pragma once

#include <bit>
#include <cstddef>

#include "emulator/state.h"

namespace simt::machine {

enum CollectiveKind { kWarpBarrier, kShuffle, kVote, kReduce, kLoadMatrix, kStoreMatrix, kMma };

// Adds the running lane to the operation that its mask and kind name. Returns it to the lane that
// makes it complete; to the others, null once it is done.
Collective* join(const char* name, int kind, unsigned mask, void* argument, const void* pc);
// Lets the lanes of a finished operation go on.
void leave(Collective done);

// `work` gets every lane's `argument`.
template <class Work>
void collective(const char* name, int kind, unsigned mask, void* argument, const void* pc,
                Work work) {
  if (const Collective* complete = join(name, kind, mask, argument, pc)) {
    const Collective c = *complete;
    work(c);
    leave(c);
  }
}

template <class Visit>
void for_lanes(unsigned mask, Visit visit) {
  for (; mask != 0; mask &= mask - 1) visit(static_cast<std::size_t>(std::countr_zero(mask)));
}

}  // namespace simt::machine
