// Batch normalisation in training on the GPU against its reference.
#include <cmath>

#include "kernels/ops/batch_norm/train/cuda.h"
#include "tests/support/cuda_backward_check.h"

namespace tessera::test {
namespace {

using CudaBatchNormTraining = CudaTest;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};
constexpr double kUlp = 0x1p-24;  // of a value of order one

TrainCase<BatchNorm> norm_case(Shape shape, float mean) {
  TrainCase<BatchNorm> c{{}, {random(shape, 17)}, {}};
  for (std::int64_t i = 0; i < shape.elements(); ++i) c.inputs[0].view().as<float>()[i] += mean;
  const std::int64_t channels = shape[-1];
  c.weights = {
      random({channels}, 18), random({channels}, 19), random({channels}, 20),
      Tensor::of({channels}, std::vector<float>(static_cast<std::size_t>(channels), 0.7f))};
  return c;
}

// A thread's rows, at most 1024 in fours, then the lanes' in pairs, are summed in f32, the slices'
// in double. Here a thread has at most 16 rows: at most 4 + 4 + 8 additions, so statistics err by
// at most 16 ULP of their terms, and xhat, whose largest is below 5, by as much, times gamma. Two
// rows divide by the difference of their values, which may be 30 times smaller than they are.
// Storing adds one rounding to 8 (bf16) or 11 (f16) bits; below 2^-14 f16 has steps of 2^-24. Sums
// of weight gradients err by 16 ULP of the sum of their terms' magnitudes.
BackwardBounds bounds(std::int64_t rows, DType dtype) {
  const double rounding = dtype == DType::kBF16 ? 0x1p-8 : dtype == DType::kF16 ? 0x1p-11 : 0;
  const double step = dtype == DType::kF16 ? 0x1p-25 : 0;
  const double few = rows < 16 ? 30 : 1, depth = 16;
  return {.forward = {8 * depth * kUlp * few + step, rounding},
          .input = {8 * depth * kUlp * few * few + step, rounding},
          .weight = {depth * kUlp * few * static_cast<double>(rows), 8 * kUlp}};
}

TEST_F(CudaBatchNormTraining, MatchesTheReference) {
  for (const DType dtype : kFloats) {
    // Channels: one, odd, whole vectors of 16 bytes, one more, more than a block's groups.
    for (const std::int64_t c : {1, 3, 8, 17, 65}) {
      for (const std::int64_t rows : {2, 37, 300}) {
        if (rows == 300 && c == 65) continue;
        SCOPED_TRACE(fmt::format("{} {} x {}", name_of(dtype), rows, c));
        check_cuda_backward(norm_case({1, rows, c}, 0), bounds(rows, dtype), {}, {dtype, dtype});
      }
    }
  }
}

TEST_F(CudaBatchNormTraining, TakesSeveralSlices) {
  for (const std::int64_t c : {16, 130}) {
    SCOPED_TRACE(c);
    const std::int64_t height = c == 16 ? 71 : 6;
    ASSERT_GT(batch_norm_tiling(2 * height * 9, c, c == 16 ? 4 : 1).slices, 1);
    check_cuda_backward(norm_case({2, height, 9, c}, 0.5f), bounds(2 * height * 9, DType::kF32));
  }
}

// With a mean of 1000 standard deviations, squares of plain values would have lost all accuracy.
TEST_F(CudaBatchNormTraining, LargeMeansKeepTheirVariance) {
  // x itself is rounded to 2^-14; its mean to 2^-14 more.
  check_cuda_backward(
      norm_case({500, 5}, 1000),
      {.forward = {0x1p-13 * 5, 0x1p-20}, .input = {0x1p-13 * 5, 0}, .weight = {0x1p-13 * 200, 0}});
}

// Every row belongs to one slice, every channel to one tile, and no sum in f32 grows without limit.
TEST_F(CudaBatchNormTraining, TilesCoverTheMap) {
  constexpr std::int64_t kMostInOneSum = 1025;
  for (const std::int64_t rows : {2ll, 255ll, 4097ll, 1308736ll, 3000000000ll}) {
    for (const std::int64_t c : {1, 3, 64, 65, 129, 1000, 4096}) {
      SCOPED_TRACE(fmt::format("{} x {}", rows, c));
      const BatchNormTiling t = batch_norm_tiling(rows, c, 1);
      EXPECT_GE(t.slices * t.extent, rows);
      EXPECT_LT((t.slices - 1) * t.extent, rows);
      EXPECT_GE(t.tiles * t.groups, c);
      EXPECT_LT((t.tiles - 1) * t.groups, c);
      EXPECT_LE(t.lanes * t.groups, 256);
      EXPECT_LE(t.extent / t.lanes, kMostInOneSum);
      EXPECT_LE(t.tiles * t.slices, 0x7fffffff);
    }
  }
}

TEST_F(CudaBatchNormTraining, NaNStaysInItsChannel) {
  const Tensor x = random({40, 8}, 21);
  x.view().as<float>()[13] = NAN;  // channel 5
  const TrainCase<BatchNorm> c = norm_case({40, 8}, 0);
  CudaTrainMemory forward{{x},
                          copies(c.weights),
                          {Tensor(x.type())},
                          {Tensor({DType::kF32, {8}}), Tensor({DType::kF32, {8}})},
                          {}};
  run_cuda_train([](const CudaSetup& setup) { return cuda_train(BatchNorm{}, setup); }, forward,
                 {});
  const std::vector<float> y = forward.outputs[0].values();
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i % 8 == 5) << i;
}

}  // namespace
}  // namespace tessera::test
