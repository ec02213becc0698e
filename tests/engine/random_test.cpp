#include "engine/train/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

namespace tessera {
namespace {

TEST(RandomTest, PhiloxGivesItsAuthorsKnownAnswers) {
  // Random123 1.14, tests/kat_vectors, philox4x32 of 10 rounds.
  using Block = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomTest, ASavedStateGoesOnWhereItStopped) {
  for (int drawn = 0; drawn < 9; ++drawn) {
    Random random(7, stream_of("test"));
    for (int i = 0; i < drawn; ++i) random.next();
    Random copy(random.state());
    for (int i = 0; i < 9; ++i) EXPECT_EQ(copy.next(), random.next());
    EXPECT_EQ(copy.state(), (Random::State{7, stream_of("test"), std::uint64_t(drawn) + 9}));
  }
}

TEST(RandomTest, SeedsStreamsAndPositionsDiffer) {
  std::set<std::uint32_t> seen;
  for (std::uint64_t seed = 0; seed < 10; ++seed) {
    for (std::uint64_t number = 0; number < 10; ++number) {
      Random random(seed, stream_of("a", number));
      for (int i = 0; i < 10; ++i) seen.insert(random.next());
    }
  }
  EXPECT_EQ(seen.size(), 1000u);  // of 2^32: two agree with a probability of 10^-4
  EXPECT_NE(stream_of("a"), stream_of("b"));
  EXPECT_NE(stream_of("a", 1), stream_of("a", 256));
}

TEST(RandomTest, UniformFillsItsRangeEvenly) {
  constexpr int kDraws = 100'000, kBins = 20;
  Random random(1);
  std::vector<int> bins(kBins);
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.uniform(-2, 3);
    ASSERT_GE(x, -2);
    ASSERT_LT(x, 3);
    ++bins[static_cast<std::size_t>((x + 2) / 5 * kBins)];
  }
  // A bin's count has deviation sqrt(n p (1 - p)) = 69; five of them are exceeded once in 10^6.
  for (const int count : bins) EXPECT_NEAR(count, kDraws / kBins, 5 * 69);
}

TEST(RandomTest, NormalsHaveTheMomentsOfANormal) {
  constexpr int kDraws = 200'000;
  Random random(2);
  double moments[4] = {};
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.normal();
    ASSERT_TRUE(std::isfinite(x));
    for (int k = 0; k < 4; ++k) moments[k] += std::pow(x, k + 1) / kDraws;
  }
  // Deviations of the four means: sqrt(var(x^k) / n) = 1, 1.41, 3.87, 9.8 / sqrt(n).
  const double unit = 5 / std::sqrt(kDraws);
  EXPECT_NEAR(moments[0], 0, unit);
  EXPECT_NEAR(moments[1], 1, 1.42 * unit);
  EXPECT_NEAR(moments[2], 0, 3.88 * unit);
  EXPECT_NEAR(moments[3], 3, 9.8 * unit);
}

TEST(RandomTest, BlocksByIndexAreThoseDrawn) {
  Random uniforms(3, 4), normals(3, 4);
  const Random other(3, 4);
  for (std::uint64_t i = 0; i < 10; ++i) {
    const auto [first, second] = other.uniforms_at(i);
    EXPECT_EQ(uniforms.uniform(), first);
    EXPECT_EQ(uniforms.uniform(), second);
    EXPECT_EQ(normals.normal(), other.normals_at(i).first);
  }
}

TEST(RandomTest, BelowReachesEveryNumberAndNoOther) {
  Random random(5);
  std::vector<int> counts(7);
  for (int i = 0; i < 7000; ++i) ++counts[static_cast<std::size_t>(random.below(7))];
  for (const int count : counts) EXPECT_NEAR(count, 1000, 150);  // five deviations of 29
  EXPECT_EQ(random.below(1), 0);
}

TEST(RandomTest, ShufflesArePermutationsThatTheSeedDecides) {
  std::vector<int> first(100), second(100), other(100);
  for (auto* list : {&first, &second, &other}) std::iota(list->begin(), list->end(), 0);
  Random(1).shuffle(std::span(first));
  Random(1).shuffle(std::span(second));
  Random(2).shuffle(std::span(other));
  EXPECT_EQ(first, second);
  EXPECT_NE(first, other);
  EXPECT_FALSE(std::is_sorted(first.begin(), first.end()));
  std::sort(first.begin(), first.end());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(first[static_cast<std::size_t>(i)], i);
}

}  // namespace
}  // namespace tessera
