// BiRnn in training.
#include <gmock/gmock.h>

#include "tests/support/backward_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;
using test::TrainCase;

struct Variant {
  const char* name;
  BiRnn op;
};

std::vector<Variant> variants(int units, bool masked) {
  std::vector<Variant> list{
      {"LSTM", {.cell = BiRnn::Cell::kLstm}},
      {"GRU", {.cell = BiRnn::Cell::kGru}},
      {"GRU, reset before", {.cell = BiRnn::Cell::kGru, .reset_after = false}},
      {"LSTM, hard", {.cell = BiRnn::Cell::kLstm, .gate = BiRnn::Gate::kHardSigmoid}},
      {"GRU, hard, reset before",
       {.cell = BiRnn::Cell::kGru, .gate = BiRnn::Gate::kHardSigmoid, .reset_after = false}}};
  for (Variant& variant : list) {
    variant.op.units = units;
    variant.op.masked = masked;
  }
  return list;
}

TrainCase<BiRnn> case_of(const BiRnn& op, const std::vector<std::int32_t>& lengths, std::int64_t t,
                         std::int64_t features, float scale = 0.3f) {
  const auto rows = static_cast<std::int64_t>(lengths.size());
  TrainCase<BiRnn> c{op, {test::random({rows, t, features}, 50)}, {}};
  const std::vector<TensorType> types{c.inputs[0].type(), {DType::kI32, {rows}}};
  for (const Parameter& p : parameters(op, types))
    c.weights.push_back(test::random(p.shape, 60 + static_cast<unsigned>(c.weights.size()), scale));
  if (op.masked) c.inputs.push_back(Tensor::of_ids({rows}, lengths));
  return c;
}

// Each step adds the rounding of its two products, and, since |s'| <= 1/4 and |U| is below one,
// errors of earlier steps fade rather than grow; gradients of weights sum over all steps.
test::BackwardBounds bounds_of(const TrainCase<BiRnn>& c) {
  const Shape& x = c.inputs[0].type().shape;
  const double terms = static_cast<double>(x[-2]) * static_cast<double>(x[-1] + c.op.units + 8);
  const double steps = static_cast<double>(x[0] * x[1]);
  const double error = 16 * 0x1p-24 * std::sqrt(terms + 16);
  return {.forward = {error, 0x1p-21},
          .input = {4 * error, 0x1p-20},
          .weight = {8 * error * std::sqrt(steps), 0x1p-20}};
}

void check(const TrainCase<BiRnn>& c) {
  test::check_backward(c, bounds_of(c));
}

TEST(RnnBackward, AgreesWithFiniteDifferences) {
  for (const bool masked : {false, true}) {
    for (const Variant& variant : variants(3, masked)) {
      SCOPED_TRACE(variant.name);
      // A hard sigmoid has kinks: a small scale keeps all sums away from +-2.5.
      test::check_finite_differences(case_of(variant.op, {4, 1, 0}, 4, 2, 0.25f), 5e-3);
    }
  }
}

TEST(RnnBackward, MatchesTheReferenceAtEveryWidth) {
  for (const int units : {1, 6, 15, 16, 17, 33}) {
    for (const Variant& variant : variants(units, true)) {
      SCOPED_TRACE(fmt::format("{}, {} units", variant.name, units));
      check(case_of(variant.op, {5, 2, 0, 7, 1, 7, 3}, 7, 9));
    }
  }
}

TEST(RnnBackward, MatchesTheReferenceUnmasked) {
  for (const Variant& variant : variants(20, false)) {
    SCOPED_TRACE(variant.name);
    check(case_of(variant.op, {0, 0, 0, 0, 0}, 6, 17));
    check(case_of(variant.op, {0}, 1, 1));
  }
}

TEST(RnnBackward, MatchesTheReferenceAcrossGroupsAndChunks) {
  for (const Variant& variant : variants(4, true)) {
    SCOPED_TRACE(variant.name);
    std::vector<std::int32_t> lengths;
    for (std::int32_t i = 0; i < 250; ++i) lengths.push_back(i * 7 % 41);
    check(case_of(variant.op, lengths, 40, 3));
  }
}

TEST(RnnBackward, AllSequencesEmpty) {
  for (const Variant& variant : variants(5, true)) check(case_of(variant.op, {0, 0}, 3, 2));
}

TEST(RnnBackward, MatchesOnEveryInstructionSet) {
  test::for_each_target([] {
    for (const Variant& variant : variants(19, true)) {
      SCOPED_TRACE(variant.name);
      check(case_of(variant.op, {5, 2, 4}, 5, 7));
    }
  });
}

// Training computes what inference does.
TEST(RnnBackward, TheForwardRunIsThatOfInference) {
  for (const Variant& variant : variants(21, true)) {
    SCOPED_TRACE(variant.name);
    const TrainCase<BiRnn> c = case_of(variant.op, {5, 2, 0, 7, 1, 7, 3}, 7, 9);
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
