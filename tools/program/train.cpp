// `tessera train`: a UNet from images and masks, a HAN from labelled documents.
#include "tools/program/train.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>

#include "engine/files/json_text.h"
#include "models/image/rule_text.h"
#include "models/outputs.h"
#include "models/training/train_run.h"

namespace tessera {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// As the command line would have it: "a,b" of a list.
std::string option_text(const std::string& key, const json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  if (value.is_array()) {
    std::vector<std::string> items;
    for (const json& item : value) items.push_back(option_text(key, item));
    return fmt::format("{}", fmt::join(items, ","));
  }
  throw UsageError(fmt::format("--recipe: '{}' is no text, number, truth value or list", key));
}

// {"network": "unet", "about": "...", "options": {"depth": 4, ...}}: options of the command line
// without their dashes. What the command line or the environment says wins.
void apply_recipe(CLI::App& command, const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream.good()) throw UsageError(fmt::format("--recipe: cannot read '{}'", path));
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  json recipe;
  try {
    recipe = parse_json(text);
  } catch (const Error& error) {
    throw UsageError(fmt::format("--recipe: '{}': {}", path, error.what()));
  }
  if (!recipe.is_object() || !recipe.contains("options") || !recipe["options"].is_object())
    throw UsageError(fmt::format("--recipe: '{}' is no JSON object with \"options\"", path));
  if (recipe.contains("network") && recipe["network"] != command.get_name())
    throw UsageError(
        fmt::format("--recipe: '{}' is not for 'tessera train {}'", path, command.get_name()));
  for (const auto& [key, value] : recipe["options"].items()) {
    CLI::Option* option = command.get_option_no_throw("--" + key);
    if (option == nullptr || key == "recipe" || key == "help")
      throw UsageError(
          fmt::format("--recipe: '{}' has the option '{}', which is none of 'tessera "
                      "train {}'",
                      path, key, command.get_name()));
    if (option->count() > 0) continue;
    try {
      option->add_result(option_text(key, value));
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      throw UsageError(fmt::format("--recipe: '{}': {}", path, error.what()));
    }
  }
}

// An option's value, or an argument, without folders: "list:a/b.txt" becomes "list:b.txt", and so
// does each path of a list. Names of images are no paths.
std::string without_folders(const std::string& value) {
  for (const std::string_view rule : {"names:", "fold:"}) {
    if (value.starts_with(rule)) return value;
  }
  constexpr std::string_view kList = "list:";
  if (value.starts_with(kList)) return std::string(kList) + last_name(value.substr(kList.size()));
  // A file need not be there yet, the folder that it goes to is.
  const fs::path path = value;
  std::error_code ignored;
  if (fs::exists(path, ignored) || fs::is_directory(path.parent_path(), ignored))
    return last_name(value);
  std::vector<std::string> parts;
  for (const std::string_view part : parts_of(value, ','))
    parts.push_back(part.find('/') == std::string_view::npos ? std::string(part) : last_name(part));
  return fmt::format("{}", fmt::join(parts, ","));
}

// The command as it was typed, without what does not decide the result: equal results are equal
// files, whether they came in one run or several, on one thread or many, shown or not.
std::string command_line() {
  const auto is_one_of = [](std::string_view name, std::initializer_list<std::string_view> names) {
    return std::ranges::find(names, name) != names.end();
  };
  std::ifstream stream("/proc/self/cmdline", std::ios::binary);
  std::string text = "tessera", word;
  bool is_class_names = false;       // the word after --classes, which may have a '/'
  std::getline(stream, word, '\0');  // the program's own path
  while (std::getline(stream, word, '\0')) {
    const std::size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
    const std::string name = word.substr(0, equals);
    if (is_one_of(name, {"--threads", "--ranks", "--progress"})) {
      if (equals == std::string::npos) std::getline(stream, word, '\0');
      continue;
    }
    if (is_one_of(name, {"--resume", "--quiet", "--verbose", "--json", "-q", "-v", "-qv", "-vq"}))
      continue;
    if (is_class_names || name == "--classes") {
      text += " " + word;
    } else if (equals != std::string::npos) {
      text += " " + name + "=" + without_folders(word.substr(equals + 1));
    } else if (word.starts_with("-o") && word.size() > 2) {
      text += " -o" + without_folders(word.substr(word[2] == '=' ? 3 : 2));
    } else {
      text += " " + without_folders(word);
    }
    is_class_names = word == "--classes";
  }
  return text;
}

