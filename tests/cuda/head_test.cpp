// The end of a UNet on the GPU: every lane has a pixel with all classes, or with a quarter of them.
#include "kernels/ops/head/head.h"

#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/activation/activation.h"
#include "kernels/ops/argmax/argmax.h"
#include "kernels/ops/softmax/softmax.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaHead = CudaTest;
using Output = Head::Output;

constexpr DType kFloats[] = {DType::kF32, DType::kBF16, DType::kF16};

std::vector<Tensor> weights_for(const Head& op, std::int64_t c_in) {
  // Scaled so that logits are of order one.
  std::vector<Tensor> list{
      random({op.classes, c_in, 1, 1}, 30, 1 / std::sqrt(static_cast<float>(c_in)))};
  if (op.bias) list.push_back(random({op.classes}, 31));
  return list;
}

// A logit is a sum of c_in products below 5 * 5 / sqrt(c_in); a probability moves by at most half
// of what two logits move, and the softmax adds its own (10 + 2 classes) 2^-24.
Bound bound(std::int64_t c_in, int classes) {
  const double logit = 25 * (std::sqrt(static_cast<double>(c_in)) + 2) * sum_bound(1).absolute;
  return {logit + (10 + 2 * classes) * 0x1p-24, 0};
}

// Probabilities within the bound, and a mask that is their argmax to the byte, asked for or not.
void check(const Head& op, const Tensor& x, const std::vector<Tensor>& w) {
  Head asking = op;
  asking.probabilities = true;
  const Tensor expected = run_reference(asking, {x}, w)[1];
  const std::vector<Tensor> result = run_cuda(asking, {x}, w);
  expect_close(result[1], expected, bound(x.type().shape[3], op.classes));
  EXPECT_TRUE(result[0].same_bytes(run_reference(Argmax{}, {result[1]}, {})[0]));
  EXPECT_TRUE(run_cuda(op, {x}, w)[0].same_bytes(result[0]));
}

TEST_F(CudaHead, MatchesTheReferenceForEveryKindAndClassCount) {
  for (const int classes : {1, 2, 3, 4, 5, 8, 9, 16, 17, 32, 33, 64, 65, 129, 256}) {
    for (const Output output : {Output::kSoftmax, Output::kSigmoid}) {
      if (classes == 1 && output == Output::kSoftmax) continue;
      SCOPED_TRACE(fmt::format("{} classes", classes));
      const bool relu = classes % 2 == 0;
      const Head op{classes, !relu, relu, output, false};
      for (const DType dtype : kFloats)
        check(op, random({1, 3, 11, 16}, 32).rounded_to(dtype), weights_for(op, 16));
    }
  }
}

// Channels: below, at and above a 16-byte part and a 128-byte chunk of each type.
TEST_F(CudaHead, MatchesTheReferenceAtEveryDepth) {
  for (const int classes : {2, 35}) {
    for (const std::int64_t c_in : {1, 3, 4, 7, 8, 9, 31, 32, 33, 56, 64, 72, 300}) {
      const Head op{.classes = classes};
      SCOPED_TRACE(fmt::format("{} channels, {} classes", c_in, classes));
      const Tensor x = random({1, 3, 7, c_in}, 33);
      for (const DType dtype : kFloats) check(op, x.rounded_to(dtype), weights_for(op, c_in));
    }
  }
}

// Pixels around a warp's tile and a block's.
TEST_F(CudaHead, MatchesTheReferenceAtEverySize) {
  for (const auto& [h, w] :
       {std::pair{1, 1}, {1, 31}, {4, 8}, {3, 11}, {5, 51}, {16, 16}, {1, 257}}) {
    SCOPED_TRACE(fmt::format("{} x {}", h, w));
    for (const int classes : {2, 3}) {
      const Head op{.classes = classes};
      check(op, random({1, h, w, 8}, 34), weights_for(op, 8));
    }
  }
  const Head many{.classes = 40};
  check(many, random({1, 5, 13, 8}, 34), weights_for(many, 8));
}

TEST_F(CudaHead, MaskAgreesWithTheReferenceAwayFromTies) {
  Head op{};
  const Tensor x = random({1, 20, 21, 16}, 35);
  const std::vector<Tensor> w = weights_for(op, 16);
  op.probabilities = true;
  const std::vector<Tensor> expected = run_reference(op, {x}, w);
  const std::vector<float> probabilities = expected[1].values();
  const Tensor mask = run_cuda(op, {x}, w)[0];
  for (std::size_t i = 0; i < probabilities.size() / 2; ++i) {
    if (std::abs(probabilities[2 * i] - 0.5f) <= 2 * bound(16, 2).absolute) continue;
    EXPECT_EQ(mask.view().as<std::uint8_t>()[i], expected[0].view().as<std::uint8_t>()[i]) << i;
  }
}

