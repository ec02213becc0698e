#include "kernels/ops/rnn/rnn.h"

#include <gmock/gmock.h>

#include <cmath>

#include "kernels/ops/linear/cuda_weights.h"
#include "kernels/ops/rnn/cuda.h"
#include "kernels/ops/rnn/recurrence.h"
#include "tests/support/cuda_check.h"
#include "tests/support/rnn_cells.h"

namespace tessera::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using Cell = BiRnn::Cell;
using Gate = BiRnn::Gate;

using CudaBiRnn = CudaTest;

struct ProductPrecision {
  const char* name;
  Precision math;
  DType dtype;   // what operands are rounded to; f32 for tf32, which has no type
  double unit;   // relative error of a rounded operand
  bool reduced;  // whether h is rounded too, and tanh one instruction
};

constexpr ProductPrecision kF32{"f32", Precision::kFp32, DType::kF32, 0, false};
constexpr ProductPrecision kTF32{"tf32", Precision::kTf32, DType::kF32, 0x1p-11, false};
constexpr ProductPrecision kBF16{"bf16", Precision::kBf16, DType::kBF16, 0x1p-8, true};
constexpr ProductPrecision kF16{"f16", Precision::kFp16, DType::kF16, 0x1p-11, true};

// Every kind of cell, with sigmoid gates.
std::vector<BiRnn> cells(int units, bool masked) {
  std::vector<BiRnn> list{{.cell = Cell::kLstm, .units = units, .masked = masked}};
  for (const bool reset_after : {true, false})
    list.push_back(
        {.cell = Cell::kGru, .units = units, .reset_after = reset_after, .masked = masked});
  return list;
}

std::vector<BiRnn> hard_cells(int units, bool masked) {
  std::vector<BiRnn> list = cells(units, masked);
  for (BiRnn& op : list) op.gate = Gate::kHardSigmoid;
  return list;
}

// Where x and the weights are representable, so that only h is rounded: of a sum U h of order one,
// whose terms each are off by `unit` times at most |h| < 1, 6 standard deviations of 1 / sqrt(3)
// are 3.5 units at most; 5 functions are off by 2^-11 each. Gates have slopes of 1/4 but tanh's,
// and half of the state is forgotten at each step: all steps together double one step's error.
Bound representable_bound(const ProductPrecision& p, const Bound& exact) {
  if (!p.reduced) return exact;
  return {exact.absolute + 2 * (3.5 * p.unit + 5 * 0x1p-11), exact.relative};
}

// Where x and the weights are rounded as well: both factors of W x and of U h, sums of order one.
Bound rounded_bound(const ProductPrecision& p, const Bound& exact) {
  const Bound bound = representable_bound(p, exact);
  return {4 * bound.absolute + 2 * 2 * 3.5 * 2 * p.unit, bound.relative};
}

// The outputs on a device of which some properties are given.
struct Device {
  int multiprocessors = 0;           // 0: as it is
  std::size_t shared_per_block = 0;  // likewise
};

std::vector<Tensor> run_on(const Device& device, const BiRnn& op, const std::vector<Tensor>& inputs,
                           const std::vector<Tensor>& weights, Precision math = Precision::kFp32) {
  const auto make = [&](CudaSetup setup) {
    if (device.multiprocessors != 0) setup.traits.multiprocessors = device.multiprocessors;
    if (device.shared_per_block != 0) setup.traits.shared_per_block = device.shared_per_block;
    return cuda(op, setup);
  };
  return run_cuda_step(make, infer(op, types(inputs)), inputs, weights, {.math = math});
}

void check(const ProductPrecision& p, const BiRnn& op, std::vector<Tensor> inputs,
           std::int64_t features, std::int64_t t, const Device& device = {}) {
  SCOPED_TRACE(fmt::format("{}, {} on {}", p.name, name_of_cell(op), inputs[0].type().to_string()));
  inputs[0] = inputs[0].rounded_to(p.dtype).rounded_to(DType::kF32);
  std::vector<Tensor> weights = weights_of(op, inputs);
  for (Tensor& w : weights) w = w.rounded_to(p.dtype);
  const Bound exact = exact_bound(op, features, t);
  const Bound bound =
      p.math == Precision::kTf32 ? rounded_bound(p, exact) : representable_bound(p, exact);
  expect_close(run_on(device, op, inputs, weights, p.math)[0],
               run_reference(op, inputs, weights)[0], bound);
}

