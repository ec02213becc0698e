// Attention in training on the GPU.
#include <gmock/gmock.h>

#include "tests/support/attention_cases.h"
#include "tests/support/cuda_backward_check.h"
#include "tests/support/precision.h"

namespace tessera::test {
namespace {

using CudaAttentionBackward = CudaTest;

// Rounded operands make a product of order one off by 2 units, at 6 standard deviations. Forward: a
// score sums context u over `units` of independent errors, which is the weights' relative error.
// Backward, from the reference's forward run: dp is a_t sqrt(width) times a context of order one,
// and the squares of a_t add up to at most 1 in a sequence, so that a sum over all steps of dp z
// errs like one of sqrt(width sequences); W^T dp is a sum over units of dp times 1 / sqrt(width),
// and errs like sqrt(units).
BackwardBounds bounds_of(const TrainCase<Attention>& c, const ProductPrecision& p) {
  const Shape& x = c.inputs[0].type().shape;
  const double width =
      static_cast<double>(c.op.dense ? c.op.dense->units : 0) + static_cast<double>(x[-1]);
  const double units = static_cast<double>(c.op.units), sequences = static_cast<double>(x[0]);
  const double rounded = 6 * 2 * p.unit;
  BackwardBounds bounds = exact_bounds_of(c);
  bounds.forward.absolute += rounded * (c.op.dense ? 2 : 1) * std::sqrt(units);
  bounds.input.absolute += rounded * std::sqrt(units + 1);
  bounds.weight.absolute += rounded * std::sqrt(width * sequences);
  return bounds;
}

void check(const TrainCase<Attention>& c, const ProductPrecision& p = kExact) {
  SCOPED_TRACE(
      fmt::format("{}, {} units on {}", p.name, c.op.units, c.inputs[0].type().shape.to_string()));
  check_cuda_backward(c, bounds_of(c, p), {.math = p.math});
}

TEST_F(CudaAttentionBackward, MatchesTheReferenceAtEveryWidth) {
  for (const int units : {1, 17, 64, 130}) {
    for (const std::int64_t d : {1, 16, 33}) {
      check(case_of({.units = units}, {7, 0, 3, 1, 6}, 7, d));
      check(case_of({.units = units, .masked = false}, {0, 0}, 5, d));
    }
  }
}

TEST_F(CudaAttentionBackward, MatchesTheReferenceInEveryPrecision) {
  for (const ProductPrecision& p : kPrecisions) {
    check(case_of({.units = 20}, {9, 2, 0, 4}, 9, 36), p);
    check(case_of({.units = 19, .dense = Linear{9, true}}, {5, 2, 4}, 5, 21), p);
  }
}

TEST_F(CudaAttentionBackward, ADenseLayerInFront) {
  for (const bool bias : {true, false}) {
    check(
        case_of({.units = 6, .masked = bias, .eps = 0.5, .dense = Linear{11, bias}}, {5, 0}, 5, 7));
  }
}

// More steps than a slice of the sums over rows; sequences longer than a block has warps, threads.
TEST_F(CudaAttentionBackward, ManySteps) {
  check(case_of({.units = 5}, {70, 3}, 70, 8));
  check(case_of({.units = 3, .masked = false}, {0}, 300, 2));
}

CudaBackwardMemory memory_of(const TrainCase<Attention>& c) {
  const TrainResult forward = train_by_reference(c);
  CudaBackwardMemory memory;
  memory.input_types = types(c.inputs);
  memory.output_types = infer(c.op, memory.input_types);
  memory.inputs = c.inputs;
  memory.weights = c.weights;
  memory.outputs = {Tensor(), forward.outputs[1]};
  memory.saved = forward.saved;
  memory.output_gradients = output_gradients_of(c);
  memory.input_gradients = {gradient_like(c.inputs[0])};
  memory.input_gradients.resize(c.inputs.size());
  memory.weight_gradients = earlier_gradients(c, false);
  return memory;
}

void run(const TrainCase<Attention>& c, CudaBackwardMemory& memory) {
  run_cuda_backward([&](const CudaSetup& setup) { return cuda_backward(c.op, setup); }, memory, {});
}

TEST_F(CudaAttentionBackward, WithoutAGradientOfTheWeightsThatIsZero) {
  TrainCase<Attention> c = case_of({.units = 6}, {4, 2}, 4, 5);
  c.output_gradients = {random({2, 5}, 90), random({2, 4}, 91, 0.0f)};
  CudaBackwardMemory zeros = memory_of(c), none = memory_of(c);
  none.output_gradients[1] = Tensor();
  run(c, zeros);
  run(c, none);
  EXPECT_TRUE(zeros.input_gradients[0].same_bytes(none.input_gradients[0]));
  for (std::size_t i = 0; i < zeros.weight_gradients.size(); ++i)
    EXPECT_TRUE(zeros.weight_gradients[i].same_bytes(none.weight_gradients[i])) << i;
}

// Each gradient of a weight alone, with no memory for the others.
TEST_F(CudaAttentionBackward, EachGradientAlone) {
  const TrainCase<Attention> c = case_of({.units = 6, .dense = Linear{7, true}}, {4, 2}, 4, 5);
  CudaBackwardMemory all = memory_of(c);
  run(c, all);
  for (std::size_t i = 0; i < c.weights.size(); ++i) {
    CudaBackwardMemory one = memory_of(c);
    one.input_gradients[0] = Tensor();
    for (std::size_t j = 0; j < c.weights.size(); ++j)
      if (j != i) one.weight_gradients[j] = Tensor();
    run(c, one);
    EXPECT_TRUE(one.weight_gradients[i].same_bytes(all.weight_gradients[i])) << i;
  }
}

// Padding may hold anything; nothing of it arrives.
TEST_F(CudaAttentionBackward, PaddingIsNotRead) {
  const TrainCase<Attention> c = case_of({.units = 6}, {3, 0}, 4, 8);
  CudaBackwardMemory clean = memory_of(c), padded = memory_of(c);
  padded.inputs[0] = c.inputs[0].copy();
  auto* x = padded.inputs[0].view().as<float>();
  std::fill(x + 3 * 8, x + 2 * 4 * 8, NAN);
  run(c, clean);
  run(c, padded);
  EXPECT_TRUE(clean.input_gradients[0].same_bytes(padded.input_gradients[0]));
  for (std::size_t i = 0; i < clean.weight_gradients.size(); ++i)
    EXPECT_TRUE(clean.weight_gradients[i].same_bytes(padded.weight_gradients[i])) << i;
  const std::vector<float> dx = clean.input_gradients[0].values();
  EXPECT_THAT(std::vector(dx.begin() + 3 * 8, dx.end()), testing::Each(0.0f));
}

// The host refuses such lengths; the kernels still read and write nothing outside.
TEST_F(CudaAttentionBackward, WrongLengthsAreClamped) {
  const TrainCase<Attention> c = case_of({.units = 5}, {3, 0}, 3, 4);
  CudaBackwardMemory right = memory_of(c), wrong = memory_of(c);
  wrong.inputs[1] = Tensor::of_ids({2}, {1 << 30, -1});
  run(c, right);
  run(c, wrong);
  EXPECT_TRUE(right.input_gradients[0].same_bytes(wrong.input_gradients[0]));
  for (std::size_t i = 0; i < right.weight_gradients.size(); ++i)
    EXPECT_TRUE(right.weight_gradients[i].same_bytes(wrong.weight_gradients[i])) << i;
}

TEST_F(CudaAttentionBackward, NanStaysInItsSequence) {
  TrainCase<Attention> c = case_of({.units = 5, .masked = false}, {0, 0}, 3, 4);
  c.output_gradients = {random({2, 4}, 90), random({2, 3}, 91)};
  c.output_gradients[0].view().as<float>()[1] = NAN;
  CudaBackwardMemory memory = memory_of(c);
  run(c, memory);
  const std::vector<float> dx = memory.input_gradients[0].values();
  for (std::size_t i = 0; i < dx.size(); ++i) EXPECT_EQ(std::isnan(dx[i]), i < 12) << i;
}

}  // namespace
}  // namespace tessera::test
