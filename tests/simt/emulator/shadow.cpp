// What the check build knows of memory: who touched it, and whether anything orders them.
//
// Kernels are compiled with -fsanitize=thread; its calls, one before each access, are answered at
// the end of this file instead of by libtsan. In other builds nothing here does anything.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <map>

#include "emulator/emulator.h"
#include "emulator/findings.h"
#include "emulator/machine.h"
#include "emulator/memory.h"
#include "emulator/state.h"

extern "C" {
// The linker's bounds of the executable's own data: constants, which any thread may read.
extern char __executable_start, _end;
}

namespace simt::machine {
namespace {

constexpr std::uint32_t kManyBlocks = ~0u;  // as a reader
constexpr unsigned kAccessesPerTurn = 1 << 15;
constexpr unsigned kAtomicsPerTurn = 1 << 6;
constexpr std::uint64_t kPollsPerTurn = 1 << 14;

std::uintptr_t address_of(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p);
}

void merge(Clock& into, const Clock& from) {
  if (into.size() < from.size()) into.resize(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

// ---- Shared memory

bool is_thread(const Cluster& cluster, int entry) {
  return cluster.index_of(entry) < cluster.blocks[0]->threads;
}

std::string name_of(const Cluster& cluster, int entry) {
  if (is_thread(cluster, entry)) return machine::name_of(cluster.thread_of(entry));
  const int agent = cluster.index_of(entry) - cluster.blocks[0]->threads;
  return agent < kMbarrierAgents ? "a TMA copy" : "a wgmma";
}

// One check of one cell: what it needs to know, and how it reports.
struct SharedAccess {
  Thread& thread;
  std::uint32_t offset;
  const void* pc;

  const Cluster& cluster() const { return *thread.block_state->cluster; }

  void race(const char* kind, const Toucher& other, const char* did) const {
    report(fmt::format("race{}{}{}", kind, compact(pc), other.pc),
           fmt::format("RACE {}: shared memory + {:#x}, {} at {}; {} by {} at {}; nothing "
                       "orders them",
                       kind, offset, machine::name_of(thread), line_of(pc), did,
                       name_of(cluster(), other.thread), line_of(expand(other.pc))));
  }

  // Did a proxy fence come between the write and this thread: of the writer, or of this thread
  // after the write was visible to it?
  bool proxy_fenced(const Toucher& write) const {
    const Thread& writer = cluster().thread_of(write.thread);
    if (&writer != &thread && thread.seen_at_proxy_fence != nullptr &&
        write.clock <= (*thread.seen_at_proxy_fence)[write.thread])
      return true;
    const std::uint32_t visible = &writer == &thread ? thread.clock : (*thread.seen)[write.thread];
    return std::any_of(writer.proxy_fences.begin(), writer.proxy_fences.end(),
                       [&](std::uint32_t at) { return at >= write.clock && at < visible; });
  }

  void read(const SharedCell& cell, bool atomic, bool async) const {
    if (cell.pending) {
      race("read of an asynchronous copy before its wait", cell.writer, "copy issued");
    } else if (!cell.written) {
      report(fmt::format("uninitialised{}", compact(pc)),
             fmt::format("UNINITIALISED: shared memory + {:#x} read by {} at {}", offset,
                         machine::name_of(thread), line_of(pc)));
    } else if (!happened_before(thread, cell.writer) && !(atomic && cell.atomic)) {
      race("write/read", cell.writer, "written");
    }
    const bool generic_write = cell.writer.clock != 0 && is_thread(cluster(), cell.writer.thread) &&
                               !cell.async_written && !cell.pending;
    if (async && generic_write && !proxy_fenced(cell.writer))
      race("missing fence.proxy.async", cell.writer, "written");
  }

  void write(const SharedCell& cell, bool atomic) const {
    if (cell.pending) race("write into a pending asynchronous copy", cell.writer, "copy issued");
    if (cell.async_readers != 0)
      race("write under an asynchronous read (wgmma or TMA store not waited for)", cell.writer,
           "last written");
    if (!happened_before(thread, cell.writer) && !(atomic && cell.atomic))
      race("write/write", cell.writer, "written");
    for (const Toucher& reader : cell.readers)
      if (!happened_before(thread, reader)) race("read/write", reader, "read");
  }

  // Keeps the two readers that say most: an earlier one of this thread, or one that is ordered
  // before it, gives way first.
  void remember_reader(SharedCell& cell, const Toucher& as) const {
    for (Toucher& slot : cell.readers)
      if (slot.clock == 0 || slot.thread == as.thread || happened_before(thread, slot)) {
        slot = as;
        return;
      }
    cell.readers[worker->random() & 1] = as;
  }
};

// ---- Global memory. Blocks are ordered by nothing but atomics after __threadfence().

// Vector clocks of blocks, where they have met at all.
struct BlockOrder {
  std::map<std::uint32_t, Clock> seen;      // by block
  std::map<std::uintptr_t, Clock> atomics;  // by address
};
BlockOrder block_order;

std::uint32_t block_epoch(std::uint32_t block) {
  const auto it = block_order.seen.find(block);
  return it == block_order.seen.end() ? 1 : it->second[block];
}

bool block_ordered(std::uint32_t me, std::uint32_t other, std::uint32_t epoch) {
  if (other == 0 || other == me) return true;
  if (other == kManyBlocks) return false;
  const auto it = block_order.seen.find(me);
  return it != block_order.seen.end() && other < it->second.size() && it->second[other] >= epoch;
}

// An atomic acquires what other blocks released at its address, and after a fence releases too.
void order_blocks(Thread& t, std::uintptr_t address) {
  const std::uint32_t me = t.block_state->index + 1;
  Clock& seen = block_order.seen[me];
  if (seen.size() <= me) seen.resize(me + 1);
  seen[me] = std::max(seen[me], 1u);
  Clock& released = block_order.atomics[address];
  merge(seen, released);
  if (!t.fenced) return;
  merge(released, seen);
  ++seen[me];
}

void touch_global(Thread& t, std::uintptr_t address, unsigned bytes, Touch touch, const void* pc) {
  const bool write = touch != Touch::kRead, atomic = touch == Touch::kAtomic;
  Allocation* a = find_allocation(address);
  if (a == nullptr || !a->live || address < a->begin || address + bytes > a->end()) {
    std::string what = "not device memory";
    if (a != nullptr)
      what = a->live ? fmt::format("offset {} of an allocation of {} bytes",
                                   static_cast<std::int64_t>(address - a->begin), a->bytes)
                     : fmt::format("freed memory of {} bytes", a->bytes);
    report(fmt::format("global bounds{}", compact(pc)),
           fmt::format("OUT OF BOUNDS: global {} of {} bytes by thread {} at {}: {}",
                       write ? "write" : "read", bytes, t.index, line_of(pc), what));
    stop_launch();
  }
  if (!a->cells) a->cells = Cells<GlobalCell>(a->bytes);
  const std::uint32_t me = t.block_state->index + 1, launch = worker->launch->id;
  const std::uint32_t epoch = block_epoch(me);
  a->cells.visit(address - a->begin, bytes, [&](GlobalCell& cell) {
    if (cell.launch != launch) cell = {launch, 0, 0, 0, 0, 0, false};
    const bool write_ordered =
        block_ordered(me, cell.writer, cell.writer_epoch) || (atomic && cell.atomic);
    const bool read_ordered = !write || atomic || block_ordered(me, cell.reader, cell.reader_epoch);
    if (!write_ordered || !read_ordered)
      report(fmt::format("blocks{}{}", compact(pc), cell.pc),
             fmt::format("RACE between blocks: global memory {} by thread {} at {}, {} by another "
                         "block at {}; nothing orders them",
                         write ? "written" : "read", t.index, line_of(pc),
                         write_ordered ? "read" : "written", line_of(expand(cell.pc))));
    if (write) {
      cell.writer = me;
      cell.writer_epoch = epoch;
      cell.atomic = atomic;
      cell.pc = compact(pc);
    } else {
      cell.reader =
          cell.reader == 0 || block_ordered(me, cell.reader, cell.reader_epoch) ? me : kManyBlocks;
      cell.reader_epoch = epoch;
      if (cell.writer == 0) cell.pc = compact(pc);
    }
    return true;
  });
  if (atomic) order_blocks(t, address);
}

bool on_a_stack(std::uintptr_t address) {
  return address - address_of(worker->stacks) < worker->stack_count * kStackBytes;
}

// An access by the kernel's own code.
[[maybe_unused]] void kernel_access(const void* p, unsigned bytes, Touch kind, const void* pc) {
  Thread* t = running();
  if (t == nullptr) return;
  if (address_of(p) - address_of(current) < sizeof(Position) || p == &current) return;
  touch(p, bytes, kind, pc);
  if (++worker->accesses % kAccessesPerTurn == 0) {  // maybe it spins on a variable
    worker->polls += kPollsPerTurn;
    yield_at(pc);
  }
}

}  // namespace

std::string name_of(const Thread& t) {
  const Block& b = *t.block_state;
  return b.cluster->blocks.size() == 1 ? fmt::format("thread {}", t.index)
                                       : fmt::format("thread {} of block {}", t.index, b.rank);
}

bool happened_before(const Thread& t, const Toucher& toucher) {
  return toucher.clock == 0 || toucher.thread == t.entry ||
         toucher.clock <= (*t.seen)[toucher.thread];
}

void release(Clock& gathered, Thread& t, const Clock** last) {
  if (!SIMT_CHECK) return;
  if (last == nullptr || *last != t.seen.get()) merge(gathered, *t.seen);
  if (last != nullptr) *last = t.seen.get();
  gathered[static_cast<std::size_t>(t.entry)] = t.clock++;
}

void acquire(Thread& t, const SharedClock& released) {
  if (!SIMT_CHECK || released == nullptr) return;
  Clock seen = *t.seen;
  merge(seen, *released);
  t.seen = std::make_shared<const Clock>(std::move(seen));
}

void reset_block_order() {
  if (SIMT_CHECK) block_order = {};
}

void order_blocks(const Cluster& cluster) {
  if (!SIMT_CHECK || cluster.blocks.size() == 1) return;
  const auto seen_by = [](const Block* block) -> Clock& {
    Clock& seen = block_order.seen[block->index + 1];
    if (seen.size() <= block->index + 1) seen.resize(block->index + 2, 0);
    std::uint32_t& own = seen[block->index + 1];
    own = std::max(own, 1u);
    return seen;
  };
  Clock all;
  for (const Block* block : cluster.blocks) merge(all, seen_by(block));
  for (const Block* block : cluster.blocks) {
    Clock& seen = seen_by(block);
    seen = all;
    ++seen[block->index + 1];
  }
}

void require_running(const Block& other, const Thread& t, const void* pc) {
  if (&other == t.block_state) return;
  if (other.alive == 0) {
    report(fmt::format("exited block{}", pc),
           fmt::format("CLUSTER: {} uses shared memory of block {}, which has exited, at {}",
                       name_of(t), other.rank, line_of(pc)));
    stop_launch();
  }
  if (!SIMT_CHECK) return;
  const auto first = t.seen->begin() + other.first_entry();
  if (std::all_of(first, first + other.threads, [](std::uint32_t clock) { return clock == 0; })) {
    report(fmt::format("unstarted block{}", pc),
           fmt::format("CLUSTER: {} uses shared memory of block {} at {}, and nothing says that "
                       "that block has begun: a barrier of the cluster comes first",
                       name_of(t), other.rank, line_of(pc)));
    stop_launch();
  }
}

void visit(Block& other, const Thread& t, const void* pc) {
  require_running(other, t, pc);
  if (!SIMT_CHECK || &other == t.block_state) return;
  if (other.visits.empty()) other.visits.resize(t.seen->size());
  other.visits[static_cast<std::size_t>(t.entry)] = {t.clock, compact(pc),
                                                     static_cast<std::uint16_t>(t.entry)};
}

void check_visits(const Block& block) {
  for (const Toucher& visit : block.visits)
    if (visit.clock > block.before_exit[visit.thread])
      report(fmt::format("visit{}", visit.pc),
             fmt::format("CLUSTER: block {} exits, and nothing orders the use of its shared memory "
                         "by {} at {} before that: a barrier of the cluster comes last",
                         block.rank, name_of(*block.cluster, visit.thread),
                         line_of(expand(visit.pc))));
}

void make_valid(Block& block, std::uint32_t offset, std::uint32_t bytes) {
  if (!SIMT_CHECK) return;
  block.shadow.visit(offset, bytes, [](SharedCell& cell) {
    cell = {};
    cell.valid = true;
    return true;
  });
}

void touch_shared(Thread* t, const std::byte* p, unsigned bytes, Touch touch, const void* pc,
                  Toucher as) {
  if (!SIMT_CHECK) return;
  Block& b = *t->block_state->cluster->holder_of(p);
  const auto offset = static_cast<std::uint32_t>(b.arena_offset(p));
  if (as.clock == 0) as = {t->clock, compact(pc), static_cast<std::uint16_t>(t->entry)};
  const SharedAccess access{*t, offset, pc};
  bool valid = true;
  b.shadow.visit(offset, bytes, [&](SharedCell& cell) {
    if (!cell.valid) return valid = false;
    const bool atomic = touch == Touch::kAtomic;
    switch (touch) {
      case Touch::kRead:
        access.read(cell, false, false);
        access.remember_reader(cell, as);
        break;
      case Touch::kAsyncReadBegin:
        access.read(cell, false, true);
        ++cell.async_readers;
        break;
      case Touch::kAsyncReadEnd:
        if (cell.async_readers != 0) --cell.async_readers;
        cell.readers[1] = as;
        break;
      case Touch::kAtomic:
        access.read(cell, true, false);
        [[fallthrough]];
      case Touch::kWrite:
      case Touch::kCopyBegin:
        access.write(cell, atomic);
        cell = {};
        cell.valid = true;
        cell.writer = as;
        cell.pending = touch == Touch::kCopyBegin;
        cell.written = !cell.pending;
        cell.atomic = atomic;
        break;
      case Touch::kCopyEnd:
      case Touch::kTensorEnd:
        cell.writer = as;
        cell.pending = false;
        cell.written = true;
        cell.async_written = touch == Touch::kTensorEnd;
        break;
    }
    return true;
  });
  if (valid) return;
  report(fmt::format("shared bounds{}", compact(pc)),
         fmt::format("OUT OF BOUNDS: shared memory + {:#x}, {} bytes, by {} at {}; there are "
                     "{} bytes of dynamic shared memory",
                     offset, bytes, name_of(*t), line_of(pc), b.dynamic_bytes));
  stop_launch();
}

void touch(const void* p, unsigned bytes, Touch touch, const void* pc) {
  if (!SIMT_CHECK) return;
  Thread* t = running();
  Block* const holder = t->block_state->cluster->holder_of(p);
  const bool shared = holder != nullptr;
  if (!shared && (on_a_stack(address_of(p)) || (p >= &__executable_start && p < &_end))) return;
  if (std::has_single_bit(bytes) && bytes <= 16 && address_of(p) % bytes != 0)
    report(
        fmt::format("misaligned{}", compact(pc)),
        fmt::format("MISALIGNED: access of {} bytes, {} past a multiple of that, by thread {} at "
                    "{}",
                    bytes, address_of(p) % bytes, t->index, line_of(pc)));
  if (shared) {
    visit(*holder, *t, pc);
    touch_shared(t, static_cast<const std::byte*>(p), bytes, touch, pc);
  } else {
    touch_global(*t, address_of(p), bytes, touch, pc);
  }
  if (config().profile)
    t->requests.push_back({pc, shared ? holder->arena_offset(p) : address_of(p), t->interval,
                           static_cast<std::uint16_t>(bytes), shared});
}

SIMT_ENTRY void access(const void* p, unsigned bytes, bool write) {
  touch(p, bytes, write ? Touch::kWrite : Touch::kRead, SIMT_CALLER);
}

SIMT_ENTRY void atomic_access(const void* p, unsigned bytes) {
  touch(p, bytes, Touch::kAtomic, SIMT_CALLER);
  if (++worker->accesses % kAtomicsPerTurn == 0) {  // maybe it waits for another thread
    worker->polls += kAtomicsPerTurn;
    yield_at(SIMT_CALLER);
  }
}

void atomic_load(const void* p, void* value, unsigned bytes) {
  const auto load = [&](auto* bits) {
    const auto loaded = __atomic_load_n(bits, __ATOMIC_RELAXED);
    std::memcpy(value, &loaded, sizeof loaded);
  };
  if (bytes == 8)
    load(static_cast<const std::uint64_t*>(p));
  else
    load(static_cast<const std::uint32_t*>(p));
}

bool atomic_replace(void* p, void* expected, const void* desired, unsigned bytes) {
  const auto replace = [&]<class Bits>(Bits* bits) {
    Bits before, after;
    std::memcpy(&before, expected, sizeof before);
    std::memcpy(&after, desired, sizeof after);
    const bool replaced = __atomic_compare_exchange_n(bits, &before, after, false, __ATOMIC_RELAXED,
                                                      __ATOMIC_RELAXED);
    std::memcpy(expected, &before, sizeof before);
    return replaced;
  };
  return bytes == 8 ? replace(static_cast<std::uint64_t*>(p))
                    : replace(static_cast<std::uint32_t*>(p));
}

void thread_fence() {
  running()->fenced = true;
}

#if SIMT_CHECK
extern "C" {
#define SIMT_TSAN(name, bytes)                           \
  void __tsan_##name##read##bytes(void* p) {             \
    kernel_access(p, bytes, Touch::kRead, SIMT_CALLER);  \
  }                                                      \
  void __tsan_##name##write##bytes(void* p) {            \
    kernel_access(p, bytes, Touch::kWrite, SIMT_CALLER); \
  }
SIMT_TSAN(, 1)
SIMT_TSAN(, 2)
SIMT_TSAN(, 4)
SIMT_TSAN(, 8)
SIMT_TSAN(, 16)
SIMT_TSAN(unaligned_, 2)
SIMT_TSAN(unaligned_, 4)
SIMT_TSAN(unaligned_, 8)
SIMT_TSAN(unaligned_, 16)
#undef SIMT_TSAN
void __tsan_read_range(void* p, std::size_t bytes) {
  kernel_access(p, static_cast<unsigned>(bytes), Touch::kRead, SIMT_CALLER);
}
void __tsan_write_range(void* p, std::size_t bytes) {
  kernel_access(p, static_cast<unsigned>(bytes), Touch::kWrite, SIMT_CALLER);
}
void* __tsan_memcpy(void* to, const void* from, std::size_t bytes) {
  kernel_access(from, static_cast<unsigned>(bytes), Touch::kRead, SIMT_CALLER);
  kernel_access(to, static_cast<unsigned>(bytes), Touch::kWrite, SIMT_CALLER);
  return std::memcpy(to, from, bytes);
}
void* __tsan_memset(void* to, int value, std::size_t bytes) {
  kernel_access(to, static_cast<unsigned>(bytes), Touch::kWrite, SIMT_CALLER);
  return std::memset(to, value, bytes);
}
// Atomic operations: of the host code in the same file, such as reference counts.
#define SIMT_TSAN_FETCH(bits, name)                                                       \
  std::uint##bits##_t __tsan_atomic##bits##_fetch_##name(volatile std::uint##bits##_t* p, \
                                                         std::uint##bits##_t v, int) {    \
    return __atomic_fetch_##name(p, v, __ATOMIC_SEQ_CST);                                 \
  }