TEST_F(CudaBiRnn, MatchesTheReferenceAtTileEdges) {
  for (const ProductPrecision& p : {kF32, kTF32, kBF16, kF16}) {
    for (const int units : {1, 9, 16, 17, 50}) {
      for (const BiRnn& op : cells(units, false)) check(p, op, {random({3, 3, 7}, 1)}, 7, 3);
    }
    for (const BiRnn& op : hard_cells(9, false)) check(p, op, {random({3, 4, 7}, 1)}, 7, 4);
  }
}

TEST_F(CudaBiRnn, MatchesTheReferenceAtTheModelsUnits) {
  const BiRnn op{.cell = Cell::kLstm, .units = 150};
  for (const ProductPrecision& p : {kF32, kBF16})
    check(p, op, {random({2, 3, 5}, 1), Tensor::of_ids({2}, {3, 2})}, 5, 3);
}

TEST_F(CudaBiRnn, RoundedInputsAndWeights) {
  for (const ProductPrecision& p : {kTF32, kBF16, kF16}) {
    for (const BiRnn& op : cells(33, false)) {
      SCOPED_TRACE(fmt::format("{}, {}", p.name, name_of_cell(op)));
      const std::vector<Tensor> inputs{random({3, 4, 20}, 1)};
      check_cuda(op, inputs, weights_of(op, inputs), rounded_bound(p, exact_bound(op, 20, 4)),
                 {.math = p.math});
    }
  }
}

TEST_F(CudaBiRnn, OneStepAndOneSequence) {
  for (const ProductPrecision& p : {kF32, kBF16}) {
    for (const BiRnn& op : cells(5, false)) {
      check(p, op, {random({1, 1, 3}, 1)}, 3, 1);
      check(p, op, {random({1, 12, 3}, 1)}, 3, 12);
      check(p, op, {random({9, 1}, 1)}, 1, 9);
    }
  }
}

// Lengths of 0 to t in any order.
Tensor some_lengths(Shape shape, std::int32_t t) {
  std::vector<std::int32_t> lengths(static_cast<std::size_t>(shape.elements()));
  for (std::size_t i = 0; i < lengths.size(); ++i)
    lengths[i] = static_cast<std::int32_t>(i * 13 % static_cast<std::size_t>(t + 1));
  return Tensor::of_ids(shape, lengths);
}

// One multiprocessor makes blocks take all the sequences they can.
TEST_F(CudaBiRnn, EveryNumberOfSequencesPerBlockGivesTheSameBytes) {
  const std::vector<Tensor> inputs{random({9, 4, 3}, 1), some_lengths({9}, 4)};
  for (const ProductPrecision& p : {kF32, kBF16, kF16}) {
    for (const BiRnn& op : cells(6, true)) {
      SCOPED_TRACE(fmt::format("{}, {}", p.name, name_of_cell(op)));
      const std::vector<Tensor> weights = weights_of(op, inputs);
      const Tensor one_each = run_on({.multiprocessors = 1000}, op, inputs, weights, p.math)[0];
      for (const int multiprocessors : {1, 10})
        EXPECT_TRUE(one_each.same_bytes(
            run_on({.multiprocessors = multiprocessors}, op, inputs, weights, p.math)[0]));
      check(p, op, inputs, 3, 4, {.multiprocessors = 1});
    }
  }
}

