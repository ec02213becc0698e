#include "tests/support/cuda_sweep.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <random>
#include <set>

#include "engine/passes/passes.h"
#include "kernels/cpu/convert.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/delay.h"
#include "kernels/cuda/paths.h"
#include "kernels/cuda/step.h"
#include "kernels/ops/conv/cuda.h"
#include "kernels/ops/conv/cuda_host.h"
#include "kernels/ops/conv_transpose/cuda.h"
#include "kernels/ops/conv_transpose/cuda_host.h"
#include "tests/support/cuda_check.h"
#include "tests/support/device_tensor.h"

namespace tessera::test {

namespace {

struct Technique {
  std::string name;
  bool chosen = true;
  std::string reason;  // against it
  std::function<Step(const CudaSetup&)> make;
  std::optional<ConvTiming> timing = std::nullopt;  // to be completed
  int arithmetic = 0;                               // those of one give equal bytes
};

std::vector<Technique> techniques_of(const Conv& op, const CudaSetup& setup) {
  const bool has_tiles =
      (op.window.is_square(1) || op.window.is_square(3)) && op.window.is_dense() && op.groups == 1;
  if (!has_tiles) return {{"its own", true, "", [=](const CudaSetup& s) { return cuda(op, s); }}};
  const ConvGeometry g = geometry_of(op, setup.inputs);
  const ConvChoice choice = choose_conv(op, g, setup.inputs[0].dtype, setup);
  std::vector<Technique> list;
  for (const ConvTile tile : kConvTiles) {
    // Where wgmma is chosen, mma could be as well: which of them is right is asked here.
    const ConvArithmetic arithmetic = arithmetic_of(tile), own = arithmetic_of(choice.tile);
    if (arithmetic == ConvArithmetic::kFma ? arithmetic != own : arithmetic > own) continue;
    std::string reason;
    for (const ConvChoice::Rejection& rejection : choice.rejected)
      if (rejection.tile == tile) reason = rejection.reason;
    list.push_back({std::string(name_of(tile)), tile == choice.tile, reason,
                    [=](const CudaSetup& s) { return cuda_with_tile(op, s, tile); },
                    ConvTiming{conv_problem(op, g, setup.inputs[0].dtype, setup), tile, 0, 0},
                    static_cast<int>(arithmetic)});
  }
  return list;
}

std::vector<Technique> techniques_of(const ConvTranspose& op, const CudaSetup& setup) {
  const ConvTransposeTile chosen = choose_conv_transpose_tile(op, setup);
  const auto is_simt = [](ConvTransposeTile tile) { return tile == ConvTransposeTile::kFma128x64; };
  std::vector<Technique> list;
  for (const ConvTransposeTile tile : kConvTransposeTiles) {
    if (is_simt(tile) == is_simt(chosen))
      list.push_back({std::string(name_of(tile)), tile == chosen, "",
                      [=](const CudaSetup& s) { return cuda_with_tile(op, s, tile); }});
  }
  return list;
}

template <class Op>
std::vector<Technique> techniques_of(const Op& op, const CudaSetup&) {
  if constexpr (OnCuda<Op>)
    return {{"its own", true, "", [=](const CudaSetup& setup) { return cuda(op, setup); }}};
  return {};
}

// Device memory that grows and is filled with values of a type; small and unlike each other, so
// that sums neither vanish nor overflow, and ids and lengths are in range.
class Pool {
 public:
  std::byte* get(std::size_t bytes, std::optional<DType> filled_with) {
    if (memory_.size() < bytes) memory_ = DeviceBuffer(), memory_ = DeviceBuffer(bytes);
    if (filled_with && bytes > 0) fill(bytes, *filled_with);
    return memory_.get();
  }

 private:
  void fill(std::size_t bytes, DType dtype) {
    constexpr std::size_t kPattern = std::size_t{1} << 20;
    std::vector<std::byte> pattern(std::min(bytes, kPattern));
    std::mt19937 random(5);
    const auto fill_with = [&](const auto& next) {
      for (std::size_t at = 0; at + size_of(dtype) <= pattern.size(); at += size_of(dtype)) {
        const auto value = next();
        std::memcpy(&pattern[at], &value, sizeof value);
      }
    };
    const auto unit = [&] { return static_cast<float>(random()) * 0x1p-31f - 1.0f; };
    const auto small = [&] { return 1 + static_cast<std::int32_t>(random() % 30); };
    switch (dtype) {
      case DType::kF32:
        fill_with(unit);
        break;
      case DType::kBF16:
        fill_with([&] { return f32_to_bf16(unit()); });
        break;
      case DType::kF16:
        fill_with([&] { return f32_to_f16(unit()); });
        break;
      case DType::kI32:
        fill_with(small);
        break;
      case DType::kI64:
        fill_with([&] { return std::int64_t{small()}; });
        break;
      case DType::kU8:
        fill_with([&] { return static_cast<std::uint8_t>(small()); });
        break;
    }
    std::byte* const to = memory_.get();
    cuda_check(cudaMemcpy(to, pattern.data(), pattern.size(), cudaMemcpyHostToDevice), "pattern");
    for (std::size_t done = pattern.size(); done < bytes; done *= 2)
      cuda_check(cudaMemcpy(to + done, to, std::min(done, bytes - done), cudaMemcpyDeviceToDevice),
                 "pattern");
    cuda_check(cudaStreamSynchronize(nullptr), "pattern");
  }

