#include "tools/program/report.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "tools/program/program.h"

namespace tessera {

namespace {

constexpr int kBarWidth = 24;
constexpr auto kRedraw = std::chrono::milliseconds(100);

std::string bar(double share) {
  const int filled = static_cast<int>(std::clamp(share, 0.0, 1.0) * kBarWidth);
  return std::string(static_cast<std::size_t>(filled), '#') +
         std::string(static_cast<std::size_t>(kBarWidth - filled), '.');
}

std::size_t terminal_columns() {
  winsize size{};
  constexpr std::size_t kUsual = 80;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kUsual;
}

}  // namespace

void ReportOptions::add_to(CLI::App& command) {
  command.add_flag("--json", json, "results for machines, on stdout");
  command.add_flag("-q,--quiet", quiet, "say nothing but errors");
  command.add_flag("-v,--verbose", verbose, "say what is planned: tiles and memory");
  command.add_option("--progress", progress, "auto: a bar if stderr is a terminal; off")
      ->type_name("WHEN")
      ->check(CLI::IsMember({"auto", "off"}));
}

std::string format_duration(double seconds) {
  const auto whole = static_cast<long>(std::lround(std::min(seconds, 1e9)));
  if (whole >= 3600) return fmt::format("{} h {:02} min", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} s", whole);
}

Report::Report(const ReportOptions& options, std::string unit, std::size_t total)
    : options_(options),
      unit_(std::move(unit)),
      total_(total),
      draws_(!options.quiet && options.progress == "auto" && isatty(STDERR_FILENO) != 0) {}

void Report::advance(double done, std::string_view more) {
  const Clock::time_point now = Clock::now();
  if (!draws_ || now - last_drawn_ < kRedraw) return;
  last_drawn_ = now;
  const double seconds = std::chrono::duration<double>(now - begin_).count();
  const double rate = seconds > 0 ? (done - done_before_) / seconds : 0;
  std::string line;
  if (total_ > 0) {
    const auto total = static_cast<double>(total_);
    line = fmt::format("[{}] {:3.0f} %  {:.0f}/{} {}", bar(done / total), 100 * done / total,
                       std::floor(done), total_, unit_);
    if (rate > 0)
      line += fmt::format("  {:.3g}/s  {} left", rate, format_duration((total - done) / rate));
  } else {
    line = fmt::format("{:.0f} {}  {:.4g}/s", done, unit_, rate);
  }
  if (!more.empty()) line.append("  ").append(more);
  line.resize(std::min(line.size(), terminal_columns() - 1));
  fmt::print(stderr, "\r\x1b[K{}", line);
  std::fflush(stderr);
  drawn_ = true;
}

void Report::clear() {
  if (drawn_.exchange(false)) fmt::print(stderr, "\r\x1b[K");
}

void Report::note(std::string_view text) {
  if (options_.quiet) return;
  clear();
  fmt::print(stderr, "{}\n", text);
}

void Report::detail(std::string_view text) {
  if (options_.verbose) note(text);
}

void Report::result(std::string_view line) {
  clear();
  std::cout << line << '\n';
}

void Report::failure(const std::string& input, std::string_view text) {
  failures_.push_back({input, line_about(input, text)});
}

int Report::finish(const std::string& interruption) {
  clear();
  if (failures_.size() > 1)
    fmt::print(stderr, "tessera: {} of {} {} failed:\n", failures_.size(),
               failures_.size() + succeeded_, unit_);
  for (const Failure& failure : failures_) fmt::print(stderr, "tessera: {}\n", failure.line);
  if (const int signal = interrupted(); signal != 0) {
    fmt::print(
        stderr, "tessera: {}\n",
        interruption.empty()
            ? fmt::format("interrupted after {} {}; what is written is complete", succeeded_, unit_)
            : interruption);
    return 128 + signal;
  }
  if (failures_.empty()) return kExitDone;
  return succeeded_ == 0 ? kExitFailed : kExitPartial;
}

}  // namespace tessera
