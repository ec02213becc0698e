#include "engine/run/plan.h"

#include <gtest/gtest.h>

#include <random>

namespace tessera {
namespace {

// Buffers that live at the same time must not share bytes.
void expect_disjoint(const Plan& plan) {
  for (std::size_t i = 0; i < plan.buffers.size(); ++i) {
    const PlanBuffer& a = plan.buffers[i];
    EXPECT_EQ(a.offset % kPlanAlignment, 0u) << a.name;
    EXPECT_LE(a.offset + a.bytes, plan.peak) << a.name;
    for (std::size_t j = 0; j < i; ++j) {
      const PlanBuffer& b = plan.buffers[j];
      const bool together = a.first <= b.last && b.first <= a.last;
      const bool overlap = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
      EXPECT_FALSE(together && overlap) << a.name << " and " << b.name;
    }
  }
}

TEST(Plan, ChainNeedsTwoBuffers) {
  const Plan plan =
      make_plan({{"a", 1024, 0, 1}, {"b", 1024, 1, 2}, {"c", 1024, 2, 3}, {"d", 1024, 3, 4}});
  expect_disjoint(plan);
  EXPECT_EQ(plan.peak, 2048u);
  EXPECT_EQ(plan.lower_bound(), 2048u);
}

TEST(Plan, SkipConnectionStaysAlive) {
  const Plan plan = make_plan({{"skip", 640, 0, 4}, {"x", 640, 1, 2}, {"y", 640, 2, 3}});
  expect_disjoint(plan);
  EXPECT_EQ(plan.peak, 3 * 640u);
}

TEST(Plan, ReusesTheGapBetweenLongLivedBuffers) {
  const Plan plan = make_plan({{"long", 4096, 0, 9}, {"early", 1000, 0, 1}, {"late", 900, 2, 3}});
  expect_disjoint(plan);
  EXPECT_EQ(plan.buffers[1].offset, plan.buffers[2].offset);
}

TEST(Plan, EmptyAndZeroSized) {
  EXPECT_EQ(make_plan({}).peak, 0u);
  EXPECT_EQ(make_plan({{"none", 0, 0, 0}}).peak, 0u);
}

TEST(Plan, RandomBuffersNeverCollide) {
  std::mt19937 random(7);
  for (int round = 0; round < 200; ++round) {
    std::vector<PlanBuffer> buffers(random() % 40);
    for (std::size_t i = 0; i < buffers.size(); ++i) {
      const std::size_t first = random() % 30;
      buffers[i] = {std::to_string(i), random() % 5000, first, first + random() % 6};
    }
    const Plan plan = make_plan(buffers);
    expect_disjoint(plan);
    EXPECT_GE(plan.peak, plan.lower_bound());
    // A pure function: the same input places the same.
    const Plan again = make_plan(buffers);
    for (std::size_t i = 0; i < buffers.size(); ++i)
      EXPECT_EQ(plan.buffers[i].offset, again.buffers[i].offset);
  }
}

TEST(Plan, MemoryMapNamesEveryBufferAndThePeak) {
  const std::string map = make_plan({{"down0/conv1", 2 << 20, 3, 7}}).memory_map();
  EXPECT_NE(map.find("down0/conv1"), std::string::npos);
  EXPECT_NE(map.find("3-7"), std::string::npos);
  EXPECT_NE(map.find("peak 2.0 MiB"), std::string::npos);
}

}  // namespace
}  // namespace tessera
