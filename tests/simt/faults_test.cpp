// What a user is told when a GPU is missing, too old, full or failing: the emulator's device fails
// as it is told to.
#include <cuda_runtime_api.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "emulator/emulator.h"
#include "engine/device/queue.h"
#include "kernels/error.h"
#include "kernels/ops/conv/cuda.h"
#include "models/session.h"
#include "tests/support/conv_operands.h"
#include "tests/support/cuda_check.h"
#include "tests/support/paths.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

// Leaves the device as it was.
class CudaFaults : public testing::Test {
 protected:
  ~CudaFaults() override { simt::device() = {}; }

  static std::string error_of(const std::string& name) {
    try {
      open_device({.name = name});
    } catch (const DeviceError& error) {
      return error.what();
    }
    return "no error";
  }
};

const std::string kUNet = test::source_dir() / "models/demo/unet_isbi.safetensors";

TEST_F(CudaFaults, ADeviceIsFoundByName) {
  for (const char* name : {"cuda", "cuda:0", "auto"}) {
    const OpenedDevice opened = open_device({.name = name});
    EXPECT_THAT(opened.device->name(), StartsWith("cuda:0 ("));
    EXPECT_EQ(opened.note, "");
  }
  EXPECT_EQ(open_device({.name = "cpu"}).device->name(), "cpu");
  for (const char* name :
       {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:0x", "cuda:0,", "cuda:0,0", ""})
    EXPECT_THROW(open_device({.name = name}), Error) << name;
  EXPECT_THAT(error_of("cuda:1"), AllOf(HasSubstr("cuda:1"), HasSubstr("1 GPU")));
}

TEST_F(CudaFaults, ADeviceThatCannotBeHadIsAnErrorByNameAndANoteByAuto) {
  struct Case {
    const char* text;
    simt::FakeDevice device;
  };
  const Case cases[] = {
      {"no NVIDIA GPU is visible", {.count_error = cudaErrorNoDevice}},
      {"update the driver", {.count_error = cudaErrorInsufficientDriver, .driver_version = 12020}},
      {"no NVIDIA driver is installed",
       {.count_error = cudaErrorInsufficientDriver, .driver_version = 0}},
      {"no NVIDIA GPU is visible", {.count = 0}},
      {"compute capability 7.5; 8.0 or newer is needed", {.major = 7, .minor = 5}},
  };
  const fs::path folder = fs::temp_directory_path() / fmt::format("tessera-devices-{}", ::getpid());
  const std::string there = folder / "some";
  for (const char* file : {"some/null", "some/nvidia0", "none/null", "none/nvme0n1"}) {
    fs::create_directories((folder / file).parent_path());
    std::ofstream(folder / file) << "";
  }
  for (const Case& one : cases) {
    simt::device() = one.device;
    EXPECT_THAT(error_of("cuda"), AllOf(HasSubstr(one.text), HasSubstr("--device cpu")));
    const OpenedDevice opened = open_device({.name = "auto"}, there);
    EXPECT_EQ(opened.device->name(), "cpu");
    EXPECT_THAT(opened.note, AllOf(StartsWith("running on the CPU: "), HasSubstr(one.text)));
    // A machine without any such device has nothing to be told.
    for (const std::string& none : {fs::path(folder / "none").string(), std::string("/gone")}) {
      const OpenedDevice silent = open_device({.name = "auto"}, none);
      EXPECT_EQ(silent.device->name(), "cpu");
      EXPECT_EQ(silent.note, "");
    }
  }
  fs::remove_all(folder);
}

std::vector<std::uint8_t> grey_pixels() {
  std::vector<std::uint8_t> pixels(24 * 24);
  for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<std::uint8_t>(i * 37);
  return pixels;
}

// Whether a failing GPU hands over to the CPU, and with which words.
void check_fault(const std::function<void()>& fault) {
  const std::vector<std::uint8_t> pixels = grey_pixels();
  Session cpu = Session::open(kUNet, {.device = "cpu"});
  const std::vector<std::uint8_t> expected = cpu.segment({pixels.data(), 24, 24}).mask;

  std::vector<std::string> notes;
  SessionOptions options{.device = "auto"};
  options.on_note = [&](std::string_view line) { notes.emplace_back(line); };
  Session session = Session::open(kUNet, options);
  EXPECT_THAT(session.device(), StartsWith("cuda:0"));
  fault();
  EXPECT_EQ(session.segment({pixels.data(), 24, 24}).mask, expected);
  EXPECT_EQ(session.device(), "cpu");
  EXPECT_EQ(session.precision(), "fp32");
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], StartsWith("going on with the CPU: "));
  simt::device() = {};

  options.device = "cuda";
  Session named = Session::open(kUNet, options);
  fault();
  try {
    named.segment({pixels.data(), 24, 24});
    ADD_FAILURE() << "the fault was not seen";
  } catch (const DeviceError& error) {
    EXPECT_THAT(error.what(), HasSubstr("--device cpu"));
  }
}

TEST_F(CudaFaults, FullMemoryHandsOverToTheCpuUnlessTheGpuWasNamed) {
  check_fault([] { simt::device().fail_allocation = 3; });
}

TEST_F(CudaFaults, AFailedLaunchHandsOverToTheCpuUnlessTheGpuWasNamed) {
  check_fault([] { simt::device().launch_error = cudaErrorLaunchFailure; });
}

TEST_F(CudaFaults, WorkThatFailsAsItRunsHandsOverToTheCpuUnlessTheGpuWasNamed) {
  check_fault([] { simt::device().run_error = cudaErrorIllegalAddress; });
}

