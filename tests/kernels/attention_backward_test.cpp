// Attention in training.
#include <gmock/gmock.h>

#include "tests/support/attention_cases.h"
#include "tests/support/backward_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::case_of;
using test::Tensor;
using test::TrainCase;

void check(const TrainCase<Attention>& c) {
  test::check_backward(c, test::exact_bounds_of(c));
}

TEST(AttentionBackward, AgreesWithFiniteDifferences) {
  for (const bool masked : {false, true}) {
    const std::vector<std::int32_t> lengths{4, 1, 0};
    test::check_finite_differences(case_of({.units = 3, .masked = masked}, lengths, 4, 2));
    test::check_finite_differences(
        case_of({.units = 3, .masked = masked, .eps = 0.5}, lengths, 4, 2));
    test::check_finite_differences(
        case_of({.units = 3, .masked = masked, .dense = Linear{5, masked}}, lengths, 4, 2));
  }
}

TEST(AttentionBackward, MatchesTheReferenceAtEveryWidth) {
  for (const int units : {1, 15, 16, 17, 70}) {
    for (const std::int64_t d : {1, 16, 33}) {
      SCOPED_TRACE(fmt::format("{} units of {}", units, d));
      check(case_of({.units = units}, {7, 0, 3, 1, 6}, 7, d));
      check(case_of({.units = units, .masked = false, .dense = Linear{11, true}}, {0, 0}, 5, d));
    }
  }
}

TEST(AttentionBackward, MatchesWithALongSequence) {
  check(case_of({.units = 20}, {100, 3}, 100, 24));
}

TEST(AttentionBackward, MatchesOnEveryInstructionSet) {
  test::for_each_target([] {
    check(case_of({.units = 19}, {5, 2, 4}, 5, 21));
    check(case_of({.units = 19, .dense = Linear{9, false}}, {5, 2, 4}, 5, 21));
  });
}

TEST(AttentionBackward, WithoutAGradientOfTheWeightsThatIsZero) {
  TrainCase<Attention> c = case_of({.units = 6}, {4, 2}, 4, 5);
  c.output_gradients = {test::random({2, 5}, 90), test::random({2, 4}, 91, 0.0f)};
  const auto forward = test::train_by_reference(c);
  const auto zeros = test::backward_on_cpu(c, forward, 1);
  c.output_gradients[1] = Tensor();
  const auto types = test::types(c.inputs);
  const auto in = test::views(c.inputs), w = test::views(c.weights);
  const auto out = test::views(forward.outputs), saved = test::views(forward.saved);
  PackedWeights packed;
  const BackwardStep step = cpu_backward(c.op, CpuSetup{"node", types, w, 1, &packed});
  const test::Scratch scratch(step.scratch_bytes);
  const std::vector<TensorView> dy{c.output_gradients[0].view(), {nullptr, {DType::kF32, {2, 4}}}};
  const Tensor dx = test::gradient_like(c.inputs[0]);
  const std::vector<TensorView> gradients{dx.view(), {nullptr, types[1]}};
  step.run({in, w, out, saved, dy, gradients, {}}, scratch.get());
  EXPECT_TRUE(dx.same_bytes(zeros.inputs[0]));
}

}  // namespace
}  // namespace tessera
