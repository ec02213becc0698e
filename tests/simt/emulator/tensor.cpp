// Tensor instructions: ldmatrix, stmatrix, mma.sync, wgmma. Fragment layouts are those of the PTX
// ISA's chapters on warp-level and warpgroup-level matrix instructions.
#include <cuda_fp16.h>
#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <memory>
#include <utility>

#include "emulator/collective.h"
#include "emulator/findings.h"
#include "emulator/machine.h"
#include "emulator/state.h"

namespace simt::machine {
namespace {

constexpr int kRowBytes = 16;  // of an 8 x 8 matrix of 16-bit elements

float widen(Operand type, std::uint16_t bits) {
  return type == Operand::kBF16 ? std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16)
                                : __half2float(__half(__half_raw{bits}));
}

std::uint16_t half_of(std::uint32_t pair, int which) {
  return static_cast<std::uint16_t>(pair >> (16 * which));
}

// Reports and stops unless the whole warp takes part.
void require_full_warp(const char* name, unsigned mask, const void* pc) {
  if (mask == ~0u) return;
  report(fmt::format("partial warp{}", pc),
         fmt::format("WARP: {} in a partial warp ({:08x}) at {}", name, mask, line_of(pc)));
  stop_launch();
}

void touch_row(const char* name, const void* row, int matrices, Touch kind, const void* pc) {
  const Thread& t = *running();
  if (t.lane >= 8 * matrices) return;
  const std::size_t offset = t.block_state->arena_offset(row);
  if (offset >= kArena || offset % kRowBytes != 0) {
    report(fmt::format("row{}", pc),
           fmt::format("{}: lane {} gives {} a row address, at {}",
                       offset >= kArena ? "NOT SHARED MEMORY" : "MISALIGNED", t.lane, name,
                       line_of(pc)));
    stop_launch();
  }
  touch(row, kRowBytes, kind, pc);
}

}  // namespace

// ---- ldmatrix, stmatrix: lane 4 r + c holds elements 2 c and 2 c + 1 of row r

SIMT_ENTRY void load_matrix(std::uint32_t* registers, int matrices, const void* row,
                            bool transpose) {
  struct Operands {
    std::uint32_t* registers;
    const std::byte* row;
  } mine{registers, static_cast<const std::byte*>(row)};
  const void* pc = SIMT_CALLER;
  touch_row("ldmatrix", row, matrices, Touch::kRead, pc);
  collective("ldmatrix", kLoadMatrix, ~0u, &mine, pc, [=](const Collective& c) {
    require_full_warp("ldmatrix", c.mask, pc);
    const auto of = [&](int lane) -> Operands& {
      return *static_cast<Operands*>(c.argument[static_cast<std::size_t>(lane)]);
    };
    for (int i = 0; i < matrices; ++i) {
      std::uint16_t m[8][8];
      for (int r = 0; r < 8; ++r) std::memcpy(m[r], of(8 * i + r).row, kRowBytes);
      for (int lane = 0; lane < kWarp; ++lane) {
        const int r = lane / 4, k = lane % 4 * 2;
        const std::uint32_t low = transpose ? m[k][r] : m[r][k];
        const std::uint32_t high = transpose ? m[k + 1][r] : m[r][k + 1];
        of(lane).registers[i] = low | high << 16;
      }
    }
  });
}

SIMT_ENTRY void store_matrix(const std::uint32_t* registers, int matrices, void* row,
                             bool transpose) {
  struct Operands {
    const std::uint32_t* registers;
    std::byte* row;
  } mine{registers, static_cast<std::byte*>(row)};
  const void* pc = SIMT_CALLER;
  require_sm90("stmatrix", pc);
  touch_row("stmatrix", row, matrices, Touch::kWrite, pc);
  collective("stmatrix", kStoreMatrix, ~0u, &mine, pc, [=](const Collective& c) {
    require_full_warp("stmatrix", c.mask, pc);
    const auto of = [&](int lane) -> Operands& {
      return *static_cast<Operands*>(c.argument[static_cast<std::size_t>(lane)]);
    };
    for (int i = 0; i < matrices; ++i)
      for (int lane = 0; lane < kWarp; ++lane)
        for (int half = 0; half < 2; ++half) {
          int r = lane / 4, k = lane % 4 * 2 + half;
          const std::uint16_t value = half_of(of(lane).registers[i], half);
          if (transpose) std::swap(r, k);
          std::memcpy(of(8 * i + r).row + 2 * k, &value, sizeof value);
        }
  });
}

// ---- mma.sync

