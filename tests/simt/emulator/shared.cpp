// Shared memory of a block: dynamic memory at the bottom of its arena, arrays from the top down,
// bytes between them that belong to nobody. All of it is NaN until written.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "emulator/findings.h"
#include "emulator/machine.h"
#include "emulator/state.h"

namespace simt::machine {
namespace {

constexpr int kPoison = 0xff;
constexpr std::uint32_t kLeastAlign = 16;
constexpr std::uint32_t kGap = 32;  // between arrays

void* add_array(Block& b, const void* key, std::uint32_t offset, std::uint32_t bytes) {
  b.arrays.push_back({key, offset, bytes});
  std::byte* p = b.arena + offset;
  ASAN_UNPOISON_MEMORY_REGION(p, bytes);
  std::memset(p, kPoison, bytes);
  make_valid(b, offset, bytes);
  return p;
}

const SharedArray* find_array(const Block& b, const void* key) {
  for (const SharedArray& array : b.arrays)
    if (array.key == key) return &array;
  return nullptr;
}

}  // namespace

void* dynamic_shared(std::size_t align) {
  Block& b = *running()->block_state;
  if (const SharedArray* array = find_array(b, nullptr)) return b.arena + array->offset;
  // Aligned as declared, and no better.
  const auto offset = std::max(static_cast<std::uint32_t>(align), kLeastAlign);
  return add_array(b, nullptr, offset, b.dynamic_bytes);
}

void* static_shared(const void* key, std::size_t bytes, std::size_t align) {
  Block& b = *running()->block_state;
  if (const SharedArray* array = find_array(b, key)) return b.arena + array->offset;
  const auto size = static_cast<std::uint32_t>(bytes);
  const auto alignment = std::max(static_cast<std::uint32_t>(align), kLeastAlign);
  b.static_top = (b.static_top - size - kGap) & ~(alignment - 1);
  std::size_t total = b.dynamic_bytes + size;
  for (const SharedArray& array : b.arrays) total += array.key != nullptr ? array.bytes : 0;
  if (total > device().shared_per_block)
    report("shared limit", fmt::format("LIMIT: {} bytes of shared memory, {} of them dynamic; a "
                                       "block may have {}",
                                       total, b.dynamic_bytes, device().shared_per_block));
  return add_array(b, key, b.static_top, size);
}

SIMT_ENTRY std::uint32_t shared_address(const void* p) {
  const std::size_t offset = running()->block_state->arena_offset(p);
  if (offset >= kArena) {
    report(fmt::format("shared address{}", SIMT_CALLER),
           fmt::format("NOT SHARED MEMORY: the address of other memory is used as one, at {}",
                       line_of(SIMT_CALLER)));
    stop_launch();
  }
  return static_cast<std::uint32_t>(offset);
}

}  // namespace simt::machine
