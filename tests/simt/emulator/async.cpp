// Asynchronous copies: cp.async, mbarriers, TMA.
//
// A copy marks what it will write or read when it is issued, and moves the bytes then, at its wait,
// or in between (Config::async): both ends of what the hardware may do are wrong results for a
// kernel that waits too little.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "emulator/findings.h"
#include "emulator/machine.h"
#include "emulator/state.h"

namespace simt::machine {
namespace {

bool now() {
  return config().async == Async::kEarly ||
         (config().async == Async::kRandom && worker->random() % 2 == 0);
}

bool in_shared(const Block& b, const void* p) {
  return b.arena_offset(p) < kArena;
}

// Stops the launch unless `p` is shared memory aligned to `align`.
void require_shared(const char* what, const void* p, std::size_t align, const void* pc) {
  const Block& b = *running()->block_state;
  if (!in_shared(b, p)) {
    report(fmt::format("not shared{}", pc),
           fmt::format("NOT SHARED MEMORY: {} at {}", what, line_of(pc)));
    stop_launch();
  }
  if (b.arena_offset(p) % align != 0) {
    report(fmt::format("misaligned{}", pc),
           fmt::format("MISALIGNED: {} at shared memory + {:#x}, not a multiple of {}, at {}", what,
                       b.arena_offset(p), align, line_of(pc)));
    stop_launch();
  }
}

// A block of the running thread's cluster.
Block& block_of_rank(unsigned rank, const void* pc) {
  const Thread& t = *running();
  const Cluster& cluster = *t.block_state->cluster;
  if (rank >= cluster.blocks.size()) {
    report(fmt::format("rank{}", pc),
           fmt::format("CLUSTER: {} names block {} of a cluster of {}, at {}", name_of(t), rank,
                       cluster.blocks.size(), line_of(pc)));
    stop_launch();
  }
  return *cluster.blocks[rank];
}

}  // namespace

// ---- cp.async

namespace {

void move(CopyAsync& copy) {
  if (copy.moved) return;
  const auto given = static_cast<std::size_t>(copy.source_bytes);
  std::memcpy(copy.to, copy.from, given);
  std::memset(copy.to + given, 0, static_cast<std::size_t>(copy.bytes) - given);
  copy.moved = true;
}

}  // namespace

SIMT_ENTRY void copy_async(void* to, const void* from, int bytes, int source_bytes) {
  const void* pc = SIMT_CALLER;
  Thread& t = *running();
  require_shared("cp.async", to, static_cast<std::size_t>(bytes), pc);
  if (source_bytes < 0 || source_bytes > bytes ||
      (source_bytes != 0 && std::bit_cast<std::uintptr_t>(from) % static_cast<unsigned>(bytes))) {
    report(fmt::format("cp.async source{}", pc),
           fmt::format("MISALIGNED: cp.async of {} bytes from a source of {} bytes, {} past a "
                       "multiple of that, at {}",
                       bytes, source_bytes,
                       std::bit_cast<std::uintptr_t>(from) % static_cast<unsigned>(bytes),
                       line_of(pc)));
    stop_launch();
  }
  touch(to, static_cast<unsigned>(bytes), Touch::kCopyBegin, pc);
  if (source_bytes != 0) touch(from, static_cast<unsigned>(source_bytes), Touch::kRead, pc);
  t.copies.push_back({static_cast<std::byte*>(to), static_cast<const std::byte*>(from), bytes,
                      source_bytes, t.copy_group, false, pc});
  if (now()) move(t.copies.back());
}

void copy_async_commit() {
  ++running()->copy_group;
}

void copy_async_wait(int pending) {
  Thread& t = *running();
  std::erase_if(t.copies, [&](CopyAsync& copy) {
    if (copy.group >= t.copy_group - pending) return false;
    move(copy);
    touch_shared(&t, copy.to, static_cast<unsigned>(copy.bytes), Touch::kCopyEnd, copy.pc);
    return true;
  });
}

// ---- mbarriers

namespace {

// The 64 bits in shared memory; their layout is the emulator's own.
struct MbarrierBits {
  std::uint64_t phase : 1;
  std::uint64_t expected : 20;  // arrivals of a phase
  std::uint64_t pending : 20;   // of this one
  std::uint64_t reserved : 1;
  std::int64_t bytes : 22;  // announced and not yet copied
};
static_assert(sizeof(MbarrierBits) == sizeof(std::uint64_t));

MbarrierBits load(const std::uint64_t* barrier) {
  return std::bit_cast<MbarrierBits>(*barrier);
}
void store(std::uint64_t* barrier, MbarrierBits bits) {
  *barrier = std::bit_cast<std::uint64_t>(bits);
}

Mbarrier* find_mbarrier(const Block& b, const std::uint64_t* barrier) {
  for (const auto& m : b.mbarriers)
    if (m->address == b.arena_offset(barrier)) return m.get();
  return nullptr;
}

// The barrier at `barrier`, in shared memory of block `b`.
Mbarrier& mbarrier_in(Block& b, const std::uint64_t* barrier, const void* pc) {
  Thread& t = *running();
  require_sm90("mbarrier", pc);
  require_running(b, t, pc);
  Mbarrier* m = find_mbarrier(b, barrier);
  if (m == nullptr) {
    report(fmt::format("mbarrier use{}", pc),
           fmt::format("MBARRIER: used before mbarrier.init at {}", line_of(pc)));
    stop_launch();
  }
  if (SIMT_CHECK &&
      !happened_before(t, {m->init_clock, 0, static_cast<std::uint16_t>(m->init_entry)}))
    report(fmt::format("mbarrier order{}", pc),
           fmt::format("MBARRIER: {} uses a barrier at {}, and nothing orders that after its init",
                       name_of(t), line_of(pc)));
  return *m;
}

Mbarrier& mbarrier_at(const std::uint64_t* barrier, const void* pc) {
  return mbarrier_in(*running()->block_state, barrier, pc);
}

void end_phase_if_complete(std::uint64_t* barrier, Mbarrier& m, const void* pc) {
  MbarrierBits bits = load(barrier);
  if (bits.pending == 0 && bits.bytes < 0)
    report(fmt::format("mbarrier bytes{}", pc),
           fmt::format("MBARRIER: {} bytes more were copied than its phase announced, at {}",
                       -static_cast<int>(bits.bytes), line_of(pc)));
  if (bits.pending != 0 || bits.bytes != 0) return;
  bits.phase ^= 1;
  bits.pending = bits.expected;
  store(barrier, bits);
  if (SIMT_CHECK) m.released = std::make_shared<const Clock>(m.gathered);
  for (Thread* t : m.waiting) {
    acquire(*t, m.released);
    worker->push_back(t);
  }
  m.waiting.clear();
  worker->polls = 0;
}

bool phase_ended(const std::uint64_t* barrier, int parity) {
  return load(barrier).phase != static_cast<unsigned>(parity);
}

}  // namespace

SIMT_ENTRY void mbarrier_init(std::uint64_t* barrier, int count) {
  const void* pc = SIMT_CALLER;
  Thread& t = *running();
  Block& b = *t.block_state;
  require_sm90("mbarrier.init", pc);
  require_shared("mbarrier", barrier, sizeof(std::uint64_t), pc);
  touch(barrier, sizeof(std::uint64_t), Touch::kWrite, pc);
  const auto arrivals = static_cast<unsigned>(count);
  store(barrier, {0, arrivals, arrivals, 0, 0});
  auto m = std::make_unique<Mbarrier>();
  m->address = static_cast<std::uint32_t>(b.arena_offset(barrier));
  m->init_entry = t.entry;
  m->init_clock = t.clock;
  m->init_pc = pc;
  if (SIMT_CHECK) m->gathered.assign(t.seen->size(), 0);
  std::erase_if(b.mbarriers, [&](const auto& other) { return other->address == m->address; });
  m->agent = static_cast<int>(b.mbarriers.size()) % kMbarrierAgents;
  b.mbarriers.push_back(std::move(m));
}

namespace {

void arrive(std::uint64_t* barrier, Mbarrier& m, int expected_bytes, const void* pc) {
  MbarrierBits bits = load(barrier);
  if (bits.pending == 0) {
    report(fmt::format("mbarrier count{}", pc),
           fmt::format("MBARRIER: more arrivals than its count of {} at {}",
                       static_cast<unsigned>(bits.expected), line_of(pc)));
    stop_launch();
  }
  bits.bytes += expected_bytes;
  bits.pending -= 1;
  store(barrier, bits);
  release(m.gathered, *running());
  end_phase_if_complete(barrier, m, pc);
}

// What lies at `p` in this block, in block `rank` of its cluster.
template <class T>
T* in_block(T* p, const Block& own, const Block& other) {
  return reinterpret_cast<T*>(other.arena + own.arena_offset(p));
}

}  // namespace

SIMT_ENTRY void mbarrier_arrive(std::uint64_t* barrier, int expected_bytes) {
  const void* pc = SIMT_CALLER;
  arrive(barrier, mbarrier_at(barrier, pc), expected_bytes, pc);
}

SIMT_ENTRY void mbarrier_arrive_at(std::uint64_t* barrier, unsigned rank) {
  const void* pc = SIMT_CALLER;
  const Block& own = *running()->block_state;
  require_shared("mbarrier", barrier, sizeof(std::uint64_t), pc);
  Block& other = block_of_rank(rank, pc);
  std::uint64_t* const there = in_block(barrier, own, other);
  Mbarrier& m = mbarrier_in(other, there, pc);
  visit(other, *running(), pc);
  arrive(there, m, 0, pc);
}

SIMT_ENTRY bool mbarrier_test(std::uint64_t* barrier, int parity) {
  const Mbarrier& m = mbarrier_at(barrier, SIMT_CALLER);
  if (!phase_ended(barrier, parity)) yield_at(SIMT_CALLER);
  if (!phase_ended(barrier, parity)) return false;
  acquire(*running(), m.released);
  return true;
}

SIMT_ENTRY void mbarrier_wait(std::uint64_t* barrier, int parity) {
  const void* pc = SIMT_CALLER;
  Mbarrier& m = mbarrier_at(barrier, pc);
  if (phase_ended(barrier, parity)) {
    acquire(*running(), m.released);
    return;
  }
  m.waiting.push_back(running());
  park("an mbarrier, parity", parity, pc);
}

void fence_proxy() {
  if (!SIMT_CHECK) return;
  Thread& t = *running();
  t.proxy_fences.push_back(t.clock++);
  t.seen_at_proxy_fence = t.seen;
}

// ---- TMA

namespace {

constexpr int kChunkBytes = 16;  // that a swizzle keeps together

std::uint32_t box_bytes(const TensorMap& map) {
  std::uint32_t bytes = map.element_bytes;
  if (map.im2col) return bytes * map.channels * map.pixels;
  for (int i = 0; i < map.rank; ++i) bytes *= map.box[static_cast<std::size_t>(i)];
  return bytes;
}

// Calls visit(shared address, global address or null where outside of the tensor, bytes) for the
// pieces of a copy, of at most kChunkBytes.
template <class Visit>
void for_pieces(const TensorCopy& copy, Visit visit) {
  const TensorMap& map = copy.map;
  const std::byte* arena = copy.block->arena;
  auto shared = static_cast<std::uint32_t>(copy.shared - arena);
  const int elements = kChunkBytes / map.element_bytes;
  const auto rank = static_cast<std::size_t>(map.rank);
  const int inner = map.im2col ? map.channels : map.box[0];
  std::uint32_t rows = map.im2col ? map.pixels : 1;
  if (!map.im2col)
    for (std::size_t i = 1; i < rank; ++i) rows *= map.box[i];

  std::array<int, kMaxTensorRank> pixel = copy.at;  // im2col: of the bounding box
  for (std::uint32_t row = 0; row < rows; ++row) {
    std::uint64_t address = map.base;
    bool inside = true;
    std::uint32_t rest = row;
    for (std::size_t i = 1; i < rank; ++i) {
      int x = pixel[i];
      if (map.im2col) {
        if (i + 1 < rank) x += copy.offsets[i - 1];
      } else {
        x += static_cast<int>(rest % map.box[i]) * map.element_stride[i];
        rest /= map.box[i];
      }
      inside = inside && x >= 0 && x < static_cast<int>(map.extent[i]);
      address += static_cast<std::uint64_t>(static_cast<std::int64_t>(x) *
                                            static_cast<std::int64_t>(map.stride[i - 1]));
    }
    const auto global = [&](int x) {
      return reinterpret_cast<std::byte*>(
          address + static_cast<std::uint64_t>(static_cast<std::int64_t>(x) * map.element_bytes));
    };
    const auto is_inside = [&](int x) {
      return inside && x >= 0 && x < static_cast<int>(map.extent[0]);
    };
    for (int c = 0; c < inner; c += elements, shared += kChunkBytes) {
      const int x = copy.at[0] + c;
      std::byte* to = copy.block->arena + swizzled(shared, map.swizzle);
      if (is_inside(x) && is_inside(x + elements - 1)) {
        visit(to, global(x), kChunkBytes);
        continue;
      }
      for (int e = 0; e < elements; ++e)
        visit(to + e * map.element_bytes, is_inside(x + e) ? global(x + e) : nullptr,
              static_cast<int>(map.element_bytes));
    }
    if (!map.im2col) continue;
    for (std::size_t i = 1; i < rank; ++i) {  // the next pixel of the bounding box, w fastest
      if (i + 1 == rank) {
        ++pixel[i];
        break;
      }
      pixel[i] += map.element_stride[i];
      if (pixel[i] <= static_cast<int>(map.extent[i]) - 1 + map.upper[i - 1]) break;
      pixel[i] = map.lower[i - 1];
    }
  }
}

void touch_pieces(const TensorCopy& copy, Touch touch, Toucher as = {}) {
  if (!SIMT_CHECK) return;
  for_pieces(copy, [&](const std::byte* shared, const std::byte*, int bytes) {
    touch_shared(copy.thread, shared, static_cast<unsigned>(bytes), touch, copy.pc, as);
  });
}

void finish_load(const TensorCopy& copy) {
  Block& b = *copy.block;
  Mbarrier* m = find_mbarrier(b, copy.barrier);
  if (m == nullptr) return;  // the kernel has made another of its memory
  const auto agent = static_cast<std::size_t>(m->agent);
  const Toucher as{++b.agent_clock[agent], compact(copy.pc),
                   static_cast<std::uint16_t>(b.first_entry() + b.threads + m->agent)};
  for_pieces(copy, [](std::byte* shared, const std::byte* global, int bytes) {
    if (global != nullptr)
      std::memcpy(shared, global, static_cast<std::size_t>(bytes));
    else
      std::memset(shared, 0, static_cast<std::size_t>(bytes));
  });
  touch_pieces(copy, Touch::kTensorEnd, as);
  if (SIMT_CHECK) m->gathered[as.thread] = as.clock;
  MbarrierBits bits = load(copy.barrier);
  bits.bytes -= static_cast<int>(box_bytes(copy.map));
  store(copy.barrier, bits);
  end_phase_if_complete(copy.barrier, *m, copy.pc);
}

void move(TensorCopy& copy) {
  if (copy.moved) return;
  for_pieces(copy, [](const std::byte* shared, std::byte* global, int bytes) {
    if (global != nullptr) std::memcpy(global, shared, static_cast<std::size_t>(bytes));
  });
  copy.moved = true;
}

// Stores of groups before `group` have left shared memory.
void finish_stores(Thread& t, int group) {
  std::erase_if(t.stores, [&](TensorCopy& copy) {
    if (copy.group >= group) return false;
    move(copy);
    touch_pieces(copy, Touch::kAsyncReadEnd);
    return true;
  });
}

TensorCopy tensor_copy(const CUtensorMap* encoded, const void* shared, const int* at,
                       int coordinates, const int* offsets, const void* pc) {
  require_sm90("TMA", pc);
  TensorCopy copy{};
  std::memcpy(static_cast<void*>(&copy.map), encoded, sizeof copy.map);
  const TensorMap& map = copy.map;
  if (map.rank != coordinates || map.im2col != (offsets != nullptr)) {
    report(fmt::format("tensor map{}", pc),
           fmt::format("TMA: a copy with {} coordinates, {}im2col, through a map of rank {}, "
                       "{}im2col, at {}",
                       coordinates, offsets != nullptr ? "" : "not ", map.rank,
                       map.im2col ? "" : "not ", line_of(pc)));
    stop_launch();
  }
  constexpr std::size_t kSharedAlign = 128;
  require_shared("a TMA copy", shared, kSharedAlign, pc);
  std::copy_n(at, coordinates, copy.at.begin());
  if (offsets != nullptr) std::copy_n(offsets, coordinates - 2, copy.offsets.begin());
  copy.shared = static_cast<std::byte*>(const_cast<void*>(shared));
  copy.thread = running();
  copy.block = copy.thread->block_state;
  copy.pc = pc;
  return copy;
}

// Once the copy knows its block, place and barrier.
void issue_load(const TensorCopy& copy) {
  const Mbarrier& m = mbarrier_in(*copy.block, copy.barrier, copy.pc);
  const auto& fences = copy.block->cluster->thread_of(m.init_entry).proxy_fences;
  if (SIMT_CHECK && (fences.empty() || fences.back() < m.init_clock))
    report(fmt::format("mbarrier fence{}", copy.pc),
           fmt::format("MBARRIER: no fence after its init before a TMA copy signals it, at {}",
                       line_of(copy.pc)));
  touch_pieces(copy, Touch::kCopyBegin);
  if (config().async == Async::kEarly)
    finish_load(copy);
  else
    worker->loads.push_back(copy);
}

}  // namespace

SIMT_ENTRY void tensor_load(void* to, const CUtensorMap* map, std::uint64_t* barrier, const int* at,
                            int coordinates, const int* im2col_offsets) {
  const void* pc = SIMT_CALLER;
  TensorCopy copy = tensor_copy(map, to, at, coordinates, im2col_offsets, pc);
  copy.barrier = barrier;
  issue_load(copy);
}

SIMT_ENTRY void tensor_load_multicast(void* to, const CUtensorMap* map, std::uint64_t* barrier,
                                      const int* at, int coordinates, unsigned ranks) {
  const void* pc = SIMT_CALLER;
  const TensorCopy of_own = tensor_copy(map, to, at, coordinates, nullptr, pc);
  require_shared("mbarrier", barrier, sizeof(std::uint64_t), pc);
  for (unsigned rank = 0; ranks >> rank != 0; ++rank) {
    if ((ranks >> rank & 1) == 0) continue;
    TensorCopy copy = of_own;
    copy.block = &block_of_rank(rank, pc);
    copy.shared = in_block(of_own.shared, *of_own.block, *copy.block);
    copy.barrier = in_block(barrier, *of_own.block, *copy.block);
    issue_load(copy);
  }
}

void run_some_load() {
  auto& loads = worker->loads;
  const std::size_t i = config().async == Async::kRandom ? worker->random() % loads.size() : 0;
  const TensorCopy copy = loads[i];
  loads.erase(loads.begin() + static_cast<std::ptrdiff_t>(i));
  finish_load(copy);
}

SIMT_ENTRY void tensor_store(const CUtensorMap* map, const void* from, const int* at,
                             int coordinates) {
  TensorCopy copy = tensor_copy(map, from, at, coordinates, nullptr, SIMT_CALLER);
  copy.group = copy.thread->store_group;
  touch_pieces(copy, Touch::kAsyncReadBegin);
  copy.thread->stores.push_back(copy);
  if (now()) move(copy.thread->stores.back());
}

void tensor_store_commit() {
  ++running()->store_group;
}

void tensor_store_wait(int pending) {
  finish_stores(*running(), running()->store_group - pending);
}

void async_thread_exits(Thread& t) {
  if (!t.copies.empty())
    report(fmt::format("copies{}", t.copies.front().pc),
           fmt::format("ASYNC: thread {} exits with a cp.async never waited for, issued at {}",
                       t.index, line_of(t.copies.front().pc)));
  if (!t.stores.empty())
    report(fmt::format("stores{}", t.stores.front().pc),
           fmt::format("ASYNC: thread {} exits with a TMA store never waited for, issued at {}",
                       t.index, line_of(t.stores.front().pc)));
  finish_stores(t, t.store_group + 1);
}

void async_block_exits(Block& b) {
  std::erase_if(worker->loads, [&](const TensorCopy& copy) {
    if (copy.block != &b) return false;
    report("loads", fmt::format("ASYNC: a block ends with a TMA load under way, issued at {}",
                                line_of(copy.pc)));
    return true;
  });
  for (const auto& m : b.mbarriers) {
    const auto bytes =
        static_cast<int>(load(reinterpret_cast<const std::uint64_t*>(b.arena + m->address)).bytes);
    if (bytes != 0)
      report(
          "mbarrier exit",
          fmt::format("MBARRIER: a block ends with {} bytes {} by a barrier, whose init is at {}",
                      std::abs(bytes), bytes > 0 ? "awaited" : "not announced and yet counted",
                      line_of(m->init_pc)));
  }
}

}  // namespace simt::machine
