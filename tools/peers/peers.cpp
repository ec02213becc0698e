#include "tools/peers/peers.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/delay.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/paths.h"
#include "tools/peers/cublaslt.h"
#include "tools/peers/cudnn.h"
#include "tools/peers/peer.h"

namespace tessera {

std::vector<std::byte> stored(const std::vector<float>& values, DType type) {
  const Precision rounding = type == DType::kBF16  ? Precision::kBf16
                             : type == DType::kF16 ? Precision::kFp16
                                                   : Precision::kFp32;
  std::vector<std::byte> bytes(values.size() * size_of(type));
  for (std::size_t i = 0; i < values.size(); ++i)
    store_rounded(rounding, values[i], bytes.data() + i * size_of(type));
  return bytes;
}

DeviceBuffer on_device(const std::vector<std::byte>& bytes) {
  DeviceBuffer buffer(bytes.size());
  if (bytes.empty()) return buffer;
  cuda_check(cudaMemcpy(buffer.get(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice),
             "upload");
  cuda_check(cudaStreamSynchronize(nullptr), "upload");  // pageable memory may arrive later
  return buffer;
}

std::vector<float> from_device(const DeviceBuffer& buffer, const TensorType& type) {
  HostTensor host(type);
  cuda_check(cudaMemcpy(host.bytes.data(), buffer.get(), type.bytes(), cudaMemcpyDeviceToHost),
             "download");
  return to_f32(host.view());
}

void grow(DeviceBuffer& workspace, std::size_t bytes) {
  if (workspace.size() >= bytes) return;
  workspace = DeviceBuffer();
  workspace = DeviceBuffer(bytes);
}

namespace {

constexpr std::size_t kBatches = 5;  // of runs, of which the median counts

// Values that every precision holds exactly, so that both sides round products alone.
class Numbers {
 public:
  float operator()() { return static_cast<float>(static_cast<int>(next() % 255) - 127) / 64; }
  std::int32_t up_to(std::int64_t most) {
    return static_cast<std::int32_t>(next() % static_cast<std::uint64_t>(most));
  }

 private:
  std::uint64_t next() {  // Knuth's MMIX generator; its upper bits are the good ones
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return state_ >> 33;
  }
  std::uint64_t state_ = 1;
};

// Made-up inputs of a node: words among those of its table, lengths from 1 to all.
std::vector<HostTensor> inputs_of(Types types, std::span<const TensorView> weights) {
  Numbers numbers;
  std::vector<HostTensor> inputs;
  for (const TensorType& type : types) {
    HostTensor& input = inputs.emplace_back(type);
    const std::int64_t count = type.shape.elements();
    if (type.dtype == DType::kI32) {
      const bool words = inputs.size() == 1;
      require(!words || !weights.empty(), "its words are of no table");
      const std::int64_t most = words                           ? weights[0].shape()[0]
                                : types[0].dtype == DType::kI32 ? types[0].shape[-1]
                                                                : types[0].shape[-2];
      for (std::int64_t k = 0; k < count; ++k)
        input.view().as<std::int32_t>()[k] = numbers.up_to(most) + (words ? 0 : 1);
    } else {
      std::vector<float> values(static_cast<std::size_t>(count));
      for (float& value : values) value = numbers();
      input.bytes = stored(values, type.dtype);
    }
  }
  return inputs;
}

// f32 weights that bf16 holds exactly.
std::vector<HostTensor> rounded(std::span<const TensorView> weights) {
  std::vector<HostTensor> result;
  for (const TensorView& weight : weights) {
    HostTensor& copy = result.emplace_back(TensorType{DType::kF32, weight.shape()});
    std::vector<float> values = to_f32(weight);
    for (float& value : values) value = bf16_to_f32(f32_to_bf16(value));
    copy.bytes = stored(values, DType::kF32);
  }
  return result;
}

}  // namespace

struct Peers::State {
  explicit State(Precision math, const PeerOptions& wanted)
      : precision(math), options(wanted), cudnn(wanted.folders), cublas(wanted.folders) {
    int device = 0;
    cuda_check(cudaGetDevice(&device), "current device");
    cudaDeviceProp properties{};
    cuda_check(cudaGetDeviceProperties(&properties, device), "device properties");
    traits = {.capability = properties.major * 10 + properties.minor,
              .multiprocessors = properties.multiProcessorCount,
              .shared_per_block = properties.sharedMemPerBlockOptin};
    cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "stream");
    for (cudaEvent_t& event : events) cuda_check(cudaEventCreate(&event), "event");
    cudnn.use_device(stream);
    cublas.use_device();
  }
  ~State() {
    for (const cudaEvent_t event : events)
      if (event != nullptr) cudaEventDestroy(event);
    if (stream != nullptr) cudaStreamDestroy(stream);
  }

  void finish() const { cuda_check(cudaStreamSynchronize(stream), "run"); }

  // Seconds of what `run` enqueues, in `launches` calls, while the stream waits.
  double time(const std::function<void()>& run, int launches) const {
    constexpr double kHostSeconds = 15e-6;  // of a call
    delay_cuda(kHostSeconds * launches, stream);
    cuda_check(cudaEventRecord(events[0], stream), "time mark");
    run();
    cuda_check(cudaEventRecord(events[1], stream), "time mark");
    finish();
    float milliseconds = 0;
    cuda_check(cudaEventElapsedTime(&milliseconds, events[0], events[1]), "elapsed time");
    return 1e-3 * static_cast<double>(milliseconds);
  }

  // `count` runs as one CUDA graph, so that the host's time is in nobody's: a recurrent layer of
  // cuDNN's is hundreds of launches. Null where they do not let themselves be recorded.
  using Recorded = std::unique_ptr<CUgraphExec_st, decltype(&cudaGraphExecDestroy)>;
  Recorded record(const std::function<void()>& enqueue, int count) const {
    cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    bool recorded = true;
    try {
      for (int i = 0; i < count; ++i) enqueue();
    } catch (const Error&) {
      recorded = false;
    }
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    recorded = cudaStreamEndCapture(stream, &graph) == cudaSuccess && recorded;
    if (!recorded || cudaGraphInstantiate(&executable, graph, 0) != cudaSuccess)
      executable = nullptr;
    if (graph != nullptr) cudaGraphDestroy(graph);
    cudaGetLastError();  // of what could not be recorded
    return Recorded(executable, &cudaGraphExecDestroy);
  }

  // Seconds of a run: the median of batches, once warm.
  double measure(const std::function<void()>& enqueue, std::size_t batches) const {
    constexpr int kMostRuns = 100;
    enqueue();
    const double once = time(enqueue, 1);
    const int count =
        std::clamp(static_cast<int>(options.batch_seconds / std::max(once, 1e-6)), 1, kMostRuns);
    const Recorded recorded = record(enqueue, count);
    const auto run = [&] {
      if (recorded) {
        cuda_check(cudaGraphLaunch(recorded.get(), stream), "launch of a CUDA graph");
      } else {
        for (int i = 0; i < count; ++i) enqueue();
      }
    };
    if (recorded) run();  // its first launch uploads it
    std::vector<double> seconds(batches);
    for (double& batch : seconds) batch = time(run, recorded ? 1 : count) / count;
    std::ranges::sort(seconds);
    return seconds[batches / 2];
  }

  // Tries the peer's ways, and leaves it with the fastest. Throws Error where none runs.
  void choose(Peer& peer, PeerRow& row) const {
    const auto begin = std::chrono::steady_clock::now();
    const auto late = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count() >
             options.trial_seconds;
    };
    std::optional<std::size_t> best;
    std::size_t ran = 0;
    for (std::size_t i = 0; i < peer.ways() && !(ran > 0 && late()); ++i) {
      PeerWay& tried = row.tried.emplace_back(PeerWay{peer.way(i), 0, peer.objection(i)});
      if (!tried.refused.empty()) continue;
      try {
        peer.take(i);
        tried.seconds = measure([&] { peer.enqueue(); }, 1);
        ++ran;
        if (!best || tried.seconds < row.tried[*best].seconds) best = i;
      } catch (const DeviceError&) {
        throw;  // the device itself has failed: nothing after it can be trusted
      } catch (const Error& error) {
        tried.refused = error.what();
      }
    }
    std::string why = row.tried.empty() ? "it has none" : row.tried.back().refused;
    require(best.has_value(), "none of its {} ways runs; the last one: {}", row.tried.size(), why);
    peer.take(*best);
    row.way = row.tried[*best].name;
  }

