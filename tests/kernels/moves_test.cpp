// Concat, Slice, Pad, Transpose and Reshape: what the goldens do not have. None of them rounds.
#include <gmock/gmock.h>

#include "kernels/ops/concat/concat.h"
#include "kernels/ops/pad/pad.h"
#include "kernels/ops/reshape/reshape.h"
#include "kernels/ops/slice/slice.h"
#include "kernels/ops/transpose/transpose.h"
#include "tests/support/error.h"
#include "tests/support/operator_check.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

template <class Op>
std::string error(const Op& op, const std::vector<TensorType>& types) {
  return error_of([&] { infer(op, types); });
}

TEST(Concat, MatchesTheReferenceAcrossTasksInEveryType) {
  for (const int axis : {0, 1, 2}) {
    const Tensor a = random({40, 50, 30}, 1), b = random({40, 50, 30}, 2);
    check_cpu(Concat{axis}, {a, b, a}, {}, {0, 0});
    check_cpu(Concat{axis}, {a.rounded_to(DType::kBF16), b.rounded_to(DType::kBF16)}, {}, {0, 0});
  }
}

TEST(Concat, NamesWhatItCannotTake) {
  EXPECT_THAT(error(Concat{}, {}), HasSubstr("none"));
  EXPECT_THAT(error(Concat{1}, {{DType::kF32, {2, 3}}, {DType::kF32, {3, 3}}}),
              HasSubstr("f32 (3, 3)"));
  EXPECT_THAT(error(Concat{2}, {{DType::kF32, {2, 3}}}), HasSubstr("axis 2"));
}

TEST(Slice, KeepsIntegers) {
  const Tensor x = Tensor::of_ids({5}, {10, 11, 12, 13, 14});
  const Tensor y = run_cpu(Slice{.starts = {3}, .ends = {0}, .steps = {-2}}, {x}, {}, 1)[0];
  EXPECT_TRUE(y.same_bytes(Tensor::of_ids({2}, {13, 11})));
}

TEST(Slice, NamesWhatItCannotTake) {
  const std::vector<TensorType> x{{DType::kF32, {4, 5}}};
  EXPECT_THAT(error(Slice{.starts = {2}, .ends = {2}}, x), HasSubstr("nothing is left"));
  EXPECT_THAT(error(Slice{.starts = {2}}, x), HasSubstr("1, 0, 0 and 0"));
  EXPECT_THAT(error(Slice{.starts = {0}, .ends = {2}, .steps = {0}}, x), HasSubstr("0 for axis 0"));
  EXPECT_THAT(error(Slice{.starts = {0}, .ends = {2}, .axes = {-3}}, x), HasSubstr("axis -3"));
}

TEST(Pad, RoundsOnceToBf16) {
  const Tensor x = random({2, 3, 3, 2}, 3).rounded_to(DType::kBF16);
  check_cpu(Pad{Pad::Mode::kEdge, {0, 1, 1, 0, 0, 1, 1, 0}}, {x}, {}, {0, 0});
}

TEST(Pad, NamesWhatItCannotTake) {
  const std::vector<TensorType> x{{DType::kF32, {3}}};
  EXPECT_THAT(error(Pad{Pad::Mode::kReflect, {3, 0}}, x), HasSubstr("3 and 0"));
  EXPECT_THAT(error(Pad{Pad::Mode::kConstant, {-2, -1}}, x), HasSubstr("-2 and -1"));
  EXPECT_THAT(error(Pad{Pad::Mode::kConstant, {1}}, x), HasSubstr("got 1"));
}

TEST(Transpose, NamesWhatItCannotTake) {
  const std::vector<TensorType> x{{DType::kF32, {2, 3}}};
  EXPECT_THAT(error(Transpose{{0, 0}}, x), HasSubstr("each axis"));
  EXPECT_THAT(error(Transpose{{0, 2}}, x), HasSubstr("axis 2"));
  EXPECT_THAT(error(Transpose{{0}}, x), HasSubstr("1 axes"));
}

TEST(Reshape, NamesWhatItCannotTake) {
  const std::vector<TensorType> x{{DType::kF32, {2, 3}}};
  EXPECT_THAT(error(Reshape{{4}}, x), HasSubstr("(4)"));
  EXPECT_THAT(error(Reshape{{-1, -1}}, x), HasSubstr("axis 1"));
  EXPECT_THAT(error(Reshape{{1, 1, 0}}, x), HasSubstr("extent 0 of axis 2"));
  EXPECT_THAT(error(Reshape{{-1, 4}}, x), HasSubstr("not as many"));
}

}  // namespace
}  // namespace tessera::test
