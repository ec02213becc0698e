#include "kernels/ops/rnn/rnn.h"

#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "kernels/ops/rnn/recurrence.h"
#include "tests/support/operator_check.h"
#include "tests/support/rnn_cells.h"
#include "tests/support/targets.h"

namespace tessera::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::ElementsAreArray;
using testing::HasSubstr;
using testing::ThrowsMessage;
using Cell = BiRnn::Cell;
using Gate = BiRnn::Gate;

// Every kind of cell.
std::vector<BiRnn> cells(int units) {
  std::vector<BiRnn> list;
  for (const Gate gate : {Gate::kSigmoid, Gate::kHardSigmoid}) {
    list.push_back({.cell = Cell::kLstm, .units = units, .gate = gate, .masked = false});
    for (const bool reset_after : {true, false}) {
      list.push_back({.cell = Cell::kGru,
                      .units = units,
                      .gate = gate,
                      .reset_after = reset_after,
                      .masked = false});
    }
  }
  return list;
}

void check(const BiRnn& op, const std::vector<Tensor>& inputs, std::int64_t features,
           std::int64_t t) {
  SCOPED_TRACE(name_of_cell(op) + " on " + inputs[0].type().to_string());
  check_cpu(op, inputs, weights_of(op, inputs), exact_bound(op, features, t));
}

TEST(BiRnn, MatchesTheReferenceAtTileAndVectorEdges) {
  for_each_target([] {
    for (const int units : {1, 7, 15, 16, 17, 50}) {
      for (const BiRnn& op : cells(units)) check(op, {random({7, 5, 13}, 1)}, 13, 5);
    }
  });
}

TEST(BiRnn, MatchesTheReferenceAtTheModelsSizes) {
  check({.cell = Cell::kLstm, .units = 150, .masked = false}, {random({13, 20, 100}, 1)}, 100, 20);
  check({.cell = Cell::kGru, .units = 50, .masked = false}, {random({30, 40, 100}, 1)}, 100, 40);
}

TEST(BiRnn, OneStepAndOneSequence) {
  for (const BiRnn& op : cells(17)) {
    check(op, {random({1, 1, 3}, 1)}, 3, 1);
    check(op, {random({50, 1, 3}, 1)}, 3, 1);
    check(op, {random({1, 50, 3}, 1)}, 3, 50);
    check(op, {random({9, 1}, 1)}, 1, 9);
  }
}

TEST(BiRnn, MoreSequencesThanAGroupTakes) {
  for (BiRnn op : cells(3)) {
    op.masked = true;
    std::vector<std::int32_t> lengths(205);
    for (std::size_t i = 0; i < lengths.size(); ++i)
      lengths[i] = static_cast<std::int32_t>(i * 13 % 5);
    check(op, {random({205, 4, 2}, 1), Tensor::of_ids({205}, lengths)}, 2, 4);
  }
}

TEST(BiRnn, MoreStepsThanAChunkTakes) {
  const BiRnn op{.cell = Cell::kGru, .units = 1, .masked = false};
  check(op, {random({70, 600, 1}, 1)}, 1, 600);  // chunks of 32 sequences
}

TEST(BiRnn, RaggedLengthsInAnyRank) {
  const std::vector<Tensor> inputs = ragged_sequences();
  for (BiRnn op : cells(20)) {
    op.masked = true;
    check(op, inputs, 6, 9);
    expect_zeros_past_the_lengths(run_cpu(op, inputs, weights_of(op, inputs), 2)[0].values());
  }
}

TEST(BiRnn, AllLengthsZero) {
  const BiRnn op{.cell = Cell::kLstm, .units = 5};
  const std::vector<Tensor> inputs{random({3, 4, 6}, 1), Tensor::of_ids({3}, {0, 0, 0})};
  EXPECT_THAT(run_cpu(op, inputs, weights_of(op, inputs), 2)[0].values(), Each(0.0f));
}

TEST(BiRnn, PaddingChangesNothing) {
  const auto run = [](const BiRnn& op, const std::vector<Tensor>& inputs) {
    return run_cpu(op, inputs, weights_of(op, inputs), 1)[0].values();
  };
  for (const BiRnn& op : cells(19)) expect_padding_changes_nothing(op, run);
}

