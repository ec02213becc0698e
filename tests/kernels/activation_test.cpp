#include "kernels/ops/activation/activation.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;

constexpr Activation kRelu{Activation::Kind::kRelu};
constexpr Activation kSigmoid{Activation::Kind::kSigmoid};
constexpr test::Bound kExact{0, 0};

// e^-|x| within 2 ULP, 1 + e and the quotient half an ULP each, and e / (1 + e) passes its error
// on: 4 ULP of 2^-23, relative. Below 2^-126 a result may lose bits, or all of them: the smallest
// normal number.
constexpr test::Bound kSigmoidBound{0x1p-126, 4 * 0x1p-23};
constexpr test::Bound kBf16Bound{0x1p-126, 0x1p-8 + 4 * 0x1p-23};  // and one rounding to 8 bits

std::vector<float> run(Activation op, const std::vector<float>& values) {
  const auto count = static_cast<std::int64_t>(values.size());
  return test::run_cpu(op, {Tensor::of({count}, values)}, {}, 1)[0].values();
}

TEST(Activation, MatchesTheReferenceAtEveryTail) {
  for (const std::int64_t count : {1, 3, 4, 7, 8, 9, 15, 16, 17, 33, 20000}) {
    SCOPED_TRACE(count);
    const Tensor x = test::random({count}, 22, 3);
    test::check_cpu(kRelu, {x}, {}, kExact);
    test::check_cpu(kRelu, {x.rounded_to(DType::kBF16)}, {}, kExact);
    test::check_cpu(kSigmoid, {x}, {}, kSigmoidBound);
    test::check_cpu(kSigmoid, {x.rounded_to(DType::kBF16)}, {}, kBf16Bound);
  }
}

// The exponential's accuracy shows undiluted where sigmoid(x) = e^x (1 - e^x): x << 0.
TEST(Activation, SigmoidIsWithin4UlpOverItsWholeRangeOnEveryInstructionSet) {
  std::vector<float> values;
  for (int i = -110 * 256; i <= 110 * 256; ++i)
    values.push_back(static_cast<float>(i) / 256 + 1e-4f * static_cast<float>(i % 7));
  const auto count = static_cast<std::int64_t>(values.size());
  const Tensor x = Tensor::of({count}, values);
  test::for_each_target([&] {
    test::check_cpu(kSigmoid, {x}, {}, kSigmoidBound);
    test::check_cpu(kSigmoid, {x.rounded_to(DType::kBF16)}, {}, kBf16Bound);
    test::check_cpu(kRelu, {x}, {}, kExact);
  });
}

TEST(Activation, TakesExtremeValues) {
  using testing::ElementsAre;
  test::for_each_target([] {
    EXPECT_THAT(run(kSigmoid, {1e4f, -1e4f, INFINITY, -INFINITY, 0.0f, -0.0f, -3e38f}),
                ElementsAre(1, 0, 1, 0, 0.5f, 0.5f, 0));
    EXPECT_THAT(run(kRelu, {1e4f, -1e4f, INFINITY, -INFINITY}), ElementsAre(1e4f, 0, INFINITY, 0));
  });
}

TEST(Activation, KeepsNaN) {
  test::for_each_target([] {
    for (const Activation op : {kRelu, kSigmoid}) {
      const std::vector<float> values = run(op, {1, NAN, -NAN, 1});
      EXPECT_FALSE(std::isnan(values[0]));
      EXPECT_TRUE(std::isnan(values[1]));
      EXPECT_TRUE(std::isnan(values[2]));
      const Tensor narrow = Tensor::of({3}, {1, NAN, -NAN}).rounded_to(DType::kBF16);
      const std::vector<float> result = test::run_cpu(op, {narrow}, {}, 1)[0].values();
      EXPECT_TRUE(std::isnan(result[1]) && std::isnan(result[2]));
    }
  });
}

