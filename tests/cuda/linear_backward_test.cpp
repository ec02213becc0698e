#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/linear/cuda_weights.h"
#include "kernels/ops/linear/train/backward.h"
#include "tests/support/cuda_backward_check.h"
#include "tests/support/device_tensor.h"
#include "tests/support/precision.h"

namespace tessera::test {
namespace {

using CudaLinearBackward = CudaTest;
using CudaGemmSum = CudaTest;

// A sum of `terms` products of normal values, each product off by twice the operands' relative
// error: the errors are of standard deviation 2 unit sqrt(terms) at most, and 6 of them are
// allowed. The sum itself is of order sqrt(terms); tensor cores may truncate, hence 4 times the f32
// part.
Bound bound_of(const ProductPrecision& p, std::int64_t terms) {
  Bound bound = sum_bound(terms + 8);
  if (p.math != Precision::kFp32)
    bound.absolute = 4 * bound.absolute + 6 * 2 * p.unit * std::sqrt(static_cast<double>(terms));
  return bound;
}

BackwardBounds bounds_of(const ProductPrecision& p, std::int64_t rows, std::int64_t units,
                         std::int64_t features) {
  return {
      .forward = bound_of(p, features), .input = bound_of(p, units), .weight = bound_of(p, rows)};
}

TrainCase<Linear> case_of(const Linear& op, Shape shape) {
  TrainCase<Linear> c{op, {random(shape, 11)}, {}};
  c.weights.push_back(random({op.units, shape[-1]}, 12));
  if (op.bias) c.weights.push_back(random({op.units}, 13));
  return c;
}

TEST_F(CudaLinearBackward, MatchesTheReferenceAtTileEdges) {
  for (const ProductPrecision& p : kPrecisions) {
    for (const auto& [rows, units, features] :
         {std::tuple{1, 1, 1}, {31, 63, 16}, {33, 65, 7}, {64, 4, 66}, {17, 130, 64}}) {
      SCOPED_TRACE(
          fmt::format("{}: {} rows, {} units, {} features", p.name, rows, units, features));
      check_cuda_backward(case_of({units, rows % 2 == 1}, {rows, features}),
                          bounds_of(p, rows, units, features), {.math = p.math});
    }
  }
}

TEST_F(CudaLinearBackward, AnyRankAndNoRows) {
  check_cuda_backward(case_of({3}, {50}), bounds_of(kPrecisions[0], 1, 3, 50));
  check_cuda_backward(case_of({3}, {2, 3, 4, 5}), bounds_of(kPrecisions[0], 24, 3, 5));
  check_cuda_backward(case_of({3}, {0, 5}), {});
}

// More rows than one slice takes.
TEST_F(CudaLinearBackward, SlicesOfRows) {
  for (const ProductPrecision& p : {kPrecisions[0], kPrecisions[2]})
    check_cuda_backward(case_of({3}, {700, 2}), bounds_of(p, 700, 3, 2), {.math = p.math});
}

TEST_F(CudaLinearBackward, NanStaysInItsRowAndColumns) {
  for (const ProductPrecision& p : kPrecisions) {
    SCOPED_TRACE(p.name);
    CudaBackwardMemory memory;
    memory.input_types = {{DType::kF32, {3, 4}}};
    memory.output_types = {{DType::kF32, {3, 2}}};
    memory.inputs = {Tensor::of({3, 4}, std::vector<float>(12, 1.0f))};
    memory.weights = {Tensor::of({2, 4}, std::vector<float>(8, 1.0f)), Tensor::of({2}, {0, 0})};
    memory.outputs = {Tensor()};
    memory.output_gradients = {Tensor::of({3, 2}, {1, 1, 1, NAN, 1, 1})};
    memory.input_gradients = {Tensor({DType::kF32, {3, 4}})};
    memory.weight_gradients = {Tensor::of({2, 4}, std::vector<float>(8, 0.5f)),
                               Tensor::of({2}, {0.5f, 0.5f})};
    run_cuda_backward([](const CudaSetup& setup) { return cuda_backward(Linear{2}, setup); },
                      memory, {.math = p.math});
    const auto dx = memory.input_gradients[0].values(), dw = memory.weight_gradients[0].values(),
               db = memory.weight_gradients[1].values();
    for (std::size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(dx[i], 2);
      EXPECT_TRUE(std::isnan(dx[4 + i]));
      EXPECT_EQ(dx[8 + i], 2);
      EXPECT_EQ(dw[i], 3.5f);
      EXPECT_TRUE(std::isnan(dw[4 + i]));
    }
    EXPECT_EQ(db[0], 3.5f);
    EXPECT_TRUE(std::isnan(db[1]));
  }
}

// The product behind it, with pitches, lengths and a delay. Rows past a length are NaN: they must
// not be read into a sum.
struct SumCase {
  std::int64_t sequences, t, a_pitch, b_pitch, sum_pitch;
  int m, n, b_delay;
  bool masked;
};

void check_gemm_sum(const SumCase& c, const ProductPrecision& p) {
  SCOPED_TRACE(fmt::format("{}: {} x {} of {} x {}, delay {}, masked {}", p.name, c.m, c.n,
                           c.sequences, c.t, c.b_delay, c.masked));
  const std::int64_t rows = c.sequences * c.t;
  std::vector<std::int32_t> lengths(static_cast<std::size_t>(c.sequences));
  for (std::size_t i = 0; i < lengths.size(); ++i)
    lengths[i] = static_cast<std::int32_t>((5 * i + 2) % static_cast<std::size_t>(c.t + 1));
  std::vector<float> a = random({rows, c.a_pitch}, 1).values();
  std::vector<float> b = random({rows, c.b_pitch}, 2).values();
  std::vector<float> sum = random({c.m, c.sum_pitch}, 3).values();
  const auto length_of = [&](std::int64_t sequence) {
    return c.masked ? std::int64_t{lengths[static_cast<std::size_t>(sequence)]} : c.t;
  };
  std::vector<double> expected(sum.begin(), sum.end());
  for (std::int64_t row = 0; row < rows; ++row) {
    const std::int64_t step = row % c.t, length = length_of(row / c.t), from = step - c.b_delay;
    if (step >= length) {
      std::fill_n(a.begin() + row * c.a_pitch, c.a_pitch, NAN);
      std::fill_n(b.begin() + row * c.b_pitch, c.b_pitch, NAN);
      continue;
    }
    if (from < 0 || from >= length) continue;
    for (std::int64_t i = 0; i < c.m; ++i) {
      for (std::int64_t j = 0; j < c.n; ++j)
        expected[static_cast<std::size_t>(i * c.sum_pitch + j)] +=
            double{a[static_cast<std::size_t>(row * c.a_pitch + i)]} *
            b[static_cast<std::size_t>((row - c.b_delay) * c.b_pitch + j)];
    }
  }
  const auto upload = [](const auto& values) {
    DeviceTensor tensor(values.size() * sizeof(values[0]), false);
    tensor.upload(values.data());
    return tensor;
  };
  const DeviceTensor on_a = upload(a), on_b = upload(b), on_sum = upload(sum),
                     on_lengths = upload(lengths);
  const DeviceTensor scratch(gemm_sum_scratch(rows, c.m, c.n), false);
  gemm_sum_cuda(
      {.a = reinterpret_cast<const float*>(on_a.get()),
       .b = reinterpret_cast<const float*>(on_b.get()),
       .sum = reinterpret_cast<float*>(on_sum.get()),
       .scratch = scratch.get(),
       .rows = rows,
       .a_pitch = c.a_pitch,
       .b_pitch = c.b_pitch,
       .sum_pitch = c.sum_pitch,
       .m = c.m,
       .n = c.n,
       .lengths = c.masked ? reinterpret_cast<const std::int32_t*>(on_lengths.get()) : nullptr,
       .t = c.t,
       .b_delay = c.b_delay},
      p.math, nullptr);
  cuda_check(cudaDeviceSynchronize(), "gemm_sum");
  on_sum.download(sum.data());
  const Bound bound = bound_of(p, rows);
  for (std::int64_t i = 0; i < c.m * c.sum_pitch; ++i) {
    const auto at = static_cast<std::size_t>(i);
    // Columns between the pitch and n stay as they are.
    const double allowed =
        i % c.sum_pitch < c.n ? bound.absolute + bound.relative * std::abs(expected[at]) : 0;
    ASSERT_TRUE(std::abs(sum[at] - expected[at]) <= allowed)
        << i << ": " << sum[at] << " is not " << expected[at];
  }
}

TEST_F(CudaGemmSum, PitchesLengthsAndDelays) {
  for (const ProductPrecision& p : kPrecisions) {
    for (const int delay : {0, 1, -1}) {
      check_gemm_sum({5, 7, 9, 12, 8, 9, 5, delay, true}, p);
      check_gemm_sum({3, 13, 72, 67, 67, 65, 66, delay, false}, p);
    }
    // 3 slices of 256 rows, summed 128 at a time, whose ends lie within sequences.
    check_gemm_sum({80, 7, 3, 3, 2, 3, 2, 1, true}, p);
  }
}

}  // namespace
}  // namespace tessera::test
