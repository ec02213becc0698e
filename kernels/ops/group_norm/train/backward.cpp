// Three passes over x, each of tasks of one image and a block of channels: sums of x, then sums of
// its squares, of dy and of dy times it, then dx. Sums are double, one for each channel, so that
// neither threads nor groups change them. Memory binds.
#include <algorithm>
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/ops/group_norm/train/backward.h"

namespace tessera {

namespace {

struct NormExtents {
  std::int64_t n, pixels, c, groups;
  explicit NormExtents(const GroupNorm& op, const Shape& x)
      : n(x[0]),
        pixels(x.elements(1, x.rank() - 1)),
        c(x[-1]),
        groups(op.groups == 0 ? x[-1] : op.groups) {}
  std::int64_t per_group() const { return c / groups; }
};

// Of one channel of one image.
struct ChannelSums {
  double x = 0, square = 0, dy = 0, product = 0;  // the last three of x - mean
};

void differentiate_norm(const GroupNorm& op, const BackwardOperands& operands, int threads) {
  constexpr std::int64_t kBlock = 16;  // channels of a task: a cache line
  const NormExtents e(op, operands.inputs[0].shape());
  const auto* x = operands.inputs[0].as<const float>();
  const auto* dy = operands.output_gradients[0].as<const float>();
  const float* gamma = op.affine ? operands.weights[0].as<const float>() : nullptr;
  const std::int64_t blocks = (e.c + kBlock - 1) / kBlock;
  const auto index = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  std::vector<ChannelSums> sums(index(e.n * e.c));
  // Calls body(n, first channel, count) for each task.
  const auto each = [&](const auto& body) {
    parallel_for(threads, e.n * blocks, [&](std::int64_t task) {
      const std::int64_t first = task % blocks * kBlock;
      body(task / blocks, first, std::min(kBlock, e.c - first));
    });
  };
  each([&](std::int64_t n, std::int64_t first, std::int64_t count) {
    for (std::int64_t pixel = n * e.pixels; pixel < (n + 1) * e.pixels; ++pixel)
      for (std::int64_t k = first; k < first + count; ++k)
        sums[index(n * e.c + k)].x += x[pixel * e.c + k];
  });
  // By group: (n, groups).
  struct Group {
    double mean = 0, scale = 0, dy = 0, product = 0;  // means of g and of g z
  };
  std::vector<Group> groups(index(e.n * e.groups));
  const double count_of_group = static_cast<double>(e.pixels * e.per_group());
  const auto group_of = [&](std::int64_t n, std::int64_t k) -> Group& {
    return groups[index(n * e.groups + k / e.per_group())];
  };
  for (std::int64_t n = 0; n < e.n; ++n)
    for (std::int64_t k = 0; k < e.c; ++k)
      group_of(n, k).mean += sums[index(n * e.c + k)].x / count_of_group;
  each([&](std::int64_t n, std::int64_t first, std::int64_t count) {
    for (std::int64_t pixel = n * e.pixels; pixel < (n + 1) * e.pixels; ++pixel) {
      for (std::int64_t k = first; k < first + count; ++k) {
        ChannelSums& to = sums[index(n * e.c + k)];
        const double centred = x[pixel * e.c + k] - group_of(n, k).mean;
        const double gradient = dy[pixel * e.c + k];
        to.square += centred * centred;
        to.dy += gradient;
        to.product += gradient * centred;
      }
    }
  });
  for (std::int64_t n = 0; n < e.n; ++n)
    for (std::int64_t k = 0; k < e.c; ++k)
      group_of(n, k).scale += sums[index(n * e.c + k)].square / count_of_group;
  for (Group& group : groups) group.scale = 1 / std::sqrt(group.scale + op.eps);
  for (std::int64_t n = 0; n < e.n; ++n) {
    for (std::int64_t k = 0; k < e.c; ++k) {
      const ChannelSums& from = sums[index(n * e.c + k)];
      const double factor = gamma == nullptr ? 1 : gamma[k];
      Group& group = group_of(n, k);
      group.dy += factor * from.dy / count_of_group;
      group.product += factor * from.product * group.scale / count_of_group;
    }
  }
  if (const TensorView* gradient = wanted(operands.input_gradients, 0)) {
    auto* dx = gradient->as<float>();
    each([&](std::int64_t n, std::int64_t first, std::int64_t count) {
      for (std::int64_t pixel = n * e.pixels; pixel < (n + 1) * e.pixels; ++pixel) {
        for (std::int64_t k = first; k < first + count; ++k) {
          const Group& group = group_of(n, k);
          const double z = (x[pixel * e.c + k] - group.mean) * group.scale;
          const double g =
              (gamma == nullptr ? 1 : gamma[k]) * static_cast<double>(dy[pixel * e.c + k]);
          dx[pixel * e.c + k] =
              static_cast<float>((g - group.dy - z * group.product) * group.scale);
        }
      }
    });
  }
  const TensorView* dgamma = op.affine ? wanted(operands.weight_gradients, 0) : nullptr;
  const TensorView* dbeta = op.affine ? wanted(operands.weight_gradients, 1) : nullptr;
  for (std::int64_t k = 0; k < e.c; ++k) {
    double scale = 0, shift = 0;
    for (std::int64_t n = 0; n < e.n; ++n) {
      scale += sums[index(n * e.c + k)].product * group_of(n, k).scale;
      shift += sums[index(n * e.c + k)].dy;
    }
    if (dgamma != nullptr) dgamma->as<float>()[k] += static_cast<float>(scale);
    if (dbeta != nullptr) dbeta->as<float>()[k] += static_cast<float>(shift);
  }
}

}  // namespace

Saved saved_for_backward(const GroupNorm& op, Types inputs) {
  infer(op, inputs);
  return {.inputs = {true}, .outputs = {false}, .extra = {}};
}

void backward_reference(const GroupNorm& op, const BackwardOperands& operands) {
  differentiate_norm(op, operands, 1);
}

BackwardStep cpu_backward(const GroupNorm& op, const CpuSetup& setup) {
  return {0, [op, threads = setup.threads](const BackwardOperands& operands, std::byte*) {
            differentiate_norm(op, operands, threads);
          }};
}

}  // namespace tessera