TEST(BiRnn, ASequenceAloneHasTheBytesItHasAmongMany) {
  for (BiRnn op : cells(21)) {
    op.masked = true;
    const Tensor x = random({23, 6, 5}, 1);
    std::vector<std::int32_t> lengths(23);
    for (std::size_t i = 0; i < lengths.size(); ++i)
      lengths[i] = static_cast<std::int32_t>(i * 5 % 7);
    const std::vector<Tensor> inputs{x, Tensor::of_ids({23}, lengths)};
    const std::vector<Tensor> weights = weights_of(op, inputs);
    const std::vector<float> all = run_cpu(op, inputs, weights, 2)[0].values(), values = x.values();
    for (std::size_t i = 0; i < lengths.size(); ++i) {
      const Tensor one = Tensor::of({1, 6, 5}, {&values[i * 30], &values[i * 30] + 30});
      const auto y = run_cpu(op, {one, Tensor::of_ids({1}, {lengths[i]})}, weights, 1)[0].values();
      EXPECT_THAT(y, ElementsAreArray(&all[i * 6 * 42], 6 * 42)) << name_of_cell(op) << ", " << i;
    }
  }
}

TEST(BiRnn, FusedAndSeparateLookUpGiveTheSameBytes) {
  const Embedding embedding{.words = 37, .features = 11};
  std::vector<std::int32_t> words(12 * 9);
  for (std::size_t i = 0; i < words.size(); ++i)
    words[i] = static_cast<std::int32_t>(i * i * 31 % 37);
  const Tensor ids = Tensor::of_ids({3, 4, 9}, words);
  const Tensor lengths = Tensor::of_ids({3, 4}, {9, 0, 1, 5, 9, 3, 2, 8, 9, 9, 4, 7});
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    for (const bool masked : {false, true}) {
      for (BiRnn op : cells(18)) {
        SCOPED_TRACE(name_of_cell(op));
        op.masked = masked;
        op.embedding = embedding;
        std::vector<Tensor> inputs{ids};
        if (masked) inputs.push_back(lengths);
        std::vector<Tensor> weights = weights_of(op, inputs);
        for (Tensor& w : weights) w = w.rounded_to(dtype);
        check_cpu(op, inputs, weights, exact_bound(op, 11, 9));
        const Tensor fused = run_cpu(op, inputs, weights, 2)[0];

        op.embedding.reset();
        inputs[0] = run_cpu(embedding, {ids}, {weights[0]}, 1)[0];
        weights.erase(weights.begin());
        EXPECT_TRUE(fused.same_bytes(run_cpu(op, inputs, weights, 2)[0]));
      }
    }
  }
}

// Steps of several shapes that share their weights, run in turn: what an executor does.
class SharedSteps {
 public:
  SharedSteps(const BiRnn& op, std::vector<Tensor> weights)
      : op_(op), weights_(std::move(weights)) {}

  Tensor run(const std::vector<Tensor>& inputs) {
    const auto in = views(inputs), w = views(weights_);
    const auto input_types = types(inputs);
    const Tensor y(infer(op_, input_types)[0]);
    const std::vector<TensorView> out{y.view()};
    const Step step = cpu(op_, {"node", input_types, w, 2, &packed_});
    const AlignedBuffer scratch(step.scratch_bytes);
    step.run({in, w, out}, scratch.get());
    return y;
  }
  std::size_t packed_bytes() const { return packed_.bytes(); }

 private:
  BiRnn op_;
  std::vector<Tensor> weights_;
  PackedWeights packed_;
};

TEST(BiRnn, WordsKnownFromOtherRunsAndShapesChangeNoByte) {
  for (BiRnn op : cells(18)) {
    SCOPED_TRACE(name_of_cell(op));
    op.masked = true;
    op.embedding = Embedding{.words = 29, .features = 11};
    std::vector<std::vector<Tensor>> runs;
    for (const std::int64_t t : {3, 8, 3, 1, 8}) {
      std::vector<std::int32_t> words(static_cast<std::size_t>(5 * t)), lengths(5);
      const auto run = static_cast<std::int32_t>(runs.size());
      for (std::int32_t i = 0; i < 5 * t; ++i)
        words[static_cast<std::size_t>(i)] = (i * i * 7 + run * 11) % 29;
      for (std::int32_t i = 0; i < 5; ++i)
        lengths[static_cast<std::size_t>(i)] = (i + run) % static_cast<std::int32_t>(t + 1);
      runs.push_back({Tensor::of_ids({5, t}, words), Tensor::of_ids({5}, lengths)});
    }
    const std::vector<Tensor> weights = weights_of(op, runs[0]);
    SharedSteps shared(op, weights);
    for (const std::vector<Tensor>& inputs : runs)
      EXPECT_TRUE(shared.run(inputs).same_bytes(SharedSteps(op, weights).run(inputs)));
  }
}