  Precision precision;
  PeerOptions options;
  Cudnn cudnn;
  CublasLt cublas;
  CudaTraits traits;
  cudaStream_t stream = nullptr;
  std::array<cudaEvent_t, 2> events{};
};

Peers::Peers(Precision precision, const PeerOptions& options)
    : state_(std::make_unique<State>(precision, options)) {}
Peers::~Peers() = default;

std::vector<std::string> Peers::names() const {
  return {fmt::format("{} ({})", state_->cudnn.name(), state_->cudnn.path()),
          fmt::format("{} ({})", state_->cublas.name(), state_->cublas.path())};
}

PeerRow Peers::compare(const Node& node, Types types, std::span<const TensorView> weights) {
  PeerRow row;
  row.node = node.name, row.kind = std::string(kind_of(node.op)), row.cost = cost_of(node, types);
  std::vector<HostTensor> inputs = inputs_of(types, weights), kept = rounded(weights);
  std::vector<TensorView> views, input_views;
  for (HostTensor& weight : kept) views.push_back(weight.view());
  for (HostTensor& input : inputs) input_views.push_back(input.view());

  // Ours.
  DeviceWeights packed;
  const CudaSetup setup{node.name,         types,          views,  state_->traits,
                        state_->precision, state_->stream, &packed};
  const Step step = std::visit(
      [&](const auto& op) -> Step {
        if constexpr (OnCuda<std::decay_t<decltype(op)>>) return cuda(op, setup);
        return {};
      },
      node.op);
  if (!step.run) {
    row.note = "no kernel of ours: the host computes it";
    return row;
  }
  std::vector<DeviceBuffer> memory;
  std::vector<TensorView> read, written;
  for (const HostTensor& input : inputs)
    read.emplace_back(memory.emplace_back(on_device(input.bytes)).get(), input.type);
  const std::vector<TensorType> made =
      std::visit([&](const auto& op) { return infer(op, types); }, node.op);
  for (const TensorType& type : made)
    written.emplace_back(memory.emplace_back(DeviceBuffer(type.bytes())).get(), type);
  const std::size_t first = inputs.size();
  const DeviceBuffer scratch(step.scratch_bytes);
  row.seconds = state_->measure([&] { step.run({read, {}, written}, scratch.get()); }, kBatches);
  const TensorType answer_type = written[0].type;

  // Theirs.
  try {
    const PeerSetup peer_setup{input_views,    views,          state_->precision,
                               state_->stream, &state_->cudnn, &state_->cublas};
    const std::unique_ptr<Peer> peer = std::visit(
        [&](const auto& op) -> std::unique_ptr<Peer> {
          if constexpr (requires { peer_of(op, peer_setup); }) return peer_of(op, peer_setup);
          fail("neither library computes it in one call");
        },
        node.op);
    const bool of_cublas =
        std::holds_alternative<Linear>(node.op) || std::holds_alternative<ConvTranspose>(node.op);
    state_->choose(*peer, row);
    row.peer_seconds = state_->measure([&] { peer->enqueue(); }, kBatches);
    row.note = peer->note();
    row.peer = of_cublas ? state_->cublas.name() : state_->cudnn.name();
    const std::vector<float> ours = from_device(memory[first], answer_type),
                             theirs = peer->output();
    require(ours.size() == theirs.size(), "{} gives {} values in place of {}", row.peer,
            theirs.size(), ours.size());
    for (std::size_t i = 0; i < ours.size(); ++i) {
      const double difference =
          std::abs(static_cast<double>(ours[i]) - static_cast<double>(theirs[i]));
      // A NaN stays: no difference that follows is larger.
      if (!(difference <= row.largest_difference) && !std::isnan(row.largest_difference))
        row.largest_difference = difference;
      row.largest_value = std::max(row.largest_value, std::abs(static_cast<double>(theirs[i])));
    }
  } catch (const DeviceError&) {
    throw;
  } catch (const Error& error) {
    row.peer.clear();
    row.note = error.what();
  }
  return row;
}

}  // namespace tessera
