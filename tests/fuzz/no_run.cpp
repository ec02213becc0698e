// In the place of running a network, for importers that hold what they read against the file's own
// answers: the reading is fuzzed, and what would compute is not linked.
#include "kernels/error.h"
#include "models/network_run.h"

namespace tessera {

std::shared_ptr<Device> open_cpu_device(int, Precision) {
  fail("no network runs here");
}

WeightSource source_of(Weights&) {
  fail("no network runs here");
}

std::vector<NetworkAnswer> run_graph(const Graph&, const WeightSource&,
                                     const std::vector<NetworkAnswer>&,
                                     const std::shared_ptr<Device>&) {
  fail("no network runs here");
}

std::vector<float> floats_of(const NetworkAnswer&) {
  fail("no network runs here");
}

}  // namespace tessera
