// What `tessera segment` is asked for.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "models/image/image_io.h"
#include "tools/program/program.h"
#include "tools/program/report.h"
#include "tools/program/segment_files.h"
#include "tools/program/segment_results.h"

namespace tessera {

struct SegmentOptions {
  std::vector<std::string> inputs;
  std::string output = "out";
  bool no_overlay = false;
  const CLI::Option* min_area = nullptr;  // not given: the model's
  SegmentOutputs outputs;
  std::string resume;
  std::string shard;
  std::string windows;
  ModelOptions model;
  ReportOptions report;
  ImageChoice choice;
  int batch = 0;

  void add_to(CLI::App& command);
  // Whether -o names a mask's file, or the store of one, instead of a folder.
  bool names_mask() const;
  // Processes that share an image keep each other's windows.
  Resume resume_choice() const;
};

}  // namespace tessera