// Runs `train` with the progress bar and says at the end what was reached.
int show(const TrainOptions& options, const ReportOptions& shown,
         const std::function<TrainResult(const TrainEvents&)>& train) {
  std::optional<Report> report(std::in_place, shown, "images", 0);
  TrainEvents events;
  bool looks = false, steps = false;
  events.data = [&](std::int64_t done, std::int64_t all) {
    if (!looks) report.emplace(shown, "images", static_cast<std::size_t>(all));
    looks = true;
    report->advance(static_cast<double>(done));
  };
  events.step = [&](const TrainEvents::Step& step) {
    if (!steps) {
      report.emplace(shown, "steps", static_cast<std::size_t>(step.total));
      report->begin_at(static_cast<double>(step.step - 1));
    }
    steps = true;
    report->success();
    report->advance(
        static_cast<double>(step.step),
        fmt::format("epoch {}, loss {:.4f}, rate {:.3g}", step.epoch + 1, step.loss, step.rate));
  };
  events.note = [&](const std::string& line) { report->note(line); };
  events.stop = [] { return interrupted() != 0; };
  catch_interrupts();
  const TrainResult result = train(events);
  if (result.end == TrainResult::End::kChecked) return kExitDone;
  if (result.end == TrainResult::End::kStopped) {
    if (interrupted() == 0)
      fail("another rank was interrupted at step {}; go on with --resume", result.step);
    return report->finish(
        result.step == 0 ? "interrupted before the first step"
                         : fmt::format("interrupted at step {}; go on with --resume", result.step));
  }
  if (result.rank > 0) return kExitDone;
  const std::string best = options.best.empty() ? "loss" : options.best;
  if (shown.json) {
    json line{{"model", options.output}, {"step", result.step}, {"train_loss", result.train_loss}};
    if (result.best) {
      line["validation_" + best] = *result.best;
      line["best_epoch"] = result.best_epoch;
    }
    report->result(line.dump(2, ' ', false, json::error_handler_t::replace));
  } else if (!shown.quiet) {
    report->result(fmt::format(
        "{}: {} steps{}, {}", options.output, result.step,
        result.end == TrainResult::End::kEarly ? ", stopped early" : "",
        result.best
            ? fmt::format("validation {} {:.4f} in epoch {}", best, *result.best, result.best_epoch)
            : fmt::format("training loss {:.4f}", result.train_loss)));
  }
  return report->finish();
}

// A network's options, once they are parsed, and what runs then.
template <class Options>
int run(CLI::App& command, TrainCommand<Options>& given,
        TrainResult (*train)(const Options&, const TrainEvents&)) {
  Options& options = given.options;
  if (!given.recipe.empty()) {
    apply_recipe(command, given.recipe);
    require_no_input("-o", options.output, {given.recipe});
    options.provenance["recipe"] = last_name(given.recipe);
  }
  if constexpr (std::is_same_v<Options, UNetTrainOptions>) {
    options.foreign = given.foreign.read();
    if (given.plain) options.augmentation = Augmentation::none();
  }
  options.provenance["command"] = command_line();
  return show(options, given.report,
              [&](const TrainEvents& events) { return train(options, events); });
}

}  // namespace

Verb make_train_verb(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("train", "a model from labelled data");
  command.require_subcommand(1);
  command.get_formatter()->label("SUBCOMMAND", "NETWORK");
  const auto images = std::make_shared<TrainCommand<UNetTrainOptions>>();
  const auto documents = std::make_shared<TrainCommand<HanTrainOptions>>();
  CLI::App& unet = *command.add_subcommand("unet", "from images and masks");
  CLI::App& han = *command.add_subcommand("han", "from labelled documents");
  add_options(unet, *images);
  add_options(han, *documents);
  command.footer("'tessera train unet --help' and 'tessera train han --help' show the options.");
  return {&command, [images, documents, &unet, &han] {
            return unet.parsed() ? run(unet, *images, train_unet) : run(han, *documents, train_han);
          }};
}

}  // namespace tessera
