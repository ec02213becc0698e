#include "kernels/conv/cuda.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/conv/fold.h"
#include "kernels/cpu/convert.h"

namespace tessera {

namespace {

using Buffer = std::shared_ptr<const DeviceBuffer>;

bool uses_tensor_cores(ConvTile tile) {
  return tile != ConvTile::kSimt128x64 && tile != ConvTile::kSimt256x16;
}

// To the 11 bits that tensor cores read of an f32, ties away from zero as cvt.rna does.
float round_to_tf32(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits + 0x1000u) & ~0x1fffu);
}

void write_element(float value, DType dtype, std::byte* to) {
  switch (dtype) {
    case DType::kBF16: {
      const std::uint16_t bits = f32_to_bf16(value);
      std::memcpy(to, &bits, sizeof bits);
      return;
    }
    case DType::kF16: {
      const std::uint16_t bits = f32_to_f16(value);
      std::memcpy(to, &bits, sizeof bits);
      return;
    }
    default: {
      const float rounded = round_to_tf32(value);
      std::memcpy(to, &rounded, sizeof rounded);
    }
  }
}

// (blocks, k * k, c_out, channels of a line) of `dtype`.
Buffer pack_mma(const Conv& op, const ConvGeometry& g, DType dtype, const CudaSetup& setup) {
  const std::size_t size = size_of(dtype);
  const auto line = static_cast<std::int64_t>(kConvLineBytes / size);
  std::int64_t blocks = 0;
  for (const ConvSource& source : g.sources) blocks += (source.c + line - 1) / line;
  const std::int64_t lines = blocks * op.kernel * op.kernel * g.c_out;
  const std::string key = fmt::format("{}/mma {}", setup.name, name_of(dtype));
  return setup.packed->get(
      key, static_cast<std::size_t>(lines) * kConvLineBytes, [&](std::byte* to) {
        const FoldedWeights weights(op, g, setup.weights);
        std::int64_t source_first = 0;
        for (const ConvSource& source : g.sources) {
          for (std::int64_t first = 0; first < source.c; first += line) {
            for (int tap = 0; tap < op.kernel * op.kernel; ++tap) {
              for (std::int64_t o = 0; o < g.c_out; ++o) {
                for (std::int64_t i = first; i < first + line; ++i, to += size) {
                  const double value = i < source.c ? weights.at(o, source_first + i,
                                                                 tap / op.kernel, tap % op.kernel)
                                                    : 0.0;
                  write_element(static_cast<float>(value), dtype, to);
                }
              }
            }
          }
          source_first += source.c;
        }
      });
}

std::int64_t in_quads(std::int64_t channels) {
  return (channels + kConvQuad - 1) / kConvQuad * kConvQuad;
}

// (c_in, k * k, c_out in whole quads) of f32.
Buffer pack_simt(const Conv& op, const ConvGeometry& g, const CudaSetup& setup) {
  const std::int64_t pitch = in_quads(g.c_out);
  const std::int64_t rows = g.c_in * op.kernel * op.kernel;
  const auto bytes = static_cast<std::size_t>(rows * pitch) * sizeof(float);
  return setup.packed->get(setup.name + "/simt", bytes, [&](std::byte* memory) {
    const FoldedWeights weights(op, g, setup.weights);
    auto* to = reinterpret_cast<float*>(memory);
    for (std::int64_t i = 0; i < g.c_in; ++i) {
      for (int tap = 0; tap < op.kernel * op.kernel; ++tap, to += pitch) {
        std::fill(to, to + pitch, 0.0f);
        for (std::int64_t o = 0; o < g.c_out; ++o)
          to[o] = static_cast<float>(weights.at(o, i, tap / op.kernel, tap % op.kernel));
      }
    }
  });
}

// (3, c_out in whole quads): bias, then scale and shift of a norm after ReLU; else zeros.
Buffer pack_epilogue(const Conv& op, const ConvGeometry& g, const CudaSetup& setup) {
  const std::int64_t pitch = in_quads(g.c_out);
  const auto bytes = static_cast<std::size_t>(3 * pitch) * sizeof(float);
  return setup.packed->get(setup.name + "/epilogue", bytes, [&](std::byte* memory) {
    const ConvEpilogue e = epilogue_of(op, g, setup.weights);
    auto* to = reinterpret_cast<float*>(memory);
    for (const std::vector<float>* values : {&e.bias, &e.scale, &e.shift}) {
      std::fill(to, to + pitch, 0.0f);
      if (!values->empty()) std::copy_n(values->begin(), g.c_out, to);
      to += pitch;
    }
  });
}

