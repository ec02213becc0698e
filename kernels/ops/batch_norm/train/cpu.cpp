// BatchNorm in training on the CPU, forward and backward.
//
// Statistics are taken in blocks of rows whose extent depends on the shape alone: mean and squared
// deviations within a block in f32, while it lies in L2; the blocks are joined in double, in order
// (Chan, Golub & LeVeque 1979), so neither large means nor many pixels cost accuracy. A second pass
// applies the affine map. Backward likewise: two sums per channel, then dx. Memory binds: each pass
// moves its tensors once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/batch_norm/train/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include <algorithm>

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// Calls body(get, put, c) for each vector of channels; `get` and `put` reach memory without passing
// the last channel.
template <class Body>
HWY_INLINE void for_each_vector(std::size_t channels, const Body& body) {
  std::size_t c = 0;
  for (; c + kFloatLanes <= channels; c += kFloatLanes)
    body([](const float* p) HWY_ATTR { return load(p); },
         [](FloatVector v, float* p) HWY_ATTR { store(v, p); }, c);
  if (const std::size_t rest = channels - c; rest > 0)
    body([rest](const float* p) HWY_ATTR { return load_first(p, rest); },
         [rest](FloatVector v, float* p) HWY_ATTR { store_first(v, p, rest); }, c);
}

// mean (channels) and sums of squared deviations from it (channels) of some rows.
void norm_statistics(const float* x, std::size_t rows, std::size_t channels, float* mean,
                     float* deviations) {
  const FloatVector factor = hn::Set(FloatTag(), 1.0f / static_cast<float>(rows));
  for_each_vector(channels, [&](const auto& get, const auto& put, std::size_t c) HWY_ATTR {
    FloatVector sum = hn::Zero(FloatTag());
    for (std::size_t i = 0; i < rows; ++i) sum = hn::Add(sum, get(x + i * channels + c));
    const FloatVector center = hn::Mul(sum, factor);
    FloatVector squares = hn::Zero(FloatTag());
    for (std::size_t i = 0; i < rows; ++i) {
      const FloatVector off = hn::Sub(get(x + i * channels + c), center);
      squares = hn::MulAdd(off, off, squares);
    }
    put(center, mean + c);
    put(squares, deviations + c);
  });
}

// y = (x - mean) scale + shift
void norm_apply(const float* x, std::size_t rows, std::size_t channels, const float* mean,
                const float* scale, const float* shift, float* y) {
  for_each_vector(channels, [&](const auto& get, const auto& put, std::size_t c) HWY_ATTR {
    const FloatVector m = get(mean + c), a = get(scale + c), b = get(shift + c);
    for (std::size_t i = 0; i < rows; ++i)
      put(hn::MulAdd(hn::Sub(get(x + i * channels + c), m), a, b), y + i * channels + c);
  });
}

// The sums over some rows of dy and of dy (x - mean).
void norm_gradient_sums(const float* x, const float* dy, std::size_t rows, std::size_t channels,
                        const float* mean, float* sums, float* products) {
  for_each_vector(channels, [&](const auto& get, const auto& put, std::size_t c) HWY_ATTR {
    const FloatVector m = get(mean + c);
    FloatVector sum = hn::Zero(FloatTag()), product = hn::Zero(FloatTag());
    for (std::size_t i = 0; i < rows; ++i) {
      const FloatVector gradient = get(dy + i * channels + c);
      sum = hn::Add(sum, gradient);
      product = hn::MulAdd(gradient, hn::Sub(get(x + i * channels + c), m), product);
    }
    put(sum, sums + c);
    put(product, products + c);
  });
}

