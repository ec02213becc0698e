// Element-wise activations on the GPU.
#include "kernels/ops/activation/activation.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaActivation = CudaTest;

constexpr Activation kRelu{Activation::Kind::kRelu};
constexpr Activation kSigmoid{Activation::Kind::kSigmoid};
constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};

// e^-x within 2 ULP (the device promises 1, a host library may give 2), 1 + e and the quotient half
// an ULP each: 4 ULP of 2^-23, relative. Storing adds one rounding to 8 (bf16) or 11 (f16) bits.
// Below the smallest normal number of the type a result may lose bits, or all of them.
Bound sigmoid_bound(DType dtype) {
  constexpr double kF32 = 4 * 0x1p-23;
  if (dtype == DType::kBF16) return {0x1p-126, 0x1p-8 + kF32};
  if (dtype == DType::kF16) return {0x1p-24, 0x1p-11 + kF32};
  return {0x1p-126, kF32};
}

std::vector<float> run(Activation op, const std::vector<float>& values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return run_cuda(op, {Tensor::of({count}, values)}, {})[0].values();
}

TEST_F(CudaActivation, MatchesTheReferenceAtEveryTail) {
  for (const DType dtype : kFloats) {
    for (const std::int64_t count : {1, 3, 4, 5, 7, 8, 9, 255, 256, 2047, 2048, 2049, 5003}) {
      SCOPED_TRACE(fmt::format("{} x {}", name_of(dtype), count));
      const Tensor x = random({count}, 22, 3).rounded_to(dtype);
      check_cuda(kRelu, {x}, {}, {0, 0});
      check_cuda(kSigmoid, {x}, {}, sigmoid_bound(dtype));
    }
  }
}

// The exponential's accuracy shows undiluted where sigmoid(x) = e^x (1 - e^x): x << 0.
TEST_F(CudaActivation, SigmoidIsAccurateOverItsWholeRange) {
  std::vector<float> values;
  for (int i = -110 * 16; i <= 110 * 16; ++i)
    values.push_back(static_cast<float>(i) / 16 + 1e-4f * static_cast<float>(i % 7));
  const Tensor x = Tensor::of({static_cast<std::int64_t>(values.size())}, values);
  for (const DType dtype : kFloats)
    check_cuda(kSigmoid, {x.rounded_to(dtype)}, {}, sigmoid_bound(dtype));
}

TEST_F(CudaActivation, TakesExtremeValues) {
  using testing::ElementsAre;
  EXPECT_THAT(run(kSigmoid, {1e4f, -1e4f, INFINITY, -INFINITY, 0.0f, -0.0f, -3e38f}),
              ElementsAre(1, 0, 1, 0, 0.5f, 0.5f, 0));
  EXPECT_THAT(run(kRelu, {1e4f, -1e4f, INFINITY, -INFINITY}), ElementsAre(1e4f, 0, INFINITY, 0));
}

TEST_F(CudaActivation, KeepsNaN) {
  for (const Activation op : {kRelu, kSigmoid}) {
    for (const DType dtype : kFloats) {
      const Tensor x = Tensor::of({4}, {1, NAN, -NAN, 1}).rounded_to(dtype);
      const std::vector<float> y = run_cuda(op, {x}, {})[0].values();
      EXPECT_TRUE(!std::isnan(y[0]) && std::isnan(y[1]) && std::isnan(y[2]) && !std::isnan(y[3]));
    }
  }
}

// Of every kind, at whole quads and tails. Formulas of a few operations round each to 2^-24 of
// values of order ten; exponentials and error functions add 8 ULP of what they give.
TEST_F(CudaActivation, EveryKindAgreesWithTheReference) {
  for (std::size_t kind = 0; kind < names_of(Activation::Kind{}).size(); ++kind) {
    Activation op{.kind = static_cast<Activation::Kind>(kind)};
    op.slope = 0.2, op.alpha = 0.7;
    SCOPED_TRACE(names_of(Activation::Kind{})[kind]);
    for (const std::int64_t c : {1, 5, 8}) {
      for (const bool per_channel : {false, true}) {
        op.per_channel = per_channel;
        std::vector<Tensor> weights;
        if (op.kind == Activation::Kind::kPrelu)
          weights.push_back(random({per_channel ? c : 1}, 26));
        else if (per_channel)
          continue;
        const Tensor x = random({3, 7, c}, 25, 4);
        check_cuda(op, {x}, weights, {0x1p-20, 0x1p-20});
        check_cuda(op, {x.rounded_to(DType::kBF16)}, weights, {0x1p-20, 0x1p-8 + 0x1p-20});
        check_cuda(op, {x.rounded_to(DType::kF16)}, weights, {0x1p-20, 0x1p-11 + 0x1p-20});
      }
    }
    const Tensor nan = Tensor::of({3}, {1, NAN, -1});
    if (op.kind != Activation::Kind::kPrelu) {
      const std::vector<float> y = run_cuda(op, {nan}, {})[0].values();
      EXPECT_TRUE(!std::isnan(y[0]) && std::isnan(y[1]) && !std::isnan(y[2]));
    }
  }
}

TEST_F(CudaActivation, AnElementDoesNotDependOnItsPosition) {
  const std::vector<float> all = random({53}, 24).values();
  const std::vector<float> whole = run(kSigmoid, all);
  for (std::ptrdiff_t first = 1; first < 10; ++first) {
    EXPECT_EQ(run(kSigmoid, {all.begin() + first, all.end()}),
              std::vector<float>(whole.begin() + first, whole.end()));
  }
  check_cuda_batch(kSigmoid, {random({3, 37}, 25)}, {});
}

}  // namespace
}  // namespace tessera::test