int extent(std::int64_t value) {
  constexpr std::int64_t kMost = 1 << 30;  // so that a sum of two fits 32 bits
  require(value <= kMost, "conv on CUDA takes extents up to {}, but got {}: cut the image in tiles",
          kMost, value);
  return static_cast<int>(value);
}

// Where the pixels of a source lie; its pointer is a run's.
ConvArgs::Source source_args(const ConvGeometry& g, const ConvSource& s) {
  ConvArgs::Source source{};
  source.image = s.h * s.w;
  source.pitch = s.w;
  source.origin = s.dy * s.w + s.dx;
  source.row_begin = extent(std::max<std::int64_t>(0, -s.dy));
  source.row_end = extent(std::min(g.h, s.h - s.dy));
  source.column_begin = extent(std::max<std::int64_t>(0, -s.dx));
  source.column_end = extent(std::min(g.w, s.w - s.dx));
  source.c = extent(s.c);
  return source;
}

}  // namespace

Step cuda_with_tile(const Conv& op, const CudaSetup& setup, ConvTile tile) {
  const ConvGeometry g = geometry_of(op, setup.inputs);
  ConvArgs args{};
  for (const ConvSource& source : g.sources)
    args.sources[args.source_count++] = source_args(g, source);
  args.n = extent(g.n), args.ho = extent(g.ho), args.wo = extent(g.wo);
  args.c_out = extent(g.c_out);
  args.kernel = op.kernel, args.pad = extent(g.pad);
  args.relu = op.relu;
  args.x_type = setup.inputs[0].dtype, args.y_type = op.dtype;

  const bool tensor_cores = uses_tensor_cores(tile);
  const Buffer weight =
      tensor_cores ? pack_mma(op, g, args.x_type, setup) : pack_simt(op, g, setup);
  const Buffer epilogue = pack_epilogue(op, g, setup);
  const bool affine = op.norm == Conv::Norm::kAfterRelu;
  std::array<std::size_t, 2> inputs{};
  for (std::size_t i = 0; i < g.sources.size(); ++i) inputs[i] = g.sources[i].input;
  return {0, [=, stream = setup.stream, pool = op.pool](const Operands& operands, std::byte*) {
            ConvArgs run = args;
            for (std::size_t i = 0; i < static_cast<std::size_t>(run.source_count); ++i)
              run.sources[i].x = operands.inputs[inputs[i]].pointer;
            run.weight = weight->get();
            run.bias = reinterpret_cast<const float*>(epilogue->get());
            run.scale = affine ? run.bias + in_quads(run.c_out) : nullptr;
            run.shift = affine ? run.scale + in_quads(run.c_out) : nullptr;
            run.y = operands.outputs[0].pointer;
            run.pooled = pool ? operands.outputs[1].pointer : nullptr;
            if (tensor_cores) {
              conv_mma_cuda(run, tile, stream);
            } else {
              conv_simt_cuda(run, tile, stream);
            }
          }};
}

// Winograd is a way of the CPU alone: 16 bits and tensor cores have no room for its transforms.
Step cuda(const Conv& op, const CudaSetup& setup) {
  require(op.technique == Conv::Technique::kDirect,
          "conv on CUDA has no Winograd technique (node {}): leave out the pass that chooses it",
          setup.name);
  const ConvGeometry g = geometry_of(op, setup.inputs);
  ConvProblem problem{.n = g.n,
                      .ho = g.ho,
                      .wo = g.wo,
                      .c_out = op.c_out,
                      .c_in = {},
                      .x = setup.inputs[0].dtype,
                      .y = op.dtype,
                      .math = setup.math,
                      .capability = setup.traits.capability,
                      .multiprocessors = setup.traits.multiprocessors};
  for (const ConvSource& source : g.sources) problem.c_in.push_back(source.c);
  return cuda_with_tile(op, setup, choose_conv(problem).tile);
}

}  // namespace tessera
