#include "kernels/ops/head/cuda.h"

#include "kernels/cpu/convert.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/head/head.h"

namespace tessera {

namespace {

// Weights (groups, packed channels, per_lane), then the bias (groups, per_lane).
void pack(const Head& op, const CudaSetup& setup, std::int64_t c_in, float* to) {
  const HeadTiling tiling = head_tiling(op.classes);
  const std::int64_t channels = head_packed_channels(c_in);
  for (int group = 0; group < tiling.groups; ++group) {
    for (std::int64_t i = 0; i < channels; ++i) {
      for (int column = 0; column < tiling.per_lane; ++column) {
        const int k = group * tiling.per_lane + column;
        *to++ = i < c_in && k < op.classes ? element_f32(setup.weights[0], k * c_in + i) : 0.0f;
      }
    }
  }
  for (int k = 0; k < tiling.columns(); ++k)
    *to++ = op.bias && k < op.classes ? element_f32(setup.weights[1], k) : 0.0f;
}

}  // namespace

Step cuda(const Head& op, const CudaSetup& setup) {
  const std::int64_t pixels = infer(op, setup.inputs)[0].shape.elements();
  const TensorType& x = setup.inputs[0];
  const std::int64_t c_in = x.shape[3];
  constexpr std::int64_t kMostChannels = 1 << 20;
  require(c_in <= kMostChannels, "head on CUDA takes at most {} channels, but got {}: use the CPU",
          kMostChannels, x);
  const std::int64_t matrix = head_packed_channels(c_in) * head_tiling(op.classes).columns();
  const auto floats = static_cast<std::size_t>(matrix + head_tiling(op.classes).columns());
  const auto packed = setup.packed->get(
      setup.name + "/head", floats * sizeof(float),
      [&](std::byte* to) { pack(op, setup, c_in, reinterpret_cast<float*>(to)); });
  HeadArgs args{};
  args.weights = reinterpret_cast<const float*>(packed->get());
  args.bias = args.weights + matrix;
  args.pixels = pixels;
  args.c_in = static_cast<int>(c_in);
  args.c_packed = static_cast<int>(head_packed_channels(c_in));
  args.classes = op.classes;
  args.relu = op.relu;
  args.sigmoid = op.output == Head::Output::kSigmoid;
  args.dtype = x.dtype;
  return {0, [args, packed, asked = op.probabilities, stream = setup.stream](
                 const Operands& operands, std::byte*) {
            HeadArgs run = args;
            run.x = operands.inputs[0].pointer;
            run.mask = operands.outputs[0].as<std::uint8_t>();
            run.probabilities = asked ? operands.outputs[1].as<float>() : nullptr;
            head_cuda(run, stream);
          }};
}

}  // namespace tessera
