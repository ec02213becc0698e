// `tessera import`: makes a model file of what another program saved.
#include <fmt/ranges.h>

#include <algorithm>
#include <iostream>
#include <memory>

#include "engine/files/safetensors.h"
#include "models/import/import.h"
#include "tools/program/inputs.h"
#include "tools/program/program.h"

namespace tessera {
namespace {

struct ImportCommand {
  std::string input, output;
  ImportOptions options;
  std::vector<std::string> choices;
  double tolerance = 1e-3;
  bool dry_run = false;
  bool list = false;

  void read_choices() {
    for (const std::string& text : choices) {
      const std::size_t equals = text.find('=');
      if (equals == 0 || equals == std::string::npos)
        throw UsageError(fmt::format("--set {}: expected NAME=VALUE", in_quotes(text)));
      if (!options.choices.emplace(text.substr(0, equals), text.substr(equals + 1)).second)
        throw UsageError(fmt::format("--set {}: given twice", in_quotes(text.substr(0, equals))));
    }
  }

  void check() const {
    if (list) return;
    if (input.empty()) throw UsageError("name the file to import, or --list what is known");
    if (output.empty() && !dry_run)
      throw UsageError("name the model file to write with -o, or look first with --dry-run");
    const std::vector<Family>& known = families();
    const bool found = std::ranges::any_of(
        known, [&](const Family& family) { return family.name == options.family; });
    if (!options.family.empty() && !found)
      throw UsageError(fmt::format("--family {}: there is none of that name; --list shows them",
                                   in_quotes(options.family)));
  }
};

void print_families() {
  std::size_t width = 0;
  for (const Family& family : families()) width = std::max(width, family.name.size());
  for (const Family& family : families())
    std::cout << fmt::format("{:<{}}  {}\n", family.name, width, family.summary);
}

std::string network_of(const Imported& imported) {
  std::int64_t parameters = 0;
  for (const auto& [name, tensor] : imported.tensors) parameters += tensor.shape().elements();
  const ModelConfig& config = imported.config;
  if (config.han)
    return fmt::format("han, {} words, {} classes, {} parameters", config.han->words,
                       config.han->classes, parameters);
  return fmt::format("{} layers, images of {} channel(s), {} classes, {} parameters",
                     build_network(config).nodes.size(), image_channels(config),
                     config.classes.size(), parameters);
}

void print(const ImportCommand& command, const Imported& imported) {
  std::cout << fmt::format("{}\nfamily   {}\nnetwork  {}\n", command.input, imported.family,
                           network_of(imported));
  if (!imported.guesses.empty()) std::cout << "what the file does not say\n";
  for (const Guess& guess : imported.guesses)
    std::cout << fmt::format("  --set {}={}  {}\n", guess.name, guess.value, guess.why);
  if (!imported.unused.empty())
    std::cout << fmt::format("unused   {} tensor(s) of the file\n", imported.unused.size());
  constexpr std::size_t kShown = 12;
  for (std::size_t i = 0; i < std::min(imported.unused.size(), kShown); ++i)
    std::cout << fmt::format("  {}\n", in_quotes(imported.unused[i]));
  if (imported.unused.size() > kShown) std::cout << "  ...\n";
  for (const std::string& note : imported.notes)
    fmt::print(stderr, "{}\n", line_about(command.input, note));
}

// Whether the network gives what the model's own tensors say, where it brings any along.
bool fits_example(const ImportCommand& command, const Imported& imported) {
  if (imported.example == nullptr) return true;
  const Example& example = *imported.example;
  Weights weights = Weights::from_views(imported.tensors, command.input);
  const ExampleResult result = run_example(
      imported.config,
      [&](const std::string& name, const Shape& shape) { return weights.take(name, shape); },
      example, open_cpu_device(0));
  std::cout << fmt::format("example  {} -> {}\n         {}\n", example.input, example.output,
                           result.to_string());
  if (result.relative() <= command.tolerance) return true;
  fmt::print(
      stderr, "{}\n",
      line_about(command.input,
                 fmt::format("it does not give what its own test tensors say: the largest "
                             "difference is {:.3g} of their largest value, accepted is {:.3g} "
                             "(--tolerance)",
                             result.relative(), command.tolerance)));
  return false;
}

int import_file(ImportCommand& command) {
  command.read_choices();
  command.check();
  if (command.list) {
    print_families();
    return kExitDone;
  }
  require_no_input("-o", command.output, {command.input, command.options.vocabulary});
  const Imported imported = import_model(command.input, command.options);
  print(command, imported);
  if (!fits_example(command, imported)) return kExitFailed;
  if (!command.dry_run) {
    save_model(command.output, imported.config, imported.tensors, imported.vocabulary);
    std::cout << fmt::format("written  {}\n", command.output);
  }
  return kExitDone;
}

}  // namespace

Verb make_import_verb(CLI::App& program) {
  const auto command = std::make_shared<ImportCommand>();
  CLI::App& app = *program.add_subcommand("import", "a model file of what another program saved");
  app.add_option("input", command->input,
                 "file of PyTorch, Keras, ONNX or safetensors, or a package");
  app.add_option("-o,--output", command->output, "model file to write (.safetensors)")
      ->type_name("FILE");
  app.add_option("--family", command->options.family,
                 "the only network to look for, as --list has it")
      ->type_name("NAME");
  app.add_option("--key", command->options.key, "of several networks in a file, the entry to take")
      ->type_name("NAME");
  app.add_option("--vocabulary", command->options.vocabulary, "words of a HAN whose file has none")
      ->type_name("FILE");
  app.add_option("--set", command->choices,
                 "what the file does not say, where the guess is wrong; may be given again")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false);
  app.add_option("--tolerance", command->tolerance,
                 "of a package with test tensors, the largest difference that is accepted, of the "
                 "largest value expected")
      ->type_name("X")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--dry-run", command->dry_run, "say what would be written");
  app.add_flag("--list", command->list, "the networks that are known by their tensors' names");
  app.footer(
      "Nothing in a file is executed. Every verb opens such files itself, with the guesses as "
      "they\n"
      "are; what 'import' writes has them written down.\n"
      "Examples:\n"
      "  tessera import checkpoint.pth --dry-run\n"
      "  tessera import checkpoint.pth -o unet.safetensors --set output=sigmoid");
  return {&app, [command] { return import_file(*command); }};
}

}  // namespace tessera
