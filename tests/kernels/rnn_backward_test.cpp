// BiRnn in training.
#include <gmock/gmock.h>

#include "tests/support/backward_check.h"
#include "tests/support/rnn_cells.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::case_of;
using test::TrainCase;

void check(const TrainCase<BiRnn>& c) {
  test::check_backward(c, test::exact_bounds_of(c));
}

TEST(RnnBackward, AgreesWithFiniteDifferences) {
  for (const bool masked : {false, true}) {
    for (const BiRnn& op : test::trained_cells(3, masked)) {
      SCOPED_TRACE(test::name_of_cell(op));
      // A hard sigmoid has kinks: a small scale keeps all sums away from +-2.5.
      test::check_finite_differences(case_of(op, {4, 1, 0}, 4, 2, 0.25f), 5e-3);
    }
  }
}

TEST(RnnBackward, MatchesTheReferenceAtEveryWidth) {
  for (const int units : {1, 6, 15, 16, 17, 33}) {
    for (const BiRnn& op : test::trained_cells(units, true)) {
      SCOPED_TRACE(test::name_of_cell(op));
      check(case_of(op, {5, 2, 0, 7, 1, 7, 3}, 7, 9));
    }
  }
}

TEST(RnnBackward, MatchesTheReferenceUnmasked) {
  for (const BiRnn& op : test::trained_cells(20, false)) {
    SCOPED_TRACE(test::name_of_cell(op));
    check(case_of(op, {0, 0, 0, 0, 0}, 6, 17));
    check(case_of(op, {0}, 1, 1));
  }
}

TEST(RnnBackward, MatchesTheReferenceAcrossGroupsAndChunks) {
  for (const BiRnn& op : test::trained_cells(4, true)) {
    SCOPED_TRACE(test::name_of_cell(op));
    std::vector<std::int32_t> lengths;
    for (std::int32_t i = 0; i < 250; ++i) lengths.push_back(i * 7 % 41);
    check(case_of(op, lengths, 40, 3));
  }
}

TEST(RnnBackward, AllSequencesEmpty) {
  for (const BiRnn& op : test::trained_cells(5, true)) check(case_of(op, {0, 0}, 3, 2));
}

TEST(RnnBackward, MatchesOnEveryInstructionSet) {
  test::for_each_target([] {
    for (const BiRnn& op : test::trained_cells(19, true)) {
      SCOPED_TRACE(test::name_of_cell(op));
      check(case_of(op, {5, 2, 4}, 5, 7));
    }
  });
}

// Training computes what inference does.
TEST(RnnBackward, TheForwardRunIsThatOfInference) {
  for (const BiRnn& op : test::trained_cells(21, true)) {
    SCOPED_TRACE(test::name_of_cell(op));
    const TrainCase<BiRnn> c = case_of(op, {5, 2, 0, 7, 1, 7, 3}, 7, 9);
    EXPECT_TRUE(test::train_on_cpu(c, 2).outputs[0].same_bytes(
        test::run_cpu(c.op, c.inputs, c.weights, 2)[0]));
  }
}

TEST(RnnBackward, NamesWhatItCannotTake) {
  const std::vector<TensorType> types{{DType::kI32, {2, 5}}, {DType::kI32, {2}}};
  EXPECT_THAT(
      [&] {
        saved_for_backward(BiRnn{.units = 3, .embedding = Embedding{7, 2}}, types);
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("a node of its own")));
}

}  // namespace
}  // namespace tessera
