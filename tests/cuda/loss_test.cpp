// Losses on the GPU: rows of few classes through shared memory, of many without; sums of a warp,
// of several, of several blocks.
#include "kernels/train/loss/loss.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/cuda_check.h"
#include "tests/support/device_tensor.h"
#include "tests/support/loss_problem.h"

namespace tessera::test {
namespace {

using CudaLoss = CudaTest;

// Twice, into memory of exactly the operands' sizes and between bands; a third time without the
// gradient.
LossOutcome on_cuda(const LossProblem& p) {
  const DeviceStream stream;
  CudaSetup setup;
  setup.traits = traits_of({});
  setup.stream = stream.get();
  const LossStep step = cuda(p.op, p.logits.type(), p.labels.type(), setup);
  LossOutcome results[2];
  for (const bool banded : {false, true}) {
    const auto on_device = [&](const Tensor& tensor) {
      const bool none = tensor.type().shape.rank() == 0;
      DeviceTensor memory(none ? 0 : tensor.type().bytes(), banded);
      if (!none) memory.upload(tensor.view().pointer);
      return memory;
    };
    const DeviceTensor logits = on_device(p.logits), labels = on_device(p.labels),
                       weights = on_device(p.weights), class_weights = on_device(p.class_weights);
    const auto pointer = [](const Tensor& tensor, const DeviceTensor& memory) {
      return tensor.type().shape.rank() > 0 ? reinterpret_cast<const float*>(memory.get())
                                            : nullptr;
    };
    const DeviceTensor gradient(p.logits.type().bytes(), banded),
        scratch(step.scratch_bytes, banded);
    LossOperands operands{{logits.get(), p.logits.type()},
                          {labels.get(), p.labels.type()},
                          pointer(p.weights, weights),
                          pointer(p.class_weights, class_weights),
                          reinterpret_cast<float*>(gradient.get()),
                          p.scale};
    LossOutcome& result = results[banded];
    result.found = step.run(operands, scratch.get());
    result.gradient = gradient_like(p.logits);
    gradient.download(result.gradient.view().pointer);
    for (const DeviceTensor* memory : {&logits, &labels, &weights, &class_weights, &gradient})
      EXPECT_TRUE(memory->bands_intact()) << "wrote outside an operand";
    EXPECT_TRUE(scratch.bands_intact()) << "scratch overrun";
    operands.gradient = nullptr;
    if (banded) expect_equal(step.run(operands, scratch.get()), result.found);
  }
  expect_equal(results[0].found, results[1].found);
  EXPECT_TRUE(results[0].gradient.same_bytes(results[1].gradient)) << "a second run differs";
  return results[0];
}

// Sums are added in f32 in eight rounds and a tree of five.
void check(const LossProblem& p) {
  expect_near_reference(p, on_cuda(p));
}

Tensor positive(Shape shape, unsigned seed) {
  Tensor tensor = random(shape, seed);
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    float& value = tensor.view().as<float>()[i];
    value = i % 7 == 3 ? 0 : 0.1f + value * value;
  }
  return tensor;
}

LossProblem problem(const Loss& op, std::int64_t n, int classes, bool bytes = false) {
  const int labelled = std::max(classes, 2);
  return {op,
          random({n, classes}, 1, 2.0f),
          labels_of({n}, labelled, op.ignored, bytes ? DType::kU8 : DType::kI32),
          positive({n}, 2),
          positive({labelled}, 3),
          0.5};
}

TEST_F(CudaLoss, MatchesTheReferenceAtEveryClassCount) {
  for (const Loss& op : losses()) {
    for (const int classes : {1, 2, 3, 4, 32, 33, 70}) {
      for (const std::int64_t n : {1, 33, 290}) {
        SCOPED_TRACE(fmt::format("{} classes, {} elements, dice {}", classes, n, op.dice));
        check(problem(op, n, classes, n % 2 == 0));
      }
    }
  }
}

TEST_F(CudaLoss, MatchesTheReferenceOverSeveralBlocks) {
  for (const Loss& op : losses()) check(problem(op, 4999, 2, true));
}

TEST_F(CudaLoss, WorksWithoutWeights) {
  LossProblem p = problem({.cross_entropy = 1, .dice = 1}, 65, 3);
  p.weights = p.class_weights = {};
  check(p);
  p.class_weights = positive({3}, 3);
  check(p);
}

TEST_F(CudaLoss, LargeLogitsStayFinite) {
  for (const LossProblem& p : problems_of_large_logits()) check(p);
}

TEST_F(CudaLoss, NothingLeftIsZero) {
  LossProblem p = problem({.cross_entropy = 1, .dice = 1, .ignored = 255}, 6, 3);
  p.labels = Tensor::of_ids({6}, std::vector<std::int32_t>(6, 255));
  p.logits.view().as<float>()[4] = INFINITY;
  p.logits.view().as<float>()[8] = NAN;
  const LossOutcome result = on_cuda(p);
  expect_equal(result.found, {});
  EXPECT_THAT(result.gradient.values(), testing::Each(0.0f));
}

TEST_F(CudaLoss, NanGivesNan) {
  for (const int classes : {1, 3, 40}) {
    LossProblem p = problem({}, 40, classes);
    p.weights = p.class_weights = {};
    p.logits.view().as<float>()[classes * 35] = NAN;
    const LossOutcome result = on_cuda(p);
    EXPECT_TRUE(std::isnan(result.found.loss));
    const std::vector<float> gradient = result.gradient.values();
    for (std::size_t i = 0; i < gradient.size(); ++i)
      EXPECT_EQ(std::isnan(gradient[i]), i / static_cast<std::size_t>(classes) == 35) << i;
  }
}

TEST_F(CudaLoss, CountsWhatIsClassifiedAsLabelled) {
  const LossProblem p = problem_to_count();
  check(p);
  const LossResult found = on_cuda(p).found;
  EXPECT_EQ(found.counted, 4);
  EXPECT_EQ(found.correct, 2);
}

TEST_F(CudaLoss, NamesTheFirstLabelThatIsNoClass) {
  using testing::HasSubstr;
  using testing::ThrowsMessage;
  LossProblem p = problem({.dice = 1}, 300, 3);
  auto* labels = p.labels.view().as<std::int32_t>();
  labels[270] = -1;
  labels[280] = 3;
  EXPECT_THAT([&] { on_cuda(p); }, ThrowsMessage<Error>(HasSubstr("label -1 at position 270")));
  labels[2] = 3;
  EXPECT_THAT([&] { on_cuda(p); }, ThrowsMessage<Error>(HasSubstr("label 3 at position 2 ")));
  EXPECT_THAT(
      [&] {
        cuda(Loss{}, {DType::kF32, {4, 3}}, {DType::kI32, {3}}, {});
      },
      ThrowsMessage<Error>(HasSubstr("(4)")));
}

}  // namespace
}  // namespace tessera::test
