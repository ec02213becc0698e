#include "engine/device/control_group.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <limits>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/error.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

bool lists(std::string_view commas, std::string_view word) {
  return fmt::format(",{},", commas).find(fmt::format(",{},", word)) != std::string::npos;
}

// The process's group in the hierarchy of `controller` ("cpu"), from the lines "4:cpu,cpuacct:/a/b"
// of v1 and "0::/a/b" of v2; empty where there is none.
std::string group_of(const fs::path& root, std::string_view controller, bool v2) {
  std::ifstream file(root / "proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (v2 ? controllers.empty() : lists(controllers, controller)) return line.substr(second + 1);
  }
  return "";
}

struct Groups {
  bool v2 = false;
  std::vector<fs::path> folders{};  // the process's own, then those above it
};

// Of every mounted hierarchy that may have `controller`. A line of mountinfo is "id parent device
// root mount-point options [optional ..] - type source super-options"; `root` is the group that the
// mount point shows, which in a container may be the process's own.
std::vector<Groups> groups_with(const fs::path& root, std::string_view controller) {
  std::vector<Groups> found;
  std::ifstream file(root / "proc/self/mountinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string::npos) continue;
    std::istringstream front(line.substr(0, dash)), back(line.substr(dash + 3));
    std::string skip, shown, mount, type, options;
    front >> skip >> skip >> skip >> shown >> mount;
    back >> type >> skip >> options;
    const bool v2 = type == "cgroup2";
    if (!v2 && !(type == "cgroup" && lists(options, controller))) continue;
    const fs::path top = root / fs::path(mount).relative_path();
    // What lies outside of the mount, seen from a namespace as "/..", has only the mount to go by.
    const fs::path below = fs::path(group_of(root, controller, v2)).lexically_relative(shown);
    fs::path folder = top;
    if (!below.empty() && *below.begin() != ".." && below != ".") folder /= below;
    Groups& groups = found.emplace_back(Groups{v2});
    for (; folder != top; folder = folder.parent_path()) groups.folders.push_back(folder);
    groups.folders.push_back(top);
  }
  return found;
}

// The number that a file begins with; nothing where there is no such file, or "max" stands in it.
std::optional<double> number_in(const fs::path& path) {
  double value = 0;
  if (!(std::ifstream(path) >> value)) return std::nullopt;
  return value;
}

// The value behind `name` in a file of lines "name value"; 0 where there is none.
double number_of(const fs::path& path, std::string_view name) {
  std::ifstream file(path);
  std::string word;
  for (double value = 0; file >> word >> value;)
    if (word == name) return value;
  return 0;
}

std::optional<double> quota_of(const fs::path& folder, bool v2) {
  double quota = 0, period = 0;
  if (v2) {
    if (!(std::ifstream(folder / "cpu.max") >> quota >> period)) return std::nullopt;
  } else {
    quota = number_in(folder / "cpu.cfs_quota_us").value_or(-1);
    period = number_in(folder / "cpu.cfs_period_us").value_or(0);
  }
  if (!(quota > 0 && period > 0)) return std::nullopt;
  return quota / period;
}

std::optional<double> memory_left_of(const fs::path& folder, bool v2) {
  const auto limit = number_in(folder / (v2 ? "memory.max" : "memory.limit_in_bytes"));
  constexpr double kNoLimit = 0x1p62;  // v1 writes about 2^63 where there is none
  if (!limit || !(*limit < kNoLimit)) return std::nullopt;
  const double used =
      number_in(folder / (v2 ? "memory.current" : "memory.usage_in_bytes")).value_or(0);
  const double cache =
      number_of(folder / "memory.stat", v2 ? "inactive_file" : "total_inactive_file");
  return std::max(0.0, *limit - std::max(0.0, used - cache));
}

// The least of what `value` finds in the groups of `controller`.
template <class Value>
std::optional<double> least(const fs::path& root, std::string_view controller, const Value& value) {
  std::optional<double> least;
  for (const Groups& groups : groups_with(root, controller)) {
    for (const fs::path& folder : groups.folders) {
      if (const std::optional<double> one = value(folder, groups.v2))
        least = std::min(least.value_or(*one), *one);
    }
  }
  return least;
}

}  // namespace

std::optional<double> processor_quota(const fs::path& root) {
  return least(root, "cpu", quota_of);
}

std::optional<std::size_t> memory_left(const fs::path& root) {
  const std::optional<double> bytes = least(root, "memory", memory_left_of);
  if (!bytes) return std::nullopt;
  return static_cast<std::size_t>(*bytes);
}

int granted_processors(int allowed, const fs::path& root) {
  const double quota = processor_quota(root).value_or(allowed);
  return std::max(1, static_cast<int>(std::min(quota, static_cast<double>(allowed))));
}

}  // namespace tessera
