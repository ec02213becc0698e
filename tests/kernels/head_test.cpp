#include "kernels/ops/head/head.h"

#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/activation/activation.h"
#include "kernels/ops/argmax/argmax.h"
#include "kernels/ops/softmax/softmax.h"
#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;
using Output = Head::Output;

std::vector<Tensor> weights(const Head& op, std::int64_t c_in) {
  // Scaled so that logits are of order one.
  std::vector<Tensor> list{
      test::random({op.classes, c_in, 1, 1}, 30, 1 / std::sqrt(static_cast<float>(c_in)))};
  if (op.bias) list.push_back(test::random({op.classes}, 31));
  return list;
}

// A logit is a sum of c_in products below 5 * 5 / sqrt(c_in); a probability moves by at most half
// of what two logits move, and the softmax adds its own (10 + 2 classes) 2^-24.
test::Bound bound(std::int64_t c_in, int classes) {
  const double logit =
      25 * (std::sqrt(static_cast<double>(c_in)) + 2) * test::sum_bound(1).absolute;
  return {logit + (10 + 2 * classes) * 0x1p-24, 0};
}

// Probabilities within the bound, and a mask that is their argmax to the byte.
void check(const Head& op, const Tensor& x, const std::vector<Tensor>& w) {
  Head asking = op;
  asking.probabilities = true;
  const Tensor expected = test::run_reference(asking, {x}, w)[1];
  const std::vector<Tensor> result = test::run_cpu(asking, {x}, w, 1);
  test::expect_close(result[1], expected, bound(x.type().shape[3], op.classes));
  EXPECT_TRUE(result[0].same_bytes(test::run_cpu(Argmax{}, {result[1]}, {}, 1)[0]));
  for (const int threads : {2, 3}) {
    const std::vector<Tensor> other = test::run_cpu(asking, {x}, w, threads);
    EXPECT_TRUE(other[0].same_bytes(result[0]) && other[1].same_bytes(result[1])) << threads;
    EXPECT_TRUE(test::run_cpu(op, {x}, w, threads)[0].same_bytes(result[0])) << threads;
  }
}

TEST(Head, MatchesTheReferenceForEveryKindAndClassCount) {
  for (const int classes : {1, 2, 3, 4, 5, 15, 16, 17, 65, 256}) {
    for (const Output output : {Output::kSoftmax, Output::kSigmoid}) {
      if (classes == 1 && output == Output::kSoftmax) continue;
      for (const bool relu : {false, true}) {
        SCOPED_TRACE(fmt::format("{} classes, relu {}", classes, relu));
        const Head op{classes, !relu, relu, output, false};
        const Tensor x = test::random({1, 3, 11, 19}, 32);
        check(op, x, weights(op, 19));
        check(op, x.rounded_to(DType::kBF16), weights(op, 19));
      }
    }
  }
}

TEST(Head, MatchesTheReferenceAtEveryDepthAndSize) {
  const Head op{};
  for (const std::int64_t c_in : {1, 2, 16, 64, 300, 5000}) {
    for (const auto& [h, w] : {std::pair{1, 1}, {1, 15}, {4, 4}, {1, 17}, {9, 29}}) {
      SCOPED_TRACE(fmt::format("{} x {} x {}", h, w, c_in));
      const Tensor x = test::random({1, h, w, c_in}, 33);
      check(op, x, weights(op, c_in));
      check(op, x.rounded_to(DType::kBF16), weights(op, c_in));
    }
  }
}

TEST(Head, MatchesOnEveryInstructionSet) {
  test::for_each_target([] {
    for (const int classes : {2, 3, 21}) {
      const Head op{classes, true, false, Output::kSoftmax, false};
      const Tensor x = test::random({1, 5, 7, 18}, 34);
      check(op, x, weights(op, 18));
      check(op, x.rounded_to(DType::kBF16), weights(op, 18));
    }
    const Head sigmoid{1, true, false, Output::kSigmoid, false};
    check(sigmoid, test::random({1, 5, 7, 18}, 34), weights(sigmoid, 18));
  });
}

TEST(Head, MaskAgreesWithTheReferenceAwayFromTies) {
  const Head op{};
  const Tensor x = test::random({1, 40, 41, 16}, 35);
  const std::vector<Tensor> w = weights(op, 16);
  Head asking = op;
  asking.probabilities = true;
  const std::vector<Tensor> expected = test::run_reference(asking, {x}, w);
  const std::vector<float> probabilities = expected[1].values();
  const Tensor mask = test::run_cpu(op, {x}, w, 2)[0];
  for (std::size_t i = 0; i < probabilities.size() / 2; ++i) {
    if (std::abs(probabilities[2 * i] - 0.5f) <= 2 * bound(16, 2).absolute) continue;
    EXPECT_EQ(mask.view().as<std::uint8_t>()[i], expected[0].view().as<std::uint8_t>()[i]) << i;
  }
}

