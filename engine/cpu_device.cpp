// The CPU as a device: steps run where they are called, on the caller's memory.
#include <algorithm>
#include <chrono>
#include <cstring>

#include "engine/cpu_peaks.h"
#include "engine/device.h"
#include "engine/machine.h"
#include "engine/passes.h"
#include "kernels/cpu/step.h"

namespace tessera {

namespace {

class CpuMemory : public DeviceMemory {
 public:
  explicit CpuMemory(std::size_t bytes) : buffer_(bytes) {}
  std::byte* get() const override { return buffer_.get(); }

 private:
  AlignedBuffer buffer_;
};

class CpuStopwatch : public Stopwatch {
 public:
  void mark() override { marks_.push_back(Clock::now()); }
  std::vector<double> seconds() override {
    std::vector<double> since;
    for (const Clock::time_point mark : marks_)
      since.push_back(std::chrono::duration<double>(mark - marks_.front()).count());
    return since;
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> marks_;
};

class CpuDevice : public Device {
 public:
  CpuDevice(int threads, Precision precision) : Device(precision), threads_(threads) {}

  std::string name() const override { return "cpu"; }
  std::vector<std::pair<std::string, std::string>> details() const override { return {}; }
  bool is_host() const override { return true; }

  Graph optimise(const Graph& graph, Types types, bool winograd) const override {
    return optimise_for_cpu(graph, types, storage_of(precision()), winograd);
  }
  Step prepare(const Node& node, Types inputs, std::span<const TensorView> weights) override {
    for (const TensorType& type : inputs)
      require(type.dtype != DType::kF16, "f16 maps are for CUDA; use bf16 or f32 on a CPU");
    const CpuSetup setup{node.name, inputs, weights, threads_, &packed_};
    return std::visit([&](const auto& op) { return cpu(op, setup); }, node.op);
  }
  std::size_t weight_bytes() const override { return packed_.bytes(); }

  std::unique_ptr<DeviceMemory> allocate(std::size_t bytes) override {
    return std::make_unique<CpuMemory>(bytes);
  }
  std::size_t available_bytes() const override { return tessera::available_bytes(); }
  void upload(const TensorView& from, std::byte* to) override {
    std::memcpy(to, from.pointer, from.type.bytes());
  }
  void download(const std::byte* from, const TensorView& to) override {
    std::memcpy(to.pointer, from, to.type.bytes());
  }
  void finish() override {}

  std::unique_ptr<Stopwatch> stopwatch() override { return std::make_unique<CpuStopwatch>(); }
  std::unique_ptr<Recording> record(const std::function<void()>&) override { return nullptr; }

  Peaks measure_peaks() override { return measure_cpu_peaks(threads_); }

 private:
  int threads_;
  PackedWeights packed_;
};

}  // namespace

std::shared_ptr<Device> open_cpu_device(int threads, Precision precision) {
  if (threads == 0) threads = default_threads();
  require(threads >= 1 && threads <= kMaxThreads, "{} threads: expected 1 to {}", threads,
          kMaxThreads);
  require(precision == Precision::kFp32 || precision == Precision::kBf16,
          "precision {} is for a GPU; use fp32 or bf16 on a CPU", name_of(precision));
  return std::make_shared<CpuDevice>(threads, precision);
}

}  // namespace tessera
