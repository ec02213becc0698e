// Emulated device memory: exact bounds, nothing reused, NaN until written.
//
// An allocation starts at a multiple of 256 bytes, as cudaMalloc's do, and ends as close to an
// unmapped page as that permits; what is left on both sides holds a pattern that is looked at after
// each launch. Freed memory is unmapped for good.
#pragma once

#include <cstddef>
#include <cstdint>

#include "emulator/cells.h"

namespace simt::machine {

// Which blocks touched some bytes of global memory during launch `launch`.
struct GlobalCell {
  std::uint32_t launch;
  std::uint32_t writer, reader;              // index of the block + 1; 0: none
  std::uint32_t writer_epoch, reader_epoch;  // of that block's clock, then
  std::uint32_t pc;                          // compact()
  bool atomic;                               // the write was
};

struct Allocation {
  std::uintptr_t begin = 0;
  std::size_t bytes = 0;
  int device = 0;
  bool live = false;
  Cells<GlobalCell> cells;

  std::uintptr_t end() const { return begin + bytes; }
};

// On the calling thread's device; null where there is no room.
void* allocate_device(std::size_t bytes);
// False where `p` is no live allocation.
bool free_device(void* p);
// The allocation whose pages `address` is on, live or not; null elsewhere.
Allocation* find_allocation(std::uintptr_t address);
// Reports overruns into the patterns around live allocations.
void check_guards();

}  // namespace simt::machine
