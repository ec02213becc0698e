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
  bool tensor_cores;
  int rows, columns, channels;
  int resident;  // blocks that a multiprocessor holds at once
};

TileTraits traits_of(ConvTile tile) {
  switch (tile) {
    case ConvTile::kMma128x128:
      return {"mma 128x128", true, 8, 16, 128, 2};
    case ConvTile::kMma256x64:
      return {"mma 256x64", true, 16, 16, 64, 2};
    case ConvTile::kMma256x32:
      return {"mma 256x32", true, 16, 16, 32, 3};
    case ConvTile::kMma64x64:
      return {"mma 64x64", true, 8, 8, 64, 4};
    case ConvTile::kFma128x64:
      return {"fma 128x64", false, 8, 16, 64, 3};
    case ConvTile::kFma256x16:
      return {"fma 256x16", false, 16, 16, 16, 3};
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

// What the busiest multiprocessor has to do, and what part of its products is asked for.
struct Estimate {
  std::int64_t blocks = 0;
  double time = 0;  // in products at a rate of 1
  double used = 0;  // products asked for / products made, all multiprocessors
};

// As many blocks at once as a multiprocessor holds, then those that are left, which fill it less:
// each block more takes the same share of what the others leave idle.
Estimate estimate(const ConvProblem& p, const TileTraits& tile, const ConvRate& rate) {
  const auto pieces = [](std::int64_t extent, std::int64_t side) {
    return (extent + side - 1) / side;
  };
  const auto busy = [&](std::int64_t blocks) {
    return 1 - std::pow(1 - rate.alone, static_cast<double>(blocks));
  };
  const std::int64_t sms = std::max(p.multiprocessors, 1);
  Estimate e;
  e.blocks =
      p.n * pieces(p.ho, tile.rows) * pieces(p.wo, tile.columns) * pieces(p.c_out, tile.channels);
  const double block = static_cast<double>(tile.rows) * tile.columns * tile.channels;
  const std::int64_t most = pieces(e.blocks, sms), rest = most % tile.resident;
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

// From the bytes of shared memory that a product reads and the halo that a tile copies, and from
// the warps of a block: a model, not a measurement.
const ConvRates& conv_model_rates() {
  static constexpr ConvRates kRates{{
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
  for (const bool tensor_cores : {true, false}) {
    double best = 0;
    for (const ConvTile tile : kConvTiles) {
      const auto index = static_cast<std::size_t>(tile);
      if (fitted[index] && traits_of(tile).tensor_cores == tensor_cores)
        best = std::max(best, rates[index].full);
    }
    for (const ConvTile tile : kConvTiles) {
      const auto index = static_cast<std::size_t>(tile);
      if (fitted[index] && traits_of(tile).tensor_cores == tensor_cores) rates[index].full /= best;
    }
  }
  return rates;
}

ConvChoice choose_conv(const ConvProblem& p, const ConvRates& rates) {
  const std::string objection = objection_to_tensor_cores(p);
  const bool tensor_cores = objection.empty();

  ConvChoice choice{};
  Estimate best;
  for (const ConvTile tile : kConvTiles) {
    if (traits_of(tile).tensor_cores != tensor_cores) continue;
    const Estimate e = estimate(p, traits_of(tile), rates[static_cast<std::size_t>(tile)]);
    if (best.blocks == 0 || e.time < best.time) choice.tile = tile, best = e;
  }

  for (const ConvTile tile : kConvTiles) {
    if (tile == choice.tile) continue;
    const TileTraits traits = traits_of(tile);
    std::string reason;
    if (traits.tensor_cores && !tensor_cores) {
      reason = objection;
    } else if (!traits.tensor_cores && tensor_cores) {
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
