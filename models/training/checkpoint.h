// All that a training run needs to go on as if it had never stopped, in one safetensors file:
//
//   "weights/<name>", "optimiser/mean/<name>" ...   f32, as Optimiser::state() names them
//   metadata "tessera_checkpoint"                   JSON: settings, optimiser, schedule, state
//
// A checkpoint is written beside the old one and then takes its name: a run that is killed, or a
// disk that is full, leaves the old one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "engine/train/float_tensor.h"
#include "engine/train/optimiser.h"
#include "engine/train/random.h"
#include "engine/train/schedule.h"

namespace tessera {

// Where a run is.
struct TrainingState {
  std::int64_t epoch = 0;  // the one in progress, from 0
  std::int64_t batch = 0;  // of its batches, so many are done
  std::int64_t step = 0;   // optimiser steps in all: the position in the schedule
  std::optional<double> best_metric = std::nullopt;
  std::int64_t best_epoch = 0;
  std::map<std::string, Random::State> random = {};  // streams that are in the middle
  // What else the trainer keeps: sums of a loss half-way through an epoch, say.
  nlohmann::json extra = nlohmann::json::object();

  bool operator==(const TrainingState&) const = default;
};

// What a resumed run must have in common with the one that it goes on from.
struct TrainingSetup {
  Optimiser* optimiser = nullptr;  // restored, when a checkpoint is loaded
  Schedule schedule = {};
  // Everything else that decides the result: model configuration, data, seed, batch size. Any
  // JSON; compared value by value.
  nlohmann::json settings = nlohmann::json::object();
};

// `optimiser`: its state(), of all ranks. Throws Error where the file cannot be written or a number
// of the state is not finite; an older file of the name is then untouched.
void save_checkpoint(const std::filesystem::path& path, const TensorViews& weights,
                     const TensorViews& optimiser, const TrainingSetup& setup,
                     const TrainingState& state);

// Restores `weights` (their memory is written) and the optimiser, and returns where the run is.
// Throws Error, having changed nothing, for a file that is no checkpoint, for tensors that do not
// match, and for other settings, listing each with the checkpoint's value and today's.
TrainingState load_checkpoint(const std::filesystem::path& path, const TensorViews& weights,
                              const TrainingSetup& setup);

// What such a run must have in common, and the lines that tell two apart: "settings/units: 50 in
// the checkpoint, 150 now".
nlohmann::json description_of(const TrainingSetup& setup);
std::string differences(const nlohmann::json& one, const nlohmann::json& other,
                        const std::string& of_one, const std::string& of_other);

// The file's size without its header.
std::uint64_t checkpoint_bytes(const TensorViews& weights, const Optimiser& optimiser);

// Throws Error if the folder of `path` lacks the space for `bytes`: to be asked before training,
// not after its first epoch. An older file is kept until a new one is whole, so it does not count.
void require_space(const std::filesystem::path& path, std::uint64_t bytes);

}  // namespace tessera
