#include "kernels/train/loss/loss.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "tests/support/backward_check.h"
#include "tests/support/golden.h"
#include "tests/support/loss_problem.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::LossOutcome;
using test::LossProblem;
using test::Tensor;

LossOutcome on_cpu(const LossProblem& p, int threads) {
  LossOutcome result{{}, test::gradient_like(p.logits)};
  const LossStep step = cpu(p.op, p.logits.type(), p.labels.type(), threads);
  const test::Scratch scratch(step.scratch_bytes);
  result.found = step.run(operands_of(p, result.gradient), scratch.get());
  EXPECT_TRUE(result.gradient.guards_intact()) << "wrote outside the gradient";
  EXPECT_TRUE(scratch.guards_intact()) << "scratch overrun";
  LossOperands value_alone = operands_of(p, result.gradient);
  value_alone.gradient = nullptr;
  test::expect_equal(step.run(value_alone, scratch.get()), result.found);
  return result;
}

Tensor positive(Shape shape, unsigned seed) {
  Tensor tensor = test::random(shape, seed);
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    float& value = tensor.view().as<float>()[i];
    value = 0.1f + value * value;
  }
  return tensor;
}

LossProblem problem(const Loss& op, Shape shape, int classes) {
  std::vector<std::int64_t> dims(shape.dims().begin(), shape.dims().end());
  dims.push_back(classes);
  const int labelled = std::max(classes, 2);
  return {op, test::random(Shape(dims), 1, 2.0f), test::labels_of(shape, labelled, op.ignored),
          positive(shape, 2), positive({labelled}, 3)};
}

void check(const LossProblem& p) {
  const LossOutcome result = on_cpu(p, 1);
  test::expect_near_reference(p, result);
  for (const int threads : {2, 3}) {
    const LossOutcome other = on_cpu(p, threads);
    test::expect_equal(other.found, result.found);
    EXPECT_TRUE(other.gradient.same_bytes(result.gradient)) << threads << " threads differ";
  }
}

TEST(Loss, MatchesTheReference) {
  for (const Loss& op : test::losses()) {
    for (const int classes : {1, 2, 3, 4, 5, 30}) {
      for (const std::int64_t n : {1, 15, 17, 1025, 5000}) {
        SCOPED_TRACE(fmt::format("{} classes, {} elements, dice {}", classes, n, op.dice));
        check(problem(op, {n}, classes));
      }
    }
    check(problem(op, {2, 40, 50}, 2));
  }
}

TEST(Loss, MatchesOnEveryInstructionSet) {
  test::for_each_target([] {
    for (const Loss& op : test::losses())
      for (const int classes : {1, 2, 7}) check(problem(op, {2, 9, 11}, classes));
  });
}

TEST(Loss, AgreesWithFiniteDifferences) {
  for (const Loss& op : test::losses()) {
    for (const int classes : {1, 2, 4}) {
      LossProblem p = problem(op, {3, 4}, classes);
      const std::vector<float> gradient = by_reference(p).gradient.values();
      auto* logits = p.logits.view().as<float>();
      for (std::size_t i = 0; i < gradient.size(); ++i) {
        const float before = logits[i];
        logits[i] = before + 0x1p-8f;
        const double up = by_reference(p).found.loss;
        logits[i] = before - 0x1p-8f;
        const double down = by_reference(p).found.loss;
        logits[i] = before;
        // The value is double throughout: what is left is step^2 / 6 of the third derivative.
        EXPECT_NEAR((up - down) / 0x1p-7, gradient[i], 2e-5);
      }
    }
  }
}

TEST(Loss, MatchesPyTorch) {
  for (const test::GoldenCase& golden : test::load_goldens("loss", "backward")) {
    SCOPED_TRACE(golden.name);
    const auto& a = golden.attributes;
    LossProblem p{{a.at("cross_entropy"), a.at("dice"), a.at("smooth"),
                   a.at("mean") == "weights" ? Loss::Mean::kWeights : Loss::Mean::kElements},
                  golden.inputs[0],
                  golden.inputs[1]};
    if (!a.at("ignored").is_null()) p.op.ignored = a.at("ignored").get<int>();
    if (golden.inputs.size() > 2) p.weights = golden.inputs[2];
    if (!a.at("class_weights").is_null()) {
      const std::vector<float> values = a.at("class_weights");
      p.class_weights = Tensor::of({static_cast<std::int64_t>(values.size())}, values);
    }
    const double value = golden.outputs[0].values()[0];
    const LossOutcome expected = by_reference(p), result = on_cpu(p, 2);
    EXPECT_NEAR(expected.found.loss, value, 0x1p-23 * value);
    EXPECT_NEAR(result.found.loss, value, 0x1p-19 * value);
    test::expect_close(expected.gradient, golden.input_gradients[0], {1e-12, 0x1p-22});
    test::expect_close(result.gradient, golden.input_gradients[0], {0x1p-22, 0x1p-19});
  }
}

