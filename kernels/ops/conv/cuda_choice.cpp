#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "kernels/cuda/step.h"
#include "kernels/ops/conv/cuda_any.h"

namespace tessera {

namespace {

#include "kernels/ops/conv/cuda_rates.inc"

struct TileTraits {
  std::string_view name;
  ConvArithmetic arithmetic;
  int rows, columns, channels;
  int resident;  // blocks that a multiprocessor holds at once
  int pair = 1;  // tiles of neighbouring pixels that a cluster makes
};

TileTraits traits_of(ConvTile tile) {
  using enum ConvArithmetic;
  switch (tile) {
    case ConvTile::kWgmma256x128:
      return {"wgmma 256x128", kWgmma, 32, 8, 128, 1};
    case ConvTile::kWgmma224x128:
      return {"wgmma 224x128", kWgmma, 28, 8, 128, 1};
    case ConvTile::kWgmma208x128:
      return {"wgmma 208x128", kWgmma, 26, 8, 128, 1};
    case ConvTile::kWgmma176x128:
      return {"wgmma 176x128", kWgmma, 22, 8, 128, 1};
    case ConvTile::kWgmma160x128:
      return {"wgmma 160x128", kWgmma, 20, 8, 128, 1};
    case ConvTile::kWgmma128x128:
      return {"wgmma 128x128", kWgmma, 16, 8, 128, 1};
    case ConvTile::kWgmma64x128:
      return {"wgmma 64x128", kWgmma, 8, 8, 128, 1};
    case ConvTile::kWgmma512x64:
      return {"wgmma 512x64", kWgmma, 32, 16, 64, 1};
    case ConvTile::kWgmma448x64:
      return {"wgmma 448x64", kWgmma, 28, 16, 64, 1};
    case ConvTile::kWgmma416x64:
      return {"wgmma 416x64", kWgmma, 26, 16, 64, 1};
    case ConvTile::kWgmmaPair256x128:
      return {"wgmma pair 256x128", kWgmma, 32, 8, 128, 1, 2};
    case ConvTile::kWgmmaPair224x128:
      return {"wgmma pair 224x128", kWgmma, 28, 8, 128, 1, 2};
    case ConvTile::kWgmmaPair208x128:
      return {"wgmma pair 208x128", kWgmma, 26, 8, 128, 1, 2};
    case ConvTile::kWgmmaPair176x128:
      return {"wgmma pair 176x128", kWgmma, 22, 8, 128, 1, 2};
    case ConvTile::kWgmmaPair160x128:
      return {"wgmma pair 160x128", kWgmma, 20, 8, 128, 1, 2};
    case ConvTile::kWgmmaPair128x128:
      return {"wgmma pair 128x128", kWgmma, 16, 8, 128, 1, 2};
    case ConvTile::kWgmmaPair64x128:
      return {"wgmma pair 64x128", kWgmma, 8, 8, 128, 1, 2};
    case ConvTile::kWgmmaPair512x64:
      return {"wgmma pair 512x64", kWgmma, 32, 16, 64, 1, 2};
    case ConvTile::kWgmmaPair448x64:
      return {"wgmma pair 448x64", kWgmma, 28, 16, 64, 1, 2};
    case ConvTile::kWgmmaPair416x64:
      return {"wgmma pair 416x64", kWgmma, 26, 16, 64, 1, 2};
    case ConvTile::kMma128x128:
      return {"mma 128x128", kMma, 8, 16, 128, 2};
    case ConvTile::kMma256x64:
      return {"mma 256x64", kMma, 16, 16, 64, 2};
    case ConvTile::kMma256x32:
      return {"mma 256x32", kMma, 16, 16, 32, 3};
    case ConvTile::kMma64x64:
      return {"mma 64x64", kMma, 8, 8, 64, 4};
    case ConvTile::kFma128x64:
      return {"fma 128x64", kFma, 8, 16, 64, 3};
    case ConvTile::kFma256x16:
      return {"fma 256x16", kFma, 16, 16, 16, 3};
  }
  fail("conv has no tile {}: take one of kConvTiles", static_cast<int>(tile));
}

// Why tensor cores cannot make the products; empty if they can. Says nothing of sizes.
std::string objection_to_tensor_cores(const ConvProblem& p) {
  if (p.capability < 80)
    return fmt::format("needs compute capability 8.0, the GPU has {}.{}", p.capability / 10,
                       p.capability % 10);
  if (p.x != p.y)
    return fmt::format("reads and writes one type, but x is {} and y is {}", name_of(p.x),
                       name_of(p.y));
  if (p.x == DType::kF32 && p.math == Precision::kFp32)
    return "would round f32 operands to tf32, and math is f32";
  const auto whole = static_cast<std::int64_t>(16 / size_of(p.x));
  for (const std::int64_t c : p.c_in) {
    if (c % whole != 0)
      return fmt::format("copies 16 bytes at once: c_in must be a multiple of {} in {}, but is {}",
                         whole, name_of(p.x), c);
  }
  return {};
}

std::int64_t tiles_over(std::int64_t extent, std::int64_t side) {
  return (extent + side - 1) / side;
}

// Part of its products that is asked for where blocks of `depth` input channels and of `channels`
// output channels are multiplied whole.
double useful_part(const ConvProblem& p, std::int64_t depth, std::int64_t channels) {
  std::int64_t asked = 0, made = 0;
  for (const std::int64_t c : p.c_in) asked += c, made += tiles_over(c, depth) * depth;
  return static_cast<double>(asked * p.c_out) /
         static_cast<double>(made * tiles_over(p.c_out, channels) * channels);
}

// Why wgmma does not make products that tensor cores can; empty if it does. Says nothing of sizes.
std::string objection_to_wgmma(const ConvProblem& p) {
  constexpr int kCapability = 90;
  constexpr double kMmaRate = 0.62;  // of mma.sync on such a GPU, relative to wgmma
  if (p.capability != kCapability)
    return fmt::format("is for compute capability 9.0, the GPU has {}.{}", p.capability / 10,
                       p.capability % 10);
  if (!p.wgmma) return "needs a build for sm_90a (CMAKE_CUDA_ARCHITECTURES)";
  if (p.kernel != 3) return fmt::format("has a window of 3, not of {}", p.kernel);
  if (p.x == DType::kF32) return "multiplies 16 bits, but x is f32";
  const double wgmma = useful_part(p, 64, 64), mma = useful_part(p, 16, 32);
  if (wgmma < kMmaRate * mma)
    return fmt::format(
        "multiplies whole blocks of 64 channels, and {:.0f}% of that is asked for: at {:.0f}% of "
        "its rate mma is faster",
        100 * wgmma, 100 * kMmaRate);
  return {};
}

// What the busiest multiprocessor has to do, and what part of its products is asked for.
struct Estimate {
  std::int64_t blocks = 0;
  double time = 0;  // in products at a rate of 1
  double used = 0;  // products asked for / products made, all multiprocessors
};

// As many blocks at once as a multiprocessor holds, then those that are left, which fill it less:
// each block more takes the same share of what the others leave idle.
Estimate estimate(const ConvProblem& p, const TileTraits& tile, const ConvRate& rate) {
  const auto busy = [&](std::int64_t blocks) {
    return 1 - std::pow(1 - rate.alone, static_cast<double>(blocks));
  };
  const std::int64_t sms = std::max(p.multiprocessors, 1);
  Estimate e;
  const std::int64_t pixels = p.n * tiles_over(p.ho, tile.rows) * tiles_over(p.wo, tile.columns);
  e.blocks = tiles_over(pixels, tile.pair) * tile.pair * tiles_over(p.c_out, tile.channels);
  const double block = static_cast<double>(tile.rows) * tile.columns * tile.channels;
  const std::int64_t at_once = std::max(sms / tile.pair, std::int64_t{1}) * tile.pair;
  const std::int64_t most = tiles_over(e.blocks, at_once), rest = most % tile.resident;
  e.time = block * static_cast<double>(most - rest) / rate.full;
  if (rest > 0)
    e.time += block * static_cast<double>(rest) / (rate.full * busy(rest) / busy(tile.resident));
  e.used =
      static_cast<double>(p.n * p.ho * p.wo * p.c_out) / (block * static_cast<double>(most * sms));
  return e;
}

}  // namespace

std::string_view name_of(ConvTile tile) {
  return traits_of(tile).name;
}

ConvArithmetic arithmetic_of(ConvTile tile) {
  return traits_of(tile).arithmetic;
}

// From the bytes that a product reads of shared memory or, by wgmma, of L2, the halo that a tile
// copies, and the warps of a block: a model, not a measurement.
const ConvRates& conv_model_rates() {
  static constexpr ConvRates kRates{{
      {1.0, 1.0},    // wgmma 256x128
      {0.94, 1.0},   // wgmma 224x128
      {0.9, 1.0},    // wgmma 208x128
      {0.8, 1.0},    // wgmma 176x128
      {0.75, 1.0},   // wgmma 160x128
      {0.68, 1.0},   // wgmma 128x128
      {0.34, 1.0},   // wgmma 64x128
      {1.0, 1.0},    // wgmma 512x64
      {0.94, 1.0},   // wgmma 448x64
      {0.9, 1.0},    // wgmma 416x64
      {1.0, 1.0},    // wgmma pair 256x128
      {1.0, 1.0},    // wgmma pair 224x128
      {1.0, 1.0},    // wgmma pair 208x128
      {0.96, 1.0},   // wgmma pair 176x128
      {0.96, 1.0},   // wgmma pair 160x128
      {0.9, 1.0},    // wgmma pair 128x128
      {0.5, 1.0},    // wgmma pair 64x128
      {1.0, 1.0},    // wgmma pair 512x64
      {1.0, 1.0},    // wgmma pair 448x64
      {0.98, 1.0},   // wgmma pair 416x64
      {1.0, 0.75},   // mma 128x128
      {1.0, 0.75},   // mma 256x64
      {0.75, 0.55},  // mma 256x32
      {0.65, 0.35},  // mma 64x64
      {1.0, 0.6},    // fma 128x64
      {0.7, 0.6},    // fma 256x16
  }};
  return kRates;
}

const ConvRates& conv_rates() {
  static constexpr bool kMeasured = kMeasuredRates.has_value();
  static const ConvRates rates = kMeasured ? *kMeasuredRates : conv_model_rates();
  return rates;
}

// For each tile the `alone` by which its timings agree best on one `full`.
ConvRates fit_conv_rates(const std::vector<ConvTiming>& timings) {
  constexpr std::size_t kLeastTimings = 3;
  constexpr double kStep = 0.05;
  const auto median = [](std::vector<double> values) {
    std::nth_element(values.begin(), values.begin() + std::ptrdiff_t(values.size() / 2),
                     values.end());
    return values[values.size() / 2];
  };
  ConvRates rates = conv_model_rates();
  std::array<bool, kConvTiles.size()> fitted{};
  for (const ConvTile tile : kConvTiles) {
    const auto index = static_cast<std::size_t>(tile);
    double least = std::numeric_limits<double>::infinity();
    for (double alone = kStep; alone < 1 + kStep / 2; alone += kStep) {
      std::vector<double> full, errors;
      for (const ConvTiming& t : timings) {
        if (t.tile != tile || !(t.seconds > 0)) continue;
        const double time = estimate(t.problem, traits_of(tile), {1, std::min(alone, 1.0)}).time;
        full.push_back(t.products * time / t.seconds);
      }
      if (full.size() < kLeastTimings) break;
      const double middle = median(full);
      for (const double one : full) errors.push_back(std::abs(std::log(one / middle)));
      if (const double error = median(errors); error < least) {
        least = error;
        rates[index] = {middle, std::min(alone, 1.0)};
        fitted[index] = true;
      }
    }
  }
  using enum ConvArithmetic;
  for (const ConvArithmetic arithmetic : {kFma, kMma, kWgmma}) {
    double best = 0;
    for (const ConvTile tile : kConvTiles) {
      const auto index = static_cast<std::size_t>(tile);
      if (fitted[index] && arithmetic_of(tile) == arithmetic)
        best = std::max(best, rates[index].full);
    }
    for (const ConvTile tile : kConvTiles) {
      const auto index = static_cast<std::size_t>(tile);
      if (fitted[index] && arithmetic_of(tile) == arithmetic) rates[index].full /= best;
    }
  }
  return rates;
}

ConvChoice choose_conv(const ConvProblem& p, const ConvRates& rates) {
  using enum ConvArithmetic;
  const std::string objection = objection_to_tensor_cores(p);
  const std::string to_wgmma = objection.empty() ? objection_to_wgmma(p) : objection;
  const ConvArithmetic arithmetic = !objection.empty() ? kFma : to_wgmma.empty() ? kWgmma : kMma;

  ConvChoice choice{};
  Estimate best;
  for (const ConvTile tile : kConvTiles) {
    if (arithmetic_of(tile) != arithmetic) continue;
    const Estimate e = estimate(p, traits_of(tile), rates[static_cast<std::size_t>(tile)]);
    if (best.blocks == 0 || e.time < best.time) choice.tile = tile, best = e;
  }

  for (const ConvTile tile : kConvTiles) {
    if (tile == choice.tile) continue;
    const TileTraits traits = traits_of(tile);
    std::string reason;
    if (traits.arithmetic > arithmetic) {
      reason = traits.arithmetic == kWgmma ? to_wgmma : objection;
    } else if (traits.arithmetic == kMma && arithmetic == kWgmma) {
      reason = "wgmma multiplies faster on this GPU";
    } else if (traits.arithmetic == kFma && arithmetic != kFma) {
      reason = p.x == DType::kF32
                   ? fmt::format("math is {}, so tensor cores may round to tf32, and are faster",
                                 name_of(p.math))
                   : fmt::format("tensor cores multiply {} exactly, and are faster", name_of(p.x));
    } else {
      const Estimate e = estimate(p, traits, rates[static_cast<std::size_t>(tile)]);
      reason = fmt::format(
          "{:.2f}x the time of {}: {} blocks on {} multiprocessors of {} blocks each, {:.0f}% of "
          "their products used",
          e.time / best.time, name_of(choice.tile), e.blocks, p.multiprocessors, traits.resident,
          100 * e.used);
    }
    choice.rejected.push_back({tile, std::move(reason)});
  }
  return choice;
}

std::string_view name_of(AnyConvTechnique technique) {
  switch (technique) {
    case AnyConvTechnique::kMma128x64:
      return "any mma 128x64";
    case AnyConvTechnique::kFma64x64:
      return "any fma 64x64";
    case AnyConvTechnique::kFmaChannel:
      return "any fma channel";
  }
  fail("conv has no technique {} for any window", static_cast<int>(technique));
}

AnyConvChoice choose_any_conv(const ConvProblem& p) {
  constexpr int kLeastChannels = 32;  // of a group: half of a block's
  AnyConvChoice choice{};
  std::string reason = p.groups > 1 ? fmt::format("has one group, but there are {}", p.groups)
                                    : objection_to_tensor_cores(p);
  choice.technique = AnyConvTechnique::kMma128x64;
  if (reason.empty()) return choice;
  choice.rejected.push_back({choice.technique, std::move(reason)});
  choice.technique = AnyConvTechnique::kFma64x64;
  if (p.groups == 1) return choice;
  if (p.c_in.size() > 1) {
    reason = "of several groups it reads one source, but there are two";
  } else if (p.c_out / p.groups < kLeastChannels) {
    reason = fmt::format("makes 64 channels of a group, which has {}", p.c_out / p.groups);
  } else {
    return choice;
  }
  choice.rejected.push_back({choice.technique, std::move(reason)});
  choice.technique = AnyConvTechnique::kFmaChannel;
  return choice;
}

std::string ConvChoice::to_string() const {
  std::string text = fmt::format("{}\n", name_of(tile));
  for (const Rejection& r : rejected)
    text += fmt::format("  not {}: {}\n", name_of(r.tile), r.reason);
  return text;
}

}  // namespace tessera
