// What training's operators share on a GPU: the masked gradient of an output with its sums, packed
// weights, sums of gradients. Operands lie in memory of exactly their sizes, and between bands.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda/add.h"
#include "kernels/cuda/output_gradient.h"
#include "kernels/cuda/pack.h"
#include "tests/support/cuda_check.h"
#include "tests/support/device_tensor.h"

namespace tessera::test {
namespace {

using CudaOutputGradient = CudaTest;
using CudaPack = CudaTest;
using CudaAdd = CudaTest;

DeviceTensor device_copy(const void* from, std::size_t bytes, bool banded) {
  DeviceTensor tensor(bytes, banded);
  tensor.upload(from);
  return tensor;
}

struct GradientResult {
  Tensor masked, sums;
};

// `sums` of the result is `before` plus the sums.
GradientResult output_gradient(const Tensor& gradient, const Tensor* y, bool masked,
                               const Tensor& before, bool banded) {
  const TensorType& type = gradient.type();
  const std::int64_t rows = type.shape[0], channels = type.shape[1];
  GradientResult result{Tensor(type), Tensor(before.type())};
  const DeviceTensor g = device_copy(gradient.view().pointer, type.bytes(), banded);
  const DeviceTensor outputs =
      device_copy((y != nullptr ? *y : gradient).view().pointer, type.bytes(), banded);
  const DeviceTensor to = device_copy(result.masked.view().pointer, type.bytes(), banded);
  const DeviceTensor sums = device_copy(before.view().pointer, before.type().bytes(), banded);
  const DeviceTensor partial(output_gradient_scratch(rows, channels), banded);
  output_gradient_cuda({.gradient = g.get(),
                        .y = y != nullptr ? outputs.get() : nullptr,
                        .masked = masked ? to.get() : nullptr,
                        .bias_gradient = reinterpret_cast<float*>(sums.get()),
                        .partial = reinterpret_cast<float*>(partial.get()),
                        .rows = rows,
                        .channels = channels,
                        .dtype = type.dtype},
                       nullptr);
  to.download(result.masked.view().pointer);
  sums.download(result.sums.view().pointer);
  for (const DeviceTensor* tensor : {&g, &outputs, &to, &sums, &partial})
    EXPECT_TRUE(tensor->bands_intact());
  return result;
}

// A sum of `rows` values of order one: a run of r values and the tree above it round partial sums
// of order sqrt(rows), 4 at the most of their spread, by 2^-24 of them, like a random walk of fewer
// than sqrt(rows) + 16 steps; `before` adds a rounding of the result.
void check_output_gradient(std::int64_t rows, std::int64_t channels, DType dtype, bool relu,
                           bool masked) {
  SCOPED_TRACE(
      fmt::format("{} x {} {}, relu {}, masked {}", rows, channels, name_of(dtype), relu, masked));
  const Tensor gradient = random({rows, channels}, 1).rounded_to(dtype);
  const Tensor y = random({rows, channels}, 2).rounded_to(dtype);
  const Tensor before = random({channels}, 3);
  const std::vector<float> values = gradient.values(), outputs = y.values();
  std::vector<float> expected(values.size());
  std::vector<double> sums(static_cast<std::size_t>(channels));
  for (std::size_t i = 0; i < values.size(); ++i) {
    expected[i] = relu && outputs[i] <= 0 ? 0.0f : values[i];
    sums[i % sums.size()] += expected[i];
  }
  const GradientResult result =
      output_gradient(gradient, relu ? &y : nullptr, masked, before, false);
  if (masked) {
    EXPECT_EQ(result.masked.values(), expected);
  }
  const double spread = 4 * std::sqrt(static_cast<double>(rows));
  const double bound = spread * 0x1p-24 * (std::sqrt(static_cast<double>(rows)) + 16);
  for (std::size_t c = 0; c < sums.size(); ++c) {
    const double want = before.values()[c] + sums[c], got = result.sums.values()[c];
    EXPECT_TRUE(std::abs(got - want) <= bound + 0x1p-23 * std::abs(want))
        << "channel " << c << ": " << got << " instead of " << want;
  }
  const GradientResult again = output_gradient(gradient, relu ? &y : nullptr, masked, before, true);
  EXPECT_TRUE(again.sums.same_bytes(result.sums));
  EXPECT_TRUE(again.masked.same_bytes(result.masked));
}

TEST_F(CudaOutputGradient, ChannelsRowsAndTypes) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const auto& [rows, channels] :
         std::vector<std::pair<int, int>>{{1, 1}, {3, 7}, {33, 8}, {5, 64}, {9, 264}, {700, 2}}) {
      check_output_gradient(rows, channels, dtype, true, true);
      check_output_gradient(rows, channels, dtype, false, false);
    }
  }
}

// A slice has 32 * 1024 elements: several slices, the last one short.
TEST_F(CudaOutputGradient, SlicesAreAddedInOrder) {
  check_output_gradient(70, 1032, DType::kF32, true, true);
  check_output_gradient(1111, 96, DType::kBF16, true, false);
}

