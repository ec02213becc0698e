#include "tools/program/train_recipe.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "engine/files/json_text.h"
#include "models/image/rule_text.h"
#include "tools/program/program.h"

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

}  // namespace

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

void apply_network(CLI::App& command, const json& network) {
  for (const auto& [key, value] : network.items()) {
    // Data decide about these.
    if (key == "channels" || key == "classes" || key == "output" || key == "max_sentences" ||
        key == "max_words")
      continue;
    std::string name = key == "masked" ? "unmasked" : key;
    std::ranges::replace(name, '_', '-');
    CLI::Option* option = command.get_option_no_throw("--" + name);
    if (option == nullptr || option->count() > 0) continue;
    option->add_result(key == "masked" ? json(!value.get<bool>()).dump() : option_text(key, value));
    option->run_callback();
  }
}

std::string last_name(std::string_view path) {
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  return fs::path(path).filename().string();
}

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
    if (is_one_of(name, {"--threads", "--progress"})) {
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

}  // namespace tessera