TEST(BiRnn, AVocabularyTooLargeToKeepGivesTheSameBytes) {
  BiRnn op{.cell = Cell::kLstm, .units = 50, .masked = false, .embedding = Embedding{}};
  const auto row = static_cast<std::int64_t>(2 * rnn_projected_columns(op) * sizeof(float));
  op.embedding = Embedding{.words = static_cast<int>(kRnnKeptBytes / row), .features = 1};
  const std::int32_t last = op.embedding->words - 1;
  const std::vector<Tensor> inputs{Tensor::of_ids({2, 4}, {0, last, 5, 0, last, 7, last, 9})};
  std::vector<Tensor> weights = weights_of(op, inputs);
  SharedSteps kept(op, weights);
  const Tensor y = kept.run(inputs);
  EXPECT_GE(kept.packed_bytes(), static_cast<std::size_t>((last + 1) * row));

  std::vector<float> table = weights[0].values();
  table.push_back(0.5f);
  op.embedding->words += 1;
  weights[0] = Tensor::of({last + 2, 1}, table);
  SharedSteps not_kept(op, weights);
  EXPECT_TRUE(not_kept.run(inputs).same_bytes(y));
  EXPECT_TRUE(not_kept.run(inputs).same_bytes(y));
  EXPECT_LT(not_kept.packed_bytes(), std::size_t{1} << 20);
}

TEST(BiRnn, LargeInputsSaturate) {
  for (const BiRnn& op : cells(9)) {
    const std::vector<Tensor> inputs = large_sequences();
    // Gates are 0 or 1, so what is left are c = +-1, +-2, +-3 and tanh of it.
    check_cpu(op, inputs, weights_of(op, inputs), {1e-5, 0});
  }
}

TEST(BiRnn, NanStaysInItsSequenceAndDirection) {
  for (const BiRnn& op : cells(17)) {
    SCOPED_TRACE(name_of_cell(op));
    const std::vector<Tensor> inputs = sequences_with_nan();
    expect_nan_in_its_sequence_and_direction(
        run_cpu(op, inputs, weights_of(op, inputs), 2)[0].values());
  }
}

// Both directions share their weights; the second output is the first step's of the reversed
// sequence. Expected: the formulas of Keras' documentation, by hand.
std::vector<float> run_by_hand(const BiRnn& op, const std::vector<float>& w,
                               const std::vector<float>& u, const std::vector<float>& b_w,
                               const std::vector<float>& b_u) {
  const auto gates = static_cast<std::int64_t>(w.size());
  const std::vector<Tensor> one{Tensor::of({gates, 1}, w), Tensor::of({gates, 1}, u),
                                Tensor::of({gates}, b_w), Tensor::of({gates}, b_u)};
  std::vector<Tensor> weights = one;
  weights.insert(weights.end(), one.begin(), one.end());
  const std::vector<Tensor> inputs{Tensor::of({2, 1}, {2.0f, -1.0f})};
  check_cpu(op, inputs, weights, exact_bound(op, 1, 2));
  const auto y = run_cpu(op, inputs, weights, 1)[0].values();
  return {y[0], y[2]};
}

TEST(BiRnn, LstmByHand) {
  const std::vector<float> w{0.5f, -0.25f, 1.5f, 0.75f}, u{0.1f, 0.2f, -0.3f, 0.4f};
  const std::vector<float> b_w{0, 1, 0, -0.5f}, b_u{0, 0, 0, 0};
  const BiRnn op{.cell = Cell::kLstm, .units = 1, .masked = false};
  const auto y = run_by_hand(op, w, u, b_w, b_u);
  EXPECT_NEAR(y[0], 0.4543519588, 1e-6);
  EXPECT_NEAR(y[1], 0.0545616393, 1e-6);
  BiRnn hard = op;
  hard.gate = Gate::kHardSigmoid;
  const auto y_hard = run_by_hand(hard, w, u, b_w, b_u);
  EXPECT_NEAR(y_hard[0], 0.4215161432, 1e-6);
  EXPECT_NEAR(y_hard[1], 0.0439390251, 1e-6);
}

TEST(BiRnn, GruByHand) {
  const std::vector<float> w{-0.25f, 0.5f, 1.5f}, u{0.2f, 0.1f, -0.3f};
  const std::vector<float> b_w{-0.1f, 0.2f, 0.3f}, b_u{0, 0, 0.6f};
  BiRnn op{.cell = Cell::kGru, .units = 1, .masked = false};
  const auto after = run_by_hand(op, w, u, b_w, b_u);
  EXPECT_NEAR(after[0], 0.2310639366, 1e-6);
  EXPECT_NEAR(after[1], -0.3101783159, 1e-6);
  op.reset_after = false;
  const auto before = run_by_hand(op, w, u, b_w, b_u);
  EXPECT_NEAR(before[0], 0.2312856072, 1e-6);
  EXPECT_NEAR(before[1], -0.2208259073, 1e-6);
}