SIMT_ENTRY void mma(Operand type, float* d, const std::uint32_t* a, const std::uint32_t* b,
                    const float* c) {
  struct Operands {
    float* d;
    const std::uint32_t *a, *b;
    const float* c;
  } mine{d, a, b, c};
  const void* pc = SIMT_CALLER;
  collective("mma.sync", kMma, ~0u, &mine, pc, [type, pc](const Collective& lanes) {
    require_full_warp("mma.sync", lanes.mask, pc);
    float left[16][16], right[16][8], sum[16][8];
    const int depth = type == Operand::kTF32 ? 8 : 16;
    for (int lane = 0; lane < kWarp; ++lane) {
      const auto& x = *static_cast<Operands*>(lanes.argument[static_cast<std::size_t>(lane)]);
      const int group = lane / 4, member = lane % 4;
      if (type == Operand::kTF32) {
        constexpr std::uint32_t kBits = 0xffffe000u;  // the hardware ignores the others
        for (int i = 0; i < 4; ++i)
          left[group + (i & 1) * 8][member + (i >> 1) * 4] = std::bit_cast<float>(x.a[i] & kBits);
        for (int i = 0; i < 2; ++i)
          right[member + i * 4][group] = std::bit_cast<float>(x.b[i] & kBits);
      } else {
        for (int half = 0; half < 2; ++half) {
          const int k = member * 2 + half;
          for (int i = 0; i < 4; ++i)
            left[group + (i & 1) * 8][k + (i >> 1) * 8] = widen(type, half_of(x.a[i], half));
          for (int i = 0; i < 2; ++i) right[k + i * 8][group] = widen(type, half_of(x.b[i], half));
        }
      }
      for (int i = 0; i < 4; ++i) sum[group + (i >> 1) * 8][member * 2 + (i & 1)] = x.c[i];
    }
    for (int m = 0; m < 16; ++m)
      for (int k = 0; k < depth; ++k)
        for (int n = 0; n < 8; ++n) sum[m][n] += left[m][k] * right[k][n];
    for (int lane = 0; lane < kWarp; ++lane) {
      const auto& x = *static_cast<Operands*>(lanes.argument[static_cast<std::size_t>(lane)]);
      const int group = lane / 4, member = lane % 4;
      for (int i = 0; i < 4; ++i) x.d[i] = sum[group + (i >> 1) * 8][member * 2 + (i & 1)];
    }
    ++worker->mma;
  });
}

// ---- wgmma: operands through descriptors; results appear at the wait, or earlier (Config::async)

namespace {

constexpr int kM = 64, kK = 16, kMaxN = 256;

// Shared address of element (r, k) of an operand, r along m or n, k along the depth, in the
// canonical layouts of the PTX ISA ("strides": leading and stride byte offsets of the descriptor).
std::uint32_t element_address(std::uint64_t descriptor, std::uint32_t r, std::uint32_t k,
                              bool transpose) {
  const auto field = [&](int shift) {
    return static_cast<std::uint32_t>(descriptor >> shift & 0x3fff) << 4;
  };
  const std::uint32_t start = field(0), leading = field(16), stride = field(32);
  constexpr int kModes[] = {0, 3, 2, 1};  // the descriptor's 1, 2, 3 are 128, 64 and 32 bytes
  const int mode = kModes[descriptor >> 62];
  const std::uint32_t span = 16u << mode;  // bytes that a swizzle permutes
  std::uint32_t address = start;
  if (!transpose && mode != 0)
    address += r % 8 * span + r / 8 * stride + k * 2;
  else if (!transpose)
    address += r % 8 * 16 + r / 8 * stride + k / 8 * leading + k % 8 * 2;
  else if (mode != 0)
    address += r % (span / 2) * 2 + r / (span / 2) * leading + k % 8 * span + k / 8 * stride;
  else
    address += r % 8 * 2 + r / 8 * stride + k % 8 * 16 + k / 8 * leading;
  return swizzled(address, mode) & (kArena - 1);
}

// Calls visit(address, of a?, r, k) for each element of both operands.
template <class Visit>
void for_elements(const WarpgroupMma& op, Visit visit) {
  for (std::uint32_t k = 0; k < kK; ++k) {
    for (std::uint32_t r = 0; r < kM; ++r)
      visit(element_address(op.a, r, k, op.transpose_a), true, r, k);
    for (std::uint32_t r = 0; r < static_cast<std::uint32_t>(op.n); ++r)
      visit(element_address(op.b, r, k, op.transpose_b), false, r, k);
  }
}

void touch_operands(Thread& t, const Wgmma& wgmma, Touch touch, Toucher as = {}) {
  if (!SIMT_CHECK) return;
  for_elements(wgmma.operation, [&](std::uint32_t address, bool, std::uint32_t, std::uint32_t) {
    touch_shared(&t, t.block_state->arena + address, 2, touch, wgmma.pc, as);
  });
}

void run(const Block& b, Wgmma& wgmma) {
  struct Tiles {
    float left[kM][kK], right[kK][kMaxN], sum[kM][kMaxN];
  };
  static thread_local const auto tiles = std::make_unique<Tiles>();
  auto& left = tiles->left;
  auto& right = tiles->right;
  auto& sum = tiles->sum;
  const WarpgroupMma& op = wgmma.operation;
  for_elements(op, [&](std::uint32_t address, bool of_a, std::uint32_t r, std::uint32_t k) {
    std::uint16_t bits;
    std::memcpy(&bits, b.arena + address, sizeof bits);
    (of_a ? left[r][k] : right[k][r]) = widen(op.operand, bits);
  });
  // Accumulator j of thread t.
  const auto element = [&](int t, int j) -> float& {
    return sum[t / kWarp * 16 + t % kWarp / 4 + (j & 2) * 4][j / 4 * 8 + t % 4 * 2 + (j & 1)];
  };
  for (int t = 0; t < kWarpgroup; ++t)
    for (int j = 0; j < op.n / 2; ++j)
      element(t, j) = op.accumulate ? wgmma.accumulators[static_cast<std::size_t>(t)][j] : 0;
  for (int m = 0; m < kM; ++m)
    for (int k = 0; k < kK; ++k)
      for (int n = 0; n < op.n; ++n) sum[m][n] += left[m][k] * right[k][n];
  for (int t = 0; t < kWarpgroup; ++t)
    for (int j = 0; j < op.n / 2; ++j)
      wgmma.accumulators[static_cast<std::size_t>(t)][j] = element(t, j);
  wgmma.ran = true;
  ++worker->mma;
}

Warpgroup& warpgroup_of(const Thread& t) {
  return t.block_state->warpgroups[static_cast<std::size_t>(t.index / kWarpgroup)];
}

}  // namespace

