// Ranks on GPUs, which are the emulator's, by NCCL, which is a library that stands in for it
// (tests/simt/nccl): bytes of one process, and what is said where it cannot be had.
#include "engine/train/nccl.h"

#include <gmock/gmock.h>
#include <nccl.h>

#include <cstdlib>
#include <type_traits>

#include "emulator/emulator.h"
#include "models/training/training.h"
#include "tests/support/temp_folder.h"
#include "tests/support/thread_ranks.h"
#include "tests/support/tiny_training.h"

namespace tessera::test {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

// The interface that engine/train/nccl.cpp writes down without NCCL's header.
static_assert(sizeof(ncclUniqueId) == 128 && ncclFloat == 7 && ncclSuccess == 0);
static_assert(
    std::is_same_v<decltype(ncclSend), ncclResult_t(const void*, std::size_t, ncclDataType_t, int,
                                                    ncclComm_t, cudaStream_t)>);
static_assert(std::is_same_v<decltype(ncclRecv), ncclResult_t(void*, std::size_t, ncclDataType_t,
                                                              int, ncclComm_t, cudaStream_t)>);
static_assert(std::is_same_v<decltype(ncclBroadcast),
                             ncclResult_t(const void*, void*, std::size_t, ncclDataType_t, int,
                                          ncclComm_t, cudaStream_t)>);
static_assert(
    std::is_same_v<decltype(ncclCommInitRank), ncclResult_t(ncclComm_t*, int, ncclUniqueId, int)>);

class NcclTest : public testing::Test {
 protected:
  NcclTest() { simt::device().count = 4; }
  ~NcclTest() override {
    simt::device() = {};
    ::unsetenv("FAKE_NCCL_FAILS");
  }

  LoopOptions options(const std::string& name) const {
    fs::create_directories(folder_ / name);
    LoopOptions options = options_in(folder_ / name);
    options.steps = 2;
    options.accumulate = 4;
    options.validate_every = 2;
    options.optimiser.clip_norm = 0.5;
    options.nccl = TESSERA_FAKE_NCCL;
    return options;
  }
  // By so many ranks, rank r on GPU r, or all on the first one. What each was told; an error is the
  // last line of it.
  std::vector<std::string> train_by(int count, const LoopOptions& options, bool one_gpu = false) {
    std::vector<std::string> said(static_cast<std::size_t>(count));
    const std::vector<std::string> errors =
        run_ranks(count, [&](const std::shared_ptr<Ranks>& ranks) {
          HanTraining task(han_config(), text_, nullptr, han_options(1));
          LoopOptions own = options;
          own.ranks = ranks;
          TrainEvents events;
          events.note = [&](const std::string& line) {
            said[static_cast<std::size_t>(ranks->rank())] += line + "\n";
          };
          train(task, own, open_cuda_device(one_gpu ? 0 : ranks->rank(), Precision::kFp32), events);
        });
    for (std::size_t r = 0; r < said.size(); ++r) said[r] += errors[r];
    return said;
  }
  void expect_same(const LoopOptions& one, const LoopOptions& other) {
    EXPECT_TRUE(bytes_of(one.model) == bytes_of(other.model));
    EXPECT_TRUE(bytes_of(one.folder / "last.safetensors") ==
                bytes_of(other.folder / "last.safetensors"));
  }

