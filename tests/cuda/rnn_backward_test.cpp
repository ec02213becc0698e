#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/rnn/train/backward.h"
#include "kernels/ops/rnn/train/cuda.h"
#include "tests/support/cuda_backward_check.h"
#include "tests/support/precision.h"
#include "tests/support/rnn_cells.h"

namespace tessera::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using Cell = BiRnn::Cell;

using CudaRnnBackward = CudaTest;

// Rounded products, where operands are off by `unit` each: 6 standard deviations of the sum of
// `features` products x w in the forward run, which all steps together double; of dz w in dx, and
// of dz x in dW. A gate's gradient is of order one: s' <= 1/4 makes up for the |dh| that the steps
// behind add.
BackwardBounds bounds_of(const ProductPrecision& p, const TrainCase<BiRnn>& c) {
  const Shape& x = c.inputs[0].type().shape;
  const double steps = static_cast<double>(x[0] * x[1]);
  const double scale = kRnnWeightScale, rounded = 6 * 2 * p.unit;
  const double gates = 2.0 * 4 * c.op.units;  // of both directions, at most
  BackwardBounds bounds = exact_bounds_of(c);
  bounds.forward.absolute += 2 * rounded * scale * std::sqrt(static_cast<double>(x[-1]));
  bounds.input.absolute += rounded * scale * std::sqrt(gates);
  bounds.weight.absolute += rounded * std::sqrt(steps);
  return bounds;
}

void check(const ProductPrecision& p, const TrainCase<BiRnn>& c) {
  SCOPED_TRACE(
      fmt::format("{}, {} on {}", p.name, name_of_cell(c.op), c.inputs[0].type().to_string()));
  check_cuda_backward(c, bounds_of(p, c), {.math = p.math});
}

TEST_F(CudaRnnBackward, MatchesTheReferenceAtTileEdges) {
  for (const int units : {1, 8, 17}) {
    for (const BiRnn& op : trained_cells(units, true))
      check(kExact, case_of(op, {3, 1, 0, 4, 2}, 4, 5));
  }
}

TEST_F(CudaRnnBackward, RoundedProducts) {
  for (const ProductPrecision& p : kRounded) {
    for (const BiRnn& op : trained_cells(6, true)) check(p, case_of(op, {3, 0, 4}, 4, 9));
  }
}

TEST_F(CudaRnnBackward, Unmasked) {
  for (const BiRnn& op : trained_cells(5, false)) {
    check(kExact, case_of(op, {0, 0, 0}, 3, 4));
    check(kExact, case_of(op, {0}, 1, 1));
  }
}

TEST_F(CudaRnnBackward, NothingToDo) {
  for (const BiRnn& op : trained_cells(3, true)) {
    check(kExact, case_of(op, {0, 0}, 2, 2));
    check(kExact, case_of(op, {}, 2, 2));
  }
}

TEST_F(CudaRnnBackward, TheModelsUnits) {
  check(kExact, case_of({.cell = Cell::kLstm, .units = 150}, {2}, 2, 3));
  check(kExact, case_of({.cell = Cell::kGru, .units = 50}, {2, 3}, 3, 2));
}

// 257 units are two passes of a block; the cell with most phases per step.
TEST_F(CudaRnnBackward, UnitsTooManyForRegisters) {
  check(kExact, case_of(trained_cells(257, true)[2], {2}, 2, 1));
}

TEST_F(CudaRnnBackward, TheForwardRunIsThatOfInference) {
  for (const BiRnn& op : trained_cells(9, true)) {
    const TrainCase<BiRnn> c = case_of(op, {3, 0, 4}, 4, 5);
    CudaTrainMemory memory{c.inputs, copies(c.weights), {}, {}, {}};
    memory.outputs.emplace_back(infer(op, types(c.inputs))[0]);
    memory.saved.emplace_back(saved_for_backward(op, types(c.inputs)).extra[0]);
    run_cuda_train([&](const CudaSetup& setup) { return cuda_train(op, setup); }, memory, {});
    EXPECT_TRUE(memory.outputs[0].same_bytes(run_cuda(op, c.inputs, c.weights)[0]))
        << name_of_cell(op);
  }
}

struct Device {
  int multiprocessors = 0;
  std::size_t shared_per_block = 0;
};