// dx = scale (dy - offset - (x - mean) slope)
void norm_gradient(const float* x, const float* dy, std::size_t rows, std::size_t channels,
                   const float* mean, const float* scale, const float* offset, const float* slope,
                   float* dx) {
  for_each_vector(channels, [&](const auto& get, const auto& put, std::size_t c) HWY_ATTR {
    const FloatVector m = get(mean + c), a = get(scale + c), o = get(offset + c);
    const FloatVector s = get(slope + c);
    for (std::size_t i = 0; i < rows; ++i) {
      const std::size_t at = i * channels + c;
      const FloatVector off = hn::Sub(get(x + at), m);
      put(hn::Mul(a, hn::NegMulAdd(off, s, hn::Sub(get(dy + at), o))), dx + at);
    }
  });
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>

#include "kernels/cpu/parallel.h"
#include "kernels/ops/batch_norm/train/backward.h"

namespace tessera {

HWY_EXPORT(norm_statistics);
HWY_EXPORT(norm_apply);
HWY_EXPORT(norm_gradient_sums);
HWY_EXPORT(norm_gradient);

namespace {

// How the rows are cut; the same for every number of threads.
struct NormBlocks {
  static constexpr std::int64_t kFewestRows = 256, kMostBlocks = 256;

  std::int64_t rows, channels, block, count;
  int threads;

  NormBlocks(const Shape& x, int thread_count)
      : rows(x.elements() / x[-1]),
        channels(x[-1]),
        block(std::max(kFewestRows, (rows + kMostBlocks - 1) / kMostBlocks)),
        count((rows + block - 1) / block),
        threads(thread_count) {}

  std::int64_t rows_of(std::int64_t i) const { return std::min(block, rows - i * block); }
  // Two numbers per block and channel, then four per channel.
  std::size_t scratch_bytes() const {
    return static_cast<std::size_t>((2 * count + 4) * channels) * sizeof(float);
  }
  // Calls body(block, first element, rows) for all blocks.
  template <class Body>
  void for_each(const Body& body) const {
    parallel_for(threads, count, [&](std::int64_t i) {
      body(i, i * block * channels, static_cast<std::size_t>(rows_of(i)));
    });
  }
};

void require_f32(const BatchNorm& op, Types inputs) {
  saved_for_backward(op, inputs);
  require(inputs[0].dtype == DType::kF32, "batch_norm: in training it is f32, not {}", inputs[0]);
}

}  // namespace

Saved saved_for_backward(const BatchNorm& op, Types inputs) {
  infer(op, inputs);
  const std::int64_t c = inputs[0].shape[-1];
  require(inputs[0].shape.elements() > c,
          "batch_norm: training needs more than one value per channel, but got {}; take a larger "
          "batch or image",
          inputs[0]);
  return {.inputs = {true}, .outputs = {false}, .extra = {{DType::kF32, {c}}, {DType::kF32, {c}}}};
}

TrainStep cpu_train(const BatchNorm& op, const CpuSetup& setup) {
  require_f32(op, setup.inputs);
  const NormBlocks blocks(setup.inputs[0].shape, setup.threads);
  const auto run = [op, blocks](const TrainOperands& operands, std::byte* scratch) {
    const std::int64_t c = blocks.channels;
    const auto channels = static_cast<std::size_t>(c);
    auto* means = reinterpret_cast<float*>(scratch);
    float* deviations = means + blocks.count * c;
    float* scale = deviations + blocks.count * c;
    const auto* x = operands.inputs[0].as<float>();
    blocks.for_each([&](std::int64_t block, std::int64_t first, std::size_t rows) {
      HWY_DYNAMIC_DISPATCH(norm_statistics)
      (x + first, rows, channels, means + block * c, deviations + block * c);
    });
    auto *mean = operands.saved[0].as<float>(), *inverse = operands.saved[1].as<float>();
    const auto n = static_cast<double>(blocks.rows);
    for (std::int64_t k = 0; k < c; ++k) {
      double sum = 0, squares = 0;
      for (std::int64_t i = 0; i < blocks.count; ++i)
        sum += static_cast<double>(blocks.rows_of(i)) * means[i * c + k];
      const double center = sum / n;
      for (std::int64_t i = 0; i < blocks.count; ++i) {
        const double off = means[i * c + k] - center;
        squares += deviations[i * c + k] + static_cast<double>(blocks.rows_of(i)) * off * off;
      }
      const double inv = 1 / std::sqrt(squares / n + op.eps);
      mean[k] = static_cast<float>(center);
      inverse[k] = static_cast<float>(inv);
      scale[k] = static_cast<float>(operands.weights[0].as<float>()[k] * inv);
      float& running_mean = operands.weights[2].as<float>()[k];
      float& running_var = operands.weights[3].as<float>()[k];
      running_mean = static_cast<float>(running_mean + op.momentum * (center - running_mean));
      running_var =
          static_cast<float>(running_var + op.momentum * (squares / (n - 1) - running_var));
    }
    blocks.for_each([&](std::int64_t, std::int64_t first, std::size_t rows) {
      HWY_DYNAMIC_DISPATCH(norm_apply)
      (x + first, rows, channels, mean, scale, operands.weights[1].as<float>(),
       operands.outputs[0].as<float>() + first);
    });
  };
  return {blocks.scratch_bytes(), run};
}

BackwardStep cpu_backward(const BatchNorm& op, const CpuSetup& setup) {
  require_f32(op, setup.inputs);
  const NormBlocks blocks(setup.inputs[0].shape, setup.threads);
  const auto run = [blocks](const BackwardOperands& operands, std::byte* scratch) {
    const std::int64_t c = blocks.channels;
    const auto channels = static_cast<std::size_t>(c);
    auto* sums = reinterpret_cast<float*>(scratch);
    float* products = sums + blocks.count * c;
    float* scale = products + blocks.count * c;
    float *offset = scale + c, *slope = offset + c;
    const auto* x = operands.inputs[0].as<float>();
    const auto* dy = operands.output_gradients[0].as<float>();
    const auto *mean = operands.saved[0].as<float>(), *inverse = operands.saved[1].as<float>();
    blocks.for_each([&](std::int64_t block, std::int64_t first, std::size_t rows) {
      HWY_DYNAMIC_DISPATCH(norm_gradient_sums)
      (x + first, dy + first, rows, channels, mean, sums + block * c, products + block * c);
    });
    const TensorView* dgamma = wanted(operands.weight_gradients, 0);
    const TensorView* dbeta = wanted(operands.weight_gradients, 1);
    const auto n = static_cast<double>(blocks.rows);
    for (std::int64_t k = 0; k < c; ++k) {
      double sum = 0, product = 0;
      for (std::int64_t i = 0; i < blocks.count; ++i) {
        sum += sums[i * c + k];
        product += products[i * c + k];
      }
      const double inv = inverse[k];
      if (dgamma != nullptr)
        dgamma->as<float>()[k] = static_cast<float>(dgamma->as<float>()[k] + product * inv);
      if (dbeta != nullptr) dbeta->as<float>()[k] = static_cast<float>(dbeta->as<float>()[k] + sum);
      scale[k] = static_cast<float>(operands.weights[0].as<float>()[k] * inv);
      offset[k] = static_cast<float>(sum / n);
      slope[k] = static_cast<float>(product * inv * inv / n);
    }
    const TensorView* dx = wanted(operands.input_gradients, 0);
    if (dx == nullptr) return;
    blocks.for_each([&](std::int64_t, std::int64_t first, std::size_t rows) {
      HWY_DYNAMIC_DISPATCH(norm_gradient)
      (x + first, dy + first, rows, channels, mean, scale, offset, slope, dx->as<float>() + first);
    });
  };
  return {blocks.scratch_bytes(), run};
}

}  // namespace tessera
#endif  // HWY_ONCE
