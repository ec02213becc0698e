// The smaller operators in training.
#include <gmock/gmock.h>

#include "kernels/ops/dropout/train/philox.h"
#include "tests/support/backward_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;
using test::TrainCase;

constexpr double kUlp = 0x1p-24;  // of a value of order one

TEST(ActivationBackward, MatchesTheReference) {
  for (const auto kind : {Activation::Kind::kRelu, Activation::Kind::kSigmoid}) {
    const TrainCase<Activation> c{{kind}, {test::random({3, 40000}, 1)}, {}};
    // A sigmoid forward within 4 ULP; backward two products and a difference.
    test::check_backward(c,
                         {.forward = {8 * kUlp, 0}, .input = {8 * kUlp, 8 * kUlp}, .weight = {}});
  }
  test::check_finite_differences(
      TrainCase<Activation>{{Activation::Kind::kSigmoid}, {test::random({2, 9}, 2)}, {}});
}

TEST(LayersBackward, RefuseWhatTrainingHasNoKernelsFor) {
  const std::vector<TensorType> x{{DType::kF32, {1, 4, 4, 2}}};
  const auto saved = [&](const Op& any) {
    return visit_trainable<Saved>(any, [&](const auto& op) { return saved_for_backward(op, x); });
  };
  EXPECT_THAT(
      [&] {
        saved(Transpose{{0, 2, 1, 3}});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("transpose has no backward run")));
  EXPECT_TRUE(saved(MaxPool{square(3, 1, 2)}).inputs[0]);
}

TEST(MaxPoolBackward, MatchesTheReferenceExactly) {
  for (const std::int64_t c : {1, 3, 16, 17, 40}) {
    for (const auto& [h, w] : {std::pair{2, 2}, {3, 2}, {5, 7}, {8, 6}}) {
      SCOPED_TRACE(fmt::format("{} x {} x {}", h, w, c));
      test::check_backward(TrainCase<MaxPool>{{}, {test::random({2, h, w, c}, 3)}, {}}, {});
    }
  }
  test::for_each_target([] {
    test::check_backward(TrainCase<MaxPool>{{}, {test::random({1, 4, 6, 19}, 4)}, {}}, {});
  });
}