// 90 units are 12 chunks: 7 or 9 in registers, the others in shared memory, or partly or wholly in
// L2; an LSTM chunk is 11.25 KiB. 2 and 4 sequences per block hold fewer.
TEST_F(CudaBiRnn, WhereTheWeightsLieChangesNoByte) {
  for (const BiRnn& op : cells(90, true)) {
    SCOPED_TRACE(name_of_cell(op));
    const std::vector<Tensor> inputs{random({3, 2, 3}, 1), Tensor::of_ids({3}, {2, 1, 2})};
    const std::vector<Tensor> weights = weights_of(op, inputs);
    const Tensor all_shared = run_on({1000, 160 << 10}, op, inputs, weights)[0];
    for (const Device& device : {Device{1000, 8 << 10}, Device{4, 8 << 10}, Device{1, 32 << 10}})
      EXPECT_TRUE(all_shared.same_bytes(run_on(device, op, inputs, weights)[0]));
    expect_close(all_shared, run_reference(op, inputs, weights)[0], exact_bound(op, 3, 2));
  }
}

// 300 units are two passes of a block.
TEST_F(CudaBiRnn, UnitsTooManyForSharedMemory) {
  for (const BiRnn& op : cells(300, false)) check(kF32, op, {random({1, 2, 2}, 1)}, 2, 2);
  check(kBF16, {.cell = Cell::kGru, .units = 193, .masked = false}, {random({1, 2, 2}, 1)}, 2, 2);
}

TEST_F(CudaBiRnn, RaggedLengthsInAnyRank) {
  const std::vector<Tensor> inputs = ragged_sequences();
  for (const ProductPrecision& p : {kF32, kBF16}) {
    for (const BiRnn& op : hard_cells(20, true)) {
      check(p, op, inputs, 6, 9);
      expect_zeros_past_the_lengths(
          run_cuda(op, inputs, weights_of(op, inputs), {.math = p.math})[0].values());
    }
  }
}

TEST_F(CudaBiRnn, MoreSequencesThanTheOrderSortsTogether) {
  check(kBF16, {.cell = Cell::kGru, .units = 1}, {random({1030, 2, 1}, 1), some_lengths({1030}, 2)},
        1, 2);
}

TEST_F(CudaBiRnn, AllLengthsZero) {
  const BiRnn op{.cell = Cell::kLstm, .units = 5};
  const std::vector<Tensor> inputs{random({3, 4, 6}, 1), Tensor::of_ids({3}, {0, 0, 0})};
  for (const Precision math : {Precision::kFp32, Precision::kBf16})
    EXPECT_THAT(run_cuda(op, inputs, weights_of(op, inputs), {.math = math})[0].values(),
                Each(0.0f));
}

TEST_F(CudaBiRnn, PaddingChangesNothing) {
  for (const Precision math : {Precision::kFp32, Precision::kBf16}) {
    const auto run = [&](const BiRnn& op, const std::vector<Tensor>& inputs) {
      return run_cuda(op, inputs, weights_of(op, inputs), {.math = math})[0].values();
    };
    for (const BiRnn& op : cells(19, false)) expect_padding_changes_nothing(op, run);
  }
}

TEST_F(CudaBiRnn, RowOfABatchIsThatRowAlone) {
  for (const Precision math :
       {Precision::kFp32, Precision::kTf32, Precision::kBf16, Precision::kFp16}) {
    for (const BiRnn& op : cells(17, true)) {
      const std::vector<Tensor> inputs{random({4, 3, 5}, 1), Tensor::of_ids({4}, {3, 0, 1, 2})};
      check_cuda_batch(op, inputs, weights_of(op, inputs), {.math = math});
    }
  }
}

TEST_F(CudaBiRnn, FusedAndSeparateLookUpGiveTheSameBytes) {
  const Embedding embedding{.words = 37, .features = 11};
  std::vector<std::int32_t> words(6 * 5);
  for (std::size_t i = 0; i < words.size(); ++i)
    words[i] = static_cast<std::int32_t>(i * i * 31 % 37);
  const Tensor ids = Tensor::of_ids({2, 3, 5}, words);
  const Tensor lengths = Tensor::of_ids({2, 3}, {5, 0, 1, 4, 5, 3});
  for (const ProductPrecision& p : {kF32, kTF32, kBF16}) {
    for (const bool masked : {false, true}) {
      for (BiRnn op : cells(18, masked)) {
        SCOPED_TRACE(fmt::format("{}, {}", p.name, name_of_cell(op)));
        op.embedding = embedding;
        std::vector<Tensor> inputs{ids};
        if (masked) inputs.push_back(lengths);
        std::vector<Tensor> weights = weights_of(op, inputs);
        weights[0] = weights[0].rounded_to(DType::kBF16);
        const Tensor fused = run_cuda(op, inputs, weights, {.math = p.math})[0];
        const Bound exact = exact_bound(op, 11, 5);
        expect_close(fused, run_reference(op, inputs, weights)[0],
                     p.math == Precision::kFp32 ? exact : rounded_bound(p, exact));

        op.embedding.reset();
        inputs[0] = run_cuda(embedding, {ids}, {weights[0]})[0];
        weights.erase(weights.begin());
        EXPECT_TRUE(fused.same_bytes(run_cuda(op, inputs, weights, {.math = p.math})[0]));
      }
    }
  }
}

