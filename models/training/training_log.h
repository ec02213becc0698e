// What a training run leaves for its owner to look at: metrics.jsonl, one JSON object per line, and
// a picture of the learning curves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/files/line_file.h"

namespace tessera {

// metrics.jsonl. Each line has at least "step", the optimiser steps that were done when it was
// written; lines follow each other by rising step. A line is on disk, or none of it, as far as a
// killed program is concerned.
class MetricsLog {
 public:
  // Starts a new file, replacing an older one; or, with `resume_step`, goes on with the lines of at
  // most that step: those that an interruption after the checkpoint left behind, and a torn last
  // line, are cut off. So write the lines of a step before its checkpoint.
  // A file that is missing is then an empty one. Throws Error where it cannot be read or written,
  // or where a line that is kept is no JSON object with a step.
  MetricsLog(std::filesystem::path path, std::optional<std::int64_t> resume_step);

  // Appends an object as a line, which then outlives a loss of power as the checkpoint after it
  // does. Numbers that are not finite become null. Throws Error where the line cannot be written
  // whole (disk full); the file is then as it was before.
  void append(const nlohmann::ordered_json& line);

 private:
  LineFile file_;
};

// The lines of a metrics.jsonl. Throws Error naming the line that is no JSON object with a step; a
// torn last line is left out.
std::vector<nlohmann::json> read_metrics(const std::filesystem::path& path);

// One epoch of the learning curves; what was not measured is absent.
struct EpochMetrics {
  double epoch = 0;  // from 1
  std::optional<double> train_loss, validation_loss;
  std::optional<double> train_accuracy, validation_accuracy;  // shares, 0 to 1
  bool best = false;  // the best validation so far, by whatever figure tells it
};

// The epochs among the lines of a log: those with the key "epoch" and any of the keys "train_loss",
// "validation_loss", "train_accuracy", "validation_accuracy". "best": true marks the best so far.
std::vector<EpochMetrics> epochs_of(const std::vector<nlohmann::json>& lines);

// Loss and accuracy over epochs, training and validation, as an SVG text of two panels side by
// side; the last of the best epochs is marked. `title` stands above. The accuracy's
// panel is left out where nothing was measured of it.
std::string learning_curves_svg(const std::vector<EpochMetrics>& epochs, const std::string& title);

}  // namespace tessera
