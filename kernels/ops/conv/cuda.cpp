#include "kernels/ops/conv/cuda.h"

#include <algorithm>

#include "kernels/cuda/pack.h"
#include "kernels/cuda/paths.h"
#include "kernels/cuda/row_limit.h"
#include "kernels/ops/activation/cuda.h"
#include "kernels/ops/activation/residual.h"
#include "kernels/ops/conv/cuda_any.h"
#include "kernels/ops/conv/cuda_host.h"
#include "kernels/ops/conv/fold.h"
#include "kernels/ops/max_pool/cuda.h"

namespace tessera {

namespace {

using Buffer = std::shared_ptr<const DeviceBuffer>;

Buffer pack_weights(const Conv& op, const ConvGeometry& g, const ConvWeightLayout& layout,
                    const CudaSetup& setup) {
  const std::string key = fmt::format("{}/{}", setup.name, layout.name());
  return setup.packed->get(key, layout.bytes(), [&](std::byte* to) {
    const FoldedWeights weights(op, g, setup.weights);
    for_each_packed(layout, [&](std::int64_t o, std::int64_t i, int tap) {
      const double value =
          i == kPackZero ? 0.0 : weights.at(o, i, tap / layout.kernel[1], tap % layout.kernel[1]);
      store_rounded(layout.rounding, static_cast<float>(value), to);
      to += layout.element_bytes();
    });
  });
}

std::int64_t in_quads(std::int64_t channels) {
  return (channels + kConvQuad - 1) / kConvQuad * kConvQuad;
}

// (4, c_out in whole quads): bias, scale and shift of a norm after ReLU, slopes; else zeros.
Buffer pack_epilogue(const Conv& op, const ConvGeometry& g, const CudaSetup& setup) {
  const std::int64_t pitch = in_quads(g.c_out);
  const auto bytes = static_cast<std::size_t>(4 * pitch) * sizeof(float);
  return setup.packed->get(setup.name + "/epilogue", bytes, [&](std::byte* memory) {
    const ConvEpilogue e = epilogue_of(op, g, setup.weights);
    auto* to = reinterpret_cast<float*>(memory);
    for (const std::vector<float>* values : {&e.bias, &e.scale, &e.shift, &e.slopes}) {
      std::fill(to, to + pitch, 0.0f);
      if (!values->empty()) std::copy_n(values->begin(), g.c_out, to);
      to += pitch;
    }
  });
}

// Where the pixels of a source lie; its pointer is a run's.
ConvArgs::Source source_args(const ConvGeometry& g, const ConvSource& s) {
  ConvArgs::Source source{};
  source.image = s.h * s.w;
  source.pitch = s.w;
  source.origin = s.dy * s.w + s.dx;
  source.row_begin = conv_extent(std::max<std::int64_t>(0, -s.dy));
  source.row_end = conv_extent(std::min(g.h, s.h - s.dy));
  source.column_begin = conv_extent(std::max<std::int64_t>(0, -s.dx));
  source.column_end = conv_extent(std::min(g.w, s.w - s.dx));
  source.c = conv_extent(s.c);
  return source;
}

}  // namespace

Precision tensor_core_rounding(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return Precision::kBf16;
    case DType::kF16:
      return Precision::kFp16;
    default:
      return Precision::kTf32;
  }
}

std::size_t ConvWeightLayout::element_bytes() const {
  return rounding == Precision::kBf16 || rounding == Precision::kFp16 ? sizeof(std::uint16_t)
                                                                      : sizeof(float);
}

void ConvWeightLayout::take(ConvTile tile, DType x_type) {
  const ConvArithmetic arithmetic = arithmetic_of(tile);
  rounding = arithmetic == ConvArithmetic::kFma ? Precision::kFp32 : tensor_core_rounding(x_type);
  line_bytes = arithmetic == ConvArithmetic::kWgmma ? kConvWgmmaLineBytes : kConvLineBytes;
}

std::string ConvWeightLayout::name() const {
  return line_bytes == kConvLineBytes ? std::string(name_of(rounding))
                                      : fmt::format("{} by {}", name_of(rounding), line());
}

std::int64_t ConvWeightLayout::line() const {
  return line_bytes / static_cast<std::int64_t>(element_bytes());
}

std::int64_t ConvWeightLayout::row() const {
  return in_quads(c_out);
}

std::int64_t ConvWeightLayout::elements() const {
  std::int64_t channels = 0;
  for (const std::int64_t c : c_in)
    channels += rounding == Precision::kFp32 ? c : (c + line() - 1) / line() * line();
  return channels * kernel[0] * kernel[1] * (rounding == Precision::kFp32 ? row() : c_out);
}