SIMT_ENTRY void wgmma(const WarpgroupMma& operation, float* d) {
  const void* pc = SIMT_CALLER;
  Thread& t = *running();
  Warpgroup& group = warpgroup_of(t);
  require_sm90("wgmma", pc);
  if (!t.wgmma_fenced)
    report(fmt::format("wgmma fence{}", pc),
           fmt::format("WGMMA: no wgmma.fence since the accumulators were last waited for, at {}",
                       line_of(pc)));
  const std::size_t i = t.wgmmas_issued++ - group.first;
  if (i == group.operations.size()) {
    group.operations.emplace_back();
    group.operations[i].operation = operation;
    group.operations[i].pc = pc;
  }
  Wgmma& mine = group.operations[i];
  const WarpgroupMma& other = mine.operation;
  if (other.a != operation.a || other.b != operation.b || other.n != operation.n ||
      other.accumulate != operation.accumulate)
    report(fmt::format("wgmma operands{}", pc),
           fmt::format("WGMMA: operands differ between the threads of a warpgroup, at {}",
                       line_of(pc)));
  mine.accumulators[static_cast<std::size_t>(t.index % kWarpgroup)] = d;
  if (++mine.posts < kWarpgroup) return;

  touch_operands(t, mine, Touch::kAsyncReadBegin);
  if (config().async == Async::kEarly ||
      (config().async == Async::kRandom && worker->random() % 2 == 0))
    for (std::size_t k = 0; k <= i; ++k)  // in order: they may share accumulators
      if (!group.operations[k].ran) run(*t.block_state, group.operations[k]);
  for (Thread* waiting : group.waiting) worker->push_back(waiting);
  group.waiting.clear();
}

void wgmma_fence() {
  running()->wgmma_fenced = true;
}

void wgmma_commit() {
  running()->wgmma_groups.push_back(running()->wgmmas_issued);
}

SIMT_ENTRY void wgmma_wait(int pending) {
  const void* pc = SIMT_CALLER;
  Thread& t = *running();
  Block& b = *t.block_state;
  Warpgroup& group = warpgroup_of(t);
  t.wgmma_fenced = false;
  const auto groups = static_cast<int>(t.wgmma_groups.size());
  if (groups <= pending) return;
  const unsigned until = t.wgmma_groups[static_cast<std::size_t>(groups - 1 - pending)];
  const int agent = kMbarrierAgents + t.index / kWarpgroup;
  std::uint32_t& agent_clock = b.agent_clock[static_cast<std::size_t>(agent)];
  const auto agent_index = static_cast<std::uint16_t>(b.first_entry() + b.threads + agent);
  while (group.first < until) {
    Wgmma& oldest = group.operations.front();
    if (oldest.posts < kWarpgroup) {
      group.waiting.push_back(&t);
      park("a wgmma that other warps have not issued", -1, pc);
      continue;
    }
    if (!oldest.ran) run(b, oldest);
    touch_operands(t, oldest, Touch::kAsyncReadEnd,
                   {++agent_clock, compact(oldest.pc), agent_index});
    group.operations.pop_front();
    ++group.first;
  }
  if (!SIMT_CHECK) return;
  Clock seen = *t.seen;
  seen[agent_index] = agent_clock;
  t.seen = std::make_shared<const Clock>(std::move(seen));
}

}  // namespace simt::machine
