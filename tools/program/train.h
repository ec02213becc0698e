// What the command line tells of a training.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "models/train.h"
#include "tools/program/program.h"
#include "tools/program/report.h"

namespace tessera {

template <class Options>
struct TrainCommand {
  Options options;
  std::string recipe;      // a JSON file of options
  ForeignOptions foreign;  // of a model to go on from
  bool plain = false;      // no augmentation
  ReportOptions report;
};

void add_options(CLI::App& command, TrainCommand<UNetTrainOptions>& into);
void add_options(CLI::App& command, TrainCommand<HanTrainOptions>& into);

}  // namespace tessera