// The run projects the words that it meets.
TEST_F(CudaBiRnn, AVocabularyTooLargeToKeepGivesTheSameBytes) {
  BiRnn op{.cell = Cell::kGru, .units = 150, .masked = true, .embedding = Embedding{}};
  const std::int64_t row = 2 * rnn_projected_columns(op) * std::int64_t{sizeof(float)};
  op.embedding = Embedding{.words = static_cast<int>(kRnnKeptBytes / row) + 1, .features = 1};
  ASSERT_FALSE(rnn_keeps_words(op));
  const std::int32_t last = op.embedding->words - 1;
  const std::vector<Tensor> inputs{Tensor::of_ids({1, 3}, {last, 5, 0}), Tensor::of_ids({1}, {2})};
  std::vector<Tensor> weights = weights_of(op, inputs);
  const Tensor y = run_cuda(op, inputs, weights)[0];
  const Tensor x = run_cuda(*op.embedding, {inputs[0]}, {weights[0]})[0];
  op.embedding.reset();
  weights.erase(weights.begin());
  EXPECT_TRUE(y.same_bytes(run_cuda(op, {x, inputs[1]}, weights)[0]));
}

// The host refuses such ids and lengths; the kernels still read and write nothing outside.
TEST_F(CudaBiRnn, WrongIdsAndLengthsAreClamped) {
  const BiRnn op{
      .cell = Cell::kLstm, .units = 3, .embedding = Embedding{.words = 4, .features = 2}};
  const Tensor wrong = Tensor::of_ids({2, 2}, {-7, 4, 1, 1 << 30});
  const Tensor right = Tensor::of_ids({2, 2}, {0, 3, 1, 3});
  const std::vector<Tensor> weights = weights_of(op, {wrong, Tensor::of_ids({2}, {0, 0})});
  EXPECT_TRUE(run_cuda(op, {wrong, Tensor::of_ids({2}, {1 << 30, -1})}, weights)[0].same_bytes(
      run_cuda(op, {right, Tensor::of_ids({2}, {2, 0})}, weights)[0]));
}

TEST_F(CudaBiRnn, LargeInputsSaturate) {
  for (const ProductPrecision& p : {kF32, kTF32, kBF16}) {
    for (const BiRnn& op : cells(9, false)) {
      const std::vector<Tensor> inputs = large_sequences();
      // Gates are 0 or 1, so what is left are c = +-1, +-2, +-3 and tanh of it.
      check_cuda(op, inputs, weights_of(op, inputs), {p.reduced ? 0x1p-10 : 1e-5, 0},
                 {.math = p.math});
    }
  }
}

TEST_F(CudaBiRnn, NanStaysInItsSequenceAndDirection) {
  for (const Precision math : {Precision::kFp32, Precision::kBf16, Precision::kFp16}) {
    for (const Device& device : {Device{1000, 0}, Device{1, 0}}) {
      for (const BiRnn& op : hard_cells(17, false)) {
        SCOPED_TRACE(name_of_cell(op));
        const std::vector<Tensor> inputs = sequences_with_nan();
        expect_nan_in_its_sequence_and_direction(
            run_on(device, op, inputs, weights_of(op, inputs), math)[0].values());
      }
    }
  }
}

constexpr CudaTraits kH100{.capability = 90, .multiprocessors = 132, .shared_per_block = 232448};
constexpr CudaTraits kA100{.capability = 80, .multiprocessors = 108, .shared_per_block = 166912};

