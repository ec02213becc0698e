// A network with inputs, ready to run again and again: what `bench` and `profile` measure.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/device/device.h"
#include "engine/run/executor.h"
#include "models/model_file.h"

namespace tessera {

inline const std::vector<std::string> kPresets{"unet-paper", "resnet34-unet", "nnunet", "han",
                                               "han-paper"};

struct WorkloadOptions {
  std::string preset;  // one of kPresets; empty: `model`
  std::string model;
  std::string size;  // of the network's input; empty: 572 of unet-paper, else what 512 need
  int base = 64, depth = 4;
  int batch = 1;  // images or documents
  std::optional<int> sentences, words;
  std::string device = "auto";
  std::string precision = "auto";
  std::string technique = "auto";  // "direct": no Winograd
  int threads = 0;

  // All but `preset` and `model`, which each verb takes in its own way.
  void add_to(CLI::App& command);
};

// Weights made up as they are asked for: equal names give equal weights, scaled as He et al. (2015)
// do, so that activations neither vanish nor overflow.
class RandomWeights {
 public:
  TensorView take(const std::string& name, const Shape& shape);

 private:
  std::map<std::string, std::vector<float>> made_;
};

// Name and details of a device, for results.
nlohmann::json device_json(const Device& device);
// "cuda:0 (NVIDIA H200)", or on a CPU "2 threads".
std::string runs_on(const Device& device, int threads);

class Workload {
 public:
  // Throws UsageError for a size that the network does not run, Error for a bad model.
  explicit Workload(const WorkloadOptions& options);

  void run(std::vector<NodeTiming>* timings = nullptr);
  // As Executor's: on a GPU, once it has run twice.
  double replay_seconds(int count);

  const std::string& title() const { return title_; }  // "unet-paper 1 x 572 x 572 x 1"
  const char* item() const { return config_.is_of_images() ? "image" : "document"; }
  int items() const { return batch_; }
  const Device& device() const { return executor_->device(); }
  const Executor& executor() const { return *executor_; }
  std::vector<TensorType> types() const;  // of the inputs
  int threads() const { return threads_; }
  std::string precision() const { return std::string(name_of(device().precision())); }
  double flops() const { return flops_; }          // of one run
  double start_seconds() const { return start_; }  // from nothing to the first answer
  // Bytes while it runs: resident, or on a GPU those of its memory.
  std::size_t predicted_peak() const { return predicted_; }
  // Bytes of a GPU's memory that were taken since the device was opened: weights, maps, and what
  // the driver keeps for kernels and recordings.
  std::size_t device_bytes_taken() const;
  std::size_t packed_bytes() const { return executor_->packed_bytes(); }
  std::size_t arena_bytes() const { return arena_bytes_; }

 private:
  void configure(const WorkloadOptions& options);
  void make_image_inputs(const WorkloadOptions& options);
  void make_han_inputs(const WorkloadOptions& options);
  void start(const WorkloadOptions& options);
  TensorView allocate(const TensorType& type);

  ModelConfig config_;
  std::unique_ptr<ModelFile> file_;  // null for a preset
  RandomWeights random_;
  int batch_;
  int threads_;
  std::string title_;
  std::vector<AlignedBuffer> memory_;
  std::vector<TensorView> inputs_, outputs_;
  std::unique_ptr<Executor> executor_;
  double flops_ = 0;
  double start_ = 0;
  std::size_t predicted_ = 0, arena_bytes_ = 0;
  std::size_t available_before_ = 0;  // on a GPU, before weights
};

}  // namespace tessera
