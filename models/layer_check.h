// Whether the layers of a network give what another program's give, which is the first that does
// not, and why.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "models/activations.h"
#include "models/example_run.h"

namespace tessera {

struct CheckedLayer {
  std::string name, other;  // ours, theirs
  Difference difference;
  bool fits = false;
};

// A change that was tried where the first layer diverges.
struct Reason {
  std::string what;       // "the concatenation 'concat2' is (up, skip)"
  double largest = 0;     // difference, with it
  bool explains = false;  // it is within the tolerance then
};

struct LayerCheck {
  std::vector<CheckedLayer> layers;          // in the order of the network
  std::vector<std::string> without_partner;  // theirs
  std::size_t first = 0;                     // index of the first that diverges, or the count
  std::vector<Reason> reasons;               // of it, best first; each was run

  bool agrees() const { return first == layers.size(); }
};

// Runs the network on the inputs of `expected` and compares every layer that has a partner there
// (models/layer_names.h). A layer fits where its largest difference is at most `tolerance` of its
// largest value. Throws Error where no layer has a partner, and where inputs are missing.
LayerCheck check_layers(ModelFile& file, const Activations& expected, double tolerance,
                        const std::shared_ptr<Device>& device);

}  // namespace tessera
