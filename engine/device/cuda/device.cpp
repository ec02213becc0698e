// A GPU as a device: the work of a queue goes to one stream. Written against the CUDA runtime
// alone, so that it also runs on the emulator's (tests/simt/emulator).
#include <cuda_runtime_api.h>
#include <nvtx3/nvToolsExt.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>

#include "engine/device/cuda/host_step.h"
#include "engine/device/cuda/updates.h"
#include "engine/device/cuda/uploads.h"
#include "engine/device/gpu.h"
#include "engine/device/machine.h"
#include "engine/device/queue.h"
#include "engine/passes/passes.h"
#include "kernels/cuda/add.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/delay.h"
#include "kernels/cuda/peak.h"
#include "kernels/cuda/training.h"
#include "kernels/train/loss/cuda.h"
#include "kernels/train/ops.h"

namespace tessera {

namespace {

constexpr int kLeastCapability = 80;  // Ampere: cp.async and mma.sync in bf16

class CudaMemory : public DeviceMemory {
 public:
  explicit CudaMemory(std::size_t bytes) : buffer_(bytes) {}
  std::byte* get() const override { return buffer_.get(); }

 private:
  DeviceBuffer buffer_;
};

// Events are made ahead, and the first mark holds the stream back until the host, which takes 5 to
// 7 us a node, has enqueued the others: times between marks are the device's alone.
class CudaStopwatch : public Stopwatch {
 public:
  // Of the device `index`, which `stream` is of.
  CudaStopwatch(int index, cudaStream_t stream, std::size_t marks)
      : index_(index), stream_(stream) {
    events_.reserve(marks);
    while (events_.size() < marks)
      cuda_check(cudaEventCreate(&events_.emplace_back(nullptr)), "event");
  }
  ~CudaStopwatch() override {
    for (const cudaEvent_t event : events_)
      if (event != nullptr) cudaEventDestroy(event);
  }
  void mark() override {
    constexpr double kSecondsOfMark = 20e-6;
    require(marks_ < events_.size(), "a stopwatch for {} marks was asked for one more", marks_);
    cuda_check(cudaSetDevice(index_), "use of the device");
    if (marks_ == 0) delay_cuda(kSecondsOfMark * static_cast<double>(events_.size()), stream_);
    cuda_check(cudaEventRecord(events_[marks_++], stream_), "time mark");
  }
  std::vector<double> seconds() override {
    std::vector<double> since;
    for (std::size_t i = 0; i < marks_; ++i) {
      float milliseconds = 0;
      cuda_check(cudaEventElapsedTime(&milliseconds, events_[0], events_[i]), "elapsed time");
      since.push_back(1e-3 * static_cast<double>(milliseconds));
    }
    return since;
  }

 private:
  int index_;
  cudaStream_t stream_;
  std::vector<cudaEvent_t> events_;
  std::size_t marks_ = 0;
};

// A CUDA graph: one call enqueues all kernels of a network.
class CudaRecording : public Recording {
 public:
  CudaRecording(cudaGraph_t graph, cudaStream_t stream) : stream_(stream) {
    const cudaError_t error = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    cuda_check(error, "instantiation of a CUDA graph");
  }
  ~CudaRecording() override { cudaGraphExecDestroy(executable_); }
  void replay() override {
    cuda_check(cudaGraphLaunch(executable_, stream_), "launch of a CUDA graph");
  }

 private:
  cudaStream_t stream_;
  cudaGraphExec_t executable_ = nullptr;
};

// A stream of the device that is current where it is made.
class CudaStreamOwner {
 public:
  CudaStreamOwner() {
    cuda_check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
  }
  ~CudaStreamOwner() { cudaStreamDestroy(stream_); }
  CudaStreamOwner(const CudaStreamOwner&) = delete;
  CudaStreamOwner& operator=(const CudaStreamOwner&) = delete;
  cudaStream_t get() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

struct CudaPacked : Packed {
  explicit CudaPacked(std::size_t nodes) : on_device(nodes), on_host(nodes) {}
  std::size_t bytes() const override {
    return std::accumulate(
        on_device.begin(), on_device.end(), std::size_t{0},
        [](std::size_t sum, const DeviceWeights& node) { return sum + node.bytes(); });
  }
  std::vector<DeviceWeights> on_device;
  std::vector<PackedWeights> on_host;  // of steps that the host computes
};

class CudaDevice : public Device {
 public:
  CudaDevice(int index, Precision precision) : Device(precision), index_(index) {
    cudaDeviceProp properties{};
    cuda_check(cudaGetDeviceProperties(&properties, index), "device properties");
    title_ = properties.name;
    traits_ = {.capability = properties.major * 10 + properties.minor,
               .multiprocessors = properties.multiProcessorCount,
               .shared_per_block = properties.sharedMemPerBlockOptin};
    if (traits_.capability < kLeastCapability) {
      throw DeviceError(fmt::format(
          "cuda:{} ({}) has compute capability {}.{}; 8.0 or newer is needed; run with --device "
          "cpu",
          index, title_, properties.major, properties.minor));
    }
    use();
    const CudaStreamOwner stream;  // what cannot be used says so now
  }

