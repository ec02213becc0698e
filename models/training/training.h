// The training loop, one for both networks. What differs between them is a TrainingTask.
//
//   UNetTraining task(...);                      // or HanTraining
//   const TrainResult result = train(task, options, events);
//
// An optimiser step sums the gradients of `accumulate` batches (engine/train/gradient_sum.h).
// Everything random is a function of (seed, epoch, batch), so a run that was interrupted, or
// killed, goes on from its last checkpoint to the bytes that it would have reached undisturbed, on
// any number of threads and of ranks, which share the batches of each step and the optimiser's
// state. All ranks read the checkpoint; rank 0 alone writes it, of all shares.
//
// The folder of a run gets
//   last.safetensors, best.safetensors   checkpoints (models/training/checkpoint.h)
//   metrics.jsonl, learning_curves.svg   models/training/training_log.h
// and the model file is that of the best validation, or without validation the last one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/run/executor.h"
#include "engine/train/gradients.h"
#include "engine/train/optimiser.h"
#include "engine/train/ranks.h"
#include "engine/train/schedule.h"
#include "models/model_file.h"
#include "models/train.h"
#include "models/training/confusion_matrix.h"

namespace tessera {

struct Evaluation {
  double loss = 0;
  double accuracy = 0;
  nlohmann::json more = nlohmann::json::object();  // further figures, for the log

  // "loss", "accuracy" or a number among `more`.
  double figure(const std::string& name) const;
};

class TrainingTask {
 public:
  virtual ~TrainingTask() = default;

  // Without provenance.
  virtual const ModelConfig& config() const = 0;
  virtual std::optional<Vocabulary> vocabulary() const { return std::nullopt; }
  // The network to train, and the weights that it starts from.
  virtual Graph graph() const = 0;
  virtual FloatTensors initial_weights() const = 0;
  // What tensors' names begin with that are not trained.
  virtual std::vector<std::string> frozen() const { return {}; }
  // Inputs of the greatest batch.
  virtual std::vector<TensorType> largest_batch() const = 0;
  // What decides the result besides the model's configuration; a resumed run must agree.
  virtual nlohmann::json settings() const = 0;

  virtual std::int64_t batches() const = 0;  // of each epoch
  // Adds the gradients of one batch.
  virtual LossResult add(Gradients& gradients, std::int64_t epoch, std::int64_t batch) = 0;
  // Nothing where no data was held out. The weights lie in host memory. All ranks call it, share
  // the work, and get the figures of one rank, to the bit.
  virtual std::optional<Evaluation> validate(const TensorViews& weights, const Device& device,
                                             Ranks& ranks) = 0;
};

struct LoopOptions {
  Optimiser::Config optimiser = {};
  double rate = 1e-3;  // the schedule's factor multiplies it
  Schedule schedule = {};
  std::int64_t epochs = 1;
  std::int64_t steps = 0;  // more than 0: so many optimiser steps instead of `epochs`
  int accumulate = 1;
  std::int64_t validate_every = 0;  // steps; 0: at the end of each epoch
  std::string best = "loss";        // the figure of an Evaluation that tells the best one: the
                                    // lowest loss, the highest of any other
  std::int64_t patience = 0;        // validations without a better one that end it; 0: never
  bool recompute = false;           // see Gradients
  double average = 0;               // decay of a WeightAverage, which is then what is validated and
                                    // written; 0: the weights themselves

  std::filesystem::path model;   // the result
  std::filesystem::path folder;  // of all else; made if it is missing, its parent must be there
  bool resume = false;
  std::shared_ptr<Ranks> ranks = one_rank();
  std::string nccl = "libnccl.so.2";  // what ranks on GPUs open (engine/train/nccl.h)
  WeightStorage storage = WeightStorage::kF32;
  // Joined by "training": what was reached.
  nlohmann::json provenance = nlohmann::json::object();
};

// Optimiser steps in an epoch, and in the whole run.
std::int64_t steps_per_epoch(const TrainingTask& task, const LoopOptions& options);
std::int64_t total_steps(const TrainingTask& task, const LoopOptions& options);

// Throws Error where a file cannot be written, where a checkpoint is of another run, where ranks
// were told different things, and where the loss or a gradient is no longer finite; the last
// checkpoint is then still there.
TrainResult train(TrainingTask& task, const LoopOptions& options,
                  std::shared_ptr<const Device> device, const TrainEvents& events = {});

// Becomes the sum over all ranks.
void add_ranks(ConfusionMatrix& counts, Ranks& ranks);

// The trained network for inference on such a device. `weights`, in host memory, must outlive the
// call alone.
Executor make_evaluator(const ModelConfig& config, const Graph& graph, const TensorViews& weights,
                        const Device& device);

}  // namespace tessera
