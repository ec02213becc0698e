// Transposed convolutions of any window: outputs with one remainder by the stride, along rows and
// columns, are a convolution of x with the taps that reach them.
#include <numeric>

#include "kernels/cpu/convert.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/conv/cuda_any.h"
#include "kernels/ops/conv/cuda_host.h"
#include "kernels/ops/conv_transpose/cuda_host.h"

namespace tessera {

namespace {

// Outputs `place`, `place` + stride, ... along an axis: tap j of theirs is `first_tap` + j
// `tap_step` of the window.
struct ParityAxis {
  AnyConvAxis axis;
  int outputs;
  int first_tap, tap_step;
};

// Output o = q s + r reads, by tap k, the input pixel (o + before - k d) / s where that is whole:
// every (s / gcd(d, s))-th k, by d / gcd(d, s) pixels less than the one before it.
ParityAxis parity_axis(const Window& window, std::size_t axis, int place, std::int64_t size) {
  const int s = window.stride[axis], d = window.dilation[axis], k = window.kernel[axis];
  const int common = std::gcd(s, d);
  const std::int64_t reach = std::int64_t{place} + window.before(axis);
  ParityAxis parity{};
  parity.outputs = size > place ? conv_extent((size - place + s - 1) / s) : 0;
  parity.tap_step = s / common;
  int first = 0;
  while (first < parity.tap_step && (reach - std::int64_t{first} * d) % s != 0) ++first;
  const bool reached = first < parity.tap_step && first < k;
  parity.first_tap = first;
  parity.axis.taps = reached ? (k - first + parity.tap_step - 1) / parity.tap_step : 0;
  parity.axis.stride = 1;
  parity.axis.first = reached ? static_cast<int>((reach - std::int64_t{first} * d) / s) : 0;
  parity.axis.step = -(d / common);
  parity.axis.spread = s, parity.axis.offset = place, parity.axis.size = conv_extent(size);
  return parity;
}

struct Launch {
  AnyConvArgs args;
  std::shared_ptr<const DeviceBuffer> weight;
};

}  // namespace

Step any_conv_transpose_step(const ConvTranspose& op, const CudaSetup& setup) {
  constexpr int kMostLaunches = 64;
  const TensorType y = infer(op, setup.inputs)[0];
  const TensorType& x = setup.inputs[0];
  const Window window = window_of(op);
  if (std::int64_t{window.stride[0]} * window.stride[1] > kMostLaunches) return {};  // the host's

  // A convolution of one tap, of which each launch has other taps and places.
  const Conv conv{.c_out = op.c_out, .groups = op.groups, .relu = op.relu, .dtype = op.dtype};
  ConvGeometry g;
  g.n = x.shape[0], g.h = x.shape[1], g.w = x.shape[2], g.c_in = x.shape[3], g.c_out = op.c_out;
  g.sources.push_back({0, g.h, g.w, g.c_in, 0, 0});
  const AnyConvTechnique technique =
      choose_any_conv(conv_problem(conv, g, x.dtype, setup)).technique;
  const std::int64_t width = op.c_out / op.groups, group_inputs = g.c_in / op.groups;
  const auto bias = setup.packed->get(
      setup.name + "/bias", static_cast<std::size_t>(op.c_out) * sizeof(float), [&](std::byte* to) {
        for (std::int64_t o = 0; o < op.c_out; ++o)
          reinterpret_cast<float*>(to)[o] = op.bias ? element_f32(setup.weights[1], o) : 0.0f;
      });

  std::vector<Launch> launches;
  for (int i = 0; i < window.stride[0]; ++i) {
    for (int j = 0; j < window.stride[1]; ++j) {
      const ParityAxis rows = parity_axis(window, 0, i, y.shape[1]);
      const ParityAxis columns = parity_axis(window, 1, j, y.shape[2]);
      if (rows.outputs == 0 || columns.outputs == 0) continue;
      g.ho = rows.outputs, g.wo = columns.outputs;
      AnyConvArgs args{conv_args(conv, g, x.dtype), {rows.axis, columns.axis}, op.groups};
      if (!is_countable(args)) return {};  // the host's
      const auto open = [&]() -> AnyConvWeight {
        const std::vector<float> values = to_f32(setup.weights[0]);  // (c_in, width, kh, kw)
        return [=](std::int64_t o, std::int64_t channel, int ky, int kx) {
          const std::int64_t filter = (o / width * group_inputs + channel) * width + o % width;
          const std::int64_t row = rows.first_tap + std::int64_t{ky} * rows.tap_step;
          const std::int64_t column = columns.first_tap + std::int64_t{kx} * columns.tap_step;
          return static_cast<double>(values[static_cast<std::size_t>(
              (filter * window.kernel[0] + row) * window.kernel[1] + column)]);
        };
      };
      const std::string key = fmt::format("{}/{} {}", setup.name, i, j);
      launches.push_back({args, pack_any_conv(args, technique, key, setup, open)});
    }
  }
  return {0, [=, stream = setup.stream](const Operands& operands, std::byte*) {
            for (const Launch& launch : launches) {
              AnyConvArgs run = launch.args;
              run.conv.sources[0].x = operands.inputs[0].pointer;
              run.conv.weight = launch.weight->get();
              run.conv.bias = reinterpret_cast<const float*>(bias->get());
              run.conv.y = operands.outputs[0].pointer;
              any_conv_cuda(run, technique, stream);
            }
          }};
}

}  // namespace tessera
