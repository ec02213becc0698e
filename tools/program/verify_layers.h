// What `tessera verify` compares besides arrays that are given: layers, and a package's own
// tensors.
#pragma once

#include <string>
#include <vector>

namespace tessera {

struct LayerOptions {
  std::string model;
  std::string activations;          // a file of named activations, or
  std::string against;              // another model
  std::vector<std::string> inputs;  // .npy files, of `against`; none: made up
  int threads = 0;
  double tolerance = 1e-4;
};

// Prints the layers, the first that diverges, and what explains it; returns the exit code.
int verify_layers(const LayerOptions& options);

// Runs the test tensors that a package brings along. Throws UsageError for a model without any.
int verify_example(const LayerOptions& options);

}  // namespace tessera
