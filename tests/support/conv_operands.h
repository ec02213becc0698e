// Operands of convolutions that the tests on both devices share.
#pragma once

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/ops/conv/conv.h"
#include "kernels/ops/conv_transpose/conv_transpose.h"
#include "tests/support/operator_check.h"

namespace tessera::test {

enum class Padding { kValid, kSame, kFull };  // of a k x k kernel of stride 1

inline Window window(int k, Padding padding = Padding::kValid) {
  return square(k, padding == Padding::kValid ? 0 : padding == Padding::kSame ? k / 2 : k - 1);
}

// Random weights that keep y of order one: sum over c_in k^2 products of variance 1 / (c_in k^2).
inline std::vector<Tensor> weights_for(const Conv& op, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> weights;
  const auto input_types = types(inputs);
  unsigned seed = 100;
  for (const Parameter& p : parameters(op, input_types)) {
    if (p.name == "weight") {
      const auto terms = static_cast<float>(p.shape.elements(1, 4));
      weights.push_back(random(p.shape, seed++, 1 / std::sqrt(terms)));
    } else if (p.name == "norm/running_var") {
      std::vector<float> values = random(p.shape, seed++).values();
      for (float& value : values) value = 0.5f + std::abs(value);
      weights.push_back(Tensor::of(p.shape, values));
    } else {
      weights.push_back(random(p.shape, seed++));
    }
  }
  return weights;
}

inline std::vector<Tensor> weights_for(const ConvTranspose& op, std::int64_t c_in) {
  // At most four taps meet in an output: y is of order one.
  const float scale = 1 / std::sqrt(static_cast<float>(op.kernel == 3 ? 4 * c_in : c_in));
  std::vector<Tensor> weights{random({c_in, op.c_out, op.kernel, op.kernel}, 100, scale)};
  if (op.bias) weights.push_back(random({op.c_out}, 101));
  return weights;
}

// Rows [y, y + h) and columns [x, x + w) of every image.
inline Tensor window(const Tensor& from, std::int64_t y, std::int64_t x, std::int64_t h,
                     std::int64_t w) {
  const Shape& shape = from.type().shape;
  Tensor result({from.type().dtype, {shape[0], h, w, shape[3]}});
  const std::size_t pixel = static_cast<std::size_t>(shape[3]) * size_of(from.type().dtype);
  for (std::int64_t row = 0; row < shape[0] * h; ++row) {
    const std::int64_t source = (row / h * shape[1] + y + row % h) * shape[2] + x;
    std::memcpy(result.view().as<std::byte>() + static_cast<std::size_t>(row * w) * pixel,
                from.view().as<std::byte>() + static_cast<std::size_t>(source) * pixel,
                static_cast<std::size_t>(w) * pixel);
  }
  return result;
}

}  // namespace tessera::test
