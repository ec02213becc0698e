#include "emulator/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <new>

#include "emulator/emulator.h"
#include "emulator/findings.h"
#include "emulator/sanitizer.h"
#include "emulator/streams.h"

namespace simt {
namespace machine {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kAlign = 256;
constexpr std::size_t kHeap = std::size_t{1} << 40;  // addresses; they are never used twice
constexpr int kPoison = 0xff;                        // NaN in every float format

std::byte* reserve(std::size_t bytes, int protection) {
  void* p = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw std::bad_alloc();
  return static_cast<std::byte*>(p);
}

struct Heap {
  std::mutex mutex;
  std::byte* const begin = reserve(kHeap, PROT_NONE);
  Allocation** const page_table = reinterpret_cast<Allocation**>(
      reserve(kHeap / kPage * sizeof(Allocation*), PROT_READ | PROT_WRITE));
  std::deque<Allocation> allocations;  // all there ever were: a finding may name a freed one
  std::map<std::uintptr_t, Allocation*> live;
  std::size_t live_bytes = 0;
  std::size_t used = 0;
};

// Never destroyed: static objects may still free memory when the program ends.
Heap& heap() {
  static Heap& instance = *new Heap;
  return instance;
}

std::size_t round_up(std::size_t bytes, std::size_t to) {
  return (bytes + to - 1) / to * to;
}

// The pages of an allocation of `bytes`: kAlign bytes of guard, the memory, the rest of its pages.
std::size_t span_of(std::size_t bytes) {
  return round_up(round_up(bytes, kAlign) + kAlign, kPage);
}

struct Guard {
  unsigned char* begin;
  std::size_t bytes;
};
Guard front_guard(const Allocation& a) {
  return {reinterpret_cast<unsigned char*>(a.begin) - kAlign, kAlign};
}
Guard back_guard(const Allocation& a) {
  return {reinterpret_cast<unsigned char*>(a.end()), round_up(a.bytes, kAlign) - a.bytes};
}

// The 16-bit pattern 0xfffd: a NaN again, and none that arithmetic makes.
unsigned char guard_of(const unsigned char* p) {
  return reinterpret_cast<std::uintptr_t>(p) % 2 != 0 ? 0xff : 0xfd;
}

void fill(const Guard& guard) {
  for (std::size_t i = 0; i < guard.bytes; ++i) guard.begin[i] = guard_of(guard.begin + i);
}

void check_guards(const Allocation& a) {
  if (SIMT_ASAN) return;  // there the guards are poisoned
  for (const Guard& guard : {front_guard(a), back_guard(a)}) {
    const auto* hit =
        std::find_if(guard.begin, guard.begin + guard.bytes,
                     [](const unsigned char& byte) { return byte != guard_of(&byte); });
    if (hit == guard.begin + guard.bytes) continue;
    const auto offset = static_cast<std::ptrdiff_t>(reinterpret_cast<std::uintptr_t>(hit)) -
                        static_cast<std::ptrdiff_t>(a.begin);
    report(fmt::format("guard{}", a.begin),
           fmt::format("OUT OF BOUNDS: something wrote to offset {} of a device allocation of {} "
                       "bytes; the check build says what",
                       offset, a.bytes));
    fill(guard);
  }
}

}  // namespace

void* allocate_device(std::size_t bytes) {
  Heap& h = heap();
  std::lock_guard lock(h.mutex);
  bytes = std::max<std::size_t>(bytes, 1);
  const std::size_t span = span_of(bytes);
  if (bytes > device().total_bytes - std::min(h.live_bytes, device().total_bytes) ||
      h.used + span + kPage > kHeap)
    return nullptr;
  std::byte* pages = h.begin + h.used;
  if (mprotect(pages, span, PROT_READ | PROT_WRITE) != 0) return nullptr;

  Allocation* a = &h.allocations.emplace_back();
  a->begin = reinterpret_cast<std::uintptr_t>(pages + span - round_up(bytes, kAlign));
  a->bytes = bytes;
  a->device = current_device();
  a->live = true;
  for (std::size_t page = 0; page <= span / kPage; ++page) h.page_table[h.used / kPage + page] = a;
  h.used += span + kPage;
  h.live[a->begin] = a;
  h.live_bytes += bytes;

  std::memset(reinterpret_cast<void*>(a->begin), kPoison, bytes);
  for ([[maybe_unused]] const Guard& guard : {front_guard(*a), back_guard(*a)}) {
    fill(guard);
    ASAN_POISON_MEMORY_REGION(guard.begin, guard.bytes);
  }
  return reinterpret_cast<void*>(a->begin);
}

bool free_device(void* p) {
  Heap& h = heap();
  std::lock_guard lock(h.mutex);
  const auto it = h.live.find(reinterpret_cast<std::uintptr_t>(p));
  if (it == h.live.end()) return false;
  Allocation& a = *it->second;
  check_guards(a);
  a.live = false;
  a.cells = {};
  h.live_bytes -= a.bytes;
  h.live.erase(it);
  const std::size_t span = span_of(a.bytes);
  auto* pages = reinterpret_cast<std::byte*>(a.begin + round_up(a.bytes, kAlign) - span);
  ASAN_UNPOISON_MEMORY_REGION(pages, span);
  madvise(pages, span, MADV_DONTNEED);
  mprotect(pages, span, PROT_NONE);
  return true;
}

Allocation* find_allocation(std::uintptr_t address) {
  const Heap& h = heap();
  const std::size_t offset = address - reinterpret_cast<std::uintptr_t>(h.begin);
  return offset < kHeap ? h.page_table[offset / kPage] : nullptr;
}

void check_guards() {
  Heap& h = heap();
  std::lock_guard lock(h.mutex);
  for (const auto& [begin, allocation] : h.live) check_guards(*allocation);
}

}  // namespace machine

std::size_t allocated_bytes() {
  std::lock_guard lock(machine::heap().mutex);
  return machine::heap().live_bytes;
}

std::size_t allocated_bytes(int device) {
  std::lock_guard lock(machine::heap().mutex);
  std::size_t bytes = 0;
  for (const auto& [begin, allocation] : machine::heap().live)
    if (allocation->device == device) bytes += allocation->bytes;
  return bytes;
}

std::size_t allocation_count() {
  std::lock_guard lock(machine::heap().mutex);
  return machine::heap().live.size();
}

}  // namespace simt
