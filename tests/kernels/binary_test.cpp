#include "kernels/ops/binary/binary.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;

constexpr std::size_t kKinds = names_of(Binary::Kind{}).size();

// One rounding, to f32 or to bf16.
TEST(Binary, MatchesTheReferenceAtEveryShapeAndTailOnEveryInstructionSet) {
  using Pair = std::pair<Shape, Shape>;
  for (const auto& [a_shape, b_shape] :
       {Pair{{2, 3, 5, 7}, {2, 3, 5, 7}}, Pair{{1, 9, 5, 33}, {33}},
        Pair{{2, 4, 4, 16}, {2, 1, 1, 16}}, Pair{{1}, {5, 19}}, Pair{{2, 3, 4, 5}, {3, 1, 5}},
        Pair{{7, 1}, {1, 20}}, Pair{{2, 1, 4, 1, 3}, {5, 1, 6, 1}}, Pair{{20000}, {20000}},
        Pair{{3, 20000}, {1}}}) {
    SCOPED_TRACE(a_shape.to_string() + " and " + b_shape.to_string());
    for (std::size_t kind = 0; kind < kKinds; ++kind) {
      const Binary op{static_cast<Binary::Kind>(kind)};
      const Tensor a = test::random(a_shape, 1), b = test::random(b_shape, 2);
      test::for_each_target([&] {
        test::check_cpu(op, {a, b}, {}, {0, 0x1p-23});
        test::check_cpu(op, {a.rounded_to(DType::kBF16), b.rounded_to(DType::kBF16)}, {},
                        {0, 0x1p-8});
      });
    }
  }
}

TEST(Binary, TheNarrowerTypeIsTheResults) {
  const Tensor a = test::random({2, 5}, 1), b = test::random({5}, 2).rounded_to(DType::kBF16);
  const std::vector<TensorType> types{a.type(), b.type()};
  EXPECT_EQ(infer(Binary{}, types)[0], (TensorType{DType::kBF16, {2, 5}}));
  test::check_cpu(Binary{}, {a, b}, {}, {0, 0x1p-8});
}

TEST(Binary, NaNWinsFromEitherSide) {
  for (const Binary& op : {Binary{Binary::Kind::kMin}, Binary{Binary::Kind::kMax}}) {
    const Tensor a = Tensor::of({3}, {NAN, 1, 2}), b = Tensor::of({3}, {1, NAN, 3});
    for (const Tensor& y :
         {test::run_cpu(op, {a, b}, {}, 1)[0], test::run_reference(op, {a, b}, {})[0]}) {
      EXPECT_TRUE(std::isnan(y.values()[0]) && std::isnan(y.values()[1]));
      EXPECT_EQ(y.values()[2], op.kind == Binary::Kind::kMin ? 2 : 3);
    }
  }
}

TEST(Binary, NamesWhatItCannotTake) {
  const std::vector<TensorType> apart{{DType::kF32, {2, 3}}, {DType::kF32, {2}}};
  EXPECT_THAT([&] { infer(Binary{}, apart); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("(2, 3) and f32 (2)")));
  const std::vector<TensorType> mixed{{DType::kF16, {2}}, {DType::kBF16, {2}}};
  EXPECT_THAT([&] { infer(Binary{}, mixed); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("f16 (2) and bf16 (2)")));
}

}  // namespace
}  // namespace tessera
