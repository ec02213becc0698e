// Chooses the technique and tile, packs the weights for it, and launches it.
#include "kernels/conv_transpose/cuda.h"

#include <bit>
#include <limits>

#include "kernels/conv_transpose/conv_transpose.h"
#include "kernels/cpu/convert.h"

namespace tessera {

namespace {

constexpr int kTilePixels = 128;

bool is_mma(ConvTransposeTile tile) {
  return tile != ConvTransposeTile::kSimt128x64;
}

std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// Why tensor cores cannot make the products; empty where they can.
std::string why_no_mma(const ConvTransposeProblem& problem) {
  constexpr int kCapability = 80;
  constexpr std::int64_t kCopyBytes = 16;
  if (problem.capability < kCapability)
    return fmt::format("takes compute capability 8.0, but this is {}.{}", problem.capability / 10,
                       problem.capability % 10);
  if (problem.x == DType::kF32 && problem.math == CudaMath::kF32)
    return "f32 products were asked for, and tensor cores round to TF32";
  const std::int64_t bytes = problem.c_in * static_cast<std::int64_t>(size_of(problem.x));
  if (bytes % kCopyBytes != 0)
    return fmt::format("copies whole {} bytes, but a pixel has {}", kCopyBytes, bytes);
  return {};
}

// Why 128 channels a block would be slower than 64; empty where they would not.
std::string why_not_wide(const ConvTransposeProblem& problem) {
  const std::int64_t wide = round_up(problem.c_out, 128), narrow = round_up(problem.c_out, 64);
  if (wide > narrow) return fmt::format("would compute {} channels for {}", wide, problem.c_out);
  const std::int64_t blocks =
      round_up(problem.pixels, kTilePixels) / kTilePixels * kParities * (wide / 128);
  if (blocks < 2 * problem.multiprocessors)
    return fmt::format("{} blocks are fewer than two for each of {} multiprocessors", blocks,
                       problem.multiprocessors);
  return {};
}

float round_to_tf32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  constexpr std::uint32_t kExponent = 0x7f800000, kHalf = 1 << 12, kKept = ~((1u << 13) - 1);
  if ((bits & kExponent) == kExponent) return value;  // infinity and NaN
  return std::bit_cast<float>((bits + kHalf) & kKept);
}

// The tap of `kernel` that links an output of parity `odd` to the input pixel `behind` places on.
std::int64_t tap_of(int kernel, int odd, int behind) {
  if (kernel == 2) return odd;
  return odd == 0 ? 1 : behind == 0 ? 2 : 0;
}

// Calls body(ky, kx) for every tap in the order of packed weights.
template <class Body>
void for_each_tap(int kernel, const Body& body) {
  for (int parity = 0; parity < kParities; ++parity) {
    const ParityTaps taps = parity_taps(kernel, parity);
    for (int row = 0; row < taps.rows; ++row) {
      for (int column = 0; column < taps.columns; ++column)
        body(tap_of(kernel, parity / 2, row), tap_of(kernel, parity % 2, column));
    }
  }
}

struct PackedLayout {
  DType dtype;         // of elements
  std::int64_t c_in;   // rounded up
  std::int64_t c_out;  // rounded up
  std::int64_t line;   // channels of x that lie together for one c_out
  std::size_t bytes;   // of all
};

PackedLayout layout_of(const ConvTranspose& op, const TensorType& x, ConvTransposeTile tile) {
  PackedLayout layout{DType::kF32, x.shape[3], op.c_out, 1, 0};
  if (is_mma(tile)) {
    layout.dtype = x.dtype;
    layout.line = kConvTransposeLineBytes / static_cast<std::int64_t>(size_of(x.dtype));
    layout.c_in = round_up(layout.c_in, layout.line);
  } else {
    layout.c_in = round_up(layout.c_in, kConvTransposeDepth);
    layout.c_out = round_up(layout.c_out, kConvTransposeQuad);
  }
  layout.bytes = static_cast<std::size_t>(op.kernel * op.kernel * layout.c_in * layout.c_out) *
                 size_of(layout.dtype);
  return layout;
}

void store(float value, DType dtype, std::int64_t i, std::byte* to) {
  if (dtype == DType::kF32) {
    reinterpret_cast<float*>(to)[i] = value;
  } else {
    reinterpret_cast<std::uint16_t*>(to)[i] =
        dtype == DType::kBF16 ? f32_to_bf16(value) : f32_to_f16(value);
  }
}

// (taps, c_in / line, c_out, line), then the bias in f32.
void pack(const ConvTranspose& op, const CudaSetup& setup, const PackedLayout& layout, bool mma,
          std::byte* to) {
  const std::vector<float> weight = to_f32(setup.weights[0]);  // (c_in, c_out, k, k)
  const std::int64_t c_in = setup.inputs[0].shape[3];
  std::int64_t next = 0;
  for_each_tap(op.kernel, [&](std::int64_t ky, std::int64_t kx) {
    for (std::int64_t first = 0; first < layout.c_in; first += layout.line) {
      for (std::int64_t o = 0; o < layout.c_out; ++o) {
        for (std::int64_t i = first; i < first + layout.line; ++i) {
          float value = 0;
          if (i < c_in && o < op.c_out)
            value = weight[static_cast<std::size_t>(
                ((i * op.c_out + o) * op.kernel + ky) * op.kernel + kx)];
          if (mma && layout.dtype == DType::kF32) value = round_to_tf32(value);
          store(value, layout.dtype, next++, to);
        }
      }
    }
  });
  auto* bias = reinterpret_cast<float*>(to + layout.bytes);
  for (std::int64_t o = 0; o < op.c_out; ++o)
    bias[o] = op.bias ? element_f32(setup.weights[1], o) : 0.0f;
}

}  // namespace