// Every rounding case of bf16 storage: ties to even both ways, up to infinity, denormals, NaN.
TEST(Activation, Bf16StoresRoundLikeTheScalarConversion) {
  const Tensor x = test::random({4099}, 23, 4).rounded_to(DType::kBF16);
  test::for_each_target([&] {
    const Tensor wide = test::run_cpu(kSigmoid, {x.rounded_to(DType::kF32)}, {}, 1)[0];
    EXPECT_TRUE(test::run_cpu(kSigmoid, {x}, {}, 1)[0].same_bytes(wide.rounded_to(DType::kBF16)));
  });
}

TEST(Activation, AnElementDoesNotDependOnItsPosition) {
  const std::vector<float> all = test::random({53}, 24).values();
  const std::vector<float> whole = run(kSigmoid, all);
  for (std::ptrdiff_t first = 1; first < 20; ++first) {
    EXPECT_EQ(run(kSigmoid, {all.begin() + first, all.end()}),
              std::vector<float>(whole.begin() + first, whole.end()));
  }
}

constexpr std::size_t kKinds = names_of(Activation::Kind{}).size();

std::vector<Tensor> weights_of(const Activation& op, const Tensor& x) {
  std::vector<Tensor> weights;
  for (const Parameter& p : parameters(op, {{x.type()}}))
    weights.push_back(test::random(p.shape, 31, 0.5f));
  return weights;
}

// Values of order 8 at most: two roundings, and SiLU's sigmoid within 4 ULP.
TEST(Activation, EveryKindMatchesItsFormulaAtEveryTailOnEveryInstructionSet) {
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    for (const std::int64_t c : {1, 3, 16, 17, 40}) {
      SCOPED_TRACE(fmt::format("{} of {} channels", names_of(Activation::Kind{})[kind], c));
      const Activation op{.kind = static_cast<Activation::Kind>(kind)};
      const Tensor x = test::random({1, 3, 5, c}, 25, 2);
      const Tensor narrow = x.rounded_to(DType::kBF16);
      test::for_each_target([&] {
        test::check_cpu(op, {x}, weights_of(op, x), {8 * 0x1p-24, 6 * 0x1p-23});
        test::check_cpu(op, {narrow}, weights_of(op, x), {8 * 0x1p-24, 0x1p-8 + 6 * 0x1p-23});
      });
    }
  }
}

TEST(Activation, EveryKindKeepsNaN) {
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    const Activation op{.kind = static_cast<Activation::Kind>(kind)};
    const Tensor x = Tensor::of({3, 1}, {1, NAN, 1});
    for (const Tensor& y : {test::run_cpu(op, {x}, weights_of(op, x), 1)[0],
                            test::run_reference(op, {x}, weights_of(op, x))[0]}) {
      EXPECT_FALSE(std::isnan(y.values()[0])) << kind;
      EXPECT_TRUE(std::isnan(y.values()[1])) << kind;
    }
  }
}

TEST(Activation, PreluHasASlopeForEachChannelAcrossTasks) {
  const Activation op{.kind = Activation::Kind::kPrelu};
  const Tensor x = test::random({7001, 3}, 26), weight = Tensor::of({3}, {0.5f, -1, 0});
  test::check_cpu(op, {x}, {weight}, {0, 0x1p-23});
  const Tensor ones = Tensor::of({1, 3}, {-1, -1, -1});
  EXPECT_THAT(test::run_cpu(op, {ones}, {weight}, 1)[0].values(),
              testing::ElementsAre(-0.5f, 1, 0));
}

TEST(Activation, NamesWhatItCannotTake) {
  EXPECT_THAT(
      [&] {
        infer(Activation{.min = 1, .max = -1}, {{{DType::kF32, {4}}}});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("1 and -1")));

  const std::vector<TensorType> ids{{DType::kI32, {4}}};
  EXPECT_THAT([&] { infer(kRelu, ids); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("i32 (4)")));
}

}  // namespace
}  // namespace tessera
