// Gradient of a 3x3 convolution's weights in Winograd's domain of F(4x4, 3x3):
//
//   dW = G^T [ sum over tiles of (A g A^T) * (B^T x B) ] G      per tile: 4x4 of g, 6x6 of x
//
// the transpose of the forward pass: 36 products per tile and pair of channels replace 144. Three
// phases: B^T x B -> V (36, tiles, c_in) and A g A^T -> D (36, tiles, c_out); per frequency one
// product M += D^T V over the tiles; G^T M G, added to dW. Two schedules, chosen by shape alone:
// Few channels: tiles are cut into blocks whose V and D stay in L2, and dealt to kSlots sums M. A
// slot is a task, its M stays in L2 as well; the slots are added in order.
// Many channels: M would be the larger part. Chunks of tiles fill the last-level cache; threads
// share the tiles, then frequencies and panels, then output channels, so there are no partial sums.
// M is cut by output channels to stay in the cache as well.
// Roofline: arithmetic, a quarter of the direct technique's; with 64 channels the transforms and
// the streaming of V and D take about half of the time.
//
// Error: as forward, from the coefficients. Per tile the sums of squares along a row of A, B^T and
// the columns of G are at most 96.8 in each direction (column 2 of G: (4 34 + 4 34 + 85 10 + 85 10)
// / 36 + 42), so an error variance of 9370 for the direct technique's 16 pixels: a factor 24.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/conv/train/winograd_weights.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/gemm_transposed-inl.h"
#include "kernels/ops/conv/train/backward.h"
#include "kernels/ops/conv/winograd-inl.h"

#ifndef TESSERA_KERNELS_CONV_WINOGRAD_WEIGHTS_ONCE
#define TESSERA_KERNELS_CONV_WINOGRAD_WEIGHTS_ONCE
namespace tessera {
namespace {

struct WinogradWeightsPlan {
  ConvGeometry geometry;
  std::int64_t down = 0, across = 0;  // tiles of an image
  std::int64_t slots = 0;             // sums; 0: the schedule for many channels
  std::int64_t chunk = 0;             // tiles at a time
  std::int64_t group = 0;             // output channels of M at a time
  std::size_t v_row = 0, d_row = 0;   // floats from tile to tile
  std::size_t m_row = 0;              // floats from output channel to output channel

