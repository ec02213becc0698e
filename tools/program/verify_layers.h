// What `tessera verify` compares besides arrays that are given: layers, and a package's own
// tensors.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "models/example_run.h"
#include "models/import/import.h"

namespace tessera {

struct LayerOptions {
  std::string model;
  ImportOptions import;             // how `model` is read
  std::string activations;          // a file of named activations, or
  std::string against;              // another model
  std::vector<std::string> inputs;  // .npy files, of `against`; none: made up
  int threads = 0;
  double tolerance = 1e-4;
};

// "largest error 2e-06, mean 3e-08, of values up to 1: agrees", or ".. beyond 0.0001".
std::string verdict(const Difference& difference, double tolerance);

// A line to stderr.
void print_note(std::string_view line);

// Prints the layers, the first that diverges, and what explains it; returns the exit code.
int verify_layers(const LayerOptions& options);

// Runs the test tensors that a package brings along. Throws UsageError for a model without any.
int verify_example(const LayerOptions& options);

}  // namespace tessera
