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
#include "tools/program/profile.h"
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
  std::string trace, roofline;
  std::vector<std::string> compare;
  bool why = false;
  bool json = false;
};

void set_device(Profile& profile, const Device& device) {
  profile.precision = name_of(device.precision());
  profile.runs_on = runs_on(device, profile.threads);
  profile.on_gpu = !device.is_host();
  if (profile.on_gpu) profile.details = device_json(device);
  const Peaks peaks = device.measure_peaks();
  profile.peak = peaks.flops(device.precision());
  profile.bandwidth = peaks.bandwidth;
}

Profile profile_preset(const ProfileOptions& options) {
  WorkloadOptions chosen = options.workload;
  chosen.preset = options.words[0];
  Workload workload(chosen);
  std::vector<NodeTiming> timings;
  for (int i = 0; i < options.iterations; ++i) workload.run(&timings);
  Profile profile;
  profile.title = workload.title();
  profile.threads = workload.threads();
  set_device(profile, workload.device());
  for (const NodeTiming& t : timings)
    profile.times.push_back(
        {t.name, t.kind, t.cost.flops, t.cost.bytes, t.start, t.seconds, t.choice});
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
  require_one_device(session);
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
  set_device(profile, *open_device(device_options(session.task() == Session::Task::kSegment,
                                                  device.substr(0, device.find(' ')),
                                                  session.precision(), session.threads()))
                           .device);
  return profile;
}

// Of all runs and tiles; a node's choice is that of its longest time, which a whole tile has.
std::vector<ProfiledNode> mean_of(const std::vector<NodeTime>& times, int iterations) {
  std::vector<ProfiledNode> nodes;
  std::map<std::string, std::size_t> place;
  std::vector<double> longest;
  for (const NodeTime& time : times) {
    const auto [entry, is_new] = place.emplace(time.name, nodes.size());
    if (is_new) {
      nodes.push_back({time.name, time.kind});
      longest.push_back(-1);
    }
    ProfiledNode& node = nodes[entry->second];
    node.flops += time.flops / iterations;
    node.bytes += time.bytes / iterations;
    node.seconds += time.seconds / iterations;
    if (!(time.seconds > longest[entry->second])) continue;
    longest[entry->second] = time.seconds;
    node.choice = time.choice;
  }
  return nodes;
}

int profile(const ProfileOptions& options) {
  std::vector<std::string> read = options.words;
  read.push_back(options.model.path);
  require_no_input("--trace", options.trace, read);
  require_no_input("--roofline", options.roofline, read);
  Profile profile = options.model.path.empty() ? profile_preset(options) : profile_model(options);
  require(!profile.times.empty(), "nothing ran, so there is nothing to show");
  profile.iterations = options.iterations;
  profile.nodes = mean_of(profile.times, options.iterations);
  if (options.sort == "time")
    std::ranges::stable_sort(profile.nodes, std::ranges::greater(), &ProfiledNode::seconds);
  constexpr auto kReplace = json::error_handler_t::replace;
  if (options.json) {
    std::cout << profile_json(profile).dump(2, ' ', false, kReplace) << '\n';
  } else {
    std::cout << profile_table(profile, options.why);
  }
  if (!options.trace.empty())
    write_text(options.trace, chrome_trace(profile).dump(-1, ' ', false, kReplace) + "\n");
  if (!options.roofline.empty()) write_text(options.roofline, roofline_svg(profile));
  return kExitDone;
}

}  // namespace

Verb make_profile_verb(CLI::App& program) {
  const auto options = std::make_shared<ProfileOptions>();
  CLI::App& command = *program.add_subcommand("profile", "where the time goes, node by node");
  CLI::Option* const input =
      command
          .add_option("input", options->words,
                      "an image or text for the model of -m, or a preset of 'tessera bench'")
          ->expected(1);
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
  command
      .add_option("--roofline", options->roofline,
                  "also a picture (SVG): every node under the machine's roofline")
      ->type_name("FILE");
  command.add_flag("--why", options->why, "why each kernel was chosen, and none of the others");
  command.add_flag("--json", options->json, "the result for machines");
  command
      .add_option("--compare", options->compare,
                  "in place of a run: two results of --json, node by node")
      ->type_name("A.json B.json")
      ->expected(2)
      ->excludes(input);
  command.footer(
      "roofline%: the time that the measured peak and bandwidth allow, as a share of the time\n"
      "taken. FLOPs are those of direct convolutions, so Winograd may pass 100 %, as may maps "
      "that\n"
      "stay in the caches.\n"
      "Examples:\n"
      "  tessera profile -m unet.safetensors cells.png --sort time\n"
      "  tessera profile unet-paper --threads 2 --trace trace.json\n"
      "  tessera profile -m han.safetensors review.txt --json\n"
      "  tessera profile unet-paper --why --roofline roofline.svg\n"
      "  tessera profile --compare before.json after.json");
  return {&command, [options] {
            if (!options->compare.empty()) {
              std::cout << compare_profiles(options->compare[0], options->compare[1]);
              return kExitDone;
            }
            if (options->words.empty())
              throw UsageError(fmt::format("name a preset ({}), or an input and a model: -m FILE",
                                           fmt::join(kPresets, ", ")));
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