  DeviceBuffer memory_;
};

class Sweeper {
 public:
  Sweeper(Precision precision, const SweepOptions& options)
      : precision_(precision), options_(options), traits_(traits_of({})) {
    for (cudaEvent_t& event : events_) cuda_check(cudaEventCreate(&event), "event");
  }
  ~Sweeper() {
    for (const cudaEvent_t event : events_) cudaEventDestroy(event);
  }
  Sweeper(const Sweeper&) = delete;
  Sweeper& operator=(const Sweeper&) = delete;

  void add(const SweepLayer& layer, nlohmann::json& rows, std::vector<ConvTiming>& timings) {
    const auto parameters = parameters_of({layer.name, layer.op, {}, {}}, layer.inputs);
    for (const Parameter& p : parameters) grow_weights(p.shape.elements());
    std::vector<TensorView> weights;
    for (const Parameter& p : parameters)
      weights.emplace_back(weights_.data(), TensorType{DType::kF32, p.shape});
    DeviceWeights packed;
    const CudaSetup setup{layer.name, layer.inputs,  weights, traits_,
                          precision_, stream_.get(), &packed};

    const std::vector<TensorType> output_types =
        std::visit([&](const auto& op) { return infer(op, layer.inputs); }, layer.op);
    inputs_.resize(std::max(inputs_.size(), layer.inputs.size()));
    outputs_.resize(std::max(outputs_.size(), output_types.size()));
    std::vector<TensorView> in, out;
    for (std::size_t i = 0; i < layer.inputs.size(); ++i)
      in.emplace_back(inputs_[i].get(layer.inputs[i].bytes(), layer.inputs[i].dtype),
                      layer.inputs[i]);
    for (std::size_t i = 0; i < output_types.size(); ++i)
      out.emplace_back(outputs_[i].get(output_types[i].bytes(), std::nullopt), output_types[i]);

    const Cost cost = cost_of({layer.name, layer.op, {}, {}}, layer.inputs);
    const auto list =
        std::visit([&](const auto& op) { return techniques_of(op, setup); }, layer.op);
    std::map<int, std::vector<std::vector<std::byte>>> firsts;
    for (const Technique& technique : list) {
      const Step step = technique.make(setup);
      if (!step.run) continue;  // no kernel serves these attributes: the host computes them
      for (const TensorView& output : out)  // NaN: what is not written differs
        cuda_check(cudaMemsetAsync(output.pointer, 0xff, output.type.bytes(), stream_.get()),
                   "NaN");
      std::byte* const scratch = scratch_.get(step.scratch_bytes, std::nullopt);
      const double seconds = median_seconds([&] { step.run({in, {}, out}, scratch); });
      std::vector<std::vector<std::byte>> last;
      for (const TensorView& output : out) last.push_back(last_row(output));
      const auto& first = firsts.try_emplace(technique.arithmetic, last).first->second;
      rows.push_back({{"layer", layer.name},
                      {"kind", kind_of(layer.op)},
                      {"precision", name_of(precision_)},
                      {"input", layer.inputs[0].shape.to_string()},
                      {"output", output_types[0].shape.to_string()},
                      {"technique", technique.name},
                      {"chosen", technique.chosen},
                      {"seconds", seconds},
                      {"flops", cost.flops},
                      {"bytes", cost.bytes},
                      {"same_bytes", last == first}});
      if (technique.timing) {
        timings.push_back(*technique.timing);
        timings.back().products =
            cost.flops / 2 / static_cast<double>(output_types[0].shape.elements());
        timings.back().seconds = seconds;
      }
      if (!technique.reason.empty()) rows.back()["reason"] = technique.reason;
    }
  }

