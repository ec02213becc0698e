// Training by several ranks: equal bytes for any number of them, the order of the sum, what each of
// them writes and what is refused.
#include "engine/train/ranks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <tuple>

#include "engine/files/digest.h"
#include "engine/train/gradient_sum.h"
#include "engine/train/mpi.h"
#include "models/train.h"
#include "models/training/train_run.h"
#include "models/training/training_log.h"
#include "models/version.h"
#include "tests/support/error.h"
#include "tests/support/temp_folder.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/tiny_training.h"

namespace tessera {
namespace {

using namespace test;  // ranks as threads, tiny networks and their data
using ::testing::AllOf;
using ::testing::Each;
using ::testing::HasSubstr;

using MakeTask = std::function<std::unique_ptr<TrainingTask>()>;

class RanksTest : public ::testing::Test {
 protected:
  // 11 tiles of batches of 2: six an epoch, so of steps of four the second one has two.
  MakeTask unet_task() {
    if (!unet_) unet_.reset(new UNetData(unet_data(folder_)));
    return [this] {
      UNetTaskOptions options = unet_options(1);
      options.tiles = 11;
      return std::make_unique<UNetTraining>(unet_->config, unet_->images, unet_->split, options);
    };
  }
  MakeTask han_task() {
    if (!text_) text_ = std::make_unique<TextData>(han_text(folder_));
    return [this] {
      return std::make_unique<HanTraining>(han_config(), *text_, nullptr, han_options(1));
    };
  }

  LoopOptions options(const std::string& name, int accumulate) const {
    fs::create_directories(folder_ / name);
    LoopOptions options = options_in(folder_ / name);
    options.epochs = 2;
    options.accumulate = accumulate;
    options.average = 0.9;
    options.optimiser.clip_norm = 0.5;
    return options;
  }

  // The same run by so many ranks.
  static std::vector<std::string> train_by(int count, const MakeTask& make,
                                           const LoopOptions& options,
                                           const std::function<bool(int)>& stop = {}) {
    return run_ranks(count, [&](const std::shared_ptr<Ranks>& ranks) {
      const std::unique_ptr<TrainingTask> task = make();
      LoopOptions own = options;
      own.ranks = ranks;
      TrainEvents events;
      if (stop) events.stop = [&] { return stop(ranks->rank()); };
      EXPECT_EQ(train(*task, own, open_cpu_device(1), events).rank, ranks->rank());
    });
  }

  static void expect_same(const LoopOptions& one, const LoopOptions& other) {
    EXPECT_TRUE(bytes_of(one.model) == bytes_of(other.model)) << other.model;
    for (const char* name : {"last.safetensors", "best.safetensors"})
      EXPECT_TRUE(bytes_of(one.folder / name) == bytes_of(other.folder / name)) << other.folder;
    std::vector<nlohmann::json> lines = read_metrics(one.folder / "metrics.jsonl");
    std::vector<nlohmann::json> others = read_metrics(other.folder / "metrics.jsonl");
    for (auto* all : {&lines, &others}) {
      for (nlohmann::json& line : *all) line.erase("seconds");
    }
    EXPECT_EQ(lines, others);
  }