// Small integers make every logit exact in f32, so the separate operators see the same logits; many
// are equal, so that ties decide.
TEST_F(CudaHead, EqualsTheSeparateOperatorsToTheByte) {
  for (const int classes : {2, 3, 6, 40}) {
    std::vector<float> x = random({1, 9, 11, 8}, 36, 2).values();
    for (float& value : x) value = std::round(value);
    std::vector<float> weight = random({classes, 8, 1, 1}, 37, 2).values();
    for (float& value : weight) value = std::round(value) / 4;
    std::vector<float> logits;
    for (std::size_t i = 0; i < 9 * 11; ++i) {
      for (std::size_t k = 0; k < static_cast<std::size_t>(classes); ++k) {
        float sum = 0;
        for (std::size_t j = 0; j < 8; ++j) sum += x[i * 8 + j] * weight[k * 8 + j];
        logits.push_back(sum);
      }
    }
    const Tensor map = Tensor::of({1, 9, 11, classes}, logits);
    for (const bool sigmoid : {false, true}) {
      const Head op{classes, false, false, sigmoid ? Output::kSigmoid : Output::kSoftmax, true};
      const std::vector<Tensor> result =
          run_cuda(op, {Tensor::of({1, 9, 11, 8}, x)}, {Tensor::of({classes, 8, 1, 1}, weight)});
      const Tensor probabilities =
          sigmoid ? run_cuda(Activation{Activation::Kind::kSigmoid}, {map}, {})[0]
                  : run_cuda(Softmax{}, {map}, {})[0];
      EXPECT_TRUE(result[1].same_bytes(probabilities)) << classes << sigmoid;
      EXPECT_TRUE(result[0].same_bytes(run_cuda(Argmax{}, {probabilities}, {})[0]));
    }
  }
}

TEST_F(CudaHead, LogitsThatRoundToEqualProbabilitiesGiveTheFirstClass) {
  // 30 and 31 both saturate: as probabilities they are equal.
  for (const int classes : {2, 40}) {
    std::vector<float> weight(static_cast<std::size_t>(classes), 31);
    weight[0] = 30;
    for (const bool probabilities : {false, true}) {
      const Head op{classes, false, false, Output::kSigmoid, probabilities};
      const Tensor mask = run_cuda(op, {Tensor::of({1, 1, 1, 1}, {1})},
                                   {Tensor::of({classes, 1, 1, 1}, weight)})[0];
      EXPECT_EQ(mask.view().as<std::uint8_t>()[0], 0);
    }
  }
}

TEST_F(CudaHead, TakesLargeLogitsAndNaN) {
  const Head op{2, false, false, Output::kSoftmax, true};
  const std::vector<Tensor> result = run_cuda(op, {Tensor::of({1, 1, 4, 1}, {1, -1, 0, NAN})},
                                              {Tensor::of({2, 1, 1, 1}, {1e4f, -1e4f})});
  const auto* mask = result[0].view().as<std::uint8_t>();
  EXPECT_THAT(std::vector<int>(mask, mask + 4), testing::ElementsAre(0, 1, 0, 0));
  EXPECT_THAT(result[1].values(),
              testing::ElementsAre(1, 0, 0, 1, 0.5f, 0.5f, testing::IsNan(), testing::IsNan()));
}

// A NaN weight makes one class NaN: a sigmoid's others go on, a softmax's do not.
TEST_F(CudaHead, ANaNClassIsNeverTheMask) {
  for (const int classes : {3, 40}) {
    std::vector<float> weight(static_cast<std::size_t>(classes), 1);
    weight[0] = NAN;
    weight[2] = 2;
    for (const bool relu : {false, true}) {
      const Head op{classes, false, relu, Output::kSigmoid, true};
      const std::vector<Tensor> result =
          run_cuda(op, {Tensor::of({1, 1, 1, 1}, {1})}, {Tensor::of({classes, 1, 1, 1}, weight)});
      EXPECT_EQ(result[0].view().as<std::uint8_t>()[0], 2);
      EXPECT_TRUE(std::isnan(result[1].values()[0]));
      EXPECT_FALSE(std::isnan(result[1].values()[1]));
    }
    const Head op{classes, false, false, Output::kSoftmax, true};
    const std::vector<Tensor> result =
        run_cuda(op, {Tensor::of({1, 1, 1, 1}, {1})}, {Tensor::of({classes, 1, 1, 1}, weight)});
    EXPECT_EQ(result[0].view().as<std::uint8_t>()[0], 0);
    EXPECT_THAT(result[1].values(), testing::Each(testing::IsNan()));
  }
}

// A pixel is the same at another place of another image, next to pixels that are NaN or not there.
TEST_F(CudaHead, APixelDoesNotDependOnItsPlace) {
  for (const int classes : {3, 40}) {
    for (const std::int64_t c_in : {8, 13}) {
      const Head op{.classes = classes, .probabilities = true};
      const std::vector<Tensor> w = weights_for(op, c_in);
      check_cuda_batch(op, {random({5, 3, 5, c_in}, 38)}, w);
      std::vector<float> x = random({1, 1, 70, c_in}, 39).values();
      const auto alone = run_cuda(
          op, {Tensor::of({1, 1, 1, c_in}, {x.begin() + 33 * c_in, x.begin() + 34 * c_in})}, w);
      std::fill(x.begin() + 32 * c_in, x.begin() + 33 * c_in, NAN);
      std::fill(x.begin() + 34 * c_in, x.begin() + 35 * c_in, NAN);
      const auto among = run_cuda(op, {Tensor::of({70, 1, 1, c_in}, x)}, w);
      EXPECT_TRUE(rows_of(among[0], 33, 34).same_bytes(alone[0]));
      EXPECT_TRUE(rows_of(among[1], 33, 34).same_bytes(alone[1]));
    }
  }
}

TEST_F(CudaHead, TakesWeightsOfOtherTypes) {
  const Head op{};
  std::vector<Tensor> narrow;
  for (const Tensor& weight : weights_for(op, 9)) narrow.push_back(weight.rounded_to(DType::kBF16));
  check(op, random({1, 4, 5, 9}, 40), narrow);
}

}  // namespace
}  // namespace tessera::test
