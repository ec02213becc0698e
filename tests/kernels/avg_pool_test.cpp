#include "kernels/ops/avg_pool/avg_pool.h"

#include <gmock/gmock.h>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;

TEST(AvgPool, CountsPadsOnlyWhereAsked) {
  const Tensor x = Tensor::of({1, 2, 2, 1}, {4, 8, 12, 16});
  AvgPool op{square(2, 1, 2)};
  EXPECT_THAT(test::run_cpu(op, {x}, {}, 1)[0].values(), testing::ElementsAre(1, 2, 3, 4));
  op.count_include_pad = false;
  EXPECT_THAT(test::run_cpu(op, {x}, {}, 1)[0].values(), testing::ElementsAre(4, 8, 12, 16));
}

// Sums of at most 9 values.
TEST(AvgPool, MatchesTheReferenceAtEveryWindowAndTail) {
  for (const Window& window : {square(2, 0, 2), square(3, 1, 2), square(2, 1, 3),
                               Window{{3, 2}, {1, 2}, {2, 1}, {1, 0, 0, 1}}}) {
    for (const std::int64_t c : {1, 5, 16, 35}) {
      for (const bool on : {false, true}) {
        SCOPED_TRACE(fmt::format("{}x{}, {} channels", window.kernel[0], window.kernel[1], c));
        const AvgPool op{window, on, !on};
        const Tensor x = test::random({2, 7, 9, c}, 5);
        test::for_each_target([&] {
          test::check_cpu(op, {x}, {}, test::sum_bound(9));
          test::check_cpu(op, {x.rounded_to(DType::kBF16)}, {}, {36 * 0x1p-24, 0x1p-8});
        });
      }
    }
  }
}

// Both taps of the first window lie before and behind the only pixel.
TEST(AvgPool, AWindowWithoutPixelsIsZero) {
  const AvgPool op{{{2, 1}, {1, 1}, {2, 1}, {1, 1, 0, 0}}, false, false};
  const Tensor x = Tensor::of({1, 1, 1, 1}, {3});
  EXPECT_EQ(test::run_cpu(op, {x}, {}, 1)[0].values()[0], 0);
  EXPECT_EQ(test::run_reference(op, {x}, {})[0].values()[0], 0);
}

TEST(AvgPool, NamesWhatItCannotTake) {
  EXPECT_THAT(
      [] {
        infer(AvgPool{square(3)}, {{{DType::kF32, {1, 2, 4, 2}}}});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("(1, 2, 4, 2)")));
}

}  // namespace
}  // namespace tessera
