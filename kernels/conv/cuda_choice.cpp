#include <algorithm>

#include "kernels/conv/cuda.h"
#include "kernels/cuda/step.h"

namespace tessera {

namespace {

struct TileTraits {
  std::string_view name;
  bool tensor_cores;
  int rows, columns, channels;
  // Products per clock relative to the best tile of the arithmetic, from the bytes of shared memory
  // that a product reads and the halo that it copies: a model, not a measurement.
  double rate;
};

TileTraits traits_of(ConvTile tile) {
  switch (tile) {
    case ConvTile::kMma128x128:
      return {"mma 128x128", true, 8, 16, 128, 1.0};
    case ConvTile::kMma256x64:
      return {"mma 256x64", true, 16, 16, 64, 1.0};
    case ConvTile::kMma256x32:
      return {"mma 256x32", true, 16, 16, 32, 0.75};
    case ConvTile::kMma64x64:
      return {"mma 64x64", true, 8, 8, 64, 0.65};
    case ConvTile::kSimt128x64:
      return {"simt 128x64", false, 8, 16, 64, 1.0};
    case ConvTile::kSimt256x16:
      return {"simt 256x16", false, 16, 16, 16, 0.7};
  }
  fail("conv has no tile {}: take one of kConvTiles", static_cast<int>(tile));
}

std::string_view name_of(CudaMath math) {
  switch (math) {
    case CudaMath::kTF32:
      return "tf32";
    case CudaMath::kBF16:
      return "bf16";
    case CudaMath::kF16:
      return "f16";
    default:
      return "f32";
  }
}

// Why tensor cores cannot make the products; empty if they can. Says nothing of sizes.
std::string objection_to_tensor_cores(const ConvProblem& p) {
  if (p.capability < 80)
    return fmt::format("needs compute capability 8.0, the GPU has {}.{}", p.capability / 10,
                       p.capability % 10);
  if (p.x != p.y)
    return fmt::format("reads and writes one type, but x is {} and y is {}", name_of(p.x),
                       name_of(p.y));
  if (p.x == DType::kF32 && p.math == CudaMath::kF32)
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
  double time = 0;  // in products of the best tile's rate
  double used = 0;  // products asked for / products made, all multiprocessors
};

Estimate estimate(const ConvProblem& p, const TileTraits& tile) {
  const auto pieces = [](std::int64_t extent, std::int64_t side) {
    return (extent + side - 1) / side;
  };
  const std::int64_t sms = std::max(p.multiprocessors, 1);
  Estimate e;
  e.blocks =
      p.n * pieces(p.ho, tile.rows) * pieces(p.wo, tile.columns) * pieces(p.c_out, tile.channels);
  const double products =
      static_cast<double>(pieces(e.blocks, sms)) * tile.rows * tile.columns * tile.channels;
  e.time = products / tile.rate;
  e.used = static_cast<double>(p.n * p.ho * p.wo * p.c_out) / (products * static_cast<double>(sms));
  return e;
}

}  // namespace

std::string_view name_of(ConvTile tile) {
  return traits_of(tile).name;
}

ConvChoice choose_conv(const ConvProblem& p) {
  const std::string objection = objection_to_tensor_cores(p);
  const bool tensor_cores = objection.empty();

  ConvChoice choice{};
  Estimate best;
  for (const ConvTile tile : kConvTiles) {
    if (traits_of(tile).tensor_cores != tensor_cores) continue;
    const Estimate e = estimate(p, traits_of(tile));
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
      const Estimate e = estimate(p, traits);
      reason = fmt::format(
          "{:.2f}x the time of {}: {} blocks on {} multiprocessors, {:.0f}% of their products used",
          e.time / best.time, name_of(choice.tile), e.blocks, p.multiprocessors, 100 * e.used);
    }
    choice.rejected.push_back({tile, std::move(reason)});
  }
  return choice;
}

std::string ConvChoice::to_string() const {
  std::string text = fmt::format("{}\n", name_of(tile));
  for (const Rejection& r : rejected)
    text += fmt::format("  not {}: {}\n", name_of(r.tile), r.reason);
  return text;
}

}  // namespace tessera
