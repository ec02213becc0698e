#include "kernels/ops/group_norm/cuda.h"

#include "kernels/cpu/convert.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/activation/cuda.h"
#include "kernels/ops/activation/residual.h"
#include "kernels/ops/group_norm/group_norm.h"

namespace tessera {

Step cuda(const GroupNorm& op, const CudaSetup& setup) {
  const TensorType x = infer(op, setup.inputs)[0];
  const int rank = x.shape.rank();
  GroupNormArgs args{};
  args.n = x.shape[0], args.c = x.shape[-1];
  args.h = rank == 4 ? x.shape[1] : 1;
  args.w = rank == 4 ? x.shape[2] : x.shape.elements(1, rank - 1);
  args.slices = (args.h * args.w + kNormSlice - 1) / kNormSlice;
  constexpr std::int64_t kMostBlocks = 0x7fffffff, kMostChannels = 1 << 20;
  if (args.n * args.slices > kMostBlocks || args.c > kMostChannels) return {};  // the host's
  args.groups = op.groups == 0 ? args.c : op.groups;
  args.width = args.c / args.groups;
  args.share = 1 / static_cast<double>(args.h * args.w * args.width);
  args.eps = op.eps;
  args.dtype = x.dtype;

  const auto channels = static_cast<std::size_t>(args.c);
  const std::shared_ptr<const DeviceBuffer> affine =
      setup.packed->get(setup.name + "/affine", 2 * channels * sizeof(float), [&](std::byte* to) {
        auto* gamma = reinterpret_cast<float*>(to);
        std::fill_n(gamma, channels, 1.0f);
        std::fill_n(gamma + channels, channels, 0.0f);
        if (!op.affine) return;
        const std::vector<float> scale = to_f32(setup.weights[0]), shift = to_f32(setup.weights[1]);
        std::copy(scale.begin(), scale.end(), gamma);
        std::copy(shift.begin(), shift.end(), gamma + channels);
      });
  args.gamma = reinterpret_cast<const float*>(affine->get());
  args.beta = args.gamma + channels;
  DeviceCurve curve;
  if (op.epilogue.activation)
    curve = device_curve(*op.epilogue.activation,
                         setup.weights.empty() ? nullptr : &setup.weights.back(), args.c, setup);
  args.curve = curve.curve;
  if (op.epilogue.residual) args.residual = residual_of(op.epilogue, setup.inputs.back().shape);

  const std::size_t sums = static_cast<std::size_t>(args.n * args.slices) * 2 * channels;
  const std::size_t means = static_cast<std::size_t>(args.n) * 2 * channels;
  return {sums * sizeof(double) + means * sizeof(float),
          [args, affine, curve, sums, residual = op.epilogue.residual, stream = setup.stream](
              const Operands& operands, std::byte* scratch) {
            GroupNormArgs run = args;
            run.x = operands.inputs[0].pointer, run.y = operands.outputs[0].pointer;
            run.sums = reinterpret_cast<double*>(scratch);
            run.mean_scale = reinterpret_cast<float*>(scratch + sums * sizeof(double));
            if (residual) run.residual.x = operands.inputs.back().pointer;
            group_norm_cuda(run, stream);
          }};
}

}  // namespace tessera
