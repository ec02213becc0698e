#include "tools/program/program.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>

#include "engine/device/machine.h"
#include "engine/files/safetensors.h"
#include "models/image/image.h"
#include "models/import/import.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

std::atomic<int> caught_signal = 0;

void on_signal(int number) {
  constexpr std::string_view kWords =
      "\ntessera: what is in work is finished first; once more ends at once\n";
  const int kept = errno;
  caught_signal = number;
  std::signal(number, SIG_DFL);
  if (::write(STDERR_FILENO, kWords.data(), kWords.size()) < 0) {  // closed: nobody reads it
  }
  errno = kept;
}

// The whole of `text` as a number of at least 1.
template <class T>
std::optional<T> parse_count(std::string_view text) {
  T value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 1) return std::nullopt;
  return value;
}

}  // namespace

void add_device_options(CLI::App& command, std::string& device, std::string& precision) {
  command
      .add_option("--device", device,
                  "cpu, cuda, cuda:N, cuda:N,M, cuda:all or auto (a GPU if there is one)")
      ->type_name("NAME");
  command.add_option("--precision", precision, "fp32, bf16, auto; on a GPU also tf32, fp16")
      ->type_name("NAME")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16", "fp16", "auto"}));
}

void require_one_device(const Session& session) {
  if (session.devices().size() > 1)
    throw UsageError(
        "--device: several GPUs divide the images of 'segment' and the documents of 'classify'; "
        "name one here");
}

void add_range_option(CLI::App& command, std::string& range) {
  command
      .add_option("--range", range,
                  "pixel values that become 0 and 1, where they are not the ends of their type (12 "
                  "bits in 16: 0,4095), for models of scale unit; auto: each image's own")
      ->type_name("LO,HI")
      ->check([](const std::string& text) -> std::string {
        try {
          parse_range(text);
          return "";
        } catch (const Error& error) {
          return error.what();
        }
      });
}

void ForeignOptions::add_to(CLI::App& command) {
  constexpr const char* kGroup = "What a model file of another program does not say";
  command.add_option("--family", options.family, "the only network to look for")
      ->type_name("NAME")
      ->group(kGroup);
  command.add_option("--key", options.key, "of several networks in a file, the entry to take")
      ->type_name("NAME")
      ->group(kGroup);
  command.add_option("--vocabulary", options.vocabulary, "words of a HAN whose file has none")
      ->type_name("FILE")
      ->group(kGroup);
  command.add_option("--set", choices, "another value for a guess; may be given again")
      ->type_name("NAME=VALUE")
      ->allow_extra_args(false)
      ->group(kGroup);
}

ImportOptions ForeignOptions::read() const {
  ImportOptions read = options;
  for (const std::string& text : choices) {
    const std::size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos)
      throw UsageError(fmt::format("--set {}: expected NAME=VALUE", in_quotes(text)));
    if (!read.choices.emplace(text.substr(0, equals), text.substr(equals + 1)).second)
      throw UsageError(fmt::format("--set {}: given twice", in_quotes(text.substr(0, equals))));
  }
  const bool known = std::ranges::any_of(
      families(), [&](const Family& family) { return family.name == options.family; });
  if (!options.family.empty() && !known)
    throw UsageError(
        fmt::format("--family {}: there is none of that name; 'tessera import --list' "
                    "shows them",
                    in_quotes(options.family)));
  return read;
}

void ModelOptions::add_to(CLI::App& command, bool for_images) {
  command
      .add_option("-m,--model", path,
                  "a model file, of any program that is read; default: the bundled demo")
      ->type_name("FILE");
  foreign.add_to(command);
  add_device_options(command, device, precision);
  command.add_option("--threads", threads, "0: OMP_NUM_THREADS, else every processor")
      ->type_name("N")
      ->check(CLI::Range(0, 4096));
  if (!for_images) return;
  command
      .add_option("--max-memory", max_memory,
                  "of the whole process, or on a GPU there, e.g. 2G; large images run in tiles")
      ->type_name("BYTES");
  command.add_option("--tile", tile, "largest side of a tile in pixels; 0: as memory allows")
      ->type_name("N")
      ->check(at_least(0));
  add_range_option(command, range);
}

SessionOptions ModelOptions::session_options(bool quiet) const {
  SessionOptions options{.device = device, .precision = precision, .threads = threads};
  if (!quiet) options.on_note = [](std::string_view line) { fmt::print(stderr, "{}\n", line); };
  options.tile = tile;
  options.range = range;
  options.foreign = foreign.read();
  try {
    if (!max_memory.empty()) options.max_memory = parse_bytes(max_memory);
  } catch (const Error& error) {
    throw UsageError(fmt::format("--max-memory: {}", error.what()));
  }
  return options;
}

std::string ModelOptions::path_or_demo(std::string_view demo_file) const {
  if (!path.empty()) return model_path(path).string();
  std::error_code ignored;
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored).parent_path();
  const fs::path candidates[] = {program / "../models/demo" / demo_file,
                                 program / "../share/tessera" / demo_file};
  for (const fs::path& candidate : candidates) {
    if (fs::exists(candidate, ignored)) return candidate.lexically_normal().string();
  }
  fail(
      "no model was given and the bundled '{}' is not at {} or {}; name one with -m FILE or "
      "TESSERA_MODEL",
      demo_file, candidates[0].lexically_normal().string(),
      candidates[1].lexically_normal().string());
}

Shard parse_shard(const std::string& text, const char* option) {
  if (text.empty()) return {};
  const std::size_t slash = text.find('/');
  const auto index = parse_count<std::size_t>(std::string_view(text).substr(0, slash));
  const std::string_view behind =
      slash == std::string::npos ? std::string_view() : std::string_view(text).substr(slash + 1);
  const auto count = parse_count<std::size_t>(behind);
  if (!index || !count || *index > *count) {
    throw UsageError(fmt::format("{}: expected I/N with 1 <= I <= N, for example 2/4; found '{}'",
                                 option, text));
  }
  return {*index, *count};
}

std::pair<std::int64_t, std::int64_t> parse_size(const std::string& text) {
  const std::size_t cross = text.find('x');
  const auto height = parse_count<std::int64_t>(std::string_view(text).substr(0, cross));
  const auto width = cross == std::string::npos
                         ? height
                         : parse_count<std::int64_t>(std::string_view(text).substr(cross + 1));
  constexpr std::int64_t kMaxSide = 1 << 20;
  if (!height || !width || *height > kMaxSide || *width > kMaxSide) {
    throw UsageError(fmt::format(
        "--size: expected HEIGHTxWIDTH or one number, up to {}; found '{}'", kMaxSide, text));
  }
  return {*height, *width};
}

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  // Without SA_RESTART: the opening of a pipe that nobody reads ends, too.
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

int interrupted() {
  return caught_signal;
}

std::string line_about(const std::string& input, std::string_view text) {
  std::string line(text);
  for (char& c : line) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  if (line.starts_with(input)) return line;
  const std::string quoted = " '" + input + "'";
  if (const std::size_t at = line.find(quoted); at != std::string::npos)
    line.erase(at, quoted.size());
  return input + ": " + line;
}

}  // namespace tessera
