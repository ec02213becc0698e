// Ten optimiser steps of a small network, each on another batch, as PyTorch took them
// (tools/golden/make_training_goldens.py), and the same steps on a device.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/device/queue.h"
#include "engine/graph/graph.h"
#include "engine/train/float_tensor.h"
#include "engine/train/optimiser.h"
#include "tests/support/operator_check.h"

namespace tessera::test {

struct TrainingGolden {
  struct Batch {
    std::vector<Tensor> inputs;
    Tensor labels;
    std::optional<Tensor> weights;  // of pixels
  };

  std::string name;
  Graph graph;  // for training
  Optimiser::Config optimiser;
  double rate = 0;
  FloatTensors before, after;  // the weights
  std::vector<Batch> batches;
  std::vector<double> losses;            // before each step, by PyTorch in f32
  std::vector<double> losses_in_double;  // the same in f64
};

// tests/golden/training/<name>.safetensors
TrainingGolden load_training_golden(std::string_view name);

// Every network there is one for that all devices train, and those for the CPU alone.
inline constexpr const char* kTrainingGoldens[] = {"unet_same_norm", "unet_valid", "han_gru",
                                                   "han_lstm"};
inline constexpr const char* kCpuTrainingGoldens[] = {"residual_batch", "residual_instance"};

struct TrainingRun {
  std::vector<double> losses;
  FloatTensors weights;  // after the last step
};

TrainingRun run_training(const TrainingGolden& golden, const std::shared_ptr<Device>& device,
                         bool recompute = false);

// How far a run is from the golden at most.
struct TrainingDistance {
  double loss = 0;    // of a step, relative
  double weight = 0;  // of a weight, where it is more than one relative
};
// That of `run`; fails where it is not within `bound`.
TrainingDistance check_training(const TrainingGolden& golden, const TrainingRun& run,
                                TrainingDistance bound);

}  // namespace tessera::test