TEST(BiRnn, WrongInputsAreErrors) {
  const auto infer_of = [](const BiRnn& op, std::vector<TensorType> inputs) {
    return [op, inputs] { infer(op, inputs); };
  };
  const BiRnn op{.units = 2}, unmasked{.units = 2, .masked = false};
  const BiRnn fused{.units = 2, .masked = false, .embedding = Embedding{.words = 9, .features = 3}};
  const TensorType x{DType::kF32, {2, 3, 4}}, lengths{DType::kI32, {2}};
  EXPECT_THAT(infer_of({.units = 0}, {x, lengths}), ThrowsMessage<Error>(HasSubstr("not 0")));
  EXPECT_THAT(infer_of(op, {x}), ThrowsMessage<Error>(HasSubstr("found 1")));
  EXPECT_THAT(infer_of(unmasked, {x, lengths}), ThrowsMessage<Error>(HasSubstr("found 2")));
  EXPECT_THAT(infer_of(op, {x, {DType::kI32, {3}}}),
              ThrowsMessage<Error>(AllOf(HasSubstr("i32 (2)"), HasSubstr("i32 (3)"))));
  EXPECT_THAT(infer_of(unmasked, {{DType::kI32, {2, 3, 4}}}),
              ThrowsMessage<Error>(HasSubstr("i32 (2, 3, 4)")));
  EXPECT_THAT(infer_of(unmasked, {{DType::kF32, {2, 0, 4}}}),
              ThrowsMessage<Error>(HasSubstr("(2, 0, 4)")));
  EXPECT_THAT(infer_of(fused, {x}), ThrowsMessage<Error>(HasSubstr("f32 (2, 3, 4)")));
  EXPECT_THAT(infer_of(fused, {{DType::kI32, {}}}), ThrowsMessage<Error>(HasSubstr("i32 ()")));
}

TEST(BiRnn, WrongLengthsAndIdsAreNamed) {
  const BiRnn op{.units = 2, .embedding = Embedding{.words = 9, .features = 3}};
  const auto expect = [&](std::vector<std::int32_t> ids, std::vector<std::int32_t> lengths,
                          const auto& message) {
    const std::vector<Tensor> inputs{Tensor::of_ids({2, 2}, ids), Tensor::of_ids({2}, lengths)};
    const std::vector<Tensor> weights = weights_of(op, inputs);
    EXPECT_THAT([&] { run_cpu(op, inputs, weights, 2); }, ThrowsMessage<Error>(message));
    EXPECT_THAT([&] { run_reference(op, inputs, weights); }, ThrowsMessage<Error>(message));
  };
  expect({0, 1, 2, 3}, {2, 3}, AllOf(HasSubstr("length 3"), HasSubstr("sequence 1")));
  expect({0, 1, 2, 3}, {-1, 2}, AllOf(HasSubstr("length -1"), HasSubstr("sequence 0")));
  expect({0, 1, 9, 3}, {2, 2}, AllOf(HasSubstr("id 9"), HasSubstr("position 2")));
  expect({0, -7, 1, 3}, {2, 2}, AllOf(HasSubstr("id -7"), HasSubstr("position 1")));
}

TEST(BiRnn, ParametersAreNamedAsPyTorchDoes) {
  const TensorType ids{DType::kI32, {2, 3}};
  const BiRnn op{.cell = Cell::kGru,
                 .units = 5,
                 .masked = false,
                 .embedding = Embedding{.words = 9, .features = 4}};
  const auto list = parameters(op, {&ids, 1});
  ASSERT_EQ(list.size(), 9u);
  EXPECT_EQ(list[0].name, "embedding");
  EXPECT_EQ(list[1].name, "weight_ih");
  EXPECT_EQ(list[1].shape, (Shape{15, 4}));
  EXPECT_EQ(list[6].name, "weight_hh_reverse");
  EXPECT_EQ(list[6].shape, (Shape{15, 5}));
  EXPECT_EQ(list[8].shape, (Shape{15}));
  // 6 steps x 2 directions x 15 rows x (4 + 5) columns, multiply and add.
  EXPECT_EQ(cost(op, {&ids, 1}).flops, 2 * 6 * 2 * 15 * 9);
}

}  // namespace
}  // namespace tessera::test
