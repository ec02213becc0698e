// What the person at the terminal sees of a batch: a progress bar, notes, and at the end the inputs
// that failed. Results go to stdout, all else to stderr.
#pragma once

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

struct ReportOptions {
  bool quiet = false;    // only errors
  bool verbose = false;  // plans too
  bool json = false;     // stdout is for machines
  std::string progress = "auto";

  void add_to(CLI::App& command);
};

class Report {
 public:
  struct Failure {
    std::string input;
    std::string line;  // names the input
  };

  // `unit` is what is counted, in the plural; a total of 0 is not known.
  Report(const ReportOptions& options, std::string unit, std::size_t total);
  ~Report() { clear(); }

  // Draws the bar with `more` behind it, at most ten times a second.
  void advance(double done, std::string_view more = {});
  void begin_at(double done) { done_before_ = done; }  // by an earlier run: no part of the rate
  void note(std::string_view text);                    // unless quiet
  void detail(std::string_view text);                  // if verbose
  void result(std::string_view line);                  // to stdout
  void success() { ++succeeded_; }
  // Goes on; listed at the end.
  void failure(const std::string& input, std::string_view text);

  const std::vector<Failure>& failures() const { return failures_; }
  // Removes the bar, lists the failures and returns the exit code: 0, 1 (nothing succeeded), 3, or
  // 128 + the signal that ended the batch, of which `interruption` tells; empty: the usual line.
  int finish(const std::string& interruption = "");

 private:
  using Clock = std::chrono::steady_clock;
  void clear();

  ReportOptions options_;
  std::string unit_;
  std::size_t total_;
  double done_before_ = 0;
  bool draws_;
  std::atomic<bool> drawn_ = false;  // which notes of any thread clear
  Clock::time_point begin_ = Clock::now();
  Clock::time_point last_drawn_{};
  std::size_t succeeded_ = 0;
  std::vector<Failure> failures_;
};

// "1 h 05 min", "3 min 20 s", "12 s".
std::string format_duration(double seconds);

}  // namespace tessera
