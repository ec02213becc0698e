// Where a network runs: what makes its steps, owns its memory and keeps its time.
//
// All work of one device is enqueued in order; `finish` waits for it. On a CPU every call is done
// when it returns.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/graph/graph.h"
#include "kernels/precision.h"
#include "kernels/train/backward.h"
#include "kernels/train/loss/loss.h"
#include "kernels/train/optimiser/update.h"

namespace tessera {

// Throws Error where `name` is none of them.
Precision parse_precision(std::string_view name);
DType storage_of(Precision precision);  // of the maps of images

// What a device does at most: the two lines of a roofline.
struct Peaks {
  double f32 = 0;        // FLOP/s of fused multiply-adds in registers
  double tf32 = 0;       // FLOP/s of tf32 products; 0 where there are none
  double bf16 = 0;       // FLOP/s of bf16 or f16 products; 0 where there are none
  double bandwidth = 0;  // bytes/s of a triad a = b + s * c in memory, all three streams counted

  // The FLOP/s that a run in this precision is held against.
  double flops(Precision precision) const;
};

// Memory of a device: one arena, freed with the object.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  virtual std::byte* get() const = 0;
};

// Takes the time between marks that are enqueued like work.
class Stopwatch {
 public:
  virtual ~Stopwatch() = default;
  virtual void mark() = 0;
  // Seconds of each mark since the first; to be called once all work is finished.
  virtual std::vector<double> seconds() = 0;
};

// Work that was enqueued once and can be enqueued again at little cost.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

// The arithmetic of optimiser steps on tensors of one device (kernels/train/optimiser/update.h).
class Updates {
 public:
  virtual ~Updates() = default;
  // The sum of squares of each tensor's gradient.
  virtual std::vector<double> squares(std::span<const OptimiserTensor> tensors) = 0;
  // One update for each tensor.
  virtual void sgd(std::span<const OptimiserTensor> tensors,
                   std::span<const SgdUpdate> updates) = 0;
  virtual void adam(std::span<const OptimiserTensor> tensors,
                    std::span<const AdamUpdate> updates) = 0;
};

class Device {
 public:
  virtual ~Device() = default;

  virtual std::string name() const = 0;  // "cpu", "cuda:0 (NVIDIA H200)"
  // What else tells it from others: {"compute_capability", "9.0"}, ...; nothing on a CPU.
  virtual std::vector<std::pair<std::string, std::string>> details() const = 0;
  // Whether steps read and write the caller's memory, or inputs and outputs must be copied.
  virtual bool is_host() const = 0;
  Precision precision() const { return precision_; }

  // `graph` as this device runs it best. `types` are input types of any size that runs; without
  // `winograd` convolutions are direct.
  virtual Graph optimise(const Graph& graph, Types types, bool winograd) const = 0;
  // The step of one node; `weights` are in host memory and may be needed until the device is gone.
  virtual Step prepare(const Node& node, Types inputs, std::span<const TensorView> weights) = 0;
  virtual std::size_t weight_bytes() const = 0;  // of all weights in the kernels' own order

  // Throws DeviceError, with the remedy, where there is not that much.
  virtual std::unique_ptr<DeviceMemory> allocate(std::size_t bytes) = 0;
  virtual std::size_t available_bytes() const = 0;  // free now
  // Between the caller's memory and the device's. After an upload the caller's may change.
  virtual void upload(const TensorView& from, std::byte* to) = 0;
  virtual void download(const std::byte* from, const TensorView& to) = 0;
  virtual void finish() = 0;

  // For up to `marks` marks. What is enqueued behind the first is timed without the host's own
  // time where the device can wait for the host to be ahead.
  virtual std::unique_ptr<Stopwatch> stopwatch(std::size_t marks) = 0;
  // Records what `work` enqueues, without running it. Null where that saves nothing.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& work) = 0;
  // Training (engine/train/gradients.h). All operands lie in this device's memory.
  virtual Graph optimise_for_training(const Graph& graph, Types types) const = 0;
  // `weights` are those of the first run, or have types alone.
  virtual TrainStep prepare_train(const Node& node, Types inputs,
                                  std::span<const TensorView> weights) = 0;
  virtual BackwardStep prepare_backward(const Node& node, Types inputs,
                                        std::span<const TensorView> weights) = 0;
  // Its run waits for the result.
  virtual LossStep prepare_loss(const Loss& op, const TensorType& logits,
                                const TensorType& labels) = 0;
  virtual void clear(std::byte* memory, std::size_t bytes) = 0;         // to zero
  virtual void add(const TensorView& sum, const TensorView& term) = 0;  // sum += term
  virtual std::unique_ptr<Updates> updates() = 0;
  // The same device without the weights that this one keeps.
  virtual std::shared_ptr<Device> another() const = 0;
  // A CPU with `threads` threads that shares the weights that this one keeps, for an Executor
  // beside this one's. Of graphs whose steps change nothing that they keep: of images. Null on a
  // GPU.
  virtual std::shared_ptr<Device> with_threads(int threads) const = 0;

  // Measures for about a second, in memory that is given back.
  virtual Peaks measure_peaks() = 0;

 protected:
  explicit Device(Precision precision) : precision_(precision) {}

 private:
  Precision precision_;
};

// Memory of a device that grows to what is asked of it; its content is lost when it does.
class GrowingMemory {
 public:
  std::byte* get() const { return memory_ ? memory_->get() : nullptr; }
  std::size_t size() const { return size_; }
  // Whether it moved.
  bool grow(Device& device, std::size_t bytes) {
    if (size_ >= bytes) return false;
    memory_.reset();  // first: the peak is one memory, not two
    size_ = 0;
    memory_ = device.allocate(bytes);
    size_ = bytes;
    return true;
  }

 private:
  std::unique_ptr<DeviceMemory> memory_;
  std::size_t size_ = 0;
};

// What a network asks of a device.
struct DeviceOptions {
  std::string name = "auto";               // "cpu", "cuda", "cuda:N", or "auto": the best there is
  Precision precision = Precision::kFp32;  // on a CPU
  Precision gpu_precision = Precision::kFp32;  // on a GPU
  int threads = 0;                             // of the CPU; 0: default_threads()
};

// The options of a network of images or documents where the user says `precision`: "auto" is the
// fastest that keeps the answer, which for images is bf16 on a GPU, and fp32 on a CPU, whose
// Winograd convolutions outrun bf16. Documents are classified in fp32 unless a GPU is asked for
// less.
DeviceOptions device_options(bool images, std::string device, std::string_view precision,
                             int threads);

inline constexpr int kMaxThreads = 4096;

// The device, and, where "auto" found a GPU that cannot be used, one line that says why; a machine
// whose folder of devices has no NVIDIA GPU needs no such line. Throws Error for an unknown name,
// DeviceError where the device that was named cannot be had.
struct OpenedDevice {
  std::shared_ptr<Device> device;
  std::string note;
};
OpenedDevice open_device(const DeviceOptions& options, const std::string& devices = "/dev");

std::shared_ptr<Device> open_cpu_device(int threads, Precision precision = Precision::kFp32);

// The CUDA half: engine/device/cuda/device.cpp, or engine/device/cuda/none.cpp in a build without
// it.
inline constexpr int kAnyGpu = -1;
bool cuda_is_built();
// GPU `index`, or the first. Throws DeviceError where it is missing or too old.
std::shared_ptr<Device> open_cuda_device(int index, Precision precision);

}  // namespace tessera