ConvWeightLayout weight_layout(const Conv& op, const ConvGeometry& g, ConvTile tile, DType x_type) {
  ConvWeightLayout layout{.c_in = {}, .c_out = g.c_out, .kernel = op.window.kernel};
  layout.take(tile, x_type);
  for (const ConvSource& source : g.sources) layout.c_in.push_back(source.c);
  return layout;
}

int conv_extent(std::int64_t value) {
  constexpr std::int64_t kMost = 1 << 30;  // so that a sum of two fits 32 bits
  require(value <= kMost, "conv on CUDA takes extents up to {}, but got {}: cut the image in tiles",
          kMost, value);
  return static_cast<int>(value);
}

ConvArgs conv_args(const Conv& op, const ConvGeometry& g, DType x_type) {
  ConvArgs args{};
  for (const ConvSource& source : g.sources)
    args.sources[args.source_count++] = source_args(g, source);
  args.n = conv_extent(g.n), args.ho = conv_extent(g.ho), args.wo = conv_extent(g.wo);
  args.c_out = conv_extent(g.c_out);
  args.kernel = op.window.kernel[0];
  args.top = conv_extent(g.top), args.left = conv_extent(g.left);
  args.relu = op.relu ||
              (op.epilogue.activation && op.epilogue.activation->kind == Activation::Kind::kRelu);
  args.x_type = x_type, args.y_type = op.dtype;
  return args;
}

void conv_cuda(const ConvArgs& args, ConvTile tile, CudaStream stream) {
  switch (arithmetic_of(tile)) {
    case ConvArithmetic::kWgmma:
      return conv_wgmma_cuda(args, tile, stream);
    case ConvArithmetic::kMma:
      return conv_mma_cuda(args, tile, stream);
    case ConvArithmetic::kFma:
      return conv_fma_cuda(args, tile, stream);
  }
}

ConvProblem conv_problem(const Conv& op, const ConvGeometry& g, DType x_type,
                         const CudaSetup& setup) {
  ConvProblem problem{.n = g.n,
                      .ho = g.ho,
                      .wo = g.wo,
                      .c_out = op.c_out,
                      .c_in = {},
                      .x = x_type,
                      .y = op.dtype,
                      .math = setup.math,
                      .capability = setup.traits.capability,
                      .multiprocessors = setup.traits.multiprocessors,
                      .groups = op.groups,
                      .kernel = op.window.kernel[0],
                      .wgmma = has_conv_wgmma()};
  for (const ConvSource& source : g.sources) problem.c_in.push_back(source.c);
  return problem;
}

bool has_conv_tiles(const Conv& op) {
  return (op.window.is_square(1) || op.window.is_square(3)) && op.window.is_dense() &&
         op.groups == 1;
}

// Winograd is a way of the CPU alone: 16 bits and tensor cores have no room for its transforms.
ConvChoice choose_conv(const Conv& op, const ConvGeometry& g, DType x_type,
                       const CudaSetup& setup) {
  require(op.technique == Conv::Technique::kDirect,
          "conv on CUDA has no Winograd technique (node {}): leave out the pass that chooses it",
          setup.name);
  return choose_conv(conv_problem(op, g, x_type, setup));
}

namespace {

// Activations that the kernels have in their epilogue; others are a pass behind them.
bool is_in_kernels(const Activation& op) {
  return op.kind == Activation::Kind::kRelu || op.kind == Activation::Kind::kLeakyRelu ||
         op.kind == Activation::Kind::kPrelu;
}

// Gives the arguments of a launch what a run knows.
std::function<void(ConvArgs&, const Operands&)> binding_of(const Conv& op, const ConvGeometry& g,
                                                           const Buffer& weight,
                                                           const CudaSetup& setup) {
  const Buffer epilogue = pack_epilogue(op, g, setup);
  const bool affine = op.norm == Conv::Norm::kAfterRelu, residual = op.epilogue.residual;
  const bool slopes =
      op.epilogue.activation && op.epilogue.activation->kind != Activation::Kind::kRelu;
  const Residual added =
      residual ? residual_of(op.epilogue, setup.inputs.back().shape) : Residual();
  std::array<std::size_t, 2> inputs{};
  for (std::size_t i = 0; i < g.sources.size(); ++i) inputs[i] = g.sources[i].input;
  return [=, pool = op.pool](ConvArgs& run, const Operands& operands) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(run.source_count); ++i)
      run.sources[i].x = operands.inputs[inputs[i]].pointer;
    const std::int64_t pitch = in_quads(run.c_out);
    run.weight = weight->get();
    run.bias = reinterpret_cast<const float*>(epilogue->get());
    run.scale = affine ? run.bias + pitch : nullptr;
    run.shift = affine ? run.scale + pitch : nullptr;
    run.slopes = slopes ? run.bias + 3 * pitch : nullptr;
    run.residual = added;
    if (residual) run.residual.x = operands.inputs.back().pointer;
    run.y = operands.outputs[0].pointer;
    run.pooled = pool ? operands.outputs[1].pointer : nullptr;
  };
}

