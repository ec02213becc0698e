// The emulated streams: what CUDA's rules order is ordered, and nothing else is.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "emulator/emulator.h"
#include "kernels/error.h"
#include "tests/simt/device_array.h"
#include "tests/simt/emulator_test.h"
#include "tests/simt/kernels.h"
#include "tests/support/device_tensor.h"

namespace tessera::test {
namespace {

using testing::Each;
using testing::HasSubstr;

constexpr int kSide = 32;
constexpr std::size_t kSize = kSide * kSide, kBytes = kSize * sizeof(float);

class SimtStreams : public EmulatorTest {
 protected:
  void SetUp() override { simt::config().streams = simt::Async::kLate; }
};

// Memory that the device copies by itself.
class Pinned {
 public:
  explicit Pinned(float value) {
    EXPECT_EQ(cudaMallocHost(reinterpret_cast<void**>(&memory_), kBytes), cudaSuccess);
    std::fill_n(memory_, kSize, value);
  }
  ~Pinned() { cudaFreeHost(memory_); }
  float* get() const { return memory_; }
  std::vector<float> values() const { return {memory_, memory_ + kSize}; }

 private:
  float* memory_ = nullptr;
};

class Stream {
 public:
  explicit Stream(unsigned flags) {
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, flags), cudaSuccess);
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  operator cudaStream_t() const { return stream_; }  // NOLINT: stands for the handle

 private:
  cudaStream_t stream_ = nullptr;
};

class Event {
 public:
  Event() { EXPECT_EQ(cudaEventCreate(&event_), cudaSuccess); }
  ~Event() { cudaEventDestroy(event_); }
  operator cudaEvent_t() const { return event_; }  // NOLINT: stands for the handle