// The gradients on a device of which some properties are given, after `expected`'s forward run.
CudaBackwardMemory backward_on(const Device& device, const TrainCase<BiRnn>& c,
                               const TrainResult& expected, Precision math = Precision::kFp32) {
  CudaBackwardMemory memory;
  memory.input_types = types(c.inputs);
  memory.output_types = infer(c.op, memory.input_types);
  memory.inputs = c.inputs;
  memory.weights = copies(c.weights);
  memory.outputs = expected.outputs;
  memory.saved = expected.saved;
  memory.output_gradients = output_gradients_of(c);
  for (const Tensor& input : c.inputs)
    memory.input_gradients.push_back(input.type().dtype == DType::kF32 ? Tensor(input.type())
                                                                       : Tensor());
  memory.weight_gradients = earlier_gradients(c, false);
  run_cuda_backward(
      [&](CudaSetup setup) {
        if (device.multiprocessors != 0) setup.traits.multiprocessors = device.multiprocessors;
        if (device.shared_per_block != 0) setup.traits.shared_per_block = device.shared_per_block;
        return cuda_backward(c.op, setup);
      },
      memory, {.math = math});
  return memory;
}

// Blocks of 1, 2 and 4 sequences; weights in registers, in shared memory and in L2. Only the biases
// are summed in another order.
TEST_F(CudaRnnBackward, TheShapeOfBlocksChangesNoMatrix) {
  for (const BiRnn& op : {trained_cells(60, true)[0], trained_cells(60, true)[4]}) {
    SCOPED_TRACE(name_of_cell(op));
    const TrainCase<BiRnn> c = case_of(op, {2, 3, 0, 3, 1}, 3, 2);
    const TrainResult expected = train_by_reference(c);
    const BackwardBounds bounds = bounds_of(kExact, c);
    const CudaBackwardMemory one_each = backward_on({1000, 0}, c, expected);
    for (const Device& device :
         {Device{6, 0}, Device{1, 0}, Device{1000, 12 << 10}, Device{1, 32 << 10}}) {
      const CudaBackwardMemory other = backward_on(device, c, expected);
      EXPECT_TRUE(one_each.input_gradients[0].same_bytes(other.input_gradients[0]));
      for (std::size_t i = 0; i < c.weights.size(); ++i) {
        if (i % 4 < 2) {
          EXPECT_TRUE(one_each.weight_gradients[i].same_bytes(other.weight_gradients[i])) << i;
        } else {
          expect_close(one_each.weight_gradients[i], other.weight_gradients[i], bounds.weight);
        }
      }
    }
  }
}

TEST_F(CudaRnnBackward, NanStaysInItsSequence) {
  for (const Precision math : {Precision::kFp32, Precision::kBf16}) {
    for (const BiRnn& op : trained_cells(5, true)) {
      SCOPED_TRACE(name_of_cell(op));
      TrainCase<BiRnn> c = case_of(op, {3, 2, 3}, 3, 4);
      std::vector<float> dy = random({3, 3, 10}, 1).values();
      dy[3 * 10 + 1] = NAN;               // sequence 1, step 0, forward
      dy[3 * 10 + 2 * 10 + 3] = NAN;      // behind its end: nobody reads it
      dy[2 * 3 * 10 + 2 * 10 + 7] = 1e3;  // sequence 2
      c.output_gradients = {Tensor::of({3, 3, 10}, dy)};
      // On one multiprocessor all three share a block.
      const CudaBackwardMemory memory = backward_on({1, 0}, c, train_by_reference(c), math);
      const auto dx = memory.input_gradients[0].values();
      for (std::size_t i = 0; i < dx.size(); ++i)
        ASSERT_EQ(std::isnan(dx[i]), i / 12 == 1 && i / 4 % 3 == 0) << i;
    }
  }
}

constexpr CudaTraits kH100{.capability = 90, .multiprocessors = 132, .shared_per_block = 232448};

TEST(ChooseRnnBackward, FillsTheDeviceAndTheChip) {
  const auto choose = [](std::int64_t sequences) {
    return choose_rnn_backward(kH100, RnnCell::kLstm, 150, sequences);
  };
  EXPECT_EQ(choose(66).sequences, 1);
  EXPECT_EQ(choose(67).sequences, 2);
  EXPECT_EQ(choose(1000).sequences, 4);
  EXPECT_EQ(choose(66).threads, 320);
  EXPECT_TRUE(choose(66).held);
  for (const std::int64_t sequences : {1, 100, 1000})
    EXPECT_LE(choose(sequences).shared_bytes, kH100.shared_per_block);
  EXPECT_FALSE(choose_rnn_backward(kH100, RnnCell::kLstm, 193, 1).held);
}

TEST(ChooseRnnBackward, StateTooLargeForSharedMemoryIsAnError) {
  EXPECT_THAT([] { choose_rnn_backward(kH100, RnnCell::kLstm, 5000, 1); },
              testing::ThrowsMessage<Error>(AllOf(HasSubstr("5000 units"), HasSubstr("232448"))));
}

}  // namespace
}  // namespace tessera::test