  std::int64_t tiles() const { return geometry.n * down * across; }
  // One more line than the tiles need: frequencies fall into different cache sets.
  std::size_t v_frequency() const { return static_cast<std::size_t>(chunk) * v_row + kLine; }
  std::size_t d_frequency() const { return static_cast<std::size_t>(chunk) * d_row + kLine; }
  std::size_t m_frequency() const { return static_cast<std::size_t>(group) * m_row + kLine; }
  std::size_t tiles_floats() const { return kFrequencies * (v_frequency() + d_frequency()); }
  std::size_t m_floats() const { return kFrequencies * m_frequency(); }
};

// Where a chunk's transformed tiles lie.
struct TransformedTiles {
  float* v;  // (36, chunk, v_row)
  float* d;  // (36, chunk, d_row)
  float* m;  // (36, group, m_row)
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// to = A from
HWY_INLINE void transform_gradient(const FloatVector (&from)[4], FloatVector (&to)[6]) {
  const FloatTag d;
  const FloatVector two = hn::Set(d, 2.0f), four = hn::Set(d, 4.0f), eight = hn::Set(d, 8.0f);
  const FloatVector even1 = hn::Add(from[0], from[2]), odd1 = hn::Add(from[1], from[3]);
  const FloatVector even2 = hn::MulAdd(four, from[2], from[0]);
  const FloatVector odd2 = hn::MulAdd(eight, from[3], hn::Mul(two, from[1]));
  to[0] = from[0];
  to[1] = hn::Add(even1, odd1);
  to[2] = hn::Sub(even1, odd1);
  to[3] = hn::Add(even2, odd2);
  to[4] = hn::Sub(even2, odd2);
  to[5] = from[3];
}

// One vector of channels of one tile of g: d[36] = A g A^T.
HWY_INLINE void transform_gradient_tile(const float* g, std::ptrdiff_t down, std::ptrdiff_t right,
                                        float* to, std::size_t stride) {
  FloatVector half[4][6];  // (column, frequency of y)
  for (std::ptrdiff_t column = 0; column < 4; ++column) {
    FloatVector pixels[4];
    for (std::ptrdiff_t y = 0; y < 4; ++y) pixels[y] = load(g + y * down + column * right);
    transform_gradient(pixels, half[column]);
  }
  for (std::size_t i = 0; i < 6; ++i) {
    FloatVector line[4], result[6];
    for (std::size_t column = 0; column < 4; ++column) line[column] = half[column][i];
    transform_gradient(line, result);
    for (std::size_t j = 0; j < 6; ++j) store(result[j], to + (i * 6 + j) * stride);
  }
}

// `count` channels of a tile that has `rows` x `columns` pixels of g; zeros elsewhere.
HWY_NOINLINE inline void transform_gradient_border(const float* g, std::int64_t down,
                                                   std::int64_t right, std::int64_t rows,
                                                   std::int64_t columns, std::size_t count,
                                                   float* to, std::size_t stride) {
  alignas(64) float tile[kTile * kTile * kLine] = {};
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j)
      std::memcpy(tile + static_cast<std::size_t>(i * kTile + j) * kLine, g + i * down + j * right,
                  count * sizeof(float));
  }
  transform_gradient_tile(tile, kTile * kLine, kLine, to, stride);
}

// V and D of tile `index`, which is `place` in its chunk.
void transform_tile(const WinogradWeightsPlan& plan, const float* x, const float* gradient,
                    std::int64_t index, std::int64_t place, const TransformedTiles& to) {
  constexpr auto kStep = static_cast<std::int64_t>(kFloatLanes);
  const ConvGeometry& g = plan.geometry;
  const std::int64_t n = index / (plan.down * plan.across);
  const std::int64_t y = index / plan.across % plan.down * kTile,
                     column = index % plan.across * kTile;

  const ConvSource& source = g.sources[0];
  const Visible visible{0, g.h, 0, g.w};
  const float* image = x + n * g.h * g.w * g.c_in;
  const std::int64_t window_y = y - g.top, window_x = column - g.left;
  const bool inside = visible.contains(window_y, window_x, kWindow);
  float* v = to.v + static_cast<std::size_t>(place) * plan.v_row;
  for (std::int64_t c = 0; c < g.c_in; c += kStep) {
    if (inside && c + kStep <= g.c_in) {
      transform_window(image + (window_y * g.w + window_x) * g.c_in + c, g.w * g.c_in, g.c_in,
                       v + c, plan.v_frequency());
    } else {
      transform_border(source, image, visible, window_y, window_x, c,
                       static_cast<std::size_t>(std::min(kStep, g.c_in - c)), v + c,
                       plan.v_frequency());
    }
  }

  const std::int64_t rows = std::min(kTile, g.ho - y), columns = std::min(kTile, g.wo - column);
  const float* tile = gradient + ((n * g.ho + y) * g.wo + column) * g.c_out;
  float* d = to.d + static_cast<std::size_t>(place) * plan.d_row;
  for (std::int64_t c = 0; c < g.c_out; c += kStep) {
    if (rows == kTile && columns == kTile && c + kStep <= g.c_out) {
      transform_gradient_tile(tile + c, g.wo * g.c_out, g.c_out, d + c, plan.d_frequency());
    } else {
      transform_gradient_border(tile + c, g.wo * g.c_out, g.c_out, rows, columns,
                                static_cast<std::size_t>(std::min(kStep, g.c_out - c)), d + c,
                                plan.d_frequency());
    }
  }
}

// M += of one frequency and one panel of input channels, output channels [first, first + group).
void multiply_tiles(const WinogradWeightsPlan& plan, const TransformedTiles& at, std::int64_t tiles,
                    std::size_t frequency, std::size_t panel, std::int64_t first) {
  const auto rows = static_cast<std::size_t>(std::min(plan.group, plan.geometry.c_out - first));
  const std::size_t column = panel * kGemmPanel;
  const std::size_t columns = std::min(kGemmPanel, plan.m_row - column);
  float* m = at.m + frequency * plan.m_frequency() + column;
  gemm_transposed({at.d + frequency * plan.d_frequency() + first, plan.d_row},
                  {at.v + frequency * plan.v_frequency() + column, plan.v_row},
                  static_cast<std::size_t>(tiles), rows, columns, m, plan.m_row);
}

// to = G^T from
HWY_INLINE void transform_weight(const FloatVector (&from)[6], FloatVector (&to)[3]) {
  const FloatTag d;
  const FloatVector quarter = hn::Set(d, 1.0f / 4), sixth = hn::Set(d, 1.0f / 6);
  const FloatVector twelfth = hn::Set(d, 1.0f / 12), small = hn::Set(d, 1.0f / 24);
  const FloatVector sum1 = hn::Add(from[1], from[2]), difference1 = hn::Sub(from[2], from[1]);
  const FloatVector sum2 = hn::Add(from[3], from[4]), difference2 = hn::Sub(from[3], from[4]);
  to[0] = hn::MulAdd(quarter, from[0], hn::NegMulAdd(sixth, sum1, hn::Mul(small, sum2)));
  to[1] = hn::MulAdd(sixth, difference1, hn::Mul(twelfth, difference2));
  to[2] = hn::MulAdd(sixth, hn::Sub(sum2, sum1), from[5]);
}

// dW (c_in, 3, 3) of the output channel whose row of M is at `m`.
void finish_filters(const WinogradWeightsPlan& plan, const float* m, float* dw) {
  const auto c_in = static_cast<std::size_t>(plan.geometry.c_in);
  for (std::size_t c = 0; c < c_in; c += kFloatLanes) {
    FloatVector half[6][3];  // (frequency of x, ky)
    for (std::size_t j = 0; j < 6; ++j) {
      FloatVector column[6];
      for (std::size_t i = 0; i < 6; ++i)
        column[i] = load(m + (i * 6 + j) * plan.m_frequency() + c);
      transform_weight(column, half[j]);
    }
    float taps[9][kFloatLanes];
    for (std::size_t ky = 0; ky < 3; ++ky) {
      FloatVector line[6], result[3];
      for (std::size_t j = 0; j < 6; ++j) line[j] = half[j][ky];
      transform_weight(line, result);
      for (std::size_t kx = 0; kx < 3; ++kx) store(result[kx], taps[ky * 3 + kx]);
    }
    for (std::size_t lane = 0; lane < std::min(kFloatLanes, c_in - c); ++lane) {
      for (std::size_t tap = 0; tap < 9; ++tap) dw[(c + lane) * 9 + tap] += taps[tap][lane];
    }
  }
}

std::size_t winograd_weights_panel() {
  return kGemmPanel;
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"

namespace tessera {

HWY_EXPORT(transform_tile);
HWY_EXPORT(multiply_tiles);
HWY_EXPORT(finish_filters);
HWY_EXPORT(winograd_weights_panel);

namespace {

constexpr std::size_t kChunkFloats = (12 << 20) / sizeof(float);  // of V and D
constexpr std::int64_t kFewestChunkTiles = 96;  // or M would cost more than it sums
constexpr std::size_t kGroupFloats = (8 << 20) / sizeof(float);  // of M
constexpr std::int64_t kTilesPerTask = 4;
constexpr auto kFrequencyTasks = static_cast<std::int64_t>(kFrequencies);

constexpr std::int64_t kSlots = 16;
constexpr std::size_t kSlotFloats = (300 << 10) / sizeof(float);   // of a slot's M, at most
constexpr std::size_t kBlockFloats = (512 << 10) / sizeof(float);  // of a block's V and D, about
constexpr std::int64_t kFewestBlockTiles = 24, kMostBlockTiles = 128;

// The blocks of one slot.
void run_slot(const WinogradWeightsPlan& plan, const float* x, const float* gradient,
              std::int64_t slot, const TransformedTiles& at) {
  const std::size_t panel = HWY_DYNAMIC_DISPATCH(winograd_weights_panel)();
  std::fill_n(at.m, plan.m_floats(), 0.0f);
  for (std::int64_t first = slot * plan.chunk; first < plan.tiles();
       first += plan.slots * plan.chunk) {
    const std::int64_t tiles = std::min(plan.chunk, plan.tiles() - first);
    for (std::int64_t i = 0; i < tiles; ++i)
      HWY_DYNAMIC_DISPATCH(transform_tile)(plan, x, gradient, first + i, i, at);
    for (std::size_t f = 0; f < kFrequencies; ++f) {
      for (std::size_t p = 0; p * panel < plan.m_row; ++p)
        HWY_DYNAMIC_DISPATCH(multiply_tiles)(plan, at, tiles, f, p, 0);
    }
  }
}

void run_slots(const WinogradWeightsPlan& plan, int threads, const float* x, const float* gradient,
               float* scratch, float* dw) {
  float* m = scratch + static_cast<std::size_t>(threads) * plan.tiles_floats();
  parallel_for(threads, plan.slots, [&](std::int64_t slot, int thread) {
    float* v = scratch + static_cast<std::size_t>(thread) * plan.tiles_floats();
    run_slot(plan, x, gradient, slot,
             {v, v + kFrequencies * plan.v_frequency(),
              m + static_cast<std::size_t>(slot) * plan.m_floats()});
  });
  parallel_for(threads, kFrequencyTasks, [&](std::int64_t f) {
    float* sum = m + static_cast<std::size_t>(f) * plan.m_frequency();
    for (std::int64_t slot = 1; slot < plan.slots; ++slot) {
      const float* term = sum + static_cast<std::size_t>(slot) * plan.m_floats();
      for (std::size_t i = 0; i < plan.m_frequency(); ++i) sum[i] += term[i];
    }
  });
  parallel_for(threads, plan.geometry.c_out, [&](std::int64_t o) {
    HWY_DYNAMIC_DISPATCH(finish_filters)
    (plan, m + static_cast<std::size_t>(o) * plan.m_row, dw + o * plan.geometry.c_in * 9);
  });
}

void run_chunk(const WinogradWeightsPlan& plan, int threads, const float* x, const float* gradient,
               std::int64_t first, const TransformedTiles& at, float* dw) {
  const ConvGeometry& g = plan.geometry;
  const std::int64_t tiles = std::min(plan.chunk, plan.tiles() - first);
  parallel_for(threads, (tiles + kTilesPerTask - 1) / kTilesPerTask, [&](std::int64_t task) {
    const std::int64_t end = std::min(tiles, (task + 1) * kTilesPerTask);
    for (std::int64_t i = task * kTilesPerTask; i < end; ++i)
      HWY_DYNAMIC_DISPATCH(transform_tile)(plan, x, gradient, first + i, i, at);
  });
  const std::size_t panel = HWY_DYNAMIC_DISPATCH(winograd_weights_panel)();
  const auto panels = static_cast<std::int64_t>((plan.m_row + panel - 1) / panel);
  for (std::int64_t o = 0; o < g.c_out; o += plan.group) {
    parallel_for(threads, kFrequencyTasks, [&](std::int64_t f) {
      std::fill_n(at.m + static_cast<std::size_t>(f) * plan.m_frequency(), plan.m_frequency(),
                  0.0f);
    });
    parallel_for(threads, kFrequencyTasks * panels, [&](std::int64_t task) {
      HWY_DYNAMIC_DISPATCH(multiply_tiles)
      (plan, at, tiles, static_cast<std::size_t>(task / panels),
       static_cast<std::size_t>(task % panels), o);
    });
    parallel_for(threads, std::min(plan.group, g.c_out - o), [&](std::int64_t i) {
      HWY_DYNAMIC_DISPATCH(finish_filters)
      (plan, at.m + static_cast<std::size_t>(i) * plan.m_row, dw + (o + i) * g.c_in * 9);
    });
  }
}

}  // namespace

ConvWeightGradient conv_winograd_weight_gradient(const ConvGeometry& geometry, int threads) {
  WinogradWeightsPlan plan{.geometry = geometry};
  plan.down = (geometry.ho + kTile - 1) / kTile;
  plan.across = (geometry.wo + kTile - 1) / kTile;
  const auto row_of = [](std::int64_t channels) {
    return (static_cast<std::size_t>(channels) + kLine - 1) / kLine * kLine;
  };
  // Where a row is wider than a panel, one more line: else rows of a power of two of channels share
  // cache sets.
  const auto spread = [](std::size_t row) { return row > 4 * kLine ? row + kLine : row; };
  plan.m_row = row_of(geometry.c_in);
  plan.v_row = spread(plan.m_row);
  plan.d_row = spread(row_of(geometry.c_out));
  const std::size_t tile = kFrequencies * (plan.v_row + plan.d_row);
  const std::size_t filters = kFrequencies * plan.m_row;  // of one output channel
  if (filters * static_cast<std::size_t>(geometry.c_out) <= kSlotFloats) {
    const auto fit = static_cast<std::int64_t>(kBlockFloats / tile);
    plan.chunk = std::min(plan.tiles(), std::clamp(fit, kFewestBlockTiles, kMostBlockTiles));
    plan.slots = std::min(kSlots, (plan.tiles() + plan.chunk - 1) / plan.chunk);
    plan.group = geometry.c_out;
  } else {
    const auto fit = static_cast<std::int64_t>(kChunkFloats / tile);
    plan.chunk = std::min(plan.tiles(), std::max(kFewestChunkTiles, fit));
    const auto rows = static_cast<std::int64_t>(kGroupFloats / filters);
    plan.group = std::clamp<std::int64_t>(rows, 1, geometry.c_out);
  }
  const auto run = [=](const TensorView& x, const float* gradient, float* dw, std::byte* scratch) {
    auto* floats = reinterpret_cast<float*>(scratch);
    if (plan.slots > 0) {
      run_slots(plan, threads, x.as<float>(), gradient, floats, dw);
      return;
    }
    const TransformedTiles at{floats, floats + kFrequencies * plan.v_frequency(),
                              floats + plan.tiles_floats()};
    for (std::int64_t first = 0; first < plan.tiles(); first += plan.chunk)
      run_chunk(plan, threads, x.as<float>(), gradient, first, at, dw);
  };
  const std::size_t floats = plan.slots > 0
                                 ? static_cast<std::size_t>(threads) * plan.tiles_floats() +
                                       static_cast<std::size_t>(plan.slots) * plan.m_floats()
                                 : plan.tiles_floats() + plan.m_floats();
  return {floats * sizeof(float), run};
}

}  // namespace tessera
#endif  // HWY_ONCE
