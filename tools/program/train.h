// `tessera train`, in parts: what both networks share, and one run for each.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/data_report.h"
#include "models/networks/registry.h"
#include "models/training/augmentation.h"
#include "models/training/training.h"
#include "tools/program/document_options.h"
#include "tools/program/image_data.h"
#include "tools/program/program.h"
#include "tools/program/report.h"

namespace tessera {

// What a run of either network is told.
struct TrainOptions {
  std::string output;
  std::string recipe;
  std::string folder;  // empty: the output's name with ".run" behind it
  bool check = false;
  bool resume = false;
  bool bf16 = false;
  std::string device = "auto", precision = "auto";
  int threads = 0;

  std::int64_t epochs = 10, steps = 0;
  std::int64_t batch = 1;
  int accumulate = 1;
  std::int64_t validate_every = 0, patience = 0;
  std::string best = "loss";
  const CLI::Option* best_option = nullptr;  // whether it was given
  bool recompute = false;
  double average = 0;

  std::string optimiser = "adam";
  double rate = 1e-3, momentum = 0.9, weight_decay = 0, clip = 0;
  bool nesterov = false;
  std::string schedule = "constant";
  std::int64_t warmup = 0, step_every = 1000;
  double final_factor = 0, step_factor = 0.1;

  ReportOptions report;

  // `score`: what --best takes besides loss and accuracy.
  void add_to(CLI::App& command, const char* score);
  int thread_count() const;
  // Throws UsageError for options that need a validation where there is none.
  void require_validation(bool there_is) const;
  // For a task, whose length the schedule needs. `data` and `seed` go into the provenance.
  TrainingOptions training_options(const TrainingTask& task, const std::vector<std::string>& data,
                                   std::uint64_t seed) const;
};

struct ImageTrainOptions {
  std::string data;
  TrainOptions run;
  ImageDataOptions source;

  std::vector<std::string> classes{"background", "foreground"};
  std::int64_t min_area = 1;
  int channels = 1;
  std::string scale = "unit", range;
  std::string network;     // of the registry; empty: this program's own defaults
  std::string from;        // a model that is trained on; empty: a new one
  ForeignOptions foreign;  // of that
  std::vector<const CLI::Option*> network_options;  // which have no say then
  const CLI::Option* classes_option = nullptr;
  int depth = 4, base = 64;
  std::string padding = "same", norm = "none", up = "transposed2", head = "conv1";
  bool sigmoid = false, up_relu = false;
  double dropout = 0, norm_momentum = 0.1;

  std::int64_t tile = 256, tiles = 0;
  std::string loss = "cross_entropy";
  std::string class_weights;
  double border_weight = 0, border_sigma = 5;
  bool plain = false;
  Augmentation augmentation;
  std::string contact_sheet;

  ImageTrainOptions() { source.validation = "0.2"; }
  bool classes_are_given() const;
  void add_to(CLI::App& command);
};

struct DocumentTrainOptions {
  std::string data;
  TrainOptions run;
  DocumentFileOptions files;
  std::string validation = "0.1";
  std::uint64_t seed = 0;
  bool skip_bad = false;

  std::int64_t max_features = 0, max_sentences = 0, max_words = 0, min_count = 1;
  double quantile = 0.95;
  std::string vectors;
  bool tune_embedding = false;
  std::string network;  // as above
  int features = 100;
  std::string cell = "gru";
  int units = 50, attention = 100, dense = 0;
  double dropout = 0.5;
  bool unmasked = false;

  DocumentTrainOptions() { run.batch = 64; }
  void add_to(CLI::App& command);
};

// Each returns the exit code.
int train_on_images(const ImageTrainOptions& options);
int train_on_documents(const DocumentTrainOptions& options);

// Prints what the data pass found; throws the Error that lists its problems, if there are any.
void settle(const DataReport& found, Report& report);

// Runs the task with the progress bar and says at the end what was reached.
int run_training(TrainingTask& task, const TrainOptions& options, TrainingOptions training);

}  // namespace tessera