// The runtime's current device is a thread's own: each call has to select the one that it is for.
TEST_F(CudaFaults, AForkedChildIsToldToOpenTheModelItself) {
  const std::vector<std::uint8_t> pixels = grey_pixels();
  Session session = Session::open(kUNet, {.device = "auto"});
  session.segment({pixels.data(), 24, 24});
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    std::string said;
    try {
      session.segment({pixels.data(), 24, 24});
    } catch (const Error& error) {
      said = error.what();
    }
    ::_exit(said.find("open the model in the child") != std::string::npos ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST_F(CudaFaults, AnyThreadUsesTheDeviceThatWasNamed) {
  simt::device().count = 2;
  const std::vector<std::uint8_t> pixels = grey_pixels();
  const std::vector<std::uint8_t> expected =
      Session::open(kUNet, {.device = "cuda:0"}).segment({pixels.data(), 24, 24}).mask;
  const std::size_t before = simt::allocated_bytes(0);
  Session session = Session::open(kUNet, {.device = "cuda:1"});
  const std::shared_ptr<Device> device = open_cuda_device(1, Precision::kFp32);
  std::thread([&] { EXPECT_EQ(session.segment({pixels.data(), 24, 24}).mask, expected); }).join();

  std::vector<float> values{1, 2, 3, 4};
  const TensorType type{DType::kF32, {4}};
  const std::unique_ptr<DeviceMemory> memory = device->allocate(type.bytes());
  const TensorView on_device{memory->get(), type};
  const auto in_its_own_thread = [](const std::function<void()>& call) {
    std::thread([&] { EXPECT_NO_THROW(call()); }).join();
  };
  std::shared_ptr<Queue> queue;
  in_its_own_thread([&] { queue = device->queue(); });
  in_its_own_thread([&] { queue->upload({values.data(), type}, memory->get()); });
  in_its_own_thread([&] { queue->add(on_device, on_device); });
  std::unique_ptr<Stopwatch> stopwatch;
  in_its_own_thread([&] { stopwatch = queue->stopwatch(2); });
  in_its_own_thread([&] { stopwatch->mark(); });
  std::unique_ptr<Recording> recording;
  in_its_own_thread([&] { recording = queue->record([&] { queue->add(on_device, on_device); }); });
  in_its_own_thread([&] { recording->replay(); });
  in_its_own_thread([&] { stopwatch->mark(); });
  in_its_own_thread([&] { queue->download(memory->get(), {values.data(), type}); });
  in_its_own_thread([&] { queue->finish(); });
  EXPECT_THAT(values, testing::ElementsAre(4, 8, 12, 16));
  EXPECT_GE(stopwatch->seconds().at(1), 0);
  auto* weight = reinterpret_cast<float*>(memory->get());
  const OptimiserTensor tensor{weight, weight, nullptr, nullptr, 4};
  std::unique_ptr<Updates> updates;
  in_its_own_thread([&] { updates = queue->updates(); });
  in_its_own_thread([&] {
    EXPECT_THAT(updates->squares({&tensor, 1}), testing::ElementsAre(16 + 64 + 144 + 256));
  });
  EXPECT_EQ(simt::allocated_bytes(0), before);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

TEST_F(CudaFaults, ASmallDeviceGetsTiles) {
  Session whole = Session::open(kUNet, {.device = "cuda"});
  const SegmentationPlan plan = whole.plan(500, 500);
  EXPECT_EQ(plan.tiles, 1);
  EXPECT_GT(plan.device, plan.arena);
  Session tiled = Session::open(kUNet, {.device = "cuda", .max_memory = plan.device / 2});
  const SegmentationPlan smaller = tiled.plan(500, 500);
  EXPECT_GT(smaller.tiles, 1);
  EXPECT_LE(smaller.device, plan.device / 2);
  simt::device().total_bytes = plan.device / 2 + simt::allocated_bytes();
  Session unasked = Session::open(kUNet, {.device = "cuda"});
  EXPECT_GT(unasked.plan(500, 500).tiles, 1);
}

TEST_F(CudaFaults, ASessionGivesAllItsMemoryBack) {
  const std::size_t before = simt::allocated_bytes();
  {
    const std::vector<std::uint8_t> pixels = grey_pixels();
    Session session = Session::open(kUNet, {.device = "cuda"});
    session.segment({pixels.data(), 24, 24});
    EXPECT_GT(simt::allocated_bytes(), before);
  }
  EXPECT_EQ(simt::allocated_bytes(), before);
}

TEST_F(CudaFaults, NothingIsAllocatedOnceANetworkRuns) {
  const std::vector<std::uint8_t> pixels = grey_pixels();
  Session session = Session::open(kUNet, {.device = "cuda"});
  session.segment({pixels.data(), 24, 24});
  const std::size_t allocations = simt::allocation_count();
  session.segment({pixels.data(), 24, 24});
  session.segment({pixels.data(), 24, 24});
  EXPECT_EQ(simt::allocation_count(), allocations);
}

TEST_F(CudaFaults, WithoutRoomForAClusterPairsAreMadeOneByOne) {
  Conv op{.c_out = 72};
  op.dtype = DType::kBF16;
  const std::vector<Tensor> x = {random({1, 10, 20, 128}, 1).rounded_to(DType::kBF16)};
  std::vector<Tensor> weights = weights_for(op, x);
  weights[0] = weights[0].rounded_to(DType::kBF16);
  const auto run = [&] {
    const auto make = [&](const CudaSetup& setup) {
      return cuda_with_tile(op, setup, ConvTile::kWgmmaPair64x128);
    };
    return run_cuda_step(make, infer(op, types(x)), x, weights, {})[0];
  };
  const Tensor paired = run();
  simt::device().multiprocessors = 1;
  EXPECT_TRUE(run().same_bytes(paired));
}

}  // namespace
}  // namespace tessera::test
