#include "models/training/train_run.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "engine/device/device.h"
#include "engine/device/gpu.h"
#include "engine/device/machine.h"
#include "engine/files/atomic_file.h"
#include "engine/train/mpi.h"
#include "models/version.h"

namespace tessera {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// One of the names that check_options has let pass.
template <class Enum>
Enum chosen(const std::string& name, std::initializer_list<std::pair<const char*, Enum>> choices) {
  for (const auto& [known, value] : choices) {
    if (name == known) return value;
  }
  fail("'{}' is no choice", name);
}

LoopOptions loop_options(const TrainOptions& given, const TrainingTask& task,
                         const std::vector<std::string>& data) {
  LoopOptions options;
  options.optimiser.kind =
      chosen<Optimiser::Kind>(given.optimiser, {{"adam", Optimiser::Kind::kAdam},
                                                {"adamw", Optimiser::Kind::kAdamW},
                                                {"sgd", Optimiser::Kind::kSgd}});
  if (given.optimiser == "sgd") {
    options.optimiser.momentum = given.momentum;
    options.optimiser.nesterov = given.nesterov;
  }
  options.optimiser.weight_decay = given.weight_decay;
  options.optimiser.clip_norm = given.clip;
  options.rate = given.rate;
  options.epochs = given.epochs;
  options.steps = given.steps;
  options.accumulate = given.accumulate;
  options.validate_every = given.validate_every;
  if (!given.best.empty()) options.best = given.best;
  options.patience = given.early_stop;
  options.recompute = given.checkpoint_activations;
  options.average = given.average;
  options.schedule.kind =
      chosen<Schedule::Kind>(given.schedule, {{"constant", Schedule::Kind::kConstant},
                                              {"cosine", Schedule::Kind::kCosine},
                                              {"step", Schedule::Kind::kStep}});
  options.schedule.warmup_steps = given.warmup;
  if (given.schedule == "cosine") {
    options.schedule.total_steps = total_steps(task, options);
    options.schedule.final_factor = given.final_factor;
  } else if (given.schedule == "step") {
    options.schedule.step_size = given.step_every;
    options.schedule.gamma = given.step_factor;
  }
  if (std::error_code ignored;
      fs::exists(given.output, ignored) && AtomicFile(given.output).is_direct())
    throw OptionError(
        fmt::format("-o {}: a model is written more than once, and its checkpoints lie beside it; "
                    "name a file",
                    given.output));
  options.model = given.output;
  options.folder = given.metrics.empty() ? given.output + ".run" : given.metrics;
  options.resume = given.resume;
  options.storage = given.bf16 ? WeightStorage::kBF16 : WeightStorage::kF32;
  json names = json::array();
  for (const std::string& name : data) names.push_back(last_name(name));
  options.provenance = {
      {"program", program_version()}, {"data", std::move(names)}, {"seed", given.seed}};
  for (const auto& [name, text] : given.provenance) options.provenance[name] = text;
  return options;
}

}  // namespace

std::string last_name(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return fs::path(path).filename().string();
}

void require_whole(std::string_view option, std::int64_t value, std::int64_t least, double most) {
  if (value < least || static_cast<double>(value) > most)
    throw OptionError(fmt::format("{}: expected a whole number from {} to {:.0f}; found {}", option,
                                  least, most, value));
}

void require_number(std::string_view option, double value, double least, double most) {
  if (value >= least && value <= most) return;
  throw OptionError(fmt::format(
      "{}: expected a number from {}{}; found {}", option, least,
      most < std::numeric_limits<double>::max() ? fmt::format(" to {}", most) : "", value));
}

void require_choice(std::string_view option, std::string_view value,
                    std::initializer_list<std::string_view> choices) {
  if (std::ranges::find(choices, value) == choices.end())
    throw OptionError(
        fmt::format("{}: expected {}; found '{}'", option, fmt::join(choices, ", "), value));
}

