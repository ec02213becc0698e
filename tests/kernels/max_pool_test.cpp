#include "kernels/ops/max_pool/max_pool.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/support/operator_check.h"
#include "tests/support/targets.h"

namespace tessera {
namespace {

using test::Tensor;

constexpr test::Bound kExact{0, 0};  // a maximum rounds nothing

TEST(MaxPool, TakesTheLargestOfEachWindow) {
  const Tensor x = Tensor::of({1, 2, 4, 1}, {1, 2, -5, -6, 3, -4, -7, -8});
  EXPECT_THAT(test::run_cpu(MaxPool{}, {x}, {}, 1)[0].values(), testing::ElementsAre(3, -5));
}

TEST(MaxPool, MatchesTheReferenceAtEveryChannelTailAndOddSize) {
  for (const std::int64_t c : {1, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64}) {
    for (const auto& [h, w] : {std::pair{2, 2}, {3, 2}, {5, 7}, {8, 9}}) {
      SCOPED_TRACE(fmt::format("{} x {} x {}", h, w, c));
      const Tensor x = test::random({2, h, w, c}, 1);
      test::check_cpu(MaxPool{}, {x}, {}, kExact);
      test::check_cpu(MaxPool{}, {x.rounded_to(DType::kBF16)}, {}, kExact);
    }
  }
}

TEST(MaxPool, IsTheSameOnEveryInstructionSet) {
  for (const std::int64_t c : {3, 21}) {
    const Tensor x = test::random({1, 5, 6, c}, 2, 1e4f);
    test::for_each_target([&] {
      test::check_cpu(MaxPool{}, {x}, {}, kExact);
      test::check_cpu(MaxPool{}, {x.rounded_to(DType::kBF16)}, {}, kExact);
    });
  }
}

TEST(MaxPool, PropagatesNaNFromAnyCorner) {
  for (std::size_t corner = 0; corner < 4; ++corner) {
    std::vector<float> values{1, 2, 3, 4};
    values[corner] = NAN;
    const Tensor x = Tensor::of({1, 2, 2, 1}, values);
    test::for_each_target([&] {
      EXPECT_TRUE(std::isnan(test::run_cpu(MaxPool{}, {x}, {}, 1)[0].values()[0])) << corner;
    });
    EXPECT_TRUE(std::isnan(test::run_reference(MaxPool{}, {x}, {})[0].values()[0])) << corner;
  }
}

TEST(MaxPool, PropagatesMinusInfinity) {
  const Tensor x = Tensor::of({1, 2, 2, 1}, std::vector<float>(4, -INFINITY));
  EXPECT_EQ(test::run_cpu(MaxPool{}, {x}, {}, 1)[0].values()[0], -INFINITY);
}

TEST(MaxPool, OneOfABatchEqualsItAlone) {
  const Tensor one = test::random({1, 6, 6, 5}, 3);
  std::vector<float> twice = test::random({1, 6, 6, 5}, 4).values();
  for (const float value : one.values()) twice.push_back(value);
  const std::vector<float> both =
      test::run_cpu(MaxPool{}, {Tensor::of({2, 6, 6, 5}, twice)}, {}, 2)[0].values();
  const std::vector<float> alone = test::run_cpu(MaxPool{}, {one}, {}, 2)[0].values();
  EXPECT_EQ(std::vector<float>(both.begin() + 45, both.end()), alone);
}

std::vector<MaxPool> windows() {
  std::vector<MaxPool> list;
  for (const bool ceil : {false, true}) {
    list.push_back({square(3, 1, 2), ceil});
    list.push_back({square(2, 0, 2), ceil});
    list.push_back({square(2, 1, 3), ceil});
    list.push_back({{{3, 2}, {1, 2}, {2, 1}, {1, 0, 0, 1}}, ceil});
  }
  return list;
}

TEST(MaxPool, EveryWindowMatchesTheReference) {
  for (const MaxPool& op : windows()) {
    for (const std::int64_t c : {1, 5, 16, 35}) {
      SCOPED_TRACE(
          fmt::format("{} x {}, {} channels", op.window.kernel[0], op.window.kernel[1], c));
      const Tensor x = test::random({2, 7, 9, c}, 5);
      test::for_each_target([&] {
        test::check_cpu(op, {x}, {}, kExact);
        test::check_cpu(op, {x.rounded_to(DType::kBF16)}, {}, kExact);
      });
    }
  }
}

TEST(MaxPool, PadsHoldMinusInfinityAndNaNWins) {
  const MaxPool op{square(3, 1)};
  std::vector<float> values(12, -5);
  values[0] = NAN;
  const std::vector<float> y =
      test::run_cpu(op, {Tensor::of({1, 3, 4, 1}, values)}, {}, 1)[0].values();
  EXPECT_TRUE(std::isnan(y[0]) && std::isnan(y[5]));
  EXPECT_EQ(y[2], -5);
  EXPECT_EQ(y[11], -5);
}

TEST(MaxPool, NamesWhatItCannotTake) {
  EXPECT_THAT(
      [] {
        infer(MaxPool{square(2, 2)}, {{{DType::kF32, {1, 4, 4, 2}}}});
      },
      testing::ThrowsMessage<Error>(testing::HasSubstr("2 and 2")));

  const auto message = [](const TensorType& type) {
    try {
      infer(MaxPool{}, {{type}});
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  using testing::HasSubstr;
  EXPECT_THAT(message({DType::kF32, {1, 1, 5, 2}}), HasSubstr("(1, 1, 5, 2)"));
  EXPECT_THAT(message({DType::kF32, {4, 4, 2}}), HasSubstr("(4, 4, 2)"));
  EXPECT_THAT(message({DType::kU8, {1, 4, 4, 2}}), HasSubstr("u8"));
  EXPECT_THAT(message({DType::kF32, {1, 4, 4, 0}}), HasSubstr("(1, 4, 4, 0)"));
}

}  // namespace
}  // namespace tessera
