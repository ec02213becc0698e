// `tessera profile`: where the time of a run goes, node by node, beside the roofline.
#include <fmt/ranges.h>

#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "engine/files/atomic_file.h"
#include "models/image/image_io.h"
#include "models/text/documents.h"
#include "tools/program/inputs.h"
#include "tools/program/program.h"
#include "tools/program/workload.h"

namespace tessera {

using nlohmann::json;

namespace {

struct ProfileOptions {
  std::vector<std::string> words;  // a preset, or an input for --model
  ModelOptions model;
  WorkloadOptions workload;
  int iterations = 5;
  std::string sort = "order";
  std::string trace;
  bool json = false;
};

// What one node did, over all tiles and iterations.
struct NodeTotal {
  std::string name, kind;
  double flops = 0, bytes = 0, seconds = 0;

  // Seconds that the roofline allows.
  double least(double peak, double bandwidth) const {
    return std::max(flops / peak, bytes / bandwidth);
  }
};

struct Profile {
  std::string title;
  int threads = 1;
  std::vector<NodeTime> times;  // of all iterations, in the order of running
  // Of the device:
  std::string precision, runs_on;
  json details;  // null on a CPU
  double peak = 0, bandwidth = 0;

  void set_device(const Device& device) {
    precision = name_of(device.precision());
    runs_on = tessera::runs_on(device, threads);
    if (!device.is_host()) details = device_json(device);
    const Peaks peaks = device.measure_peaks();
    peak = peaks.flops(device.precision());
    bandwidth = peaks.bandwidth;
  }
};

Profile profile_preset(const ProfileOptions& options) {
  WorkloadOptions chosen = options.workload;
  chosen.preset = options.words[0];
  Workload workload(chosen);
  std::vector<NodeTiming> timings;
  for (int i = 0; i < options.iterations; ++i) workload.run(&timings);
  Profile profile;
  profile.title = workload.title();
  profile.threads = workload.threads();
  profile.set_device(workload.device());
  for (const NodeTiming& t : timings)
    profile.times.push_back({t.name, t.kind, t.cost.flops, t.cost.bytes, t.start, t.seconds});
  return profile;
}

Profile profile_model(const ProfileOptions& options) {
  const std::string& input = options.words[0];
  SessionOptions session_options = options.model.session_options();
  session_options.winograd = options.workload.technique == "auto";
  session_options.device = options.workload.device;
  session_options.precision = options.workload.precision;
  session_options.threads = options.workload.threads;
  Session session = Session::open(options.model.path, session_options);
  std::function<void()> once;
  if (session.task() == Session::Task::kSegment) {
    const auto image = std::make_shared<Image>(ImageReader(input).read());
    ImageView view{nullptr, image->height, image->width, image->channels, {}};
    constexpr ImageView::Type kTypes[] = {ImageView::Type::kU8, ImageView::Type::kU16,
                                          ImageView::Type::kU32, ImageView::Type::kF32};
    view.type = kTypes[image->pixels.index()];
    view.pixels = std::visit([](const auto& p) -> const void* { return p.data(); }, image->pixels);
    once = [&session, image, view] { session.segment(view); };
  } else {
    DocumentReader reader(input, {});
    std::vector<std::string> texts;
    constexpr std::size_t kDocuments = 64;
    while (texts.size() < kDocuments) {
      std::optional<DocumentRecord> record = reader.next();
      if (!record) break;
      require(record->error.empty(), "{}", record->error);
      texts.push_back(std::move(record->text));
    }
    require(!texts.empty(), "{}: there are no documents in it", input);
    once = [&session, texts] { session.classify({texts.begin(), texts.end()}); };
  }
  once();  // plans and packs
  session.keep_node_times(true);
  for (int i = 0; i < options.iterations; ++i) once();
  Profile profile;
  profile.title = fmt::format("{}, {}", options.model.path, input);
  profile.threads = session.threads();
  profile.times = session.node_times();
  // A session hides its device; another one of that name is its like.
  const std::string device = session.device();
  profile.set_device(*open_device(device_options(session.task() == Session::Task::kSegment,
                                                 device.substr(0, device.find(' ')),
                                                 session.precision(), session.threads()))
                          .device);
  return profile;
}

std::vector<NodeTotal> totals_of(const Profile& profile) {
  std::vector<NodeTotal> totals;
  std::map<std::string, std::size_t> place;
  for (const NodeTime& time : profile.times) {
    const auto [entry, is_new] = place.emplace(time.name, totals.size());
    if (is_new) totals.push_back({time.name, time.kind});
    NodeTotal& total = totals[entry->second];
    total.flops += time.flops;
    total.bytes += time.bytes;
    total.seconds += time.seconds;
  }
  return totals;
}

// The file that chrome://tracing and ui.perfetto.dev open; one run after the other.
void write_trace(const std::string& path, const Profile& profile) {
  json events = json::array();
  double offset = 0, end = 0, last_start = -1;
  for (const NodeTime& time : profile.times) {
    if (time.start < last_start) offset = end;  // the next run counts from 0 again
    last_start = time.start;
    end = offset + time.start + time.seconds;
    events.push_back(
        {{"name", time.name},
         {"cat", time.kind},
         {"ph", "X"},
         {"ts", 1e6 * (offset + time.start)},
         {"dur", 1e6 * time.seconds},
         {"pid", 1},
         {"tid", 1},
         {"args", {{"kind", time.kind}, {"flops", time.flops}, {"bytes", time.bytes}}}});
  }
  const json trace = {{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}};
  write_text(path, trace.dump() + "\n");
}

void print_table(const Profile& profile, const std::vector<NodeTotal>& totals,
                 const ProfileOptions& options) {
  NodeTotal sum{"total", ""};
  double least = 0;
  for (const NodeTotal& node : totals) {
    sum.flops += node.flops;
    sum.bytes += node.bytes;
    sum.seconds += node.seconds;
    least += node.least(profile.peak, profile.bandwidth);
  }
  const auto row = [&](const NodeTotal& node, double allowed) {
    std::cout << fmt::format("{:<24} {:<14} {:>10.3f} {:>7.1f} {:>9.1f} {:>8.2f} {:>9.1f}\n",
                             node.name, node.kind, 1e3 * node.seconds / options.iterations,
                             100 * node.seconds / sum.seconds, 1e-9 * node.flops / node.seconds,
                             1e-9 * node.bytes / node.seconds, 100 * allowed / node.seconds);
  };
  std::cout << fmt::format(
      "{}, {}, {}, mean of {} runs\nroofline measured here: {:.1f} GFLOP/s, {:.1f} "
      "GB/s\n\n",
      profile.title, profile.precision, profile.runs_on, options.iterations, 1e-9 * profile.peak,
      1e-9 * profile.bandwidth);
  std::cout << fmt::format("{:<24} {:<14} {:>10} {:>7} {:>9} {:>8} {:>9}\n", "node", "kind",
                           "time [ms]", "share %", "GFLOP/s", "GB/s", "roofline%");
  for (const NodeTotal& node : totals) row(node, node.least(profile.peak, profile.bandwidth));
  row(sum, least);
}

void print_json(const Profile& profile, const std::vector<NodeTotal>& totals,
                const ProfileOptions& options) {
  json nodes = json::array();
  for (const NodeTotal& node : totals) {
    nodes.push_back(
        {{"name", node.name},
         {"kind", node.kind},
         {"seconds", node.seconds / options.iterations},
         {"flops", node.flops / options.iterations},
         {"bytes", node.bytes / options.iterations},
         {"share_of_roofline", node.least(profile.peak, profile.bandwidth) / node.seconds}});
  }
  json result = {{"workload", profile.title},
                 {"precision", profile.precision},
                 {"threads", profile.threads},
                 {"peak_flops_per_second", profile.peak},
                 {"bandwidth_bytes_per_second", profile.bandwidth},
                 {"nodes", std::move(nodes)}};
  if (!profile.details.is_null()) result["device"] = profile.details;
  std::cout << result.dump(2, ' ', false, json::error_handler_t::replace) << '\n';
}

int profile(const ProfileOptions& options) {
  std::vector<std::string> read = options.words;
  read.push_back(options.model.path);
  require_no_input("--trace", options.trace, read);
  const Profile profile =
      options.model.path.empty() ? profile_preset(options) : profile_model(options);
  require(!profile.times.empty(), "nothing ran, so there is nothing to show");
  std::vector<NodeTotal> totals = totals_of(profile);
  if (options.sort == "time")
    std::ranges::stable_sort(totals, std::ranges::greater(), &NodeTotal::seconds);
  (options.json ? print_json : print_table)(profile, totals, options);
  if (!options.trace.empty()) write_trace(options.trace, profile);
  return kExitDone;
}

}  // namespace

Verb make_profile_verb(CLI::App& program) {
  const auto options = std::make_shared<ProfileOptions>();
  CLI::App& command = *program.add_subcommand("profile", "where the time goes, node by node");
  command
      .add_option("input", options->words,
                  "an image or text for the model of -m, or a preset of 'tessera bench'")
      ->expected(1)
      ->required();
  command
      .add_option("-m,--model", options->model.path, "a model file, of any program that is read")
      ->type_name("FILE");
  options->model.foreign.add_to(command);
  options->workload.add_to(command);
  add_range_option(command, options->model.range);
  command.add_option("--iterations", options->iterations, "runs, after one that does not count")
      ->type_name("N")
      ->check(at_least(1));
  command.add_option("--sort", options->sort, "order (of running) or time")
      ->type_name("BY")
      ->check(CLI::IsMember({"order", "time"}));
  command.add_option("--trace", options->trace, "also a Chrome trace (chrome://tracing, Perfetto)")
      ->type_name("FILE");
  command.add_flag("--json", options->json, "the result for machines");
  command.footer(
      "roofline%: the time that the measured peak and bandwidth allow, as a share of the time\n"
      "taken. FLOPs are those of direct convolutions, so Winograd may pass 100 %, as may maps "
      "that\n"
      "stay in the caches.\n"
      "Examples:\n"
      "  tessera profile -m unet.safetensors cells.png --sort time\n"
      "  tessera profile unet-paper --threads 2 --trace trace.json\n"
      "  tessera profile -m han.safetensors review.txt --json");
  return {&command, [options] {
            const std::string& word = options->words[0];
            const bool preset = std::ranges::count(kPresets, word) > 0;
            if (options->model.path.empty() && !preset) {
              throw UsageError(
                  fmt::format("'{}' is no preset ({}), and as an input it needs a model: -m FILE",
                              word, fmt::join(kPresets, ", ")));
            }
            return profile(*options);
          }};
}

}  // namespace tessera
