// What all verbs of the `tessera` program share: exit codes, option groups and interruption.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/error.h"
#include "models/session.h"
#include "models/version.h"

namespace tessera {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitPartial = 3;  // some inputs of a batch failed, the others are done

// The bundled models, which run where none is named.
inline constexpr const char* kDemoUNet = "unet_isbi.safetensors";
inline constexpr const char* kDemoHan = "han_imdb.safetensors";

inline double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The command line asks for something that makes no sense: exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

// A subcommand, and what runs once its options are parsed. `run` returns the exit code.
struct Verb {
  CLI::App* command;
  std::function<int()> run;
};

Verb make_segment_verb(CLI::App& program);
Verb make_classify_verb(CLI::App& program);
Verb make_eval_verb(CLI::App& program);
Verb make_train_verb(CLI::App& program);
Verb make_info_verb(CLI::App& program);
Verb make_import_verb(CLI::App& program);
Verb make_bench_verb(CLI::App& program);
Verb make_profile_verb(CLI::App& program);
Verb make_run_verb(CLI::App& program);
Verb make_verify_verb(CLI::App& program);

// What a file of another program does not say (ImportOptions), for every verb that takes a model.
struct ForeignOptions {
  ImportOptions options;
  std::vector<std::string> choices;  // "NAME=VALUE"

  void add_to(CLI::App& command);
  // Throws UsageError for an unknown family, and for choices that are none or are given twice.
  ImportOptions read() const;
};

// Which model runs, where and how.
struct ModelOptions {
  std::string path;  // empty: the bundled demo model
  std::string device = "auto";
  std::string precision = "auto";
  int threads = 0;
  std::string max_memory;  // "512M"
  int tile = 0;
  std::string range;  // of pixel values, see SessionOptions
  ForeignOptions foreign;

  void add_to(CLI::App& command, bool for_images);
  // Throws UsageError for an amount of memory that is none. Unless `quiet`, the session's notes go
  // to stderr.
  SessionOptions session_options(bool quiet = false) const;
  // `path`, else the bundled model of this file name, found from the program's own place. Throws
  // Error where there is none.
  std::string path_or_demo(std::string_view demo_file) const;
};

// For verbs that run on one device. Throws UsageError where the options named several.
void require_one_device(const Session& session);

// --range, which several verbs take.
void add_range_option(CLI::App& command, std::string& range);

// --device and --precision, which several verbs take.
void add_device_options(CLI::App& command, std::string& device, std::string& precision);

// The check of a whole number that has no end of its own.
inline CLI::Range at_least(int least) {
  return {least, std::numeric_limits<int>::max()};
}

// A part of a batch that is split over several runs: number `index` of `count`, from 1.
struct Shard {
  std::size_t index = 1;
  std::size_t count = 1;

  bool owns(std::size_t position) const { return position % count == index - 1; }
};
// "2/4"; empty means 1/1. Throws UsageError that names the option.
Shard parse_shard(const std::string& text, const char* option = "--shard");

// "512" or "480x640" (height x width). Throws UsageError.
std::pair<std::int64_t, std::int64_t> parse_size(const std::string& text);

// From now on Ctrl-C and SIGTERM only set `interrupted`, so that the file in work is finished, and
// say so. A second one ends the program at once.
void catch_interrupts();
// The signal's number, 0 if none came.
int interrupted();

// `text` on one line, about `input`, whose name is not repeated: "a.png: the file is empty".
std::string line_about(const std::string& input, std::string_view text);

}  // namespace tessera