void check_options(const TrainOptions& options, std::string_view score) {
  if (options.output.empty() && !options.check)
    throw OptionError("-o: there is no model file to write; name one");
  constexpr double kMostBatch = 1 << 20;
  require_choice("--precision", options.precision, {"fp32", "tf32", "bf16", "auto"});
  require_whole("--threads", options.threads, 0, kMaxThreads);
  require_whole("--epochs", options.epochs, 1);
  require_whole("--steps", options.steps, 0);
  require_whole("--batch", options.batch, 1, kMostBatch);
  require_whole("--accumulate", options.accumulate, 1, kMostBatch);
  require_whole("--validate-every", options.validate_every, 0);
  require_whole("--early-stop", options.early_stop, 0);
  require_choice("--best", options.best, {"", "loss", "accuracy", score});
  require_number("--average", options.average, 0, 0.999999);
  require_choice("--optimiser", options.optimiser, {"adam", "adamw", "sgd"});
  require_number("--rate", options.rate);
  require_number("--momentum", options.momentum, 0, 1);
  require_number("--weight-decay", options.weight_decay);
  require_number("--clip", options.clip);
  require_choice("--schedule", options.schedule, {"constant", "cosine", "step"});
  require_whole("--warmup", options.warmup, 0);
  require_number("--final-factor", options.final_factor, 0, 1);
  require_whole("--step-every", options.step_every, 1);
  require_number("--step-factor", options.step_factor, 0, 1);
}

void require_validation(const TrainOptions& options, bool there_is) {
  if (there_is) return;
  const char* const option = options.early_stop > 0  ? "--early-stop"
                             : !options.best.empty() ? "--best"
                                                     : nullptr;
  if (option == nullptr) return;
  throw OptionError(
      fmt::format("{} needs a validation, and nothing is held out; give --validation, or leave {} "
                  "out",
                  option, option));
}

int threads_of(const TrainOptions& options) {
  return options.threads > 0 ? options.threads : default_threads();
}

void require_alike(Ranks& ranks, const std::string& what) {
  std::istringstream all(gather_text(ranks, what + "\n"));
  std::vector<std::string> each;
  for (std::string line; std::getline(all, line);) each.push_back(line);
  for (std::size_t rank = 1; rank < each.size(); ++rank)
    require(each[rank] == each[0],
            "the ranks are not alike: {} on rank 0, {} on rank {}; start the same program with the "
            "same options on all of them",
            each[0], each[rank], rank);
}

std::shared_ptr<Ranks> ranks_of(TrainOptions& options, const std::string& network) {
  require_choice("--ranks", options.ranks, {"auto", "mpi", "none"});
  std::shared_ptr<Ranks> ranks = open_ranks(options.ranks);
  if (ranks->count() == 1) return ranks;
  // What decides which calls follow, first: ranks that differ in it would wait for each other.
  require_alike(*ranks, fmt::format("{} (build {}) train {}{}", program_version(), build_digest(),
                                    network, options.check ? " --check" : ""));
  const int sharers = ranks_beside(*ranks).processors;
  if (options.accumulate < ranks->count())
    throw OptionError(fmt::format(
        "--accumulate: {} ranks share the batches of a step, which are {}; give --accumulate {} or "
        "more, and a smaller --batch where the step shall stay as large",
        ranks->count(), options.accumulate, ranks->count()));
  if (options.threads == 0 && std::getenv("OMP_NUM_THREADS") == nullptr)
    options.threads = std::max(1, default_threads() / sharers);
  return ranks;
}

void settle(const DataReport& found, const TrainEvents& events) {
  for (const std::string& note : found.notes()) events.note(note);
  found.require_none();
}

TrainResult run_training(TrainingTask& task, const TrainOptions& options,
                         const std::vector<std::string>& data, const TrainEvents& events,
                         const std::shared_ptr<Ranks>& ranks) {
  if (options.check) {
    ranks->finish();
    return {.end = TrainResult::End::kChecked, .rank = ranks->rank()};
  }
  LoopOptions loop = loop_options(options, task, data);
  DeviceOptions device = device_options(task.config().is_of_images(), options.device,
                                        options.precision, threads_of(options));
  // Where there are several, each rank of a machine gets its own GPU.
  const int gpus = count_gpus(), before = ranks_beside(*ranks).before;
  if (gpus > 1 && (options.device == "cuda" || options.device == "auto"))
    device.name = fmt::format("cuda:{}", before % gpus);
  OpenedDevice opened = open_device(device);
  if (!opened.note.empty()) events.note(opened.note);
  loop.ranks = ranks;
  loop.provenance["device"] = opened.device->name();
  loop.provenance["precision"] = name_of(opened.device->precision());
  return train(task, loop, std::move(opened.device), events);
}

}  // namespace tessera
