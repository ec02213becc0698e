// The `tessera` program: parses the command line, runs one verb, and turns what it throws into one
// line on stderr and an exit code.
#include <unistd.h>

#include <hwy/targets.h>

#include <cctype>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <new>
#include <vector>

#include "engine/device/machine.h"
#include "kernels/cpu/gemm_bf16.h"
#include "models/train.h"
#include "tools/program/export.h"
#include "tools/program/program.h"

namespace tessera {

namespace {

// CLI11's layout with less in it: types and defaults only.
class ShortHelp : public CLI::Formatter {
 public:
  ShortHelp() { column_width(30); }
  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return "";
    const std::string type = option->get_type_name();  // "N:POSITIVE": its check says the rest
    std::string text = type.empty() ? "" : " " + type.substr(0, type.find(':'));
    if (!option->get_default_str().empty()) text += " = " + option->get_default_str();
    return text;
  }
};

std::string simd_target() {
  const auto supported = static_cast<std::int64_t>(hwy::SupportedTargets());
  return hwy::TargetName(static_cast<decltype(hwy::SupportedTargets())>(supported & -supported));
}

std::string version_text() {
  return fmt::format(
      "{}\ncompiler  {}\nSIMD      {}\nbf16      {}\ndevices   cpu\n", program_version(),
#if defined(__clang__)
      "clang " __clang_version__,
#else
      "g++ " __VERSION__,
#endif
      simd_target(), gemm_bf16_supported() ? "native" : "not native, slower than fp32");
}

// --max-memory can also be given as TESSERA_MAX_MEMORY, and so with every option of a verb.
void mirror_in_environment(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    if (option->get_lnames().empty() || option == command.get_help_ptr()) continue;
    std::string name = "TESSERA_";
    for (const char c : option->get_lnames()[0])
      name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    option->envname(name);
  }
  for (CLI::App* part : command.get_subcommands({})) mirror_in_environment(*part);
}

int complain(int code, std::string_view text) {
  const bool coloured = isatty(STDERR_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  fmt::print(stderr, "{}tessera:{} {}\n", coloured ? "\x1b[31m" : "", coloured ? "\x1b[0m" : "",
             text);
  return code;
}

// Where a file's name was taken for an option.
std::string hint_at_file(int argc, char** argv) {
  for (int i = 1; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string word = argv[i];
    if (word.size() > 1 && word[0] == '-' && access(word.c_str(), F_OK) == 0)
      return fmt::format("; the file '{}' is named './{}', or behind '--'", word, word);
  }
  return "";
}

int run_program(int argc, char** argv) {
  CLI::App program("Segments images with UNet and classifies documents with HAN.", "tessera");
  program.formatter(std::make_shared<ShortHelp>());
  program.set_version_flag("--version", version_text, "version, compiler, SIMD and bf16");
  program.require_subcommand(1);
  program.get_formatter()->label("SUBCOMMAND", "VERB");
  program.footer(
      "'tessera VERB --help' shows a verb's options and examples. Each option can also be set in\n"
      "the environment: --max-memory as TESSERA_MAX_MEMORY.\n"
      "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 some inputs failed and the others are done.");
  const std::vector<Verb> verbs{
      make_segment_verb(program), make_classify_verb(program), make_eval_verb(program),
      make_train_verb(program),   make_info_verb(program),     make_import_verb(program),
      make_bench_verb(program),   make_profile_verb(program),  make_run_verb(program),
      make_verify_verb(program),  make_export_verb(program)};
  for (const Verb& verb : verbs) {
    verb.command->group("Verbs");
    mirror_in_environment(*verb.command);
  }

  try {
    program.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return program.exit(error);
    std::string verb;
    for (const CLI::App* parsed : program.get_subcommands()) verb = " " + parsed->get_name();
    return complain(kExitUsage, fmt::format("{}{}; see 'tessera{} --help'", error.what(),
                                            hint_at_file(argc, argv), verb));
  }
  for (const Verb& verb : verbs) {
    if (!verb.command->parsed()) continue;
    const int code = verb.run();
    errno = 0;
    if (!std::cout.flush())
      fail("cannot write to the standard output; results are incomplete: free space or use -o");
    return code;
  }
  return kExitUsage;
}

}  // namespace

}  // namespace tessera

int main(int argc, char** argv) {
  using namespace tessera;
  std::signal(SIGXFSZ,
              SIG_IGN);  // A write past `ulimit -f` fails then, as one on a full disk does.
  try {
    return run_program(argc, argv);
  } catch (const UsageError& error) {
    return complain(kExitUsage, error.what());
  } catch (const OptionError& error) {
    return complain(kExitUsage, error.what());
  } catch (const std::bad_alloc&) {
    return complain(kExitFailed, "out of memory; use a smaller --tile or --max-memory");
  } catch (const std::exception& error) {
    return complain(kExitFailed, error.what());
  }
}
