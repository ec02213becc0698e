// Attention in training.
#include <gmock/gmock.h>

#include "tests/support/backward_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;
using test::TrainCase;

TrainCase<Attention> case_of(const Attention& op, const std::vector<std::int32_t>& lengths,
                             std::int64_t t, std::int64_t d) {
  const auto rows = static_cast<std::int64_t>(lengths.size());
  TrainCase<Attention> c{op, {test::random({rows, t, d}, 70)}, {}};
  if (op.masked) c.inputs.push_back(Tensor::of_ids({rows}, lengths));
  for (const Parameter& p : parameters(op, test::types(c.inputs))) {
    const std::int64_t terms = p.shape.rank() > 1 ? p.shape[1] : 1;
    c.weights.push_back(test::random(p.shape, 80 + static_cast<unsigned>(c.weights.size()),
                                     1 / std::sqrt(static_cast<float>(terms))));
  }
  return c;
}

// Scores are sums over `units` of context u, whose u errs by the rounding of d products; exp turns
// their absolute error into a relative one of a, and da multiplies it with sums over d.
void check(const TrainCase<Attention>& c) {
  const Shape& x = c.inputs[0].type().shape;
  const double width =
      static_cast<double>(c.op.dense ? c.op.dense->units : 0) + static_cast<double>(x[-1]);
  const double error =
      16 * 0x1p-24 * std::sqrt(width + 16) * std::sqrt(static_cast<double>(c.op.units) + 4);
  const double steps = static_cast<double>(x[0] * x[1]);
  test::check_backward(c, {.forward = {error, 0x1p-20},
                           .input = {error * std::sqrt(width), 0x1p-20},
                           .weight = {error * std::sqrt(width * (steps + 4)), 0x1p-20}});
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
