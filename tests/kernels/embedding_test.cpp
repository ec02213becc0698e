#include "kernels/ops/embedding/embedding.h"

#include <gmock/gmock.h>

#include "tests/support/operator_check.h"

namespace tessera::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

// A copy: no bound but equality.
constexpr Bound kExact{0, 0};

std::vector<std::int32_t> some_ids(std::int64_t count, int words) {
  std::vector<std::int32_t> ids;
  for (std::int64_t i = 0; i < count; ++i) ids.push_back(static_cast<std::int32_t>(i * 7 % words));
  return ids;
}

TEST(Embedding, CopiesRowsOfAnyShapeAndWidth) {
  for (const int features : {1, 7, 16, 100}) {
    for (const Shape& shape : {Shape{1}, Shape{64}, Shape{65}, Shape{3, 50}, Shape{2, 3, 4, 5}}) {
      SCOPED_TRACE(shape.to_string());
      const Embedding op{.words = 33, .features = features};
      const Tensor ids = Tensor::of_ids(shape, some_ids(shape.elements(), op.words));
      check_cpu(op, {ids}, {random({op.words, features}, 1)}, kExact);
    }
  }
}

TEST(Embedding, WidensBf16AndF16) {
  const Embedding op{.words = 2, .features = 3};
  const Tensor ids = Tensor::of_ids({3}, {1, 0, 1});
  check_cpu(op, {ids}, {random({2, 3}, 1).rounded_to(DType::kBF16)}, kExact);

  Tensor half({DType::kF16, {2, 3}});
  const std::uint16_t bits[] = {0x3c00, 0xc000, 0x0001, 0x0000, 0x7bff, 0x3800};
  std::memcpy(half.view().pointer, bits, sizeof(bits));
  const std::vector<float> y = run_cpu(op, {ids}, {half}, 1)[0].values();
  EXPECT_THAT(
      y, testing::ElementsAre(0.0f, 65504.0f, 0.5f, 1.0f, -2.0f, 0x1p-24f, 0.0f, 65504.0f, 0.5f));
}

TEST(Embedding, NanOfTheTableArrives) {
  const Tensor table = Tensor::of({2, 1}, {NAN, 1.0f});
  const auto y =
      run_cpu(Embedding{.words = 2, .features = 1}, {Tensor::of_ids({2}, {0, 1})}, {table}, 1)[0]
          .values();
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_EQ(y[1], 1.0f);
}

TEST(Embedding, AnIdOutsideTheTableIsNamed) {
  const Embedding op{.words = 10, .features = 2};
  const Tensor table = random({10, 2}, 1);
  for (const std::int32_t bad : {-1, 10, 1 << 30}) {
    const Tensor ids = Tensor::of_ids({2, 2}, {0, 9, bad, 3});
    const auto message =
        AllOf(HasSubstr("id " + std::to_string(bad)), HasSubstr("position 2"), HasSubstr("10"));
    EXPECT_THAT([&] { run_cpu(op, {ids}, {table}, 2); }, ThrowsMessage<Error>(message));
    EXPECT_THAT([&] { run_reference(op, {ids}, {table}); }, ThrowsMessage<Error>(message));
  }
}

TEST(Embedding, WrongInputsAreErrors) {
  const Embedding op{.words = 10, .features = 2};
  const auto infer_of = [](const Embedding& e, std::vector<TensorType> inputs) {
    return [e, inputs] { infer(e, inputs); };
  };
  EXPECT_THAT(infer_of(op, {}), ThrowsMessage<Error>(HasSubstr("found 0")));
  EXPECT_THAT(infer_of(op, {{DType::kF32, {3}}}), ThrowsMessage<Error>(HasSubstr("f32 (3)")));
  EXPECT_THAT(infer_of(op, {{DType::kI32, {1, 1, 1, 1, 1, 1}}}),
              ThrowsMessage<Error>(HasSubstr("(1, 1, 1, 1, 1, 1)")));
  EXPECT_THAT(infer_of({.words = 0, .features = 2}, {{DType::kI32, {3}}}),
              ThrowsMessage<Error>(HasSubstr("0 and 2")));
}

TEST(Embedding, CostCountsTheRowsLookedUp) {
  const TensorType ids{DType::kI32, {4}};
  const Cost c = cost(Embedding{.words = 1000, .features = 8}, {&ids, 1});
  EXPECT_EQ(c.flops, 0);
  EXPECT_EQ(c.bytes, 4 * 4 + 2 * 4 * 8 * 4);
}

}  // namespace
}  // namespace tessera::test
