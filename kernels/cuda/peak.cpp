// Times the loops of peak.cu until they run long enough for a clock.
#include "kernels/cuda/peak.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <functional>

#include "kernels/cuda/check.h"
#include "kernels/cuda/step.h"

namespace tessera {

namespace {

constexpr double kLeastSeconds = 5e-3;  // of one run; events tell half a microsecond apart
constexpr double kEnoughSeconds = 0.2;  // of all runs of one loop
constexpr int kRepeats = 15;            // the best counts: a neighbour can only slow a run down

class Timer {
 public:
  explicit Timer(CudaStream stream) : stream_(stream) {
    for (cudaEvent_t& event : events_) cuda_check(cudaEventCreate(&event), "event");
  }
  ~Timer() {
    for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  double seconds_of(const std::function<void()>& work) {
    cuda_check(cudaEventRecord(events_[0], stream_), "time mark");
    work();
    cuda_check(cudaEventRecord(events_[1], stream_), "time mark");
    cuda_check(cudaEventSynchronize(events_[1]), "a loop that measures the GPU");
    float milliseconds = 0;
    cuda_check(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]), "elapsed time");
    return 1e-3 * static_cast<double>(milliseconds);
  }

  // Doubles `amount` until `work(amount)` takes long or `most` is reached; then the best rate in
  // units of `amount` per second.
  double best_rate(std::int64_t amount, std::int64_t most,
                   const std::function<void(std::int64_t)>& work) {
    const auto run = [&] { return seconds_of([&] { work(amount); }); };
    run();  // loads the kernel
    while (run() < kLeastSeconds && amount * 2 <= most) amount *= 2;
    double best = 0, spent = 0;
    for (int i = 0; i < kRepeats && spent < kEnoughSeconds; ++i) {
      const double seconds = run();
      best = std::max(best, static_cast<double>(amount) / seconds);
      spent += seconds;
    }
    return best;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t events_[2]{};
};

double loop_flops(PeakUnit unit, const CudaTraits& traits, CudaStream stream) {
  constexpr std::int64_t kMostRounds = std::int64_t{1} << 24;
  const int blocks = peak_blocks(unit, traits.multiprocessors);
  const DeviceBuffer sums(static_cast<std::size_t>(peak_sums(unit, blocks)) * sizeof(float));
  const double rounds = Timer(stream).best_rate(1, kMostRounds, [&](std::int64_t count) {
    peak_loop_cuda({unit, blocks, static_cast<int>(count), kRandomOperands,
                    reinterpret_cast<float*>(sums.get())},
                   stream);
  });
  return 2 * rounds * peak_products(unit, blocks, 1);
}

double triad_bandwidth(CudaStream stream, std::size_t available_bytes) {
  constexpr std::int64_t kLeastFloats = std::int64_t{1} << 16;
  constexpr std::int64_t kMostFloats = std::int64_t{1} << 27;  // 512 MiB each: far past any L2
  constexpr std::size_t kShare = 16;                           // of the free memory, at most
  std::int64_t most = kMostFloats;
  while (most > kLeastFloats && 3 * most * sizeof(float) > available_bytes / kShare) most /= 2;
  const std::size_t bytes = static_cast<std::size_t>(most) * sizeof(float);
  const DeviceBuffer memory[3] = {DeviceBuffer(bytes), DeviceBuffer(bytes), DeviceBuffer(bytes)};
  float* at[3];
  for (int i = 0; i < 3; ++i) {
    cuda_check(cudaMemsetAsync(memory[i].get(), 0, bytes, stream), "zeros");
    at[i] = reinterpret_cast<float*>(memory[i].get());
  }
  const double floats = Timer(stream).best_rate(kLeastFloats, most, [&](std::int64_t count) {
    peak_triad_cuda({at[1], at[2], at[0], count, 0.5f}, stream);
  });
  return 3 * sizeof(float) * floats;
}

}  // namespace

CudaPeaks measure_cuda_peaks(const CudaTraits& traits, CudaStream stream,
                             std::size_t available_bytes) {
  constexpr int kHopper = 90;
  const auto flops = [&](PeakUnit unit) { return loop_flops(unit, traits, stream); };
  CudaPeaks peaks{};
  peaks.f32 = flops(PeakUnit::kFma);
  peaks.tf32 = flops(PeakUnit::kMmaTf32);
  peaks.bf16 = flops(PeakUnit::kMmaBf16);
  if (traits.capability == kHopper) peaks.bf16 = std::max(peaks.bf16, flops(PeakUnit::kWgmmaBf16));
  peaks.bandwidth = triad_bandwidth(stream, available_bytes);
  return peaks;
}

}  // namespace tessera