std::string_view name_of(ConvTransposeTile tile) {
  switch (tile) {
    case ConvTransposeTile::kMma128x128:
      return "mma 128x128";
    case ConvTransposeTile::kMma128x64:
      return "mma 128x64";
    case ConvTransposeTile::kSimt128x64:
      return "simt 128x64";
  }
  return "unknown";
}

ConvTransposeChoice choose_conv_transpose(const ConvTransposeProblem& problem) {
  ConvTransposeChoice choice{ConvTransposeTile::kSimt128x64, {}};
  for (const ConvTransposeTile tile : kConvTransposeTiles) {
    std::string reason;
    if (is_mma(tile)) reason = why_no_mma(problem);
    if (reason.empty() && tile == ConvTransposeTile::kMma128x128) reason = why_not_wide(problem);
    if (reason.empty()) {
      choice.tile = tile;
      return choice;
    }
    choice.rejected.push_back({tile, reason});
  }
  return choice;
}

Step cuda_with_tile(const ConvTranspose& op, const CudaSetup& setup, ConvTransposeTile tile) {
  const TensorType y = infer(op, setup.inputs)[0], &x = setup.inputs[0];
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() / 2;
  for (const std::int64_t extent : y.shape.dims().subspan(1))
    require(extent <= kMost, "conv_transpose on CUDA takes extents up to {}, but makes {}", kMost,
            y.to_string());
  const PackedLayout layout = layout_of(op, x, tile);
  const auto packed = setup.packed->get(
      fmt::format("{}/{} {}", setup.name, is_mma(tile) ? "mma" : "simt", name_of(layout.dtype)),
      layout.bytes + static_cast<std::size_t>(op.c_out) * sizeof(float),
      [&](std::byte* to) { pack(op, setup, layout, is_mma(tile), to); });

  ConvTransposeArgs args{};
  args.weight = packed->get();
  args.bias = reinterpret_cast<const float*>(packed->get() + layout.bytes);
  args.pixels = x.shape.elements(0, 3);
  args.h = static_cast<int>(x.shape[1]);
  args.w = static_cast<int>(x.shape[2]);
  args.c_in = static_cast<int>(x.shape[3]);
  args.c_out = op.c_out;
  for (int parity = 0; parity < kParities; ++parity)
    args.taps[parity] = parity_taps(op.kernel, parity);
  args.relu = op.relu;
  args.x_type = x.dtype;
  args.y_type = op.dtype;
  return {0, [args, packed, tile, stream = setup.stream](const Operands& operands, std::byte*) {
            ConvTransposeArgs run = args;
            run.x = operands.inputs[0].pointer;
            run.y = operands.outputs[0].pointer;
            if (is_mma(tile)) {
              conv_transpose_mma_cuda(run, tile, stream);
            } else {
              conv_transpose_simt_cuda(run, stream);
            }
          }};
}

Step cuda(const ConvTranspose& op, const CudaSetup& setup) {
  infer(op, setup.inputs);
  const TensorType& x = setup.inputs[0];
  const ConvTransposeChoice choice =
      choose_conv_transpose({x.shape.elements(0, 3), x.shape[3], op.c_out, x.dtype, setup.math,
                             setup.traits.capability, setup.traits.multiprocessors});
  return cuda_with_tile(op, setup, choice.tile);
}

}  // namespace tessera
