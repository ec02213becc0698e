#include "engine/device/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "engine/device/control_group.h"
#include "engine/device/device.h"
#include "kernels/error.h"

namespace tessera {

namespace {

// The value in bytes of a "Name:  123 kB" line of a /proc file; 0 where there is none.
std::size_t proc_kilobytes(const char* file, std::string_view name) {
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with(name))
      return std::strtoull(line.c_str() + name.size(), nullptr, 10) * 1024;
  }
  return 0;
}

// Of the affinity mask (taskset, cpusets).
int allowed_processors() {
  constexpr std::size_t kMost = 1 << 16;  // the call fails for a mask smaller than the kernel's
  for (std::size_t processors = CPU_SETSIZE; processors <= kMost; processors *= 2) {
    cpu_set_t* mask = CPU_ALLOC(processors);
    const std::size_t bytes = CPU_ALLOC_SIZE(processors);
    const int found = sched_getaffinity(0, bytes, mask) == 0 ? CPU_COUNT_S(bytes, mask) : 0;
    CPU_FREE(mask);
    if (found > 0) return found;
  }
  return 1;
}

}  // namespace

int default_threads() {
  if (const char* text = std::getenv("OMP_NUM_THREADS")) {
    // OpenMP allows a list, a number for each level of nesting.
    text += std::strspn(text, " \t");
    int threads = 0;
    const auto [end, error] = std::from_chars(text, text + std::strlen(text), threads);
    require(
        error != std::errc::result_out_of_range && threads <= kMaxThreads,
        "the environment's OMP_NUM_THREADS is {}: expected 1 to {}; set it so, or say --threads",
        text, kMaxThreads);
    if (threads > 0) return threads;
  }
  return granted_processors(allowed_processors());
}

std::size_t resident_bytes() {
  return proc_kilobytes("/proc/self/status", "VmRSS:");
}
std::size_t peak_resident_bytes() {
  return proc_kilobytes("/proc/self/status", "VmHWM:");
}
std::size_t available_bytes() {
  const std::size_t machine = proc_kilobytes("/proc/meminfo", "MemAvailable:");
  return std::min(machine, memory_left().value_or(machine));
}

std::size_t parse_bytes(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (unit.ends_with("iB")) unit.remove_suffix(2);
  if (unit.ends_with("B")) unit.remove_suffix(1);
  const std::string_view units = "KMGT";
  const std::size_t power = unit.empty() ? 0 : units.find(unit) + 1;
  const bool known = unit.empty() || (unit.size() == 1 && power > 0);
  const double bytes = value * std::pow(1024.0, static_cast<double>(power));
  require(error == std::errc() && known && bytes >= 1 && bytes < 0x1p62,
          "'{}' is no amount of memory; write for example 512M or 1.5G", text);
  return static_cast<std::size_t>(bytes);
}

std::string format_bytes(std::size_t bytes) {
  const double mebibytes = static_cast<double>(bytes) / (1 << 20);
  return mebibytes < 1024 ? fmt::format("{:.1f} MiB", mebibytes)
                          : fmt::format("{:.2f} GiB", mebibytes / 1024);
}

}  // namespace tessera
