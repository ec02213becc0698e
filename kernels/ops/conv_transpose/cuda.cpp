// Chooses the technique and tile, packs the weights for it, and launches it.
#include <bit>
#include <limits>

#include "kernels/cpu/convert.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/conv_transpose/cuda_host.h"

namespace tessera {

namespace {

constexpr int kTilePixels = 128;

bool is_mma(ConvTransposeTile tile) {
  return tile != ConvTransposeTile::kFma128x64;
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
  if (problem.x == DType::kF32 && problem.math == Precision::kFp32)
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

Precision rounding_of(ConvTransposeTile tile, DType x_type) {
  if (!is_mma(tile)) return Precision::kFp32;
  return x_type == DType::kBF16  ? Precision::kBf16
         : x_type == DType::kF16 ? Precision::kFp16
                                 : Precision::kTf32;
}

// Element i of what `to` points to.
void store(float value, Precision rounding, std::int64_t i, std::byte* to) {
  if (rounding == Precision::kBf16 || rounding == Precision::kFp16) {
    reinterpret_cast<std::uint16_t*>(to)[i] =
        rounding == Precision::kBf16 ? f32_to_bf16(value) : f32_to_f16(value);
  } else {
    reinterpret_cast<float*>(to)[i] = rounding == Precision::kTf32 ? round_to_tf32(value) : value;
  }
}

// The weights in their layout, then the bias in f32.
void pack(const ConvTranspose& op, const CudaSetup& setup, const ConvTransposeLayout& layout,
          std::byte* to) {
  const std::vector<float> weight = to_f32(setup.weights[0]);  // (c_in, c_out, k, k)
  std::int64_t next = 0;
  for_each_packed(layout, [&](std::int64_t index) {
    store(index == kPackZero ? 0.0f : weight[static_cast<std::size_t>(index)], layout.rounding,
          next++, to);
  });
  auto* bias = reinterpret_cast<float*>(to + layout.bytes());
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
    case ConvTransposeTile::kFma128x64:
      return "fma 128x64";
  }
  return "unknown";
}

ConvTransposeChoice choose_conv_transpose(const ConvTransposeProblem& problem) {
  ConvTransposeChoice choice{ConvTransposeTile::kFma128x64, {}};
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

ConvTransposeLayout conv_transpose_layout(const ConvTranspose& op, const TensorType& x,
                                          ConvTransposeTile tile) {
  ConvTransposeLayout layout{.rounding = rounding_of(tile, x.dtype),
                             .kernel = op.kernel,
                             .c_in = x.shape[3],
                             .c_out = op.c_out,
                             .rows = round_up(x.shape[3], kConvTransposeDepth),
                             .columns = round_up(op.c_out, kConvTransposeQuad),
                             .line = 1};
  if (is_mma(tile)) {
    layout.line = kConvTransposeLineBytes / static_cast<std::int64_t>(size_of(x.dtype));
    layout.rows = round_up(layout.c_in, layout.line);
    layout.columns = layout.c_out;
  }
  return layout;
}

ConvTransposeProblem conv_transpose_problem(const ConvTranspose& op, const CudaSetup& setup) {
  infer(op, setup.inputs);
  const TensorType& x = setup.inputs[0];
  return {x.shape.elements(0, 3),
          x.shape[3],
          op.c_out,
          x.dtype,
          setup.math,
          setup.traits.capability,
          setup.traits.multiprocessors};
}

ConvTransposeTile choose_conv_transpose_tile(const ConvTranspose& op, const CudaSetup& setup) {
  return choose_conv_transpose(conv_transpose_problem(op, setup)).tile;
}

ConvTransposeArgs conv_transpose_args(const ConvTranspose& op, Types inputs) {
  const TensorType y = infer(op, inputs)[0], &x = inputs[0];
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() / 2;
  for (const std::int64_t extent : y.shape.dims().subspan(1))
    require(extent <= kMost, "conv_transpose on CUDA takes extents up to {}, but makes {}", kMost,
            y);
  ConvTransposeArgs args{};
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
  return args;
}

void conv_transpose_cuda(const ConvTransposeArgs& args, ConvTransposeTile tile, CudaStream stream) {
  if (is_mma(tile)) {
    conv_transpose_mma_cuda(args, tile, stream);
  } else {
    conv_transpose_fma_cuda(args, stream);
  }
}

Step cuda_with_tile(const ConvTranspose& op, const CudaSetup& setup, ConvTransposeTile tile) {
  ConvTransposeArgs args = conv_transpose_args(op, setup.inputs);
  const ConvTransposeLayout layout = conv_transpose_layout(op, setup.inputs[0], tile);
  const DType element = is_mma(tile) ? setup.inputs[0].dtype : DType::kF32;
  const auto packed = setup.packed->get(
      fmt::format("{}/{} {}", setup.name, is_mma(tile) ? "mma" : "fma", name_of(element)),
      layout.bytes() + static_cast<std::size_t>(op.c_out) * sizeof(float),
      [&](std::byte* to) { pack(op, setup, layout, to); });
  args.weight = packed->get();
  args.bias = reinterpret_cast<const float*>(packed->get() + layout.bytes());
  return {0, [args, packed, tile, stream = setup.stream](const Operands& operands, std::byte*) {
            ConvTransposeArgs run = args;
            run.x = operands.inputs[0].pointer;
            run.y = operands.outputs[0].pointer;
            conv_transpose_cuda(run, tile, stream);
          }};
}

Step cuda(const ConvTranspose& op, const CudaSetup& setup) {
  if (!is_doubling(op)) return any_conv_transpose_step(op, setup);
  return cuda_with_tile(op, setup, choose_conv_transpose_tile(op, setup));
}

}  // namespace tessera
