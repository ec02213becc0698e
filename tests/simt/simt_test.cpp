// The emulator itself: that it finds what is wrong, says where, counts what a launch costs, and
// fails where it is told to.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <stdexcept>
#include <string>
#include <thread>

#include "emulator/emulator.h"
#include "emulator/sanitizer.h"
#include "kernels/error.h"
#include "tests/simt/device_array.h"
#include "tests/simt/emulator_test.h"
#include "tests/simt/kernels.h"

namespace tessera::test {
namespace {

using testing::HasSubstr;

class Simt : public EmulatorTest {
 protected:
  void SetUp() override { simt::device() = {}; }
};

// What a launch with this mistake throws, or nothing.
std::string findings_of(Mistake mistake, float* memory, int size,
                        const CUtensorMap* map = nullptr) {
  try {
    run_mistake(mistake, memory, size, map);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "";
}

// ---- Mistakes

enum class Notices { kEveryBuild, kCheckBuild, kAllButAsan };

struct Case {
  const char* name;
  Mistake mistake;
  const char* finding;
  Notices who;
};

void PrintTo(const Case& c, std::ostream* out) {
  *out << c.name;
}

class SimtFinds : public Simt, public testing::WithParamInterface<Case> {};

TEST_P(SimtFinds, Mistake) {
  const Case& c = GetParam();
  if (c.who == Notices::kCheckBuild && !simt::kChecked) GTEST_SKIP() << "the check build's to find";
  if (c.who != Notices::kEveryBuild && simt::kSanitized)
    GTEST_SKIP() << "AddressSanitizer ends the process";
  simt::config().hang_seconds = 0.5;
  constexpr int kSize = 64;
  DeviceArray<float> memory(std::vector<float>(kSize, 0));
  std::vector<float> on_host(kSize);
  const auto map = tiled_map(memory.get(), CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, {32, 2}, {32, 2},
                             CU_TENSOR_MAP_SWIZZLE_NONE);
  float* p = c.mistake == Mistake::kHostPointer ? on_host.data() : memory.get();
  const std::string found = findings_of(c.mistake, p, kSize, &map);
  EXPECT_THAT(found, HasSubstr(c.finding));
  EXPECT_THAT(found, testing::ContainsRegex("mistakes\\.cu:[0-9]+"));
  EXPECT_THAT(found, HasSubstr("[kernel "));
}

INSTANTIATE_TEST_SUITE_P(
    , SimtFinds,
    testing::Values(
        Case{"NoBarrier", Mistake::kNoBarrier, "RACE", Notices::kCheckBuild},
        Case{"NoWarpBarrier", Mistake::kNoWarpBarrier, "RACE", Notices::kCheckBuild},
        Case{"NoCopyWait", Mistake::kNoCopyWait, "RACE read of an asynchronous copy",
             Notices::kCheckBuild},
        Case{"UninitialisedShared", Mistake::kUninitialisedShared, "UNINITIALISED",
             Notices::kCheckBuild},
        Case{"SharedReadOverrun", Mistake::kSharedReadOverrun, "OUT OF BOUNDS: shared",
             Notices::kCheckBuild},
        Case{"SharedWriteOverrun", Mistake::kSharedWriteOverrun, "OUT OF BOUNDS: shared",
             Notices::kCheckBuild},
        Case{"GlobalReadOverrun", Mistake::kGlobalReadOverrun, "offset 256 of an allocation of 256",
             Notices::kAllButAsan},
        Case{"GlobalWriteOverrun", Mistake::kGlobalWriteOverrun,
             "offset 256 of an allocation of 256", Notices::kAllButAsan},
        Case{"DivergentBarrier", Mistake::kDivergentBarrier, "BARRIER 0: lanes of one warp",
             Notices::kEveryBuild},
        Case{"Deadlock", Mistake::kDeadlock, "32 wait for bar.sync 3", Notices::kEveryBuild},
        Case{"ExitedLane", Mistake::kExitedLane, "WARP: ", Notices::kEveryBuild},
        Case{"NoProxyFence", Mistake::kNoProxyFence, "RACE missing fence.proxy.async",
             Notices::kCheckBuild},
        Case{"NoStoreWait", Mistake::kNoStoreWait, "ASYNC: thread 0", Notices::kEveryBuild},
        Case{"NoMbarrierFence", Mistake::kNoMbarrierFence, "MBARRIER: no fence",
             Notices::kCheckBuild},
        Case{"MbarrierNeverComplete", Mistake::kMbarrierNeverComplete,
             "DEADLOCK: 0 of 64 threads have exited; 64 wait for an mbarrier, parity 0",
             Notices::kEveryBuild},
        Case{"BlocksCollide", Mistake::kBlocksCollide, "RACE between blocks", Notices::kCheckBuild},
        Case{"UnfencedLastBlock", Mistake::kUnfencedLastBlock, "RACE between blocks",
             Notices::kCheckBuild},
        Case{"Misaligned", Mistake::kMisaligned, "MISALIGNED: access of 16 bytes",
             Notices::kCheckBuild},
        Case{"HostPointer", Mistake::kHostPointer, "not device memory", Notices::kCheckBuild},
        Case{"SpinsOnVariable", Mistake::kSpinsOnVariable, "LIVELOCK", Notices::kEveryBuild},
        Case{"Polls", Mistake::kPolls, "LIVELOCK", Notices::kEveryBuild},
        Case{"Trap", Mistake::kTrap, "TRAP", Notices::kEveryBuild},
        Case{"ExitedBlock", Mistake::kExitedBlock,
             "of block 1 uses shared memory of block 0, which has exited", Notices::kCheckBuild},
        Case{"NoSyncBeforeExit", Mistake::kNoSyncBeforeExit,
             "CLUSTER: block 1 exits, and nothing orders the use of its shared memory by thread",
             Notices::kCheckBuild},
        Case{"NoSyncBeforeUse", Mistake::kNoSyncBeforeUse, "nothing says that that block has begun",
             Notices::kCheckBuild},
        Case{"ClusterRace", Mistake::kClusterRace, "RACE", Notices::kCheckBuild},
        Case{"NoSuchBlock", Mistake::kNoSuchBlock, "block 2 of a cluster of 2",
             Notices::kEveryBuild},
        Case{"ClusterTwice", Mistake::kClusterTwice, "arrives twice at the cluster's barrier",
             Notices::kEveryBuild},
        Case{"ClusterNoArrival", Mistake::kClusterNoArrival, "where it has not arrived",
             Notices::kEveryBuild},
        Case{"ClusterDeadlock", Mistake::kClusterDeadlock, "wait for the cluster's barrier",
             Notices::kEveryBuild},
        Case{"MulticastOtherBytes", Mistake::kMulticastOtherBytes,
             "MBARRIER: 128 bytes more were copied than its phase announced", Notices::kEveryBuild},
        Case{"MulticastNoBarrier", Mistake::kMulticastNoBarrier,
             "MBARRIER: used before mbarrier.init", Notices::kEveryBuild},
        Case{"MulticastUnderWay", Mistake::kMulticastUnderWay,
             "ASYNC: a block ends with a TMA load under way", Notices::kEveryBuild},
        Case{"LateArrival", Mistake::kLateArrival, "CLUSTER: ", Notices::kCheckBuild}),
    [](const auto& instance) { return instance.param.name; });

TEST_F(Simt, RefusesClustersThatNoDeviceTakes) {
  DeviceArray<float> x(std::vector<float>(9 * 32, 0)), y(2 * 9 * 32);
  EXPECT_THROW(run_cluster_exchange(x.get(), y.get(), 1, 9), Error);
  simt::device().major = 8;
  EXPECT_THROW(run_cluster_exchange(x.get(), y.get(), 1, 2), Error);
}

TEST_F(Simt, FindsWritesIntoTheSlackOfAnAllocation) {
  if (simt::kSanitized) GTEST_SKIP() << "AddressSanitizer ends the process";
  DeviceArray<float> memory(60);  // 240 bytes: the 16 that follow belong to nobody
  EXPECT_THAT(findings_of(Mistake::kGlobalWriteOverrun, memory.get(), 63),
              HasSubstr("offset 240 of a"));
  EXPECT_THAT(findings_of(Mistake::kGlobalWriteUnderrun, memory.get(), 60),
              HasSubstr("offset -4 of a"));
}

TEST_F(Simt, FindsUseAfterFree) {
  if (simt::kSanitized) GTEST_SKIP() << "AddressSanitizer ends the process";
  float* p = nullptr;
  ASSERT_EQ(cudaMalloc(reinterpret_cast<void**>(&p), 64 * sizeof(float)), cudaSuccess);
  ASSERT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_THAT(findings_of(Mistake::kGlobalWriteOverrun, p, 63),
              HasSubstr("freed memory of 256 bytes"));
  EXPECT_EQ(cudaFree(p), cudaErrorInvalidValue);
}

TEST_F(Simt, KeepsFindingsWhereItDoesNotThrow) {
  simt::config().throws = false;
  DeviceArray<float> memory(std::vector<float>(64, 0));
  run_mistake(Mistake::kTrap, memory.get(), 64);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const auto found = simt::take_findings();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_THAT(found[0], HasSubstr("TRAP"));
  EXPECT_TRUE(simt::take_findings().empty());
}

TEST_F(Simt, FreshMemoryIsNaN) {
  DeviceArray<float> memory(5);
  for (const float x : memory.values()) EXPECT_NE(x, x);
}

// ---- Schedules

// A thread's emulator ends with it; what the system maps in its place belongs to others.
TEST_F(Simt, LeavesNoPoisonWhereItsMemoryWas) {
#if SIMT_ASAN
  std::thread([] {
    constexpr int kSide = 32;
    DeviceArray<float> x(std::vector<float>(kSide * kSide, 1)), y(x.size());
    run_transpose(x.get(), y.get(), kSide, true);
  }).join();
  constexpr std::size_t kBytes = 1 << 14, kRegions = 4096;
  std::vector<void*> regions;
  for (std::size_t i = 0; i < kRegions; ++i) {
    void* region = mmap(nullptr, kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(region, MAP_FAILED);
    EXPECT_EQ(__asan_region_is_poisoned(region, kBytes), nullptr) << i;
    regions.push_back(region);
  }
  for (void* region : regions) munmap(region, kBytes);
#else
  GTEST_SKIP() << "nothing is poisoned without AddressSanitizer";
#endif
}

TEST_F(Simt, EveryScheduleGivesTheSameResult) {
  for (const auto async : {simt::Async::kEarly, simt::Async::kLate, simt::Async::kRandom})
    for (const unsigned seed : {0u, 1u, 2u})
      for (const int workers : {1, 3}) {
        simt::config().async = async;
        simt::config().seed = seed;
        simt::config().workers = workers;
        std::vector<float> x(96 * 96);
        for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
        DeviceArray<float> d_x(x), d_y(x.size());
        run_transpose(d_x.get(), d_y.get(), 96, true);
        const auto y = d_y.values();
        for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(y[i], x[i % 96 * 96 + i / 96]);
        std::vector<int> values(1000, 5);
        DeviceArray<int> d_values(values);
        DeviceArray<unsigned> counts(std::vector<unsigned>(64, 0));
        run_histogram(d_values.get(), counts.get(), 1000);
        ASSERT_EQ(counts.values()[5], 1000u);
      }
}

// ---- Profile

TEST_F(Simt, CountsSectorsAndBankConflicts) {
  simt::config().profile = true;
  DeviceArray<float> x(std::vector<float>(96 * 96, 1)), y(96 * 96);
  simt::take_profiles();
  run_transpose(x.get(), y.get(), 96, true);
  run_transpose(x.get(), y.get(), 96, false);
  const auto profiles = simt::take_profiles();
  ASSERT_EQ(profiles.size(), 2u);
  EXPECT_EQ(profiles[0].kernel, "transpose_kernel<33>");
  EXPECT_EQ(profiles[1].kernel, "transpose_kernel<32>");
  EXPECT_EQ(profiles[0].barriers, 9u);
  if (!simt::kChecked) GTEST_SKIP() << "memory is counted in the check build";
  // 9 blocks of 32 warps load and store a row each: 4 sectors, and one wave unless in conflict.
  for (const auto& p : profiles) {
    EXPECT_EQ(p.global_requests, 2 * 288u);
    EXPECT_EQ(p.global_sectors, 2 * 288u * 4);
    EXPECT_EQ(p.global_ideal, 2 * 288u * 4);
    EXPECT_EQ(p.shared_requests, 2 * 288u);
    EXPECT_EQ(p.shared_ideal, 2 * 288u);
  }
  EXPECT_EQ(profiles[0].shared_waves, 288u + 288u);
  EXPECT_EQ(profiles[1].shared_waves, 288u + 9216u);
  const auto lines = simt::costly_lines(1);
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_THAT(lines[0], testing::ContainsRegex("features\\.cu:[0-9]+: 288 requests of shared"));
}

// ---- Failures that tests ask for

TEST_F(Simt, FailsTheAllocationThatItIsToldTo) {
  simt::device().fail_allocation = 2;
  void* p = nullptr;
  ASSERT_EQ(cudaMalloc(&p, 16), cudaSuccess);
  void* q = nullptr;
  EXPECT_EQ(cudaMalloc(&q, 16), cudaErrorMemoryAllocation);
  EXPECT_EQ(q, nullptr);
  EXPECT_EQ(cudaPeekAtLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  ASSERT_EQ(cudaMalloc(&q, 16), cudaSuccess);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(cudaFree(q), cudaSuccess);
}

TEST_F(Simt, HasAsMuchMemoryAsItIsToldTo) {
  const std::size_t before = simt::allocated_bytes();
  simt::device().total_bytes = before + 1000;
  std::size_t available = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&available, &total), cudaSuccess);
  EXPECT_EQ(available, 1000u);
  EXPECT_EQ(total, before + 1000);
  void* p = nullptr;
  EXPECT_EQ(cudaMalloc(&p, 1001), cudaErrorMemoryAllocation);
  ASSERT_EQ(cudaMalloc(&p, 1000), cudaSuccess);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(p) % 256, 0u);
  EXPECT_EQ(cudaFree(p), cudaSuccess);
  EXPECT_EQ(simt::allocated_bytes(), before);
}

TEST_F(Simt, FailsTheNextLaunch) {
  simt::device().launch_error = cudaErrorLaunchOutOfResources;
  DeviceArray<int> results(kWarpResults * 32);
  EXPECT_THROW(run_warp_operations(results.get()), Error);
  EXPECT_NO_THROW(run_warp_operations(results.get()));
}

TEST_F(Simt, HasNoDeviceWhereItIsToldSo) {
  int count = 1;
  for (const cudaError_t error : {cudaErrorNoDevice, cudaErrorInsufficientDriver}) {
    simt::device().count_error = error;
    EXPECT_EQ(cudaGetDeviceCount(&count), error);
    EXPECT_EQ(count, 0);
    EXPECT_EQ(cudaSetDevice(0), error);
    EXPECT_NE(std::string(cudaGetErrorString(error)), "");
  }
  simt::device().driver_version = 0;
  int driver = -1;
  EXPECT_EQ(cudaDriverGetVersion(&driver), cudaSuccess);
  EXPECT_EQ(driver, 0);
  simt::device() = {};
  EXPECT_EQ(cudaSetDevice(1), cudaErrorInvalidDevice);
}

TEST_F(Simt, HasTheCapabilityThatItIsToldTo) {
  simt::device().major = 8;
  simt::device().minor = 6;
  int major = 0;
  EXPECT_EQ(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), cudaSuccess);
  EXPECT_EQ(major, 8);
  cudaDeviceProp properties;
  EXPECT_EQ(cudaGetDeviceProperties(&properties, 0), cudaSuccess);
  EXPECT_EQ(properties.minor, 6);
  DeviceArray<std::uint32_t> registers(std::vector<std::uint32_t>(128, 0));
  DeviceArray<std::uint16_t> y(256);
  try {
    run_store_matrix(registers.get(), y.get(), false);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    FAIL() << "stmatrix ran on compute capability 8.6";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("ARCHITECTURE: stmatrix at features.cu:"));
  }
}

TEST_F(Simt, RefusesLaunchesThatNoDeviceTakes) {
  simt::device().shared_per_block = 64;
  DeviceArray<std::uint8_t> x(3 * 64), y(3 * 64);
  EXPECT_THROW(run_copy_async(x.get(), y.get(), 16), Error);
  DeviceArray<float> memory(64);
  EXPECT_THROW(run_last_block_sum(memory.get(), memory.get(), nullptr, memory.get(), 0), Error);
}

TEST_F(Simt, RefusesToWaitForAStreamThatCaptures) {
  cudaStream_t stream;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), cudaSuccess);
  void* p = nullptr;
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(cudaMalloc(&p, 16), cudaErrorStreamCaptureUnsupported);
  cudaGraph_t graph;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(cudaStreamDestroy(stream), cudaSuccess);
}

TEST_F(Simt, CopiesOnlyWithinAnAllocation) {
  DeviceArray<float> memory(std::vector<float>(10, 3));
  std::vector<float> host(11);
  EXPECT_EQ(cudaMemcpy(host.data(), memory.get(), 44, cudaMemcpyDeviceToHost),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(memory.get(), 0, 44), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(host.data(), memory.get(), 40, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(host[9], 3);
}

}  // namespace
}  // namespace tessera::test