TEST(ChooseRnn, ExactWeightsLieOnChipAsFarAsTheyFit) {
  const RnnChoice h100 = choose_rnn(kH100, Precision::kFp32, RnnCell::kLstm, 150, 64);
  EXPECT_EQ(h100.technique, RnnTechnique::kSimt);
  EXPECT_EQ(h100.sequences, 1);
  EXPECT_EQ(h100.threads, 320);
  EXPECT_EQ(h100.held + h100.shared_chunks, rnn_chunks(RnnTechnique::kSimt, 150));
  EXPECT_LE(h100.shared_bytes, kH100.shared_per_block);
  EXPECT_THAT(h100.rejected, ElementsAre(HasSubstr("f32 or tf32")));

  const RnnChoice a100 = choose_rnn(kA100, Precision::kTf32, RnnCell::kLstm, 150, 64);
  EXPECT_LT(a100.held + a100.shared_chunks, rnn_chunks(RnnTechnique::kSimt, 150));
  EXPECT_LE(a100.shared_bytes, kA100.shared_per_block);

  const RnnChoice gru = choose_rnn(kH100, Precision::kFp32, RnnCell::kGruResetAfter, 50, 64);
  EXPECT_EQ(gru.held, rnn_chunks(RnnTechnique::kSimt, 50));
  EXPECT_EQ(gru.shared_chunks, 0);
}

TEST(ChooseRnn, MoreSequencesPerBlockOnceTheyFillTheDevice) {
  const auto sequences = [](Precision rounding, std::int64_t count) {
    return choose_rnn(kH100, rounding, RnnCell::kLstm, 150, count).sequences;
  };
  EXPECT_EQ(sequences(Precision::kFp32, 66), 1);
  EXPECT_EQ(sequences(Precision::kFp32, 67), 2);
  EXPECT_EQ(sequences(Precision::kFp32, 1000), 4);
  EXPECT_EQ(sequences(Precision::kBf16, 528), 8);
  EXPECT_EQ(sequences(Precision::kFp16, 529), 16);
  EXPECT_THAT(choose_rnn(kH100, Precision::kFp32, RnnCell::kLstm, 150, 100).rejected,
              ElementsAre(HasSubstr("f32"), AllOf(HasSubstr("fma x 1"), HasSubstr("200 blocks"),
                                                  HasSubstr("132 multiprocessors"))));
}

TEST(ChooseRnn, TensorCoresWhereTheWeightsFit) {
  const auto choose = [](const CudaTraits& traits, int units) {
    return choose_rnn(traits, Precision::kBf16, RnnCell::kLstm, units, 8);
  };
  for (const CudaTraits& traits : {kH100, kA100}) {
    const RnnChoice choice = choose(traits, 150);
    EXPECT_EQ(choice.technique, RnnTechnique::kMma);
    EXPECT_EQ(choice.threads, 320);
    EXPECT_LE(choice.shared_bytes, traits.shared_per_block);
    EXPECT_THAT(choice.rejected, testing::IsEmpty());
  }
  EXPECT_EQ(choose(kH100, 193).technique, RnnTechnique::kSimt);
  EXPECT_THAT(choose(kH100, 193).rejected, ElementsAre(HasSubstr("193 units")));
  CudaTraits small = kA100;
  small.shared_per_block = 48 << 10;
  EXPECT_THAT(choose(small, 150).rejected,
              ElementsAre(AllOf(HasSubstr("mma x 8"), HasSubstr("49152")), HasSubstr("mma x 16")));
}

TEST(ChooseRnn, StateTooLargeForSharedMemoryIsAnError) {
  EXPECT_EQ(choose_rnn(kA100, Precision::kFp32, RnnCell::kLstm, 13000, 1000).sequences, 1);
  EXPECT_THAT([] { choose_rnn(kA100, Precision::kFp32, RnnCell::kLstm, 20000, 1); },
              testing::ThrowsMessage<Error>(AllOf(HasSubstr("20000 units"), HasSubstr("166912"))));
}

}  // namespace
}  // namespace tessera::test