  const test::TempFolder scratch_;
  const fs::path folder_ = scratch_.path();
  std::unique_ptr<UNetData> unet_;
  std::unique_ptr<TextData> text_;
};

TEST_F(RanksTest, AnyNumberOfRanksGivesTheBytesOfOne) {
  for (const auto& [name, make, accumulate] :
       {std::tuple{"unet", unet_task(), 4}, std::tuple{"han", han_task(), 4},
        std::tuple{"odd", han_task(), 5}}) {
    const LoopOptions alone = options(name, accumulate);
    train(*make(), alone, open_cpu_device(1));
    for (const int count : {1, 2, 3, 4}) {
      const LoopOptions shared = options(fmt::format("{}{}", name, count), accumulate);
      EXPECT_THAT(train_by(count, make, shared), Each(""));
      expect_same(alone, shared);
    }
  }
}

TEST_F(RanksTest, AnInterruptedRunGoesOnWithOtherRanks) {
  for (const auto& [name, make] : {std::pair{"unet", unet_task()}, std::pair{"han", han_task()}}) {
    const LoopOptions alone = options(name, 4);
    train(*make(), alone, open_cpu_device(1));
    LoopOptions shared = options(fmt::format("{}-parts", name), 4);
    // One rank alone hears of the interruption.
    EXPECT_THAT(train_by(3, make, shared, [](int rank) { return rank == 2; }), Each(""));
    EXPECT_NE(bytes_of(shared.folder / "last.safetensors"),
              bytes_of(alone.folder / "last.safetensors"));
    shared.resume = true;
    EXPECT_THAT(train_by(2, make, shared), Each(""));
    expect_same(alone, shared);
  }
}

// ((0 1) (2 3)) 4, as the header draws it, from gradients of each batch by itself.
TEST_F(RanksTest, TheSumIsATreeOfTheBatches) {
  const std::unique_ptr<TrainingTask> task = unet_task()();
  constexpr std::int64_t kBatches = 5;
  std::vector<std::vector<float>> leaves;
  Gradients plain = gradients_of(*task, false, 1);  // its running statistics see all in turn
  for (std::int64_t i = 0; i < kBatches; ++i) {
    plain.clear();
    task->add(plain, 0, i);
    const TensorView all = plain.all_gradients();
    leaves.emplace_back(all.as<float>(), all.as<float>() + all.shape().elements());
  }
  for (const int count : {1, 2}) {
    run_ranks(count, [&](const std::shared_ptr<Ranks>& ranks) {
      const std::unique_ptr<TrainingTask> own = unet_task()();
      Gradients gradients = gradients_of(*own, false, 1);
      std::vector<std::int64_t> elements;
      for (const Gradients::Weight& weight : gradients.weights())
        elements.push_back(weight.trained ? weight.value.shape().elements() : 0);
      Sharing sharing(elements, host_transport(open_cpu_device(1)->queue(), ranks));
      GradientSum sum(gradients, sharing, kBatches);
      const std::vector<LossResult> results =
          sum.run(kBatches, [&](std::int64_t i) { return own->add(gradients, 0, i); });
      ASSERT_EQ(results.size(), static_cast<std::size_t>(kBatches));
      for (const LossResult& result : results) EXPECT_GT(result.counted, 0);
      const float* const found = gradients.all_gradients().as<float>();
      int rounded = 0;  // sums that the order changes
      for (const SharedPiece& piece : sharing.own()) {
        const float* const first =
            gradients.weights()[piece.tensor].gradient.as<float>() + piece.begin;
        for (std::int64_t i = 0; i < piece.count; ++i) {
          const std::ptrdiff_t e = first + i - found;
          const auto leaf = [&](std::size_t l) { return leaves[l][static_cast<std::size_t>(e)]; };
          ASSERT_EQ(found[e], (leaf(0) + leaf(1) + (leaf(2) + leaf(3))) + leaf(4)) << e;
          rounded += found[e] != leaf(0) + leaf(1) + leaf(2) + leaf(3) + leaf(4) ? 1 : 0;
        }
      }
      EXPECT_GT(rounded, 0);
      int statistics = 0;
      for (std::size_t w = 0; w < plain.weights().size(); ++w) {
        const Gradients::Weight &one = gradients.weights()[w], &other = plain.weights()[w];
        for (std::int64_t e = 0; one.statistic && e < one.value.shape().elements(); ++e) {
          const float expected = other.value.as<float>()[e];
          // Each of five batches is rounded once more.
          EXPECT_NEAR(one.value.as<float>()[e], expected, 5 * 1.2e-7 * (1 + std::abs(expected)));
          ++statistics;
        }
      }
      EXPECT_GT(statistics, 0);
    });
  }
}

TEST_F(RanksTest, RanksThatWereToldDifferentThingsAreRefused) {
  const MakeTask make = han_task();
  const LoopOptions told = options("run", 4);
  const auto errors = run_ranks(3, [&](const std::shared_ptr<Ranks>& ranks) {
    LoopOptions own = told;
    own.ranks = ranks;
    if (ranks->rank() == 1) own.rate = 0.25;
    if (ranks->rank() == 2) own.epochs = 7;
    const std::unique_ptr<TrainingTask> task = make();
    train(*task, own, open_cpu_device(1));
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("the ranks were told different things"),
                                 HasSubstr("settings/rate: 0.01 on rank 0, 0.25 on rank 1"),
                                 HasSubstr("run/steps: "), HasSubstr(" on rank 2"))));
}

TEST_F(RanksTest, RanksOfAnotherProgramAreRefused) {
  const auto errors = run_ranks(3, [&](const std::shared_ptr<Ranks>& ranks) {
    require_alike(*ranks, "tessera 1 train unet");
    require_alike(*ranks, ranks->rank() == 2 ? "tessera 2 train unet" : "tessera 1 train unet");
  });
  EXPECT_THAT(errors, Each(AllOf(HasSubstr("tessera 1 train unet on rank 0"),
                                 HasSubstr("tessera 2 train unet on rank 2"))));
  EXPECT_EQ(build_digest().size(), digest_of("").size());
  EXPECT_NE(build_digest(), digest_of(""));
}

TEST_F(RanksTest, WhatMpiLacksIsSaid) {
  EXPECT_THAT(error_of([] { open_ranks("mpi", "libnone.so.1"); }),
              AllOf(HasSubstr("libnone.so.1"), HasSubstr("apt-get install openmpi-bin")));
  EXPECT_THAT(error_of([] { open_ranks("mpi", "libc.so.6"); }), HasSubstr("is not Open MPI's"));
  EXPECT_THAT(error_of([] { open_ranks("slurm"); }), HasSubstr("expected auto, mpi, none"));
  EXPECT_EQ(open_ranks("none")->count(), 1);
  ::setenv("PMI_SIZE", "4", 1);  // as MPICH's mpirun does
  const std::string other = error_of([] { open_ranks("auto"); });
  ::unsetenv("PMI_SIZE");
  EXPECT_THAT(other, AllOf(HasSubstr("one of 4"), HasSubstr("mpirun.openmpi")));
  EXPECT_EQ(open_ranks("auto")->count(), 1);
}

}  // namespace
}  // namespace tessera