#define SIMT_TSAN_ATOMIC(bits)                                                                     \
  std::uint##bits##_t __tsan_atomic##bits##_load(const volatile std::uint##bits##_t* p, int) {     \
    return __atomic_load_n(p, __ATOMIC_SEQ_CST);                                                   \
  }                                                                                                \
  void __tsan_atomic##bits##_store(volatile std::uint##bits##_t* p, std::uint##bits##_t v, int) {  \
    __atomic_store_n(p, v, __ATOMIC_SEQ_CST);                                                      \
  }                                                                                                \
  std::uint##bits##_t __tsan_atomic##bits##_exchange(volatile std::uint##bits##_t* p,              \
                                                     std::uint##bits##_t v, int) {                 \
    return __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST);                                            \
  }                                                                                                \
  int __tsan_atomic##bits##_compare_exchange_strong(volatile std::uint##bits##_t* p,               \
                                                    std::uint##bits##_t* expected,                 \
                                                    std::uint##bits##_t v, int, int) {             \
    return __atomic_compare_exchange_n(p, expected, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
  }                                                                                                \
  SIMT_TSAN_FETCH(bits, add)                                                                       \
  SIMT_TSAN_FETCH(bits, sub)                                                                       \
  SIMT_TSAN_FETCH(bits, or)                                                                        \
  SIMT_TSAN_FETCH(bits, and)
SIMT_TSAN_ATOMIC(8)
SIMT_TSAN_ATOMIC(32)
SIMT_TSAN_ATOMIC(64)
#undef SIMT_TSAN_ATOMIC
#undef SIMT_TSAN_FETCH
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}
#endif

}  // namespace simt::machine