 private:
  void grow_weights(std::int64_t size) {
    std::normal_distribution<float> normal(0, 0.05f);
    while (static_cast<std::int64_t>(weights_.size()) < size) weights_.push_back(normal(random_));
  }
  double seconds_of(const std::function<void()>& run, int count) {
    constexpr double kHostSecondsOfRun = 20e-6;
    delay_cuda(kHostSecondsOfRun * count, stream_.get());
    cuda_check(cudaEventRecord(events_[0], stream_.get()), "time mark");
    for (int i = 0; i < count; ++i) run();
    cuda_check(cudaEventRecord(events_[1], stream_.get()), "time mark");
    cuda_check(cudaStreamSynchronize(stream_.get()), "run of a layer");
    float milliseconds = 0;
    cuda_check(cudaEventElapsedTime(&milliseconds, events_[0], events_[1]), "elapsed time");
    return 1e-3 * static_cast<double>(milliseconds) / count;
  }
  double median_seconds(const std::function<void()>& run) {
    constexpr int kMostRuns = 50;
    run();  // loads the kernel
    const double one = std::max(seconds_of(run, 1), 1e-6);
    const int count =
        static_cast<int>(std::clamp(options_.batch_seconds / one, 1.0, double{kMostRuns}));
    std::vector<double> times;
    for (int i = 0; i < options_.batches; ++i) times.push_back(seconds_of(run, count));
    std::nth_element(times.begin(), times.begin() + options_.batches / 2, times.end());
    return times[static_cast<std::size_t>(options_.batches) / 2];
  }
  static std::vector<std::byte> last_row(const TensorView& view) {
    const std::size_t bytes = view.type.bytes() / static_cast<std::size_t>(view.shape()[0]);
    std::vector<std::byte> host(bytes);
    if (bytes > 0)
      cuda_check(cudaMemcpy(host.data(), view.as<std::byte>() + (view.type.bytes() - bytes), bytes,
                            cudaMemcpyDeviceToHost),
                 "outputs");
    return host;
  }

  Precision precision_;
  const SweepOptions& options_;
  CudaTraits traits_;
  DeviceStream stream_;
  cudaEvent_t events_[2]{};
  std::mt19937 random_{3};
  std::vector<float> weights_;  // serve every layer
  std::vector<Pool> inputs_, outputs_;
  Pool scratch_;
};

}  // namespace

std::vector<SweepLayer> layers_of(const Graph& graph, Types inputs, Precision precision) {
  const Graph optimised = optimise_for_cuda(graph, inputs, storage_of(precision));
  const std::vector<TensorType> types = infer_types(optimised, inputs);
  std::vector<SweepLayer> layers;
  for (const Node& node : optimised.nodes)
    layers.push_back({node.name, node.op, input_types(node, types)});
  return layers;
}

std::vector<SweepLayer> resnet_unet_layers(std::int64_t batch, std::int64_t side,
                                           Precision precision) {
  struct Row {
    const char* name;
    int divided, c_in, c_out;
  };
  // torchvision's ResNet-34, whose blocks keep their size from the second on, and the decoder of
  // segmentation_models.pytorch: nearest upsampling, the skip, two convolutions.
  constexpr Row kRows[] = {{"encoder1", 4, 64, 64},          {"encoder2", 8, 128, 128},
                           {"encoder3", 16, 256, 256},       {"encoder4", 32, 512, 512},
                           {"decoder0/conv1", 16, 768, 256}, {"decoder0/conv2", 16, 256, 256},
                           {"decoder1/conv1", 8, 384, 128},  {"decoder1/conv2", 8, 128, 128},
                           {"decoder2/conv1", 4, 192, 64},   {"decoder2/conv2", 4, 64, 64},
                           {"decoder3/conv1", 2, 128, 32},   {"decoder3/conv2", 2, 32, 32},
                           {"decoder4/conv1", 1, 32, 16},    {"decoder4/conv2", 1, 16, 16}};
  std::vector<SweepLayer> layers;
  std::set<std::vector<int>> known;
  for (const Row& row : kRows) {
    if (!known.insert({row.divided, row.c_in, row.c_out}).second) continue;
    Conv conv;
    conv.c_out = row.c_out;
    conv.window = same(3);
    conv.relu = true;
    conv.dtype = storage_of(precision);
    const std::int64_t pixels = std::max<std::int64_t>(side / row.divided, 1);
    layers.push_back({row.name, conv, {{conv.dtype, {batch, pixels, pixels, row.c_in}}}});
  }
  return layers;
}

nlohmann::json sweep(const std::vector<SweepLayer>& layers, Precision precision,
                     const SweepOptions& options, std::vector<ConvTiming>& timings) {
  Sweeper sweeper(precision, options);
  nlohmann::json rows = nlohmann::json::array();
  for (const SweepLayer& layer : layers) {
    if (!options.go_on()) break;
    sweeper.add(layer, rows, timings);
  }
  return rows;
}

}  // namespace tessera::test