// Of any window; it does not pool.
Step any_conv_step(const Conv& op, const CudaSetup& setup) {
  const ConvGeometry g = geometry_of(op, setup.inputs);
  const DType x_type = setup.inputs[0].dtype;
  const AnyConvTechnique technique = choose_any_conv(conv_problem(op, g, x_type, setup)).technique;
  AnyConvArgs args{conv_args(op, g, x_type), {}, op.groups};
  for (const std::size_t axis : {0u, 1u})
    args.axes[axis] = {.taps = op.window.kernel[axis],
                       .stride = op.window.stride[axis],
                       .first = -op.window.before(axis),
                       .step = op.window.dilation[axis],
                       .spread = 1,
                       .offset = 0,
                       .size = conv_extent(axis == 0 ? g.ho : g.wo)};
  if (!is_countable(args)) return {};  // the host's
  const auto open = [&]() -> AnyConvWeight {
    const auto folded = std::make_shared<const FoldedWeights>(op, g, setup.weights);
    return [folded](std::int64_t o, std::int64_t i, int ky, int kx) {
      return folded->at(o, i, ky, kx);
    };
  };
  const Buffer weight = pack_any_conv(args, technique, setup.name, setup, open);
  const auto bind = binding_of(op, g, weight, setup);
  return {0, [=, stream = setup.stream](const Operands& operands, std::byte*) {
            AnyConvArgs run = args;
            bind(run.conv, operands);
            any_conv_cuda(run, technique, stream);
          }};
}

}  // namespace

Step cuda_with_tile(const Conv& op, const CudaSetup& setup, ConvTile tile) {
  const ConvGeometry g = geometry_of(op, setup.inputs);
  const DType x_type = setup.inputs[0].dtype;
  const ConvArgs args = conv_args(op, g, x_type);
  const Buffer weight = pack_weights(op, g, weight_layout(op, g, tile, x_type), setup);
  const auto bind = binding_of(op, g, weight, setup);
  return {0, [=, stream = setup.stream](const Operands& operands, std::byte*) {
            ConvArgs run = args;
            bind(run, operands);
            conv_cuda(run, tile, stream);
          }};
}

Step cuda(const Conv& op, const CudaSetup& setup) {
  const std::optional<Activation>& activation = op.epilogue.activation;
  // No pass makes these, and no kernel has them.
  if (!op.epilogue.is_empty() && op.norm == Conv::Norm::kAfterRelu) return {};
  if (activation && op.relu) return {};
  const std::vector<TensorType> types = infer(op, setup.inputs);
  const bool pass = activation && !is_in_kernels(*activation);
  Conv first = op;
  if (pass) first.epilogue.activation.reset();
  if (pass || !has_conv_tiles(op)) first.pool = false;
  Step step;
  if (has_conv_tiles(op)) {
    const ConvGeometry g = geometry_of(first, setup.inputs);
    step = cuda_with_tile(first, setup, choose_conv(first, g, setup.inputs[0].dtype, setup).tile);
  } else {
    step = any_conv_step(first, setup);
  }
  const bool pools = op.pool && !first.pool;
  if (pools) require_row("conv", types[1]);
  if (!step.run || (!pass && !pools)) return step;
  const ActivationCurve curve =
      pass ? device_curve(*activation, nullptr, op.c_out, setup).curve : ActivationCurve();
  return {0, [=, y = types[0], stream = setup.stream, work = step.run](const Operands& operands,
                                                                       std::byte* scratch) {
            work(operands, scratch);
            void* const made = operands.outputs[0].pointer;
            const Shape& s = y.shape;
            if (pass) activation_cuda({made, made, s.elements(), y.dtype}, curve, s[3], stream);
            if (pools)
              max_pool_cuda({made, operands.outputs[1].pointer, s[0], s[1], s[2], s[3], y.dtype},
                            stream);
          }};
}

}  // namespace tessera