 private:
  cudaEvent_t event_ = nullptr;
};

// A first part that writes `x` on one stream and a second that copies it to `y` on another; whether
// the second saw what the first wrote.
bool in_order(cudaStream_t first, cudaStream_t second, const std::function<void()>& between) {
  DeviceArray<float> x(std::vector<float>(kSize, 1)), y(std::vector<float>(kSize, 1));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(cudaMemsetAsync(x.get(), 0, kBytes, first), cudaSuccess);
  between();
  EXPECT_EQ(cudaMemcpyAsync(y.get(), x.get(), kBytes, cudaMemcpyDeviceToDevice, second),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  Pinned host(2);
  EXPECT_EQ(cudaMemcpyAsync(host.get(), y.get(), kBytes, cudaMemcpyDeviceToHost, second),
            cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  return host.values()[0] == 0;
}

TEST_F(SimtStreams, OrderWhatTheRulesOrder) {
  const Stream a(cudaStreamNonBlocking), b(cudaStreamNonBlocking), blocking(cudaStreamDefault),
      other(cudaStreamDefault);
  const Event event;
  const auto nothing = [] {};
  const auto record_and_wait = [&](cudaStream_t first, cudaStream_t second) {
    return [&event, first, second] {
      EXPECT_EQ(cudaEventRecord(event, first), cudaSuccess);
      EXPECT_EQ(cudaStreamWaitEvent(second, event, 0), cudaSuccess);
    };
  };
  EXPECT_TRUE(in_order(a, a, nothing)) << "one stream";
  EXPECT_FALSE(in_order(a, b, nothing)) << "two streams";
  EXPECT_FALSE(in_order(blocking, other, nothing)) << "two blocking streams";
  EXPECT_FALSE(in_order(nullptr, a, nothing)) << "the legacy stream, a non-blocking one";
  EXPECT_FALSE(in_order(a, nullptr, nothing)) << "a non-blocking stream, the legacy one";
  EXPECT_TRUE(in_order(nullptr, blocking, nothing)) << "the legacy stream, a blocking one";
  EXPECT_TRUE(in_order(blocking, nullptr, nothing)) << "a blocking stream, the legacy one";
  EXPECT_TRUE(in_order(a, b, record_and_wait(a, b))) << "an event";
  EXPECT_FALSE(in_order(a, b, record_and_wait(b, a))) << "an event the other way round";
  EXPECT_TRUE(in_order(a, b, [&] { EXPECT_EQ(cudaStreamSynchronize(a), cudaSuccess); }));
  EXPECT_TRUE(in_order(a, b, [&] {
    EXPECT_EQ(cudaEventRecord(event, a), cudaSuccess);
    EXPECT_EQ(cudaEventSynchronize(event), cudaSuccess);
  }));
  EXPECT_TRUE(in_order(a, b, [] { EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess); }));
}

TEST_F(SimtStreams, ABlockingStreamThatIsGoneIsWaitedForAllTheSame) {
  DeviceArray<float> x(std::vector<float>(kSize, 1));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  {
    const Stream blocking(cudaStreamDefault);
    EXPECT_EQ(cudaMemsetAsync(x.get(), 0, kBytes, blocking), cudaSuccess);
  }
  EXPECT_THAT(x.values(), Each(0.0f));
}

TEST_F(SimtStreams, AQueryIsAnsweredAndEndsInSuccess) {
  const Stream stream(cudaStreamNonBlocking);
  const Event begin, end;
  DeviceArray<float> x(kSize);
  float milliseconds = 0;
  EXPECT_EQ(cudaEventRecord(begin, stream), cudaSuccess);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(cudaMemsetAsync(x.get(), 0, kBytes, stream), cudaSuccess);
  EXPECT_EQ(cudaEventRecord(end, stream), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaErrorNotReady);
  EXPECT_EQ(cudaEventQuery(end), cudaErrorNotReady);
  int polls = 0;
  while (cudaStreamQuery(stream) == cudaErrorNotReady && polls < 100) ++polls;
  EXPECT_GT(polls, 0);
  EXPECT_LT(polls, 100);
  EXPECT_EQ(cudaEventQuery(end), cudaSuccess);
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaSuccess);
  EXPECT_GE(milliseconds, 0);
}

// What a test did until its harness learned to wait: fills and inputs on the legacy stream, the
// kernel on a stream that does not wait for it.
std::vector<float> transpose_as_of_old(bool waits) {
  const DeviceStream stream;
  const std::vector<float> ones(kSize, 1);
  float *x = nullptr, *y = nullptr;
  EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&x), kBytes), cudaSuccess);
  EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&y), kBytes), cudaSuccess);
  EXPECT_EQ(cudaMemcpy(x, ones.data(), kBytes, cudaMemcpyHostToDevice), cudaSuccess);
  EXPECT_EQ(cudaMemset(y, 0xff, kBytes), cudaSuccess);
  if (waits) {
    EXPECT_EQ(cudaStreamSynchronize(nullptr), cudaSuccess);
  }
  run_transpose(x, y, kSide, true, stream.get());
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
  std::vector<float> result(kSize);
  EXPECT_EQ(cudaMemcpy(result.data(), y, kBytes, cudaMemcpyDeviceToHost), cudaSuccess);
  EXPECT_EQ(cudaFree(x), cudaSuccess);
  EXPECT_EQ(cudaFree(y), cudaSuccess);
  return result;
}

TEST_F(SimtStreams, FillsAndInputsThatNobodyWaitsForAreSeen) {
  EXPECT_THAT(transpose_as_of_old(true), Each(1.0f));
  for (const float value : transpose_as_of_old(false)) ASSERT_NE(value, value);
  simt::config().streams = simt::Async::kEarly;
  EXPECT_THAT(transpose_as_of_old(false), Each(1.0f)) << "as if every call waited";
  // Any order in between is as legal, and some seed shows it.
  simt::config().streams = simt::Async::kRandom;
  int wrong = 0;
  for (unsigned seed = 1; seed <= 20; ++seed) {
    simt::config().stream_seed = seed;
    EXPECT_THAT(transpose_as_of_old(true), Each(1.0f));
    wrong += transpose_as_of_old(false)[0] != 1.0f;
  }
  EXPECT_GT(wrong, 0);
}