TEST(MaxPoolBackward, TheFirstOfEqualsWinsAndANaN) {
  TrainCase<MaxPool> c{{},
                       {Tensor::of({1, 2, 8, 1}, {1, 1, 2, 3, 5, NAN, NAN, 9,  //
                                                  1, 1, 3, 3, NAN, 7, 8, 7})},
                       {}};
  c.output_gradients = {Tensor::of({1, 1, 4, 1}, {10, 20, 30, 40})};
  const std::vector<float> expected{10, 0, 0, 20, 0, 30, 40, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const auto forward = test::train_by_reference(c);
  EXPECT_EQ(test::backward_by_reference(c, forward, true).inputs[0].values(), expected);
  EXPECT_EQ(test::backward_on_cpu(c, forward, 1).inputs[0].values(), expected);
}

TEST(GroupNormBackward, MatchesTheReferenceAtEveryTailAndGroup) {
  const auto check = [](std::int64_t c, int groups, bool affine, std::int64_t side, float shift,
                        double ulps) {
    SCOPED_TRACE(fmt::format("{} channels in {} groups, {} pixels a side", c, groups, side));
    TrainCase<GroupNorm> one{{groups, 1e-5, affine}, {test::random({2, side, side, c}, 7)}, {}};
    auto* x = one.inputs[0].view().as<float>();
    for (std::int64_t i = 0; i < 2 * side * side * c; ++i) x[i] += shift;
    if (affine) one.weights = {test::random({c}, 8), test::random({c}, 9)};
    // Sums are double; dx takes two differences of values of order one, and the mean's rounding.
    test::check_backward(one, {.forward = {ulps * kUlp, ulps * kUlp},
                               .input = {ulps * kUlp, ulps * kUlp},
                               .weight = {16 * kUlp, 64 * kUlp}});
  };
  for (const std::int64_t c : {1, 3, 8, 15, 16, 17, 40}) {
    check(c, 0, true, 5, 0, 64);
    check(c, 1, false, 5, 0, 64);
  }
  check(12, 3, true, 7, 0, 64);
  check(24, 4, true, 61, 0, 64);  // several pieces
  check(16, 0, true, 9, 100, 1024);
  test::for_each_target([&] { check(19, 0, true, 6, 0, 64); });
  test::check_finite_differences(
      TrainCase<GroupNorm>{{2, 1e-5, true},
                           {test::random({1, 2, 3, 4}, 10)},
                           {test::random({4}, 11), test::random({4}, 12)}});
}

TEST(UpsampleBackward, MatchesTheReference) {
  for (const bool align_corners : {true, false}) {
    for (const auto& [h, w] : {std::pair{1, 1}, {1, 5}, {4, 3}, {7, 12}}) {
      SCOPED_TRACE(fmt::format("{} x {}, corners {}", h, w, align_corners));
      const TrainCase<Upsample> c{{align_corners}, {test::random({2, h, w, 5}, 5)}, {}};
      // Sums of at most 16 products of order one.
      test::check_backward(
          c, {.forward = {16 * kUlp, 0}, .input = {64 * kUlp, 8 * kUlp}, .weight = {}});
    }
    test::check_finite_differences(
        TrainCase<Upsample>{{align_corners}, {test::random({1, 3, 4, 2}, 6)}, {}});
  }
}

TEST(CropConcatBackward, MatchesTheReferenceExactly) {
  using Align = CropConcat::Align;
  for (const bool skip_first : {true, false}) {
    const TrainCase<CropConcat> crop{
        {Align::kCropSkip, skip_first},
        {test::random({2, 7, 10, 3}, 7), test::random({2, 4, 4, 5}, 8)},
        {}};
    const TrainCase<CropConcat> pad{{Align::kPadUp, skip_first},
                                    {test::random({2, 7, 9, 3}, 7), test::random({2, 6, 6, 5}, 8)},
                                    {}};
    for (const auto& c : {crop, pad}) {
      test::check_backward(c, {});
      test::check_finite_differences(c);
    }
  }
}

TEST(SoftmaxBackward, MatchesTheReference) {
  for (const std::int64_t c : {1, 2, 21, 100}) {
    SCOPED_TRACE(c);
    // Sums of c products of probabilities, which add up to one, with values of order one.
    const TrainCase<Softmax> softmax{{}, {test::random({2, 50, c}, 9)}, {}};
    test::check_backward(softmax, {.forward = {(4 + 2.0 * static_cast<double>(c)) * kUlp, 0},
                                   .input = {(16 + 4.0 * static_cast<double>(c)) * kUlp, 0},
                                   .weight = {}});
  }
  test::check_finite_differences(TrainCase<Softmax>{{}, {test::random({3, 5}, 10)}, {}});
}

TrainCase<Linear> linear_case(const Linear& op, Shape shape) {
  TrainCase<Linear> c{op, {test::random(shape, 11)}, {}};
  c.weights.push_back(test::random({op.units, shape[-1]}, 12));
  if (op.bias) c.weights.push_back(test::random({op.units}, 13));
  return c;
}

TEST(LinearBackward, MatchesTheReference) {
  for (const std::int64_t features : {1, 16, 33}) {
    for (const int units : {1, 5, 50, 97}) {
      for (const std::int64_t rows : {1, 6, 150}) {
        SCOPED_TRACE(fmt::format("{} x {} -> {}", rows, features, units));
        test::check_backward(linear_case({units, rows % 2 == 0}, {rows, features}),
                             {.forward = test::sum_bound(features + 8),
                              .input = test::sum_bound(units + 8),
                              .weight = test::sum_bound(rows + 8)});
      }
    }
  }
  test::check_finite_differences(linear_case({4, true}, {2, 3, 5}));
}

TEST(EmbeddingBackward, AddsEveryPlaceInOrder) {
  std::vector<std::int32_t> ids;
  for (std::int32_t i = 0; i < 300; ++i) ids.push_back(i * i % 11);
  for (const int features : {1, 16, 50}) {
    SCOPED_TRACE(features);
    const TrainCase<Embedding> c{
        {13, features}, {Tensor::of_ids({3, 100}, ids)}, {test::random({13, features}, 14)}};
    test::check_backward(c, {.forward = {}, .input = {}, .weight = test::sum_bound(300)});
  }
  test::check_finite_differences(TrainCase<Embedding>{
      {5, 2}, {Tensor::of_ids({4}, {4, 0, 4, 1})}, {test::random({5, 2}, 15)}});
}

TEST(DropoutTraining, IsPhilox) {
  // Known answers of Random123's kat_vectors, philox4x32-10.
  using testing::ElementsAre;
  EXPECT_THAT(philox(0, 0, 0), ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  const std::uint64_t ones = ~std::uint64_t{0};
  EXPECT_THAT(philox(ones, ones, ones),
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88),
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

TEST(DropoutTraining, MatchesTheReferenceExactly) {
  for (const double rate : {0.0, 0.3, 0.5, 1.0}) {
    SCOPED_TRACE(rate);
    TrainCase<Dropout> c{{rate}, {test::random({7, 9001}, 16)}, {}};
    c.random = {123, 456};
    test::check_backward(c, {});
    double kept = 0;
    for (const float y : test::train_on_cpu(c, 1).outputs[0].values()) kept += y != 0;
    // 63,007 draws: the standard deviation of the share is at most 0.002.
    EXPECT_NEAR(kept / 63007, 1 - rate, 0.01);
    const TrainCase<Dropout> other{c.op, c.inputs, {}, {123, 457}, {}};
    if (rate > 0 && rate < 1) {
      EXPECT_FALSE(
          test::train_on_cpu(c, 1).saved[0].same_bytes(test::train_on_cpu(other, 1).saved[0]));
    }
  }
}

TrainCase<BatchNorm> norm_case(Shape shape, float mean) {
  TrainCase<BatchNorm> c{{}, {test::random(shape, 17)}, {}};
  for (std::int64_t i = 0; i < shape.elements(); ++i) c.inputs[0].view().as<float>()[i] += mean;
  const std::int64_t channels = shape[-1];
  c.weights = {
      test::random({channels}, 18), test::random({channels}, 19), test::random({channels}, 20),
      Tensor::of({channels}, std::vector<float>(static_cast<std::size_t>(channels), 0.7f))};
  return c;
}

TEST(BatchNormTraining, MatchesTheReference) {
  for (const std::int64_t channels : {1, 15, 16, 17, 40}) {
    for (const std::int64_t pixels : {2, 37, 256, 257, 70000}) {
      if (pixels > 1000 && channels != 17) continue;
      SCOPED_TRACE(fmt::format("{} x {}", pixels, channels));
      // A block of 256 to 274 rows is summed in f32, the rest in double: means err by a few ULP,
      // and xhat, whose largest of 70,000 is below 5, by as much. A batch of two divides by the
      // difference of its values, which may be 30 times smaller than they are.
      const double few = pixels < 16 ? 30 : 1;
      const double root = std::sqrt(static_cast<double>(std::min<std::int64_t>(pixels, 300)) + 16);
      const test::Bound value{8 * kUlp * root * few, 8 * kUlp * root};
      test::check_backward(
          norm_case({1, pixels, channels}, 0),
          {.forward = value,
           .input = {16 * kUlp * root * few * few, 8 * kUlp * root},
           .weight = {8 * kUlp * root * few * std::sqrt(static_cast<double>(pixels)), 8 * kUlp}});
    }
  }
  test::for_each_target([] {
    test::check_backward(
        norm_case({2, 30, 19}, 0),
        {.forward = {100 * kUlp, 0}, .input = {100 * kUlp, 0}, .weight = {500 * kUlp, 0}});
  });
}

// With a mean of 1000 standard deviations, squares of plain values would have lost all accuracy.
TEST(BatchNormTraining, LargeMeansKeepTheirVariance) {
  const TrainCase<BatchNorm> c = norm_case({1000, 5}, 1000);
  // x itself is rounded to 2^-14; its mean to 2^-14 more.
  test::check_backward(
      c,
      {.forward = {0x1p-13 * 5, 0x1p-20}, .input = {0x1p-13 * 5, 0}, .weight = {0x1p-13 * 200, 0}});
}

TEST(BatchNormTraining, AgreesWithFiniteDifferences) {
  test::check_finite_differences(norm_case({2, 7, 3}, 0.5f), 5e-3);
}

TEST(BatchNormTraining, NamesABatchOfOne) {
  const std::vector<TensorType> types{{DType::kF32, {1, 1, 1, 8}}};
  EXPECT_THAT([&] { saved_for_backward(BatchNorm{}, types); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("more than one value")));
}

TEST(AddGradients, AddsElementByElement) {
  const Tensor a = test::random({50, 1000}, 21), b = test::random({50, 1000}, 22), sum = a.copy();
  add_gradients(sum.view(), b.view(), 3);
  const std::vector<float> left = a.values(), right = b.values(), result = sum.values();
  for (std::size_t i = 0; i < result.size(); ++i) ASSERT_EQ(result[i], left[i] + right[i]);
}

}  // namespace
}  // namespace tessera
