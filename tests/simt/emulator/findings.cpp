#include "emulator/findings.h"

#include <fmt/format.h>
#include <link.h>
#include <unistd.h>

#include <cstdio>
#include <map>
#include <mutex>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>
#include <vector>

#include "emulator/emulator.h"
#include "emulator/state.h"

namespace simt {
namespace machine {
namespace {

constexpr std::size_t kMaxFindings = 30;  // between two take_findings()

std::mutex mutex;
std::vector<std::string> findings;
std::set<std::string> keys;

// Where the executable, which is not always position-independent, was loaded.
std::uintptr_t load_address() {
  static const std::uintptr_t address = [] {
    std::uintptr_t first = 0;
    dl_iterate_phdr(
        [](dl_phdr_info* object, std::size_t, void* p) {
          *static_cast<std::uintptr_t*>(p) = object->dlpi_addr;
          return 1;  // the executable comes first
        },
        &first);
    return first;
  }();
  return address;
}

// Lines that addr2line prints for an address; started only to report something.
std::vector<std::string> addr2line(const char* options, std::uintptr_t address) {
  const std::string command =
      fmt::format("addr2line {} -e /proc/{}/exe {:#x} 2>&1", options, getpid(), address);
  std::vector<std::string> lines;
  if (FILE* pipe = popen(command.c_str(), "r")) {
    char line[4096];
    while (std::fgets(line, sizeof line, pipe) != nullptr) {
      lines.emplace_back(line);
      lines.back().erase(lines.back().find_last_not_of("\n") + 1);
    }
    pclose(pipe);
  }
  if (lines.empty()) lines.emplace_back("??:0");
  return lines;
}

// Headers whose functions are inlined into kernels and that no kernel's author wants to see.
bool is_wrapper(std::string_view line) {
  for (const std::string_view file : {"emulated", "cuda_bf16", "cuda_fp16", "machine.h"})
    if (line.starts_with(file)) return true;
  return false;
}

}  // namespace

std::string line_of(const void* pc) {
  const Uninterrupted uninterrupted;
  static std::map<const void*, std::string> known;
  std::lock_guard lock(mutex);
  std::string& text = known[pc];
  if (text.empty()) {
    const auto inlined =
        addr2line("-s -i", reinterpret_cast<std::uintptr_t>(pc) - load_address() - 1);
    text = inlined.front();
    for (const std::string& line : inlined)
      if (!is_wrapper(line)) {
        text = line;
        break;
      }
    text = text.substr(0, text.find(" (discriminator"));
  }
  return text;
}

std::string function_name(const void* entry) {
  const Uninterrupted uninterrupted;
  static std::map<const void*, std::string> known;
  std::lock_guard lock(mutex);
  std::string& name = known[entry];
  if (name.empty()) {
    name = addr2line("-s -C -f", reinterpret_cast<std::uintptr_t>(entry) - load_address()).front();
    // "void tessera::(anonymous namespace)::conv<8, true>(float*, int)" -> "conv<8, true>"
    const std::string_view anonymous = "(anonymous namespace)";
    for (std::size_t at; (at = name.find(anonymous)) != std::string::npos;)
      name.erase(at, anonymous.size());
    int depth = 0;
    std::size_t begin = 0, end = name.size();
    for (std::size_t i = 0; i < name.size() && end == name.size(); ++i) {
      if (name[i] == '<') ++depth;
      if (name[i] == '>') --depth;
      if (depth == 0 && (name[i] == ' ' || name[i] == ':')) begin = i + 1;
      if (depth == 0 && name[i] == '(') end = i;
    }
    name = name.substr(begin, end - begin);
  }
  return name;
}

std::uint32_t compact(const void* pc) {
  return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(pc) - load_address());
}

const void* expand(std::uint32_t pc) {
  return reinterpret_cast<const void*>(pc + load_address());
}

void report(const std::string& key, const std::string& text) {
  const Uninterrupted uninterrupted;
  {
    std::lock_guard lock(mutex);
    if (!keys.insert(key).second || findings.size() >= kMaxFindings) return;
  }
  std::string where;
  if (worker != nullptr && worker->launch != nullptr) {
    where = fmt::format(" [kernel {}", function_name(worker->launch->kernel));
    if (const Thread* t = running())
      where += fmt::format(", block ({}, {}, {})", t->block.x, t->block.y, t->block.z);
    where += "]";
  }
  std::lock_guard lock(mutex);
  findings.push_back(text + where);
}

void throw_findings() {
  if (!config().throws) return;
  std::string text;
  for (const std::string& finding : take_findings()) text += finding + "\n";
  if (!text.empty()) throw std::runtime_error(text);
}

}  // namespace machine

std::vector<std::string> take_findings() {
  std::lock_guard lock(machine::mutex);
  machine::keys.clear();
  return std::exchange(machine::findings, {});
}

}  // namespace simt