  std::string name() const override { return fmt::format("cuda:{} ({})", index_, title_); }
  std::vector<std::pair<std::string, std::string>> details() const override {
    int driver = 0, runtime = 0;
    cuda_check(cudaDriverGetVersion(&driver), "version of the driver");
    cuda_check(cudaRuntimeGetVersion(&runtime), "version of the CUDA runtime");
    const auto version = [](int v) { return fmt::format("{}.{}", v / 1000, v % 1000 / 10); };
    return {{"compute_capability",
             fmt::format("{}.{}", traits_.capability / 10, traits_.capability % 10)},
            {"multiprocessors", std::to_string(traits_.multiprocessors)},
            {"cuda_of_driver", version(driver)},
            {"cuda_runtime", version(runtime)}};
  }
  bool is_host() const override { return false; }
  int index() const { return index_; }
  std::string id() const {
    cudaDeviceProp properties{};
    cuda_check(cudaGetDeviceProperties(&properties, index_), "device properties");
    std::string digits;
    for (const char byte : properties.uuid.bytes)
      digits += fmt::format("{:02x}", static_cast<unsigned char>(byte));
    return digits;
  }
  const CudaTraits& traits() const { return traits_; }

  Graph optimise(const Graph& graph, Types types, bool) const override {
    return optimise_for_cuda(graph, types, storage_of(precision()));
  }
  // Small gradients vanish in f16 unless the loss is scaled, which is not done here.
  Graph optimise_for_training(const Graph& graph, Types) const override {
    require(precision() != Precision::kFp16,
            "training on a GPU is in fp32, tf32 or bf16, not fp16: take bf16");
    return optimise_training_for_cuda(graph, storage_of(precision()));
  }

  std::unique_ptr<DeviceMemory> allocate(std::size_t bytes) const override {
    use();
    return std::make_unique<CudaMemory>(bytes);
  }
  std::size_t available_bytes() const override {
    use();
    std::size_t free = 0, total = 0;
    cuda_check(cudaMemGetInfo(&free, &total), "free device memory");
    return free;
  }
  std::unique_ptr<Packed> packed(std::size_t nodes) const override {
    return std::make_unique<CudaPacked>(nodes);
  }
  std::shared_ptr<Queue> queue(int threads) const override;
  Peaks measure_peaks() const override {
    use();
    const CudaStreamOwner stream;
    const CudaPeaks peaks = measure_cuda_peaks(traits_, stream.get(), available_bytes());
    return {peaks.f32, peaks.tf32, peaks.bf16, peaks.bandwidth};
  }

  // The runtime's current device is the calling thread's.
  void use() const {
    // CUDA's state does not survive a fork, and its calls in the child may hang.
    require(
        ::getpid() == process_,
        "the model was opened on {} by process {}, of which this one is a fork, and a GPU cannot "
        "be used across a fork; open the model in the child, or start the child by exec (spawn)",
        name(), process_);
    cuda_check(cudaSetDevice(index_), "use of the device");
  }

 private:
  int index_;
  const pid_t process_ = ::getpid();
  std::string title_;
  CudaTraits traits_;
};

class CudaQueue : public Queue {
 public:
  CudaQueue(std::shared_ptr<const CudaDevice> device, int threads)
      : Queue(device), device_(std::move(device)), threads_(threads), uploads_(stream_.get()) {}

  Step prepare(const Node& node, std::size_t index, Types inputs,
               std::span<const TensorView> weights, Packed& packed) override {
    use();
    auto& kept = static_cast<CudaPacked&>(packed);
    const CudaSetup setup = setup_of(node.name, inputs, weights, kept.on_device[index]);
    return in_range(node.name, std::visit(
                                   [&](const auto& op) -> Step {
                                     if constexpr (OnCuda<std::decay_t<decltype(op)>>) {
                                       if (Step step = cuda(op, setup); step.run) return step;
                                     }
                                     return step_on_host(op, setup, threads_, kept.on_host[index]);
                                   },
                                   node.op));
  }

  void upload(const TensorView& from, std::byte* to) override {
    use();
    uploads_.copy(to, from.pointer, from.type.bytes());
  }
  void download(const std::byte* from, const TensorView& to) override {
    use();
    cuda_check(
        cudaMemcpyAsync(to.pointer, from, to.type.bytes(), cudaMemcpyDeviceToHost, stream_.get()),
        "copy from the device");
  }
  void finish() override {
    use();
    cuda_check(cudaStreamSynchronize(stream_.get()), "run");
  }

