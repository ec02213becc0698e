// Winograd convolution F(4x4, 3x3) of Lavin & Gray 2015 (arXiv 1509.09308), f32:
//
//   y = A^T [ sum over c_in of (G w G^T) * (B^T x B) ] A       per tile of 4x4 outputs, 6x6 inputs
//
// 36 products replace 144. Layout: x, y (n, h, w, c); vectors run over channels. Three phases per
// block of tiles: B^T x B of every tile and channel -> V (tiles, 36, c_in); 36 matrix products with
// the weights U (36, c_in, c_out), transformed once in double -> M (tiles, 36, a panel's columns);
// A^T M A with bias, ReLU, affine and 2x2 pooling -> y. Crop, concat and padding are addresses in
// the first phase: nothing is materialised. Scratch is a block of V and M per thread, or V of a
// small map (at most 16 MiB) and M per thread; never 36 images.
// Roofline: arithmetic, a quarter of the direct technique's. On Zen 4 the products run at 92-98% of
// the peak; the transforms take 25% of the time with 64 channels and 10% with 256.
//
// Error: with |x| and |w| of order one, the sum of squares of the coefficients along A, B and G
// amplifies the rounding of the c_in-long sums by up to 94, against 3 in the direct technique
// (rows of B^T x rows of G: 1.62, 1.68, 1.68, 0.60, 0.60, 6.48; worst row of A^T: 9.7; squared).
// tests/kernels/conv_test.cpp holds it to that.
//
// A pixel's bytes depend on the 6x6 inputs of its tile alone. Tiles start at multiples of 4 in y:
// windows cut at such places give equal bytes in every complete tile.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/conv/winograd.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/step.h"
#include "kernels/ops/activation/epilogue-inl.h"
#include "kernels/ops/conv/fold.h"
#include "kernels/ops/conv/output-inl.h"
#include "kernels/ops/conv/winograd-inl.h"

#ifndef TESSERA_KERNELS_CONV_WINOGRAD_ONCE
#define TESSERA_KERNELS_CONV_WINOGRAD_ONCE
namespace tessera {
namespace {

struct WinogradPlan {
  ConvGeometry geometry;
  ConvEpilogue epilogue;
  bool pool = false;
  std::int64_t down = 0, across = 0;                 // tiles of an image
  std::size_t channels = 0;                          // c_in, rounded up, in V
  std::size_t panel = 0;                             // columns of U multiplied at once
  std::shared_ptr<const AlignedBuffer> transformed;  // U (panels, 36, c_in, panel)