TEST(Loss, LargeLogitsStayFinite) {
  const std::vector<LossProblem> problems = test::problems_of_large_logits();
  for (const LossProblem& p : problems) check(p);
  EXPECT_GT(by_reference(problems[0]).found.loss, 6000);
}

TEST(Loss, NothingLeftIsZero) {
  LossProblem p = problem({.cross_entropy = 1, .dice = 1, .ignored = 255}, {6}, 3);
  p.labels = Tensor::of_ids({6}, std::vector<std::int32_t>(6, 255));
  for (const LossOutcome& result : {by_reference(p), on_cpu(p, 1)}) {
    test::expect_equal(result.found, {});
    EXPECT_THAT(result.gradient.values(), testing::Each(0.0f));
  }
}

void expect_counts(const LossProblem& p, std::int64_t counted, std::int64_t correct) {
  for (const LossOutcome& result : {by_reference(p), on_cpu(p, 1), on_cpu(p, 3)}) {
    EXPECT_EQ(result.found.counted, counted);
    EXPECT_EQ(result.found.correct, correct);
  }
}

TEST(Loss, CountsWhatIsClassifiedAsLabelled) {
  LossProblem p = test::problem_to_count();
  expect_counts(p, 4, 2);
  p.weights = {};
  expect_counts(p, 5, 3);
  // A class without weight counts: it is a pixel's weight that says where there are no labels.
  p.class_weights = Tensor::of({3}, {0, 1, 1});
  expect_counts(p, 5, 3);
}

TEST(Loss, CountsOneLogitByItsSign) {
  const LossProblem p{
      {}, Tensor::of({5, 1}, {0.5f, -0.5f, 0, 0, 3}), Tensor::of_ids({5}, {1, 0, 0, 1, 0})};
  expect_counts(p, 5, 3);
}

TEST(Loss, CountsOverManyBlocks) {
  constexpr std::int64_t kElements = 40000, kPeriod = 7;
  std::vector<float> logits;
  std::vector<std::int32_t> labels;
  std::int64_t correct = 0;
  for (std::int64_t i = 0; i < kElements; ++i) {
    logits.insert(logits.end(), {0, i % kPeriod == 0 ? 1.0f : -1.0f});
    labels.push_back(static_cast<std::int32_t>(i % 2));
    correct += (i % kPeriod == 0) == (i % 2 == 1);
  }
  expect_counts({{}, Tensor::of({kElements, 2}, logits), Tensor::of_ids({kElements}, labels)},
                kElements, correct);
}

TEST(Loss, TheGradientIsScaled) {
  LossProblem p = problem({}, {33}, 3);
  const std::vector<float> whole = on_cpu(p, 1).gradient.values();
  p.scale = 0.25;
  const std::vector<float> quarter = on_cpu(p, 1).gradient.values();
  for (std::size_t i = 0; i < whole.size(); ++i) EXPECT_EQ(quarter[i], whole[i] / 4);
}

TEST(Loss, NamesWhatItCannotTake) {
  using testing::HasSubstr;
  using testing::ThrowsMessage;
  LossProblem p = problem({}, {4}, 3);
  p.labels = Tensor::of_ids({4}, {0, 1, 3, 2});
  EXPECT_THAT([&] { on_cpu(p, 1); }, ThrowsMessage<Error>(HasSubstr("label 3 at position 2")));
  p.labels = Tensor::of_ids({4}, {0, 1, -1, 2});
  EXPECT_THAT([&] { by_reference(p); }, ThrowsMessage<Error>(HasSubstr("label -1")));
  EXPECT_THAT(
      [&] {
        check_types({}, {DType::kF32, {4, 3}}, {DType::kI32, {3}});
      },
      ThrowsMessage<Error>(HasSubstr("(4)")));
  EXPECT_THAT(
      [&] {
        check_types({.cross_entropy = 0}, {DType::kF32, {4, 3}}, {DType::kI32, {4}});
      },
      ThrowsMessage<Error>(HasSubstr("nor both 0")));
}

}  // namespace
}  // namespace tessera
