// The loops that measure a GPU's peak: with a factor of 1 their sums count the products made.
#include "kernels/cuda/peak.h"

#include <cuda_runtime_api.h>
#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "kernels/cuda/check.h"
#include "kernels/cuda/delay.h"
#include "tests/support/cuda_check.h"

namespace tessera::test {
namespace {

using CudaPeak = CudaTest;

std::vector<float> download(const DeviceBuffer& buffer) {
  std::vector<float> values(buffer.size() / sizeof(float));
  cuda_check(cudaMemcpy(values.data(), buffer.get(), buffer.size(), cudaMemcpyDeviceToHost),
             "download");
  return values;
}

// Each thread's sum.
std::vector<float> run_loop(PeakUnit unit, int blocks, int rounds, float factor) {
  const DeviceBuffer sums(static_cast<std::size_t>(peak_sums(unit, blocks)) * sizeof(float));
  cuda_check(cudaMemset(sums.get(), 0xff, sums.size()), "NaN");
  peak_loop_cuda({unit, blocks, rounds, factor, reinterpret_cast<float*>(sums.get())}, nullptr);
  return download(sums);
}

bool has_wgmma() {
  int major = 0;
  cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "attribute");
  return major == 9;
}

TEST_F(CudaPeak, SumsCountTheProducts) {
  for (const PeakUnit unit :
       {PeakUnit::kFma, PeakUnit::kMmaTf32, PeakUnit::kMmaBf16, PeakUnit::kWgmmaBf16}) {
    if (unit == PeakUnit::kWgmmaBf16 && !has_wgmma()) continue;
    for (const int rounds : {1, 5}) {
      constexpr int kBlocks = 2;
      SCOPED_TRACE(fmt::format("unit {}, {} rounds", static_cast<int>(unit), rounds));
      for (const float factor : {1.0f, -0.5f}) {
        const std::vector<float> sums = run_loop(unit, kBlocks, rounds, factor);
        // Each thread makes the same share; all numbers are small dyadic ones, so exact.
        EXPECT_THAT(sums, ::testing::Each(sums[0]));
        EXPECT_EQ(std::accumulate(sums.begin(), sums.end(), 0.0),
                  factor * peak_products(unit, kBlocks, rounds));
      }
    }
  }
}

TEST_F(CudaPeak, RandomOperandsDifferAndStayTheSameFromRoundToRound) {
  for (const PeakUnit unit :
       {PeakUnit::kFma, PeakUnit::kMmaTf32, PeakUnit::kMmaBf16, PeakUnit::kWgmmaBf16}) {
    if (unit == PeakUnit::kWgmmaBf16 && !has_wgmma()) continue;
    SCOPED_TRACE(static_cast<int>(unit));
    const std::vector<float> once = run_loop(unit, 1, 1, kRandomOperands),
                             thrice = run_loop(unit, 1, 3, kRandomOperands);
    const double products = peak_products(unit, 1, 1) / static_cast<double>(once.size());
    double squares = 0;
    for (std::size_t i = 0; i < once.size(); ++i) {
      squares += static_cast<double>(once[i]) * static_cast<double>(once[i]);
      EXPECT_NEAR(thrice[i], 3 * once[i], 1e-4 * products) << i;
    }
    // A product of two of them has variance 1/9; where sums share a factor, that of a sum is more.
    const double variance = squares / static_cast<double>(once.size());
    EXPECT_GT(variance, products / 9 / 3);
    EXPECT_LT(variance, products / 9 * 3);
  }
}

TEST_F(CudaPeak, ADelayHoldsTheStreamBack) {
  constexpr double kSeconds = 2e-3;
  cudaEvent_t events[2];
  for (cudaEvent_t& event : events) cuda_check(cudaEventCreate(&event), "event");
  cuda_check(cudaEventRecord(events[0], nullptr), "mark");
  delay_cuda(kSeconds, nullptr);
  cuda_check(cudaEventRecord(events[1], nullptr), "mark");
  cuda_check(cudaDeviceSynchronize(), "delay");
  float milliseconds = 0;
  cuda_check(cudaEventElapsedTime(&milliseconds, events[0], events[1]), "time");
  EXPECT_GE(milliseconds, 1e3 * kSeconds * 0.99);
  for (const cudaEvent_t event : events) cudaEventDestroy(event);
}

TEST_F(CudaPeak, TriadAddsTheScaledStream) {
  // Around the floats of one block, 4096, and less than a vector per thread.
  for (const std::int64_t count : {4, 4092, 4096, 4100, 3 * 4096 + 8}) {
    SCOPED_TRACE(count);
    std::vector<float> b(static_cast<std::size_t>(count)), c = b;
    std::iota(b.begin(), b.end(), 1.0f);
    std::iota(c.begin(), c.end(), -3.0f);
    const std::size_t bytes = b.size() * sizeof(float);
    const DeviceBuffer on_device[3] = {DeviceBuffer(bytes), DeviceBuffer(bytes),
                                       DeviceBuffer(bytes)};
    float* at[3];
    for (int i = 0; i < 3; ++i) at[i] = reinterpret_cast<float*>(on_device[i].get());
    cuda_check(cudaMemset(at[0], 0xff, bytes), "NaN");
    cuda_check(cudaMemcpy(at[1], b.data(), bytes, cudaMemcpyHostToDevice), "upload");
    cuda_check(cudaMemcpy(at[2], c.data(), bytes, cudaMemcpyHostToDevice), "upload");
    peak_triad_cuda({at[1], at[2], at[0], count, 0.5f}, nullptr);
    const std::vector<float> a = download(on_device[0]);
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], b[i] + 0.5f * c[i]) << i;
  }
}

TEST_F(CudaPeak, MeasuresEveryUnitThatTheDeviceHas) {
  constexpr std::size_t kAvailable = std::size_t{16} << 20;  // small streams, fit for the emulator
  CudaTraits traits{.capability = 80, .multiprocessors = 1, .shared_per_block = 0};
  if (has_wgmma()) traits.capability = 90;
  const CudaPeaks peaks = measure_cuda_peaks(traits, nullptr, kAvailable);
  for (const double rate : {peaks.f32, peaks.tf32, peaks.bf16, peaks.bandwidth}) {
    EXPECT_GT(rate, 0);
    EXPECT_TRUE(std::isfinite(rate));
  }
}

}  // namespace
}  // namespace tessera::test
