// What the command line tells of `tessera segment`.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "tools/program/program.h"
#include "tools/program/report.h"
#include "tools/program/segment_files.h"
#include "tools/program/segment_results.h"

namespace tessera {

struct SegmentOptions {
  std::vector<std::string> inputs;
  std::string output = "out";
  bool no_overlay = false;
  const CLI::Option* min_area = nullptr;  // where it was not given the model's counts
  SegmentOutputs outputs;
  std::string resume;
  std::string shard;
  std::string windows;
  int batch = 0;
  ModelOptions model;
  ReportOptions report;

  void add_to(CLI::App& command);
  Resume resumes() const;
  // Whether -o names a mask's file instead of a folder.
  bool names_mask() const;
};

}  // namespace tessera
