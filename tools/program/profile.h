// What `tessera profile` measured, and the forms in which it is shown.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "models/session.h"

namespace tessera {

// What one node did in a run, all tiles together.
struct ProfiledNode {
  std::string name, kind;
  // The kernel, and on the lines behind it why none of the others (engine/device/choice.h).
  std::string choice = {};
  double flops = 0, bytes = 0, seconds = 0;
};

struct Profile {
  std::string title;
  std::string precision, runs_on;
  int threads = 1, iterations = 1;
  bool on_gpu = false;
  double peak = 0, bandwidth = 0;   // measured: FLOP/s and bytes/s
  nlohmann::json details;           // of the device; null on a CPU
  std::vector<ProfiledNode> nodes;  // a mean of the runs, in the order of running
  std::vector<NodeTime> times;      // of all runs

  // Seconds that the roofline allows.
  double least(const ProfiledNode& node) const;
  ProfiledNode total() const;
  double least_of_all() const;
};

// The kernel alone: the first line of a choice.
std::string technique_of(const ProfiledNode& node);

// For a terminal; with `why` the reasons too. `Json` is what --compare reads.
std::string profile_table(const Profile& profile, bool why);
nlohmann::json profile_json(const Profile& profile);
// The file that chrome://tracing and ui.perfetto.dev open; one run behind the other.
nlohmann::json chrome_trace(const Profile& profile);
// A picture (SVG): FLOPs a byte and FLOP/s of every node, as large as its share of the time, under
// the two lines that the machine allows.
std::string roofline_svg(const Profile& profile);

// Two results of `tessera profile --json`, node by node. Throws Error, with the file's name, for
// what is none.
std::string compare_profiles(const std::string& before, const std::string& after);

}  // namespace tessera
