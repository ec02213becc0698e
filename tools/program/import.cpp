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
  ForeignOptions foreign;
  double tolerance = 1e-3;
  bool dry_run = false;
  bool list = false;

  void check() const {
    if (list) return;
    if (input.empty()) throw UsageError("name the file to import, or --list what is known");
    if (output.empty() && !dry_run)
      throw UsageError("name the model file to write with -o, or look first with --dry-run");
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
  const Difference difference = imported.run_example(open_cpu_device(0));
  std::cout << fmt::format("example  {} -> {}\n         {}\n", example.input, example.output,
                           difference);
  if (difference.is_within(command.tolerance)) return true;
  fmt::print(
      stderr, "{}\n",
      line_about(command.input,
                 fmt::format("it does not give what its own test tensors say: accepted are errors "
                             "of {:.3g} of their largest value (--tolerance)",
                             command.tolerance)));
  return false;
}

int import_file(ImportCommand& command) {
  command.check();
  if (command.list) {
    print_families();
    return kExitDone;
  }
  const ImportOptions options = command.foreign.read();
  require_no_input("-o", command.output, {command.input, options.vocabulary});
  const Imported imported = import_model(command.input, options);
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
  command->foreign.add_to(app);
  app.add_option("--tolerance", command->tolerance,
                 "of a package with test tensors, the largest difference that is accepted, of the "
                 "largest value expected")
      ->type_name("X")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--dry-run", command->dry_run, "say what would be written");
  app.add_flag("--list", command->list, "the networks that are known by their tensors' names");
  app.footer(
      "Nothing in a file is executed. Every verb opens such files itself and takes these options; "
      "what\n"
      "'import' writes has the guesses written down.\n"
      "Examples:\n"
      "  tessera import checkpoint.pth --dry-run\n"
      "  tessera import checkpoint.pth -o unet.safetensors --set output=sigmoid");
  return {&app, [command] { return import_file(*command); }};
}

}  // namespace tessera
