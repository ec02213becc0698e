// Where a network runs: a CPU or a GPU, which any thread may ask for memory and for queues.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/graph/graph.h"
#include "kernels/precision.h"

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

class Queue;  // engine/device/queue.h

// Weights of a graph's nodes in the kernels' own order, each packed once, by the first queue that
// prepares its node. Of one device; for queues of any number of threads.
class Packed {
 public:
  virtual ~Packed() = default;
  virtual std::size_t bytes() const = 0;  // of all weights that are there
};

// Any thread may call it at any time.
class Device : public std::enable_shared_from_this<Device> {
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
  virtual Graph optimise_for_training(const Graph& graph, Types types) const = 0;

  // Throws DeviceError, with the remedy, where there is not that much.
  virtual std::unique_ptr<DeviceMemory> allocate(std::size_t bytes) const = 0;
  virtual std::size_t available_bytes() const = 0;  // free now
  // For the weights of a graph of so many nodes; empty.
  virtual std::unique_ptr<Packed> packed(std::size_t nodes) const = 0;

  // Computes on `threads` threads of the CPU; 0: as many as the device was opened with. The device
  // lives as long as it does.
  virtual std::shared_ptr<Queue> queue(int threads = 0) const = 0;

  // Measures for about a second, in memory that is given back.
  virtual Peaks measure_peaks() const = 0;

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
  bool grow(const Device& device, std::size_t bytes) {
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

// The names of the single devices that `name` stands for: each GPU there is for "cuda:all", those
// two for "cuda:0,2"; any other name is itself.
std::vector<std::string> device_names(const std::string& name);

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