TEST_F(CudaOutputGradient, NanOfTheOutputLetsTheGradientThrough) {
  const Tensor gradient = Tensor::of({2, 2}, {1, 2, 3, NAN}), before = Tensor::of({2}, {0, 0});
  const Tensor y = Tensor::of({2, 2}, {NAN, 0, 1, -1});
  const GradientResult result = output_gradient(gradient, &y, true, before, false);
  EXPECT_EQ(result.masked.values(), (std::vector<float>{1, 0, 3, 0}));
  EXPECT_EQ(result.sums.values(), (std::vector<float>{4, 0}));
}

TEST_F(CudaOutputGradient, NoRowsAddNothing) {
  const DeviceTensor sums = device_copy(std::vector<float>{5, 6}.data(), 8, true);
  output_gradient_cuda({.gradient = nullptr,
                        .y = nullptr,
                        .masked = nullptr,
                        .bias_gradient = reinterpret_cast<float*>(sums.get()),
                        .partial = nullptr,
                        .rows = 0,
                        .channels = 2,
                        .dtype = DType::kF32},
                       nullptr);
  std::vector<float> after(2);
  sums.download(after.data());
  EXPECT_EQ(after, (std::vector<float>{5, 6}));
  EXPECT_EQ(output_gradient_scratch(0, 2), 0u);
}

TEST_F(CudaPack, GathersAndRounds) {
  const std::vector<float> weight{1 + 0x1p-11f, 1 + 0x1.8p-11f, -3 - 0x1p-9f, 0x1p-20f};
  const std::vector<std::int32_t> order{3, -1, 0, 1, 2, 2, -1};
  struct Case {
    Precision rounding;
    DType dtype;
    std::vector<float> expected;
  };
  const std::vector<Case> cases{
      {Precision::kFp32, DType::kF32, {0x1p-20f, 0, weight[0], weight[1], weight[2], weight[2], 0}},
      {Precision::kTf32,
       DType::kF32,
       {0x1p-20f, 0, 1 + 0x1p-10f, 1 + 0x1p-10f, -3 - 0x1p-9f, -3 - 0x1p-9f, 0}},
      {Precision::kBf16, DType::kBF16, {0x1p-20f, 0, 1, 1, -3, -3, 0}},
      {Precision::kFp16,
       DType::kF16,
       {0x1p-20f, 0, 1, 1 + 0x1p-10f, -3 - 0x1p-9f, -3 - 0x1p-9f, 0}}};
  for (const Case& c : cases) {
    for (const bool banded : {false, true}) {
      Tensor packed({c.dtype, {static_cast<std::int64_t>(order.size())}});
      const DeviceTensor from = device_copy(weight.data(), 4 * sizeof(float), banded);
      const DeviceTensor places = device_copy(order.data(), 4 * order.size(), banded);
      const DeviceTensor to(packed.type().bytes(), banded);
      pack_cuda({.weight = reinterpret_cast<const float*>(from.get()),
                 .order = reinterpret_cast<const std::int32_t*>(places.get()),
                 .packed = to.get(),
                 .count = static_cast<std::int64_t>(order.size()),
                 .rounding = c.rounding},
                nullptr);
      to.download(packed.view().pointer);
      EXPECT_TRUE(to.bands_intact());
      EXPECT_EQ(packed.values(), c.expected) << static_cast<int>(c.rounding);
    }
  }
}

TEST_F(CudaAdd, AnyCountTypeAndPlace) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    for (const std::int64_t count : {1, 4, 7, 8, 9, 2061}) {
      for (const std::int64_t skip : {0, 1}) {  // elements before the operands: 16 bytes or not
        SCOPED_TRACE(fmt::format("{} {} from {}", count, name_of(dtype), skip));
        const Tensor a = random({count + skip}, 4).rounded_to(dtype);
        const Tensor b = random({count + skip}, 5).rounded_to(dtype);
        const std::vector<float> left = a.values(), right = b.values();
        std::vector<float> expected = left;
        for (std::size_t i = static_cast<std::size_t>(skip); i < expected.size(); ++i)
          expected[i] += right[i];
        const Tensor rounded = Tensor::of({count + skip}, expected).rounded_to(dtype);
        for (const bool banded : {false, true}) {
          const DeviceTensor sum = device_copy(a.view().pointer, a.type().bytes(), banded);
          const DeviceTensor term = device_copy(b.view().pointer, b.type().bytes(), banded);
          const std::size_t offset = static_cast<std::size_t>(skip) * size_of(dtype);
          add_cuda({.sum = sum.get() + offset,
                    .term = term.get() + offset,
                    .count = count,
                    .dtype = dtype},
                   nullptr);
          Tensor after(a.type());
          sum.download(after.view().pointer);
          EXPECT_TRUE(after.same_bytes(rounded));
          EXPECT_TRUE(sum.bands_intact());
        }
      }
    }
  }
}

}  // namespace
}  // namespace tessera::test
