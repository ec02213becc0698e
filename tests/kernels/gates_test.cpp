// tanh and sigmoid of kernels/cpu/gates-inl.h against double, on every instruction set of this CPU.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/kernels/gates_test.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include "kernels/cpu/gates-inl.h"

#ifndef TESSERA_TESTS_GATES_TEST_FUNCTIONS_
#define TESSERA_TESTS_GATES_TEST_FUNCTIONS_
namespace tessera {
enum class GateFunction { kTanh, kSigmoid, kHardSigmoid };
}
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

float GateValue(GateFunction function, float value) {
  const FloatVector x = hn::Set(FloatTag(), value);
  switch (function) {
    case GateFunction::kTanh:
      return hn::GetLane(gate_tanh(x));
    case GateFunction::kSigmoid:
      return hn::GetLane(gate_sigmoid(x));
    default:
      return hn::GetLane(gate_hard_sigmoid(x));
  }
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tests/support/sanitizers.h"
#include "tests/support/targets.h"

namespace tessera {

HWY_EXPORT(GateValue);

namespace {

float value_of(GateFunction function, float x) {
  return HWY_DYNAMIC_DISPATCH(GateValue)(function, x);
}

// Distance in units of the last place of `truth` as a float; subnormals count as the smallest
// normal.
double ulps(float result, double truth) {
  const double size = std::max(std::abs(truth), double{std::numeric_limits<float>::min()});
  return std::abs(result - truth) / std::ldexp(1.0, std::ilogb(size) - 23);
}

// The largest error in ULP over every `stride`-th finite float within [-limit, limit].
template <class Truth>
double worst(GateFunction function, float limit, const Truth& truth) {
  constexpr std::uint32_t kStride = (test::kTimesLess * 1009) | 1;  // odd: all low bits take part
  double largest = 0;
  for (std::uint32_t bits = 0; bits <= std::bit_cast<std::uint32_t>(limit); bits += kStride) {
    for (const float x : {std::bit_cast<float>(bits), -std::bit_cast<float>(bits)}) {
      const double error = ulps(value_of(function, x), truth(double{x}));
      if (!(error <= largest)) largest = error;  // NaN too
    }
  }
  return largest;
}

// Derivation: r is exact to 1 ULP of ln(2) / 2, e^r - 1 to 0.44 x 2^-24 and its last rounding; the
// sum, the other sum and the quotient round once each: below 4 ULP together.
TEST(Gates, TanhIsWithin4Ulp) {
  test::for_each_target([] {
    EXPECT_LE(worst(GateFunction::kTanh, std::numeric_limits<float>::max(),
                    [](double x) { return std::tanh(x); }),
              4.0);
  });
}

TEST(Gates, SigmoidIsWithin4Ulp) {
  test::for_each_target([] {
    EXPECT_LE(worst(GateFunction::kSigmoid, 87.0f, [](double x) { return 1 / (1 + std::exp(-x)); }),
              4.0);
  });
}

TEST(Gates, HardSigmoidIsWithin1UlpOfOne) {
  test::for_each_target([] {
    for (float x = -4.0f; x <= 4.0f; x += 0.001f) {
      const double y = 0.2 * x + 0.5;
      // 0.2 and the sum round once each; both are below 1.
      EXPECT_NEAR(value_of(GateFunction::kHardSigmoid, x), y < 0 ? 0 : y > 1 ? 1 : y, 0x1p-23);
    }
  });
}

TEST(Gates, ExtremesSaturateAndNanStays) {
  test::for_each_target([] {
    const float infinity = std::numeric_limits<float>::infinity();
    for (const float x : {10.0f, 1e4f, 3e38f, infinity}) {
      EXPECT_EQ(value_of(GateFunction::kTanh, x), 1.0f);
      EXPECT_EQ(value_of(GateFunction::kTanh, -x), -1.0f);
      EXPECT_EQ(value_of(GateFunction::kHardSigmoid, x), 1.0f);
      EXPECT_EQ(value_of(GateFunction::kHardSigmoid, -x), 0.0f);
    }
    for (const float x : {88.0f, 1e4f, 3e38f, infinity}) {
      EXPECT_EQ(value_of(GateFunction::kSigmoid, x), 1.0f);
      const float low = value_of(GateFunction::kSigmoid, -x);
      EXPECT_TRUE(low >= 0 && low < 2e-38f) << low;
    }
    for (const GateFunction function :
         {GateFunction::kTanh, GateFunction::kSigmoid, GateFunction::kHardSigmoid})
      EXPECT_TRUE(std::isnan(value_of(function, std::numeric_limits<float>::quiet_NaN())));
    EXPECT_EQ(value_of(GateFunction::kTanh, 0.0f), 0.0f);
    EXPECT_EQ(value_of(GateFunction::kSigmoid, 0.0f), 0.5f);
  });
}

}  // namespace
}  // namespace tessera
#endif