  void* stream() const {
    use();
    return stream_.get();
  }

  std::unique_ptr<Stopwatch> stopwatch(std::size_t marks) override {
    use();
    return std::make_unique<CudaStopwatch>(device_->index(), stream_.get(), marks);
  }
  std::unique_ptr<Recording> record(const std::function<void()>& work) override {
    use();
    cuda_check(cudaStreamBeginCapture(stream_.get(), cudaStreamCaptureModeThreadLocal), "capture");
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream_.get(), &graph);
      if (graph != nullptr) cudaGraphDestroy(graph);
      throw;
    }
    cuda_check(cudaStreamEndCapture(stream_.get(), &graph), "capture");
    return std::make_unique<CudaRecording>(graph, stream_.get());
  }

  TrainStep prepare_train(const Node& node, Types inputs, std::span<const TensorView>) override {
    use();
    const CudaSetup setup = setup_of(node.name, inputs, {}, orders_);
    return in_range(node.name, visit_trainable<TrainStep>(
                                   node.op, [&](const auto& op) { return cuda_train(op, setup); }));
  }
  BackwardStep prepare_backward(const Node& node, Types inputs,
                                std::span<const TensorView>) override {
    use();
    const CudaSetup setup = setup_of(node.name, inputs, {}, orders_);
    return in_range(node.name + " (backward)",
                    visit_trainable<BackwardStep>(
                        node.op, [&](const auto& op) { return cuda_backward(op, setup); }));
  }
  LossStep prepare_loss(const Loss& op, const TensorType& logits,
                        const TensorType& labels) override {
    use();
    return in_range("loss", cuda(op, logits, labels, setup_of("loss", {}, {}, orders_)));
  }
  void clear(std::byte* memory, std::size_t bytes) override {
    use();
    if (bytes > 0)
      cuda_check(cudaMemsetAsync(memory, 0, bytes, stream_.get()), "clearing of memory");
  }
  void add(const TensorView& sum, const TensorView& term) override {
    use();
    add_cuda({sum.pointer, term.pointer, sum.shape().elements(), sum.type.dtype}, stream_.get());
  }
  std::unique_ptr<Updates> updates() override {
    return make_cuda_updates(stream_.get(), uploads_, [this] { use(); });
  }

 private:
  CudaSetup setup_of(const std::string& name, Types inputs, std::span<const TensorView> weights,
                     DeviceWeights& packed) const {
    return {name, inputs, weights, device_->traits(), device_->precision(), stream_.get(), &packed};
  }
  // All launches of the step lie in an NVTX range of this name, for nsys.
  template <class AnyStep>
  static AnyStep in_range(const std::string& name, AnyStep step) {
    step.run = [run = std::move(step.run), name](const auto& operands, std::byte* scratch) {
      nvtxRangePushA(name.c_str());
      struct Pop {
        ~Pop() { nvtxRangePop(); }
      } pop;
      return run(operands, scratch);
    };
    return step;
  }
  // A session may have been moved to another thread.
  void use() const { device_->use(); }

  std::shared_ptr<const CudaDevice> device_;
  int threads_;
  CudaStreamOwner stream_;
  CudaUploads uploads_;
  DeviceWeights orders_;  // of training, whose weights are packed anew in each step
};

std::shared_ptr<Queue> CudaDevice::queue(int threads) const {
  use();
  return std::make_shared<CudaQueue>(std::static_pointer_cast<const CudaDevice>(shared_from_this()),
                                     threads > 0 ? threads : default_threads());
}

}  // namespace

bool cuda_is_built() {
  return true;
}

int count_gpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}
void* gpu_stream(const Queue& queue) {
  return dynamic_cast<const CudaQueue&>(queue).stream();
}
std::string gpu_id(const Device& device) {
  return dynamic_cast<const CudaDevice&>(device).id();
}

std::shared_ptr<Device> open_cuda_device(int index, Precision precision) {
  int count = 0, driver = 0;
  // Where there is no driver at all the runtime calls it too old.
  if (cudaDriverGetVersion(&driver) == cudaSuccess && driver == 0) {
    throw DeviceError(
        "device cuda: no NVIDIA driver is installed; install it, or run with --device cpu");
  }
  cuda_check(cudaGetDeviceCount(&count), "search for a GPU");
  if (count == 0) cuda_check(cudaErrorNoDevice, "search for a GPU");
  if (index == kAnyGpu) index = 0;
  if (index >= count) {
    throw DeviceError(fmt::format("cuda:{}: this machine has {} GPU{}, numbered from 0", index,
                                  count, count == 1 ? "" : "s"));
  }
  return std::make_shared<CudaDevice>(index, precision);
}

}  // namespace tessera