  const TempFolder scratch_;
  const fs::path folder_ = scratch_.path();
  const TextData text_ = han_text(folder_);
};

TEST_F(NcclTest, AnyNumberOfGpusGivesTheBytesOfOne) {
  const LoopOptions alone = options("alone");
  train_by(1, alone);
  for (const int count : {2, 3, 4}) {
    const LoopOptions shared = options(std::to_string(count));
    EXPECT_THAT(train_by(count, shared), Each(HasSubstr("from GPU to GPU by NCCL 2.28.9")));
    expect_same(alone, shared);
  }
}

TEST_F(NcclTest, WithoutItTheHostsMemoryServes) {
  const LoopOptions alone = options("alone");
  train_by(1, alone);
  LoopOptions shared = options("missing");
  shared.nccl = "libnone.so.2";
  EXPECT_THAT(train_by(2, shared),
              Each(AllOf(HasSubstr("through the hosts' memory: rank 0: NCCL is missing"),
                         HasSubstr("libnone.so.2"), HasSubstr("install libnccl2"))));
  expect_same(alone, shared);

  shared = options("other");
  shared.nccl = "libc.so.6";
  EXPECT_THAT(train_by(2, shared), Each(HasSubstr("libc.so.6 has no ncclGetVersion")));
  expect_same(alone, shared);

  shared = options("one-gpu");
  EXPECT_THAT(train_by(2, shared, true), Each(HasSubstr("shares its GPU with another rank")));
  expect_same(alone, shared);

  ::setenv("FAKE_NCCL_FAILS", "ncclCommInitRank", 1);
  shared = options("refused");
  EXPECT_THAT(train_by(2, shared), Each(HasSubstr("through the hosts' memory: rank 0: NCCL: "
                                                  "meeting of the ranks: invalid usage; ")));
  expect_same(alone, shared);
}

TEST_F(NcclTest, WhatFailsIsNamedInNcclsWords) {
  const std::pair<const char*, const char*> faults[] = {
      {"ncclSend", "NCCL: sending: invalid usage; NCCL_DEBUG=WARN"},
      {"ncclGroupEnd", "NCCL: exchange of gradients: unhandled system error; NCCL_DEBUG=WARN"}};
  for (const auto& [function, words] : faults) {
    SCOPED_TRACE(function);
    ::setenv("FAKE_NCCL_FAILS", function, 1);
    EXPECT_THAT(train_by(2, options(function)), Each(HasSubstr(words)));
  }
}

// What each rank gives comes to the rank that it is for, each stretch to its place, and what one
// owns to all.
TEST_F(NcclTest, StretchesComeToTheirRankAndPlace) {
  constexpr int kCount = 3;
  constexpr std::size_t kFloats = 64, kFirst = 2, kSecond = 3;  // of memory, of two stretches
  const auto errors = run_ranks(kCount, [&](const std::shared_ptr<Ranks>& ranks) {
    const auto queue = open_cuda_device(ranks->rank(), Precision::kFp32)->queue();
    const NcclTransport opened = open_nccl(queue, ranks, TESSERA_FAKE_NCCL);
    require(opened.transport != nullptr, "{}", opened.what);
    const auto memory = queue->device().allocate(kFloats * sizeof(float));
    auto* const floats = reinterpret_cast<float*>(memory->get());
    std::vector<float> values(kFloats, -1.0f);
    // To rank r go floats 10 r + own rank * 100, in two stretches; from rank r they come to 32 + 5
    // r.
    const auto stretches = [&](std::size_t at) {
      return Stretches{{floats + at, kFirst}, {floats + at + kFirst, kSecond}};
    };
    std::vector<Stretches> sent, received, owned;
    for (std::size_t r = 0; r < kCount; ++r) {
      sent.push_back(stretches(5 * r));
      received.push_back(stretches(32 + 5 * r));
      owned.push_back(stretches(48 + 5 * r));
      for (std::size_t i = 0; i < 5; ++i)
        values[5 * r + i] = static_cast<float>(100 * ranks->rank() + 10 * static_cast<int>(r)) +
                            static_cast<float>(i);
    }
    const auto own = static_cast<std::size_t>(ranks->rank());
    for (std::size_t i = 0; i < 5; ++i)
      values[48 + 5 * own + i] = static_cast<float>(1000 * own + i);
    const TensorType type{DType::kF32, {static_cast<std::int64_t>(kFloats)}};
    queue->upload({values.data(), type}, memory->get());
    // The last rank has nothing to give.
    opened.transport->exchange(sent, received, kCount - 1);
    opened.transport->gather(owned);
    queue->download(memory->get(), {values.data(), type});
    queue->finish();
    for (std::size_t r = 0; r < kCount; ++r) {
      for (std::size_t i = 0; i < 5; ++i) {
        const float given = static_cast<float>(100 * r + 10 * own + i);
        EXPECT_EQ(values[32 + 5 * r + i], r + 1 < kCount ? given : -1.0f) << own << r << i;
        EXPECT_EQ(values[48 + 5 * r + i], static_cast<float>(1000 * r + i)) << own << r << i;
      }
    }
  });
  EXPECT_THAT(errors, Each(""));
}

TEST_F(NcclTest, ARankThatFailsEndsTheOthers) {
  const auto errors = run_ranks(2, [&](const std::shared_ptr<Ranks>& ranks) {
    const auto queue = open_cuda_device(ranks->rank(), Precision::kFp32)->queue();
    const NcclTransport opened = open_nccl(queue, ranks, TESSERA_FAKE_NCCL);
    ASSERT_NE(opened.transport, nullptr) << opened.what;
    if (ranks->rank() == 1) fail("out of memory");
    const auto memory = queue->device().allocate(64);
    auto* const floats = reinterpret_cast<float*>(memory->get());
    opened.transport->exchange({{{floats, 4}}, {{floats + 4, 4}}},
                               {{{floats + 8, 4}}, {{floats + 12, 4}}}, 2);
  });
  EXPECT_THAT(errors[0], AllOf(HasSubstr("NCCL: exchange of gradients"), HasSubstr("NCCL_DEBUG")));
  EXPECT_EQ(errors[1], "out of memory");
}

}  // namespace
}  // namespace tessera::test
