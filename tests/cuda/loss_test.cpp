// Losses on the GPU: rows of few classes through shared memory, of many without; sums of a warp,
// of several, of several blocks.
#include "kernels/loss/loss.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/cuda_check.h"
#include "tests/support/device_tensor.h"

namespace tessera::test {
namespace {

using CudaLoss = CudaTest;

struct Problem {
  Loss op;
  Tensor logits, labels;
  Tensor weights = {}, class_weights = {};  // rank 0: none
  double scale = 1;
};

struct Result {
  LossResult found;
  Tensor gradient;
};

Tensor gradient_of(const Problem& p) {
  return Tensor({DType::kF32, p.logits.type().shape});
}

const float* floats(const Tensor& tensor) {
  return tensor.type().shape.rank() > 0 ? tensor.view().as<float>() : nullptr;
}

Result by_reference(const Problem& p) {
  Result result{{}, gradient_of(p)};
  result.found =
      reference(p.op, {p.logits.view(), p.labels.view(), floats(p.weights), floats(p.class_weights),
                       result.gradient.view().as<float>(), p.scale});
  return result;
}

void expect_equal(const LossResult& a, const LossResult& b) {
  EXPECT_EQ(std::isnan(a.loss), std::isnan(b.loss));
  EXPECT_TRUE(a.loss == b.loss || std::isnan(a.loss)) << a.loss << " and " << b.loss;
  EXPECT_EQ(a.counted, b.counted);
  EXPECT_EQ(a.correct, b.correct);
}

// Twice, into memory of exactly the operands' sizes and between bands; a third time without the
// gradient.
Result on_cuda(const Problem& p) {
  const DeviceStream stream;
  CudaSetup setup;
  setup.traits = traits_of({});
  setup.stream = stream.get();
  const LossStep step = cuda(p.op, p.logits.type(), p.labels.type(), setup);
  Result results[2];
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
    Result& result = results[banded];
    result.found = step.run(operands, scratch.get());
    result.gradient = gradient_of(p);
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

// Exponentials, logarithms and quotients within a few ULP each, sums of c of them, on values below
// 20, added in f32 in eight rounds and a tree of five; gradients are products of those with weights
// whose sum divides them.
void check(const Problem& p) {
  const Result expected = by_reference(p), result = on_cuda(p);
  const double c = static_cast<double>(p.logits.type().shape[-1]);
  const double value = expected.found.loss;
  EXPECT_TRUE(std::abs(result.found.loss - value) <= (64 + 2 * c) * 0x1p-24 * (1 + value))
      << result.found.loss << ", expected " << value;
  EXPECT_EQ(result.found.counted, expected.found.counted);
  EXPECT_EQ(result.found.correct, expected.found.correct);
  double largest = 0;
  for (const float gradient : expected.gradient.values())
    largest = std::max<double>(largest, std::abs(gradient));
  expect_close(result.gradient, expected.gradient, {(64 + 4 * c) * 0x1p-24 * largest, 0});
}

Tensor labels_of(Shape shape, int classes, bool bytes, std::optional<int> ignored) {
  Tensor labels({bytes ? DType::kU8 : DType::kI32, shape});
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    const bool skip = ignored && i % 5 == 0;
    const int label = skip ? *ignored : static_cast<int>((i * i + i / 3) % classes);
    if (bytes) {
      labels.view().as<std::uint8_t>()[i] = static_cast<std::uint8_t>(label);
    } else {
      labels.view().as<std::int32_t>()[i] = label;
    }
  }
  return labels;
}

Tensor positive(Shape shape, unsigned seed) {
  Tensor tensor = random(shape, seed);
  for (std::int64_t i = 0; i < shape.elements(); ++i) {
    float& value = tensor.view().as<float>()[i];
    value = i % 7 == 3 ? 0 : 0.1f + value * value;
  }
  return tensor;
}

Problem problem(const Loss& op, std::int64_t n, int classes, bool bytes = false) {
  const int labelled = std::max(classes, 2);
  return {op,
          random({n, classes}, 1, 2.0f),
          labels_of({n}, labelled, bytes, op.ignored),
          positive({n}, 2),
          positive({labelled}, 3),
          0.5};
}

std::vector<Loss> losses() {
  return {{},
          {.cross_entropy = 0, .dice = 1},
          {.cross_entropy = 0.5, .dice = 2, .smooth = 0.25, .ignored = 255},
          {.mean = Loss::Mean::kElements, .ignored = 255}};
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
  Problem p = problem({.cross_entropy = 1, .dice = 1}, 65, 3);
  p.weights = p.class_weights = {};
  check(p);
  p.class_weights = positive({3}, 3);
  check(p);
}

TEST_F(CudaLoss, LargeLogitsStayFinite) {
  check({{.cross_entropy = 1, .dice = 1},
         Tensor::of({3, 2}, {1e4f, -1e4f, -1e30f, 1e30f, 0, 80}),
         Tensor::of_ids({3}, {1, 1, 0})});
  check({{}, Tensor::of({4, 1}, {1e4f, -1e4f, 90, -90}), Tensor::of_ids({4}, {0, 1, 1, 0})});
}

TEST_F(CudaLoss, NothingLeftIsZero) {
  Problem p = problem({.cross_entropy = 1, .dice = 1, .ignored = 255}, 6, 3);
  p.labels = Tensor::of_ids({6}, std::vector<std::int32_t>(6, 255));
  p.logits.view().as<float>()[4] = INFINITY;
  p.logits.view().as<float>()[8] = NAN;
  const Result result = on_cuda(p);
  expect_equal(result.found, {});
  EXPECT_THAT(result.gradient.values(), testing::Each(0.0f));
}

TEST_F(CudaLoss, NanGivesNan) {
  for (const int classes : {1, 3, 40}) {
    Problem p = problem({}, 40, classes);
    p.weights = p.class_weights = {};
    p.logits.view().as<float>()[classes * 35] = NAN;
    const Result result = on_cuda(p);
    EXPECT_TRUE(std::isnan(result.found.loss));
    const std::vector<float> gradient = result.gradient.values();
    for (std::size_t i = 0; i < gradient.size(); ++i)
      EXPECT_EQ(std::isnan(gradient[i]), i / static_cast<std::size_t>(classes) == 35) << i;
  }
}

TEST_F(CudaLoss, CountsWhatIsClassifiedAsLabelled) {
  // Right, wrong, the first of equals twice, ignored, weight 0.
  Problem p{{.ignored = 255},
            Tensor::of({6, 3}, {0, 2, 1, 0, 2, 1, 5, 5, 0, 5, 0, 5, 9, 0, 0, 9, 0, 0}),
            Tensor::of_ids({6}, {1, 2, 0, 2, 255, 0}),
            Tensor::of({6}, {1, 1, 0.5f, 1, 1, 0})};
  check(p);
  const LossResult found = on_cuda(p).found;
  EXPECT_EQ(found.counted, 4);
  EXPECT_EQ(found.correct, 2);
}

TEST_F(CudaLoss, NamesTheFirstLabelThatIsNoClass) {
  using testing::HasSubstr;
  using testing::ThrowsMessage;
  Problem p = problem({.dice = 1}, 300, 3);
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
