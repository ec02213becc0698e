// `tessera bench`, in parts: a network's answer, and with --train a step of its training.
#pragma once

#include <functional>
#include <vector>

#include "tools/program/workload.h"

namespace tessera {

struct BenchOptions {
  WorkloadOptions workload;
  int warmup = 1;
  int iterations = 0;  // 0: as many as fit in `duration`
  double duration = 3;
  bool train = false;
  std::string against;    // "cudnn": each node beside another library's
  std::string libraries;  // with `against`: folders
  bool ragged = false;    // with `train`: documents of every length up to the size
  bool json = false;
};

// Seconds of each run after the warm-up, sorted; fewer if interrupted.
std::vector<double> measure_runs(const BenchOptions& options, const std::function<void()>& run);

// Of sorted values, the nearest one; `share` from 0 to 1.
double percentile(const std::vector<double>& sorted, double share);

// Makes the system count the highest memory in use anew. Where it may not, the highest so far
// stays.
void forget_peak_memory();

// With --against. Returns the exit code.
int bench_against(const BenchOptions& options);

// With --train. Returns the exit code.
int bench_training(const BenchOptions& options);

}  // namespace tessera