TEST_F(SimtStreams, HostMemoryOfACopyUnderWayStaysAsItIs) {
  const DeviceStream stream;
  const auto error_of = [&](const std::function<void(float*)>& make, auto&& spoil) -> std::string {
    DeviceArray<float> x(kSize);
    try {
      make(x.get());
      spoil();
      EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  const auto upload_from = [&](const void* from) {
    return [from, &stream](float* to) {
      EXPECT_EQ(cudaMemcpyAsync(to, from, kBytes, cudaMemcpyHostToDevice, stream.get()),
                cudaSuccess);
    };
  };
  std::vector<float> host(kSize, 1);
  EXPECT_EQ(error_of(upload_from(host.data()), [] {}), "");
  EXPECT_THAT(error_of(upload_from(host.data()), [&] { host[7] = 2; }), HasSubstr("changed"));
  const Pinned pinned(1);
  EXPECT_THAT(error_of(upload_from(pinned.get()), [&] { pinned.get()[0] = 2; }),
              HasSubstr("changed"));
  // A synchronous copy has staged the bytes when it returns, or, from pinned memory, copied them.
  const auto upload_now = [](const void* from) {
    return [from](float* to) {
      EXPECT_EQ(cudaMemcpy(to, from, kBytes, cudaMemcpyHostToDevice), cudaSuccess);
    };
  };
  EXPECT_EQ(error_of(upload_now(host.data()), [&] { host[7] = 3; }), "");
  EXPECT_EQ(error_of(upload_now(pinned.get()), [&] { pinned.get()[0] = 3; }), "");
  if (simt::kSanitized) return;                         // AddressSanitizer ends the process
  constexpr std::size_t kLarge = std::size_t{1} << 25;  // given back to the system when freed
  auto large = std::make_unique<std::vector<float>>(kLarge / sizeof(float), 1.0f);
  EXPECT_THAT(error_of(upload_from(large->data()), [&] { large.reset(); }), HasSubstr("freed"));
}

TEST_F(SimtStreams, ADownloadIsThereWhenItsStreamWasWaitedFor) {
  const DeviceStream stream;
  DeviceArray<float> x(std::vector<float>(kSize, 3));
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  std::vector<float> host(kSize, 0);
  EXPECT_EQ(cudaMemcpyAsync(host.data(), x.get(), kBytes, cudaMemcpyDeviceToHost, stream.get()),
            cudaSuccess);
  EXPECT_THAT(host, Each(0.0f));
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
  EXPECT_THAT(host, Each(3.0f));
}

TEST_F(SimtStreams, AFreeWaitsForAllWork) {
  const DeviceStream stream;
  DeviceArray<float> x(kSize);
  Pinned host(1);
  {
    DeviceArray<float> other(16);
    EXPECT_EQ(cudaMemcpyAsync(host.get(), x.get(), kBytes, cudaMemcpyDeviceToHost, stream.get()),
              cudaSuccess);
  }
  EXPECT_NE(host.values()[0], host.values()[0]);
}

TEST_F(SimtStreams, WhatAFreeFindsTheNextWaitThrows) {
  const DeviceStream stream;
  {
    std::vector<float> host(kSize, 1);
    DeviceArray<float> x(kSize);
    EXPECT_EQ(cudaMemcpyAsync(x.get(), host.data(), kBytes, cudaMemcpyHostToDevice, stream.get()),
              cudaSuccess);
    host[0] = 2;
  }
  EXPECT_THROW(cudaStreamSynchronize(stream.get()), std::runtime_error);
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
}

TEST_F(SimtStreams, FailedWorkIsToldByTheNextWait) {
  const DeviceStream stream;
  DeviceArray<float> x(kSize);
  simt::device().run_error = cudaErrorIllegalAddress;
  EXPECT_EQ(cudaMemsetAsync(x.get(), 0, kBytes, stream.get()), cudaSuccess);
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaGetLastError(), cudaErrorIllegalAddress);
  EXPECT_EQ(cudaStreamSynchronize(stream.get()), cudaSuccess);
}

// ---- Devices

TEST_F(SimtStreams, AStreamTakesLaunchesOfItsDeviceAlone) {
  simt::device().count = 2;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  const Stream stream(cudaStreamNonBlocking);
  const Event event;
  DeviceArray<float> x(std::vector<float>(kSize, 1)), y(kSize);
  EXPECT_EQ(simt::allocated_bytes(1), 2 * kBytes);
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  std::thread([&] {  // begins with device 0
    EXPECT_THROW(run_transpose(x.get(), y.get(), kSide, true, stream), Error);
    const Event here;
    EXPECT_EQ(cudaEventRecord(here, stream), cudaErrorInvalidResourceHandle);
    EXPECT_EQ(cudaEventRecord(event, stream), cudaSuccess);
    EXPECT_EQ(cudaSetDevice(1), cudaSuccess);
    EXPECT_NO_THROW(run_transpose(x.get(), y.get(), kSide, true, stream));
  })
      .join();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_THAT(y.values(), Each(1.0f));
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
}

}  // namespace
}  // namespace tessera::test