  std::int64_t tiles() const { return geometry.n * down * across; }
  std::size_t tile_of_v() const { return kFrequencies * channels; }
  // One more line: rows of M that a product writes together fall into different cache sets.
  std::size_t tile_of_m() const { return kFrequencies * panel + kLine; }
};

// V or M of some consecutive tiles: (tiles, 36, channels), with gaps.
struct Frequencies {
  float* first;        // of tile 0, frequency 0
  std::size_t tile;    // floats from tile to tile
  std::size_t stride;  // floats from frequency to frequency
};

struct TileRange {
  std::int64_t first, count;  // in the order n, y, x
};

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// to = A^T from
HWY_INLINE void transform_output(const FloatVector (&from)[6], FloatVector (&to)[4]) {
  const FloatTag d;
  const FloatVector two = hn::Set(d, 2.0f), four = hn::Set(d, 4.0f), eight = hn::Set(d, 8.0f);
  const FloatVector sum1 = hn::Add(from[1], from[2]), difference1 = hn::Sub(from[1], from[2]);
  const FloatVector sum2 = hn::Add(from[3], from[4]), difference2 = hn::Sub(from[3], from[4]);
  to[0] = hn::Add(hn::Add(from[0], sum1), sum2);
  to[1] = hn::MulAdd(two, difference2, difference1);
  to[2] = hn::MulAdd(four, sum2, sum1);
  to[3] = hn::Add(hn::MulAdd(eight, difference2, difference1), from[5]);
}

// The pixels that the tile to the right adds to this window: with 64 channels at 570x570, fetching
// them a tile ahead takes a quarter off the input phase.
HWY_INLINE void prefetch_next(const ConvSource& s, const float* window) {
  for (std::int64_t i = 0; i < kWindow; ++i) {
    for (std::int64_t j = kWindow; j < kWindow + kTile; ++j)
      hwy::Prefetch(window + (i * s.w + j) * s.c);
  }
}

// V of `range`.
void winograd_input(const WinogradPlan& plan, std::span<const TensorView> inputs, TileRange range,
                    const Frequencies& to) {
  constexpr auto kStep = static_cast<std::int64_t>(kFloatLanes);
  const ConvGeometry& g = plan.geometry;
  for (std::int64_t i = 0; i < range.count; ++i) {
    const std::int64_t tile = range.first + i;
    const std::int64_t n = tile / (plan.down * plan.across);
    float* v = to.first + static_cast<std::size_t>(i) * to.tile;
    for (const ConvSource& s : g.sources) {
      const float* image = inputs[s.input].as<float>() + n * s.h * s.w * s.c;
      const std::int64_t y = tile / plan.across % plan.down * kTile - g.top + s.dy;
      const std::int64_t x = tile % plan.across * kTile - g.left + s.dx;
      const Visible visible{std::max<std::int64_t>(0, s.dy), std::min(s.h, g.h + s.dy),
                            std::max<std::int64_t>(0, s.dx), std::min(s.w, g.w + s.dx)};
      const bool inside = visible.contains(y, x, kWindow);
      for (std::int64_t c = 0; c < s.c; c += kStep) {
        if (inside && c + kStep <= s.c) {
          const float* window = image + (y * s.w + x) * s.c + c;
          prefetch_next(s, window);
          transform_window(window, s.w * s.c, s.c, v + c, to.stride);
        } else {
          transform_border(s, image, visible, y, x, c,
                           static_cast<std::size_t>(std::min(kStep, s.c - c)), v + c, to.stride);
        }
      }
      v += s.c;
    }
  }
}

// The activation that passes added, on one vector of channels of the 16 pixels of a tile.
HWY_NOINLINE void activate_tile(const ConvEpilogue& e, std::size_t c, float* pixels) {
  activate_sums(*e.added.activation, e.slopes.data() + c, pixels, kTile * kTile, kFloatLanes);
}

// y, and its pooled form, of one vector of channels of one tile that may end early.
HWY_INLINE void finish_tile(const WinogradPlan& plan, const float* m, std::size_t stride,
                            std::int64_t tile, std::size_t c, const OutputWriter& writer,
                            const OutputWriter& pooled_writer,
                            std::span<const TensorView> outputs) {
  const ConvGeometry& g = plan.geometry;
  const ConvEpilogue& e = plan.epilogue;
  FloatVector half[6][4];  // (frequency of x, y)
  for (std::size_t j = 0; j < 6; ++j) {
    FloatVector column[6];
    for (std::size_t i = 0; i < 6; ++i) column[i] = load(m + (i * 6 + j) * stride);
    transform_output(column, half[j]);
  }
  const FloatVector bias = load(&e.bias[c]);
  const std::int64_t n = tile / (plan.down * plan.across);
  const std::int64_t y = tile / plan.across % plan.down * kTile, x = tile % plan.across * kTile;
  FloatVector pixels[4][4];
  for (std::size_t i = 0; i < 4; ++i) {
    FloatVector line[6];
    for (std::size_t j = 0; j < 6; ++j) line[j] = half[j][i];
    transform_output(line, pixels[i]);
    for (FloatVector& pixel : pixels[i]) pixel = hn::Add(pixel, bias);
  }
  if (e.added.activation) {
    float in_memory[16 * kFloatLanes];  // a copy: `pixels` stay in registers where there is none
    for (std::size_t i = 0; i < 16; ++i) store(pixels[i / 4][i % 4], in_memory + i * kFloatLanes);
    activate_tile(e, c, in_memory);
    for (std::size_t i = 0; i < 16; ++i) pixels[i / 4][i % 4] = load(in_memory + i * kFloatLanes);
  }
  for (FloatVector(&line)[4] : pixels) {
    for (FloatVector& pixel : line) {
      if (e.relu) pixel = relu(pixel);
      if (!e.scale.empty()) pixel = hn::MulAdd(pixel, load(&e.scale[c]), load(&e.shift[c]));
    }
  }

  const std::int64_t rows = std::min(kTile, g.ho - y), columns = std::min(kTile, g.wo - x);
  float* out = outputs[0].as<float>() + ((n * g.ho + y) * g.wo + x) * g.c_out;
  for (std::int64_t i = 0; i < rows; ++i) {
    for (std::int64_t j = 0; j < columns; ++j)
      writer.write(pixels[i][j], out + (i * g.wo + j) * g.c_out, c);
  }
  if (!plan.pool) return;
  float* pooled =
      outputs[1].as<float>() + ((n * (g.ho / 2) + y / 2) * (g.wo / 2) + x / 2) * g.c_out;
  for (std::int64_t i = 0; i + 2 <= rows; i += 2) {
    for (std::int64_t j = 0; j + 2 <= columns; j += 2)
      pooled_writer.write(max_or_nan(max_or_nan(pixels[i][j], pixels[i][j + 1]),
                                     max_or_nan(pixels[i + 1][j], pixels[i + 1][j + 1])),
                          pooled + (i / 2 * (g.wo / 2) + j / 2) * g.c_out, c);
  }
}

// Columns [first, first + panel) of `range`'s tiles, from V through M (scratch) to y.
void winograd_panel(const WinogradPlan& plan, const Frequencies& v, TileRange range,
                    std::size_t first, float* scratch, std::span<const TensorView> outputs) {
  const auto c_in = static_cast<std::size_t>(plan.geometry.c_in);
  const auto c_out = static_cast<std::size_t>(plan.geometry.c_out);
  const auto tiles = static_cast<std::size_t>(range.count);
  const std::size_t width = std::min(plan.panel, gemm_columns(c_out) - first);
  const Frequencies m{scratch, plan.tile_of_m(), width};
  const float* u =
      reinterpret_cast<const float*>(plan.transformed->get()) + first * kFrequencies * c_in;
  for (std::size_t f = 0; f < kFrequencies; ++f)
    gemm(v.first + f * v.stride, v.tile, u + f * c_in * width, tiles, c_in, width,
         m.first + f * m.stride, m.tile);
  const OutputWriter writer(outputs.front()), pooled_writer(outputs.back());
  for (std::size_t i = 0; i < tiles; ++i) {
    for (std::size_t c = first; c < std::min(first + width, c_out); c += kFloatLanes)
      finish_tile(plan, m.first + i * m.tile + c - first, m.stride,
                  range.first + static_cast<std::int64_t>(i), c, writer, pooled_writer, outputs);
  }
  writer.finish();
  pooled_writer.finish();
}

// U = G w G^T of input channel `i`, in double, in the order in which winograd_panel reads it. The
// innermost loops run over a vector of output channels and become vector instructions: the filters
// of a network are transformed anew in every step of its training.
void winograd_filters(const WinogradPlan& plan, const FoldedWeights& weights, std::int64_t i,
                      float* transformed) {
  static constexpr double kG[6][3] = {{1.0 / 4, 0, 0},
                                      {-1.0 / 6, -1.0 / 6, -1.0 / 6},
                                      {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                      {1.0 / 24, 1.0 / 12, 1.0 / 6},
                                      {1.0 / 24, -1.0 / 12, 1.0 / 6},
                                      {0, 0, 1}};
  const auto c_in = static_cast<std::size_t>(plan.geometry.c_in);
  const auto c_out = static_cast<std::size_t>(plan.geometry.c_out);
  const std::size_t columns = gemm_columns(c_out);
  for (std::size_t o = 0; o < columns; o += kFloatLanes) {
    double w[9][kFloatLanes] = {}, half[6][3][kFloatLanes];
    for (std::size_t lane = 0; lane < std::min(kFloatLanes, c_out - o); ++lane) {
      for (std::size_t k = 0; k < 9; ++k)
        w[k][lane] = weights.at(static_cast<std::int64_t>(o + lane), i,
                                static_cast<std::int64_t>(k / 3), static_cast<std::int64_t>(k % 3));
    }
    for (std::size_t f = 0; f < 6; ++f) {
      for (std::size_t x = 0; x < 3; ++x) {
        for (std::size_t lane = 0; lane < kFloatLanes; ++lane)
          half[f][x][lane] =
              kG[f][0] * w[x][lane] + kG[f][1] * w[3 + x][lane] + kG[f][2] * w[6 + x][lane];
      }
    }
    const std::size_t first = o / plan.panel * plan.panel;
    const std::size_t width = std::min(plan.panel, columns - first);
    float* u =
        transformed + first * kFrequencies * c_in + static_cast<std::size_t>(i) * width + o - first;
    for (std::size_t f = 0; f < kFrequencies; ++f, u += c_in * width) {
      const auto& g = kG[f % 6];
      const auto& line = half[f / 6];
      for (std::size_t lane = 0; lane < kFloatLanes; ++lane)
        u[lane] =
            static_cast<float>(g[0] * line[0][lane] + g[1] * line[1][lane] + g[2] * line[2][lane]);
    }
  }
}

std::size_t winograd_panel_columns() {
  return kGemmPanel;
}
std::size_t winograd_columns(std::size_t n) {
  return gemm_columns(n);
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "kernels/cpu/parallel.h"
#include "kernels/ops/conv/techniques.h"

namespace tessera {

HWY_EXPORT(winograd_filters);
HWY_EXPORT(winograd_input);
HWY_EXPORT(winograd_panel);
HWY_EXPORT(winograd_panel_columns);
HWY_EXPORT(winograd_columns);

namespace {

// U in the order in which winograd_panel reads it.
void pack(const Conv& op, const CpuSetup& setup, WinogradPlan& plan) {
  const auto c_in = static_cast<std::size_t>(plan.geometry.c_in);
  const std::size_t columns =
      HWY_DYNAMIC_DISPATCH(winograd_columns)(static_cast<std::size_t>(plan.geometry.c_out));
  const std::size_t bytes = kFrequencies * c_in * columns * sizeof(float);
  plan.transformed = setup.packed->get(setup.name + "/winograd", bytes, [&](std::byte* to) {
    const FoldedWeights weights(op, plan.geometry, setup.weights);
    parallel_for(setup.threads, plan.geometry.c_in, [&](std::int64_t i) {
      HWY_DYNAMIC_DISPATCH(winograd_filters)(plan, weights, i, reinterpret_cast<float*>(to));
    });
  });
}

// How the work is cut. Small maps are cut by columns of U, so that U, which may be the larger part
// of all that is read, crosses memory once; large ones by tiles, so that V stays in a core's cache.
struct Schedule {
  bool by_columns = false;
  std::int64_t block = 0;    // tiles multiplied at once
  std::size_t v_floats = 0;  // of one block, or by columns of all tiles
  std::size_t m_floats = 0;  // of one block
};

constexpr std::int64_t kBlockTiles = 24;        // a multiple of kGemmRows; 12 to 72 differ little
constexpr std::int64_t kColumnBlockTiles = 72;  // by columns
constexpr std::size_t kMaxSharedV = (16 << 20) / sizeof(float);

Schedule schedule_of(const WinogradPlan& plan) {
  const std::size_t all = static_cast<std::size_t>(plan.tiles()) * plan.tile_of_v();
  Schedule s;
  s.by_columns = all <= kMaxSharedV;
  s.block = std::min(plan.tiles(), s.by_columns ? kColumnBlockTiles : kBlockTiles);
  const auto block = static_cast<std::size_t>(s.block);
  s.v_floats = s.by_columns ? all : block * plan.tile_of_v();
  s.m_floats = block * plan.tile_of_m();
  return s;
}

void run_by_tiles(const WinogradPlan& plan, const Schedule& s, int threads,
                  const Operands& operands, float* scratch) {
  const std::int64_t blocks = (plan.tiles() + s.block - 1) / s.block;
  parallel_for(threads, blocks, [&](std::int64_t block, int slot) {
    float* own = scratch + static_cast<std::size_t>(slot) * (s.v_floats + s.m_floats);
    const std::int64_t first = block * s.block;
    const TileRange range{first, std::min(s.block, plan.tiles() - first)};
    const Frequencies v{own, plan.tile_of_v(), plan.channels};
    HWY_DYNAMIC_DISPATCH(winograd_input)(plan, operands.inputs, range, v);
    for (std::size_t c = 0; c < static_cast<std::size_t>(plan.geometry.c_out); c += plan.panel)
      HWY_DYNAMIC_DISPATCH(winograd_panel)(plan, v, range, c, own + s.v_floats, operands.outputs);
  });
}

void run_by_columns(const WinogradPlan& plan, const Schedule& s, int threads,
                    const Operands& operands, float* scratch) {
  constexpr std::int64_t kInputTiles = 4;  // of one task
  const auto part_of_v = [&](std::int64_t tile) {
    return Frequencies{scratch + static_cast<std::size_t>(tile) * plan.tile_of_v(),
                       plan.tile_of_v(), plan.channels};
  };
  parallel_for(threads, (plan.tiles() + kInputTiles - 1) / kInputTiles, [&](std::int64_t task) {
    const std::int64_t first = task * kInputTiles;
    const TileRange range{first, std::min(kInputTiles, plan.tiles() - first)};
    HWY_DYNAMIC_DISPATCH(winograd_input)(plan, operands.inputs, range, part_of_v(first));
  });
  const auto panel = static_cast<std::int64_t>(plan.panel);
  const std::int64_t panels = (plan.geometry.c_out + panel - 1) / panel;
  const std::int64_t blocks = (plan.tiles() + s.block - 1) / s.block;
  parallel_for(threads, panels * blocks, [&](std::int64_t task, int slot) {
    float* m = scratch + s.v_floats + static_cast<std::size_t>(slot) * s.m_floats;
    const std::int64_t first = task % blocks * s.block;
    const TileRange range{first, std::min(s.block, plan.tiles() - first)};
    HWY_DYNAMIC_DISPATCH(winograd_panel)
    (plan, part_of_v(first), range, static_cast<std::size_t>(task / blocks * panel), m,
     operands.outputs);
  });
}

}  // namespace

Step conv_winograd(const Conv& op, const CpuSetup& setup) {
  auto plan = std::make_shared<WinogradPlan>();
  plan->geometry = geometry_of(op, setup.inputs);
  plan->epilogue = epilogue_of(op, plan->geometry, setup.weights);
  plan->pool = op.pool;
  plan->down = (plan->geometry.ho + kTile - 1) / kTile;
  plan->across = (plan->geometry.wo + kTile - 1) / kTile;
  // One vector of slack: the last store of a source with an odd channel count spills over. It also
  // makes a row an odd number of lines where c_in is a power of two, which spares L1's sets.
  const auto c_in = static_cast<std::size_t>(plan->geometry.c_in);
  plan->channels = (c_in + kLine - 1) / kLine * kLine + kLine;
  plan->panel = HWY_DYNAMIC_DISPATCH(winograd_panel_columns)();
  pack(op, setup, *plan);

  const Schedule s = schedule_of(*plan);
  const int threads = setup.threads;
  const auto count = static_cast<std::size_t>(threads);
  const std::size_t floats =
      s.by_columns ? s.v_floats + count * s.m_floats : count * (s.v_floats + s.m_floats);
  return {floats * sizeof(float), [plan, s, threads](const Operands& operands, std::byte* scratch) {
            (s.by_columns ? run_by_columns : run_by_tiles)(*plan, s, threads, operands,
                                                           reinterpret_cast<float*>(scratch));
          }};
}

}  // namespace tessera
#endif  // HWY_ONCE
