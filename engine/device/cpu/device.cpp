// The CPU as a device: steps run where they are called, on the caller's memory.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>

#include "engine/device/cpu/peaks.h"
#include "engine/device/machine.h"
#include "engine/device/queue.h"
#include "engine/passes/passes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/paths.h"
#include "kernels/train/ops.h"

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

// Pieces of tensors, so that all threads have work whatever the tensors' sizes.
class CpuUpdates : public Updates {
 public:
  explicit CpuUpdates(int threads) : threads_(threads) {}

  std::vector<double> squares(std::span<const OptimiserTensor> tensors) override {
    const std::vector<Piece> pieces = pieces_of(tensors);
    std::vector<double> of_pieces(pieces.size()), sums(tensors.size());
    for_each(pieces, [&](std::size_t i, const Piece& piece) {
      of_pieces[i] = sum_of_squares(tensors[piece.tensor].gradient + piece.begin, piece.count);
    });
    for (std::size_t i = 0; i < pieces.size(); ++i) sums[pieces[i].tensor] += of_pieces[i];
    return sums;
  }
  void sgd(std::span<const OptimiserTensor> tensors, std::span<const SgdUpdate> updates) override {
    for_each(pieces_of(tensors), [&](std::size_t, const Piece& piece) {
      const OptimiserTensor& t = tensors[piece.tensor];
      update_sgd(updates[piece.tensor], t.weight + piece.begin, t.gradient + piece.begin,
                 t.first != nullptr ? t.first + piece.begin : nullptr, piece.count);
    });
  }
  void adam(std::span<const OptimiserTensor> tensors,
            std::span<const AdamUpdate> updates) override {
    for_each(pieces_of(tensors), [&](std::size_t, const Piece& piece) {
      const OptimiserTensor& t = tensors[piece.tensor];
      update_adam(updates[piece.tensor], t.weight + piece.begin, t.gradient + piece.begin,
                  t.first + piece.begin, t.second + piece.begin, piece.count);
    });
  }

 private:
  struct Piece {
    std::size_t tensor, begin, count;  // elements
  };
  static constexpr std::size_t kPiece = 1 << 14;  // elements: 64 KiB of each array

  static std::vector<Piece> pieces_of(std::span<const OptimiserTensor> tensors) {
    std::vector<Piece> pieces;
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      const auto count = static_cast<std::size_t>(tensors[i].count);
      for (std::size_t begin = 0; begin < count; begin += kPiece)
        pieces.push_back({i, begin, std::min(kPiece, count - begin)});
    }
    return pieces;
  }
  template <class Work>
  void for_each(const std::vector<Piece>& pieces, const Work& work) const {
    parallel_for(threads_, static_cast<std::int64_t>(pieces.size()), [&](std::int64_t i) {
      const auto index = static_cast<std::size_t>(i);
      work(index, pieces[index]);
    });
  }

  int threads_;
};

struct CpuPacked : Packed {
  explicit CpuPacked(std::size_t count) : nodes(count) {}
  std::size_t bytes() const override {
    return std::accumulate(
        nodes.begin(), nodes.end(), std::size_t{0},
        [](std::size_t sum, const PackedWeights& node) { return sum + node.bytes(); });
  }
  std::vector<PackedWeights> nodes;
};

class CpuQueue : public Queue {
 public:
  CpuQueue(std::shared_ptr<const Device> device, int threads)
      : Queue(std::move(device)), threads_(threads) {}

  Step prepare(const Node& node, std::size_t index, Types inputs,
               std::span<const TensorView> weights, Packed& packed) override {
    for (const TensorType& type : inputs)
      require(type.dtype != DType::kF16, "f16 maps are for CUDA; use bf16 or f32 on a CPU");
    const CpuSetup setup{node.name, inputs, weights, threads_,
                         &static_cast<CpuPacked&>(packed).nodes[index]};
    return std::visit([&](const auto& op) { return host_step(op, setup); }, node.op);
  }
  void upload(const TensorView& from, std::byte* to) override {
    std::memcpy(to, from.pointer, from.type.bytes());
  }
  void download(const std::byte* from, const TensorView& to) override {
    std::memcpy(to.pointer, from, to.type.bytes());
  }
  void finish() override {}

  std::unique_ptr<Stopwatch> stopwatch(std::size_t) override {
    return std::make_unique<CpuStopwatch>();
  }
  std::unique_ptr<Recording> record(const std::function<void()>&) override { return nullptr; }

  TrainStep prepare_train(const Node& node, Types inputs,
                          std::span<const TensorView> weights) override {
    const CpuSetup setup{node.name, inputs, weights, threads_, nullptr};
    return std::visit([&](const auto& op) { return cpu_train(op, setup); }, node.op);
  }
  BackwardStep prepare_backward(const Node& node, Types inputs,
                                std::span<const TensorView> weights) override {
    const CpuSetup setup{node.name, inputs, weights, threads_, nullptr};
    return visit_trainable<BackwardStep>(node.op,
                                         [&](const auto& op) { return cpu_backward(op, setup); });
  }
  LossStep prepare_loss(const Loss& op, const TensorType& logits,
                        const TensorType& labels) override {
    return cpu(op, logits, labels, threads_);
  }
  void clear(std::byte* memory, std::size_t bytes) override { std::memset(memory, 0, bytes); }
  void add(const TensorView& sum, const TensorView& term) override {
    add_gradients(sum, term, threads_);
  }
  std::unique_ptr<Updates> updates() override { return std::make_unique<CpuUpdates>(threads_); }

 private:
  int threads_;
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
  Graph optimise_for_training(const Graph& graph, Types types) const override {
    require(precision() == Precision::kFp32, "training on a CPU is in fp32, not {}",
            name_of(precision()));
    return optimise_training_for_cpu(graph, types);
  }

  std::unique_ptr<DeviceMemory> allocate(std::size_t bytes) const override {
    return std::make_unique<CpuMemory>(bytes);
  }
  std::size_t available_bytes() const override { return tessera::available_bytes(); }
  std::unique_ptr<Packed> packed(std::size_t nodes) const override {
    return std::make_unique<CpuPacked>(nodes);
  }
  std::shared_ptr<Queue> queue(int threads) const override {
    return std::make_shared<CpuQueue>(shared_from_this(), threads > 0 ? threads : threads_);
  }

  Peaks measure_peaks() const override { return measure_cpu_peaks(threads_); }

 private:
  int threads_;
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