// Small integers make every logit exact in f32, so the separate operators see the same logits; many
// are equal, so that ties decide.
TEST(Head, EqualsTheSeparateOperatorsToTheByte) {
  for (const int classes : {2, 3, 6}) {
    std::vector<float> x = test::random({1, 31, 33, 8}, 36, 2).values();
    for (float& value : x) value = std::round(value);
    std::vector<float> weight = test::random({classes, 8, 1, 1}, 37, 2).values();
    for (float& value : weight) value = std::round(value) / 4;
    const std::size_t pixels = 31 * 33;
    std::vector<float> logits;
    for (std::size_t i = 0; i < pixels; ++i) {
      for (std::size_t k = 0; k < static_cast<std::size_t>(classes); ++k) {
        float sum = 0;
        for (std::size_t j = 0; j < 8; ++j) sum += x[i * 8 + j] * weight[k * 8 + j];
        logits.push_back(sum);
      }
    }
    const Tensor map = Tensor::of({1, 31, 33, classes}, logits);
    for (const bool sigmoid : {false, true}) {
      const Head op{classes, false, false, sigmoid ? Output::kSigmoid : Output::kSoftmax, true};
      const std::vector<Tensor> result = test::run_cpu(op, {Tensor::of({1, 31, 33, 8}, x)},
                                                       {Tensor::of({classes, 8, 1, 1}, weight)}, 2);
      const Tensor probabilities =
          sigmoid ? test::run_cpu(Activation{Activation::Kind::kSigmoid}, {map}, {}, 2)[0]
                  : test::run_cpu(Softmax{}, {map}, {}, 2)[0];
      EXPECT_TRUE(result[1].same_bytes(probabilities)) << classes << sigmoid;
      EXPECT_TRUE(result[0].same_bytes(test::run_cpu(Argmax{}, {probabilities}, {}, 2)[0]));
    }
  }
}

TEST(Head, LogitsThatRoundToEqualProbabilitiesGiveTheFirstClass) {
  // 30 and 31 both saturate: as probabilities they are equal.
  const Tensor x = Tensor::of({1, 1, 1, 1}, {1});
  const Tensor w = Tensor::of({2, 1, 1, 1}, {30, 31});
  for (const bool probabilities : {false, true}) {
    const Head op{2, false, false, Output::kSigmoid, probabilities};
    EXPECT_EQ(test::run_cpu(op, {x}, {w}, 1)[0].view().as<std::uint8_t>()[0], 0);
  }
}

TEST(Head, AWindowEqualsItsPartOfTheWhole) {
  constexpr std::int64_t kSize = 21, kChannels = 13;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const Head op{3, true, false, Output::kSoftmax, true};
    const Tensor x = test::random({1, kSize, kSize, kChannels}, 38).rounded_to(dtype);
    const std::vector<float> all = x.values();
    const std::vector<float> whole = test::run_cpu(op, {x}, weights(op, kChannels), 2)[1].values();
    for (const auto& [top, left, h, w] :
         {std::array<std::int64_t, 4>{0, 0, 5, 7}, {3, 2, 18, 19}, {20, 20, 1, 1}, {7, 1, 1, 20}}) {
      std::vector<float> part, expected;
      for (std::int64_t i = top; i < top + h; ++i) {
        const auto row = all.begin() + (i * kSize + left) * kChannels;
        part.insert(part.end(), row, row + w * kChannels);
        const auto out = whole.begin() + (i * kSize + left) * 3;
        expected.insert(expected.end(), out, out + w * 3);
      }
      const Tensor window = Tensor::of({1, h, w, kChannels}, part).rounded_to(dtype);
      EXPECT_EQ(test::run_cpu(op, {window}, weights(op, kChannels), 1)[1].values(), expected);
    }
  }
}

TEST(Head, TakesLargeLogitsAndNaN) {
  test::for_each_target([] {
    const Head op{2, false, false, Output::kSoftmax, true};
    const Tensor w = Tensor::of({2, 1, 1, 1}, {1e4f, -1e4f});
    const std::vector<Tensor> result =
        test::run_cpu(op, {Tensor::of({1, 1, 4, 1}, {1, -1, 0, NAN})}, {w}, 1);
    const auto* mask = result[0].view().as<std::uint8_t>();
    EXPECT_THAT(std::vector<int>(mask, mask + 4), testing::ElementsAre(0, 1, 0, 0));
    EXPECT_THAT(result[1].values(),
                testing::ElementsAre(1, 0, 0, 1, 0.5f, 0.5f, testing::IsNan(), testing::IsNan()));
  });
}

TEST(Head, TakesWeightsOfOtherTypes) {
  const Head op{};
  std::vector<Tensor> narrow;
  for (const Tensor& weight : weights(op, 9)) narrow.push_back(weight.rounded_to(DType::kBF16));
  check(op, test::random({1, 4, 5, 9}, 39), narrow);
}

TEST(Head, NamesWhatItCannotTake) {
  using testing::HasSubstr;
  using testing::ThrowsMessage;
  const std::vector<TensorType> image{{DType::kF32, {1, 4, 4, 2}}},
      ids{{DType::kI32, {1, 4, 4, 2}}};
  EXPECT_THAT([&] { infer(Head{257}, image); }, ThrowsMessage<Error>(HasSubstr("257")));
  EXPECT_THAT([&] { infer(Head{0}, image); }, ThrowsMessage<Error>(HasSubstr("got 0")));
  EXPECT_THAT([&] { infer(Head{1}, image); }, ThrowsMessage<Error>(HasSubstr("sigmoid")));
  EXPECT_THAT([&] { infer(Head{}, ids); }, ThrowsMessage<Error>(HasSubstr("i32 (1, 4, 4, 2)")));
}

}  // namespace
}  // namespace tessera
