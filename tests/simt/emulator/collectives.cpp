// Barriers of blocks and of the grid, and warp-wide operations.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>
#include <utility>

#include "emulator/collective.h"
#include "emulator/findings.h"
#include "emulator/machine.h"
#include "emulator/state.h"

namespace simt::machine {

// ---- Barriers

void complete(Barrier& b) {
  ++worker->barriers;
  worker->polls = 0;
  const SharedClock released =
      SIMT_CHECK ? std::make_shared<const Clock>(std::move(b.gathered)) : nullptr;
  std::sort(b.waiting.begin(), b.waiting.end());
  for (Thread* t : b.waiting) {
    if (SIMT_CHECK) {
      t->seen = released;
      // A barrier of the grid merges blocks, whose threads of one index have clocks of their own.
      t->clock = std::max(t->clock, (*released)[static_cast<std::size_t>(t->entry)] + 1);
    }
    ++t->interval;
    worker->push_back(t);
  }
  if (!b.waiting.empty())
    for (Warp& warp : b.waiting.front()->block_state->warps) run_profile(warp);
  Barrier next;
  next.phase = b.phase + 1;
  next.result = {b.count, b.all, b.any};
  b = std::move(next);
}

namespace {

void arrive(Barrier& b, int threads, int needed, bool wait, const char* name, int id,
            const void* pc) {
  Thread* t = running();
  if (b.arrived != 0 && b.threads != threads)
    report(fmt::format("barrier count{}", pc),
           fmt::format("BARRIER {}: thread {} brings a count of {}, earlier arrivals {}, at {}", id,
                       t->index, threads, b.threads, line_of(pc)));
  if (id >= 0) {
    std::uint32_t& phase = t->barrier_phase[static_cast<std::size_t>(id)];
    if (phase == b.phase + 1)
      report(fmt::format("barrier twice{}", pc),
             fmt::format("BARRIER {}: thread {} arrives twice in one phase, at {}", id, t->index,
                         line_of(pc)));
    phase = b.phase + 1;
    const void*& warp_pc = b.warp_pc[static_cast<std::size_t>(t->index / kWarp)];
    if (warp_pc == nullptr) warp_pc = pc;
    if (warp_pc != pc && line_of(warp_pc) != line_of(pc))
      report(fmt::format("barrier divergence{}", pc),
             fmt::format("BARRIER {}: lanes of one warp are at different barriers, {} and {} "
                         "(thread {})",
                         id, line_of(warp_pc), line_of(pc), t->index));
  }
  b.threads = threads;
  ++b.arrived;
  release(b.gathered, *t, &b.gathered_last);
  if (wait) b.waiting.push_back(t);
  if (b.arrived >= needed) complete(b);
  if (wait) park(name, threads != 0 ? id : -1, pc);
}

}  // namespace

SIMT_ENTRY void block_barrier(int id, int threads, bool wait) {
  const void* pc = SIMT_CALLER;
  Block& b = *running()->block_state;
  if (id < 0 || id >= kNamedBarriers || threads % kWarp != 0) {
    report(fmt::format("barrier arguments{}", pc),
           fmt::format("BARRIER {}: there are {} barriers, and counts are multiples of {}, not {}, "
                       "at {}",
                       id, kNamedBarriers, kWarp, threads, line_of(pc)));
    stop_launch();
  }
  arrive(b.barriers[static_cast<std::size_t>(id)], threads, threads != 0 ? threads : b.alive, wait,
         id != 0 || threads != 0 ? "bar.sync" : "__syncthreads", id, pc);
}

SIMT_ENTRY int block_barrier_reduce(Predicate op, int predicate) {
  Block& b = *running()->block_state;
  Barrier& barrier = b.barriers[0];
  barrier.count += predicate != 0;
  barrier.all = barrier.all && predicate != 0;
  barrier.any = barrier.any || predicate != 0;
  arrive(barrier, 0, b.alive, true, "__syncthreads", 0, SIMT_CALLER);
  return barrier.result[static_cast<std::size_t>(op)];
}

SIMT_ENTRY void grid_barrier() {
  const void* pc = SIMT_CALLER;
  Grid& grid = *worker->launch;
  if (!grid.cooperative) {
    report("grid barrier",
           fmt::format("BARRIER: grid_sync() in a launch that is not cooperative, at {}",
                       line_of(pc)));
    stop_launch();
  }
  if (worker->grid_barrier.arrived + 1 >= worker->live) {
    // To the shadow of global memory, what follows is a launch of its own. Its id must not be one
    // that run_launch gives.
    static std::atomic<std::uint32_t> ids{std::uint32_t{1} << 31};
    grid.id = ids++;
    reset_block_order();
  }
  arrive(worker->grid_barrier, 0, worker->live, true, "the grid's barrier", -1, pc);
}

// ---- Clusters

namespace {

void complete(Cluster& cluster) {
  ++worker->barriers;
  worker->polls = 0;
  order_blocks(cluster);
  if (SIMT_CHECK) cluster.released = std::make_shared<const Clock>(std::move(cluster.gathered));
  cluster.gathered = {};
  cluster.arrived = 0;
  ++cluster.phase;
  std::sort(cluster.waiting.begin(), cluster.waiting.end());
  for (Thread* t : cluster.waiting) {
    acquire(*t, cluster.released);
    worker->push_back(t);
  }
  cluster.waiting.clear();
}

}  // namespace

unsigned cluster_rank() {
  return static_cast<unsigned>(running()->block_state->rank);
}

unsigned cluster_size() {
  return static_cast<unsigned>(running()->block_state->cluster->blocks.size());
}

SIMT_ENTRY void cluster_arrive() {
  const void* pc = SIMT_CALLER;
  Thread& t = *running();
  Cluster& cluster = *t.block_state->cluster;
  require_sm90("barrier.cluster", pc);
  if (t.cluster_arrived) {
    report(fmt::format("cluster twice{}", pc),
           fmt::format("CLUSTER: {} arrives twice at the cluster's barrier and has not waited in "
                       "between, at {}",
                       name_of(t), line_of(pc)));
    stop_launch();
  }
  t.cluster_arrived = true;
  t.cluster_phase = cluster.phase;
  release(cluster.gathered, t);
  if (++cluster.arrived >= cluster.alive()) complete(cluster);
}

SIMT_ENTRY void cluster_wait() {
  const void* pc = SIMT_CALLER;
  Thread& t = *running();
  Cluster& cluster = *t.block_state->cluster;
  if (!std::exchange(t.cluster_arrived, false)) {
    report(
        fmt::format("cluster wait{}", pc),
        fmt::format("CLUSTER: {} waits at the cluster's barrier, where it has not arrived, at {}",
                    name_of(t), line_of(pc)));
    stop_launch();
  }
  if (cluster.phase != t.cluster_phase) return acquire(t, cluster.released);
  cluster.waiting.push_back(&t);
  park("the cluster's barrier", -1, pc);
}

SIMT_ENTRY void* map_shared(const void* p, unsigned rank) {
  const void* pc = SIMT_CALLER;
  const Thread& t = *running();
  const Block& own = *t.block_state;
  const Cluster& cluster = *own.cluster;
  if (rank >= cluster.blocks.size() || own.arena_offset(p) >= kArena) {
    report(fmt::format("map{}", pc),
           fmt::format("CLUSTER: {} asks where {} lies in block {} of a cluster of {}, at {}",
                       name_of(t),
                       own.arena_offset(p) < kArena ? "shared memory" : "other than shared memory",
                       rank, cluster.blocks.size(), line_of(pc)));
    stop_launch();
  }
  return cluster.blocks[rank]->arena + own.arena_offset(p);
}

void thread_exits(Thread& t) {
  Block& b = *t.block_state;
  --b.alive;
  if (b.cluster->blocks.size() > 1) {
    release(b.before_exit, t);
    Cluster& cluster = *b.cluster;
    if (cluster.arrived != 0 && cluster.arrived >= cluster.alive()) complete(cluster);
  }
  if (b.alive == 0) {
    check_visits(b);
    async_block_exits(b);
  }
  t.warp->alive &= ~(1u << t.lane);
  for (const Collective& c : t.warp->pending)
    if ((c.mask >> t.lane & 1) != 0)
      report(
          fmt::format("exit{}{}", c.kind, b.index),
          fmt::format(
              "WARP: lane {} exits while lanes {:08x} wait for it in a warp-wide "
              "operation at {}",
              t.lane, c.arrived,
              line_of(t.warp->lanes[static_cast<std::size_t>(std::countr_zero(c.arrived))]->pc)));
  Barrier& all = b.barriers[0];
  if (all.arrived != 0 && all.threads == 0 && all.arrived >= b.alive) complete(all);
  Barrier& grid = worker->grid_barrier;
  if (grid.arrived != 0 && grid.arrived >= worker->live) complete(grid);
}

// ---- Warps

Collective* join(const char* name, int kind, unsigned mask, void* argument, const void* pc) {
  Thread* t = running();
  Warp& warp = *t->warp;
  mask &= warp.existing;
  if ((mask >> t->lane & 1) == 0) {
    report(fmt::format("mask{}", pc),
           fmt::format("WARP: thread {} is not in the mask {:08x} that it gives {} at {}", t->index,
                       mask, name, line_of(pc)));
    return nullptr;
  }
  if ((mask & ~warp.alive) != 0) {
    report(fmt::format("exited{}", pc),
           fmt::format("WARP: {} at {} names lanes {:08x}, which have exited", name, line_of(pc),
                       mask & ~warp.alive));
    mask &= warp.alive;
  }
  auto it = std::find_if(warp.pending.begin(), warp.pending.end(),
                         [&](const Collective& c) { return c.mask == mask && c.kind == kind; });
  if (it == warp.pending.end()) {
    warp.pending.emplace_back();
    it = warp.pending.end() - 1;
    it->mask = mask;
    it->kind = kind;
  }
  it->argument[static_cast<std::size_t>(t->lane)] = argument;
  it->arrived |= 1u << t->lane;
  if (it->arrived == mask) return &*it;
  park(name, -1, pc);
  return nullptr;
}

void leave(Collective done) {
  Thread* t = running();
  Warp& warp = *t->warp;
  std::erase_if(warp.pending,
                [&](const Collective& c) { return c.mask == done.mask && c.kind == done.kind; });
  worker->polls = 0;
  for (int lane = kWarp - 1; lane >= 0; --lane)  // lane 0 in front
    if ((done.mask >> lane & 1) != 0 && lane != t->lane)
      worker->push_front(warp.lanes[static_cast<std::size_t>(lane)]);
  if (!SIMT_CHECK || !config().profile || done.mask != warp.alive) return;
  constexpr std::size_t kManyRequests = 256;
  for (Thread* lane : warp.lanes)
    if (lane != nullptr) ++lane->interval;
  if (t->requests.size() > kManyRequests) run_profile(warp);
}

SIMT_ENTRY void warp_barrier(unsigned mask) {
  collective("__syncwarp", kWarpBarrier, mask, nullptr, SIMT_CALLER, [](const Collective& c) {
    if (!SIMT_CHECK) return;
    Clock gathered;
    const Clock* last = nullptr;
    const auto& lanes = running()->warp->lanes;
    for_lanes(c.mask, [&](std::size_t lane) { release(gathered, *lanes[lane], &last); });
    const auto released = std::make_shared<const Clock>(std::move(gathered));
    for_lanes(c.mask, [&](std::size_t lane) { lanes[lane]->seen = released; });
  });
}

SIMT_ENTRY void shuffle(unsigned mask, Shuffle mode, int argument, int width, void* value,
                        int bytes) {
  struct Operands {
    void* value;
    Shuffle mode;
    int argument, width, bytes;
  } mine{value, mode, argument, width, bytes};
  const void* pc = SIMT_CALLER;
  collective("__shfl_sync", kShuffle, mask, &mine, pc, [pc](const Collective& c) {
    std::array<std::uint64_t, kWarp> values{};
    for_lanes(c.mask, [&](std::size_t lane) {
      const auto& x = *static_cast<Operands*>(c.argument[lane]);
      std::memcpy(&values[lane], x.value, static_cast<std::size_t>(x.bytes));
    });
    for_lanes(c.mask, [&](std::size_t lane) {
      const auto& x = *static_cast<Operands*>(c.argument[lane]);
      const int self = static_cast<int>(lane), segment = self & ~(x.width - 1);
      int source = self;
      switch (x.mode) {
        case Shuffle::kIndex:
          source = segment + (x.argument & (x.width - 1));
          break;
        case Shuffle::kUp:
          source = self - x.argument;
          break;
        case Shuffle::kDown:
          source = self + x.argument;
          break;
        case Shuffle::kXor:
          source = self ^ x.argument;
          break;
      }
      if (source < segment || source >= segment + x.width) source = self;
      if ((c.mask >> source & 1) == 0) {
        report(fmt::format("shuffle{}", pc),
               fmt::format("WARP: __shfl_sync at {} reads lane {}, which is not in the mask {:08x}",
                           line_of(pc), source, c.mask));
        return;
      }
      std::memcpy(x.value, &values[static_cast<std::size_t>(source)],
                  static_cast<std::size_t>(x.bytes));
    });
  });
}

SIMT_ENTRY unsigned vote(unsigned mask, Vote kind, int predicate) {
  unsigned ballot = predicate != 0;
  collective("a warp vote", kVote, mask, &ballot, SIMT_CALLER, [](const Collective& c) {
    unsigned all = 0;
    for_lanes(c.mask,
              [&](std::size_t lane) { all |= *static_cast<unsigned*>(c.argument[lane]) << lane; });
    for_lanes(c.mask, [&](std::size_t lane) { *static_cast<unsigned*>(c.argument[lane]) = all; });
  });
  if (kind == Vote::kBallot) return ballot;
  return kind == Vote::kAny ? ballot != 0 : ballot == (mask & running()->warp->alive);
}

SIMT_ENTRY unsigned reduce(unsigned mask, Reduce op, bool is_signed, unsigned value) {
  collective(
      "__reduce_sync", kReduce, mask, &value, SIMT_CALLER, [op, is_signed](const Collective& c) {
        // Flipping the sign makes the order of unsigned numbers that of signed ones.
        const unsigned flip = is_signed ? 0x80000000u : 0;
        bool first = true;
        unsigned result = 0;
        for_lanes(c.mask, [&](std::size_t lane) {
          const unsigned x = *static_cast<unsigned*>(c.argument[lane]);
          if (first) {
            result = x;
            first = false;
            return;
          }
          switch (op) {
            case Reduce::kAdd:
              result += x;
              break;
            case Reduce::kMin:
              result = (x ^ flip) < (result ^ flip) ? x : result;
              break;
            case Reduce::kMax:
              result = (x ^ flip) > (result ^ flip) ? x : result;
              break;
            case Reduce::kAnd:
              result &= x;
              break;
            case Reduce::kOr:
              result |= x;
              break;
            case Reduce::kXor:
              result ^= x;
              break;
          }
        });
        for_lanes(c.mask,
                  [&](std::size_t lane) { *static_cast<unsigned*>(c.argument[lane]) = result; });
      });
  return value;
}

}  // namespace simt::machine
