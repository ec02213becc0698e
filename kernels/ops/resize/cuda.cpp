#include "kernels/ops/resize/cuda.h"

#include "kernels/cuda/paths.h"
#include "kernels/cuda/row_limit.h"
#include "kernels/ops/resize/resize.h"

namespace tessera {

namespace {

void write_taps(const std::vector<ResizeTaps>& list, ResizeTap* to) {
  for (const ResizeTaps& taps : list) {
    ResizeTap tap{};
    for (std::size_t k = 0; k < static_cast<std::size_t>(taps.count); ++k) {
      tap.index[k] = static_cast<std::int32_t>(taps.index[k]);
      tap.weight[k] = static_cast<float>(taps.weight[k]);
    }
    *to++ = tap;
  }
}

}  // namespace

Step cuda(const Resize& op, const CudaSetup& setup) {
  const TensorType y = infer(op, setup.inputs)[0];
  require_row("resize", y);
  constexpr std::int64_t kMostRows = 1 << 30;          // which the kernel divides in 32 bits
  if (y.shape[0] * y.shape[1] > kMostRows) return {};  // the host's
  const Shape& s = setup.inputs[0].shape;
  const Resize fit = sized(op, setup.inputs);
  const std::vector<ResizeTaps> rows = resize_taps(fit, 0, s[1]),
                                columns = resize_taps(fit, 1, s[2]);
  // The tables are this shape's, so the step keeps them, not the weights that all shapes share.
  DeviceWeights tables;
  const std::shared_ptr<const DeviceBuffer> table =
      tables.get("taps", (rows.size() + columns.size()) * sizeof(ResizeTap), [&](std::byte* to) {
        auto* taps = reinterpret_cast<ResizeTap*>(to);
        write_taps(rows, taps);
        write_taps(columns, taps + rows.size());
      });
  ResizeArgs args{};
  args.rows = reinterpret_cast<const ResizeTap*>(table->get());
  args.columns = args.rows + rows.size();
  args.n = s[0], args.h = s[1], args.w = s[2], args.c = s[3];
  args.ho = y.shape[1], args.wo = y.shape[2];
  args.taps = rows[0].count;
  args.dtype = y.dtype;
  return {0, [args, table, stream = setup.stream](const Operands& operands, std::byte*) {
            ResizeArgs run = args;
            run.x = operands.inputs[0].pointer, run.y = operands.outputs[0].pointer;
            resize_cuda(run, stream);
          }};
}

}  // namespace tessera
