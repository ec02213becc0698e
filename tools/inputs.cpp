#include "tools/inputs.h"

#include <glob.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "tools/program.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

bool is_hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

void walk(const fs::path& folder, const Wanted& wanted, const char* what,
          std::vector<Input>& into) {
  const std::size_t before = into.size();
  try {
    fs::recursive_directory_iterator entry(folder), end;
    for (; entry != end; ++entry) {
      if (is_hidden(entry->path())) {
        if (entry->is_directory()) entry.disable_recursion_pending();
      } else if (entry->is_regular_file() && wanted(entry->path())) {
        into.push_back({entry->path().string(), entry->path().lexically_relative(folder), ""});
      }
    }
  } catch (const fs::filesystem_error& error) {
    into.push_back({folder.string(), {}, "cannot be walked: " + error.code().message()});
    return;
  }
  if (into.size() == before)
    into.push_back({folder.string(), {}, fmt::format("no {} in this folder", what)});
}

// The folder of a pattern that is fixed: "scans/*/a.png" keeps "scans".
fs::path fixed_part(const std::string& pattern) {
  return fs::path(pattern.substr(0, pattern.find_first_of("*?["))).parent_path();
}

void match(const std::string& pattern, const Wanted& wanted, const char* what,
           std::vector<Input>& into) {
  glob_t found{};
  const int code = glob(pattern.c_str(), 0, nullptr, &found);
  const fs::path base = fixed_part(pattern);
  for (std::size_t i = 0; code == 0 && i < found.gl_pathc; ++i) {
    const fs::path path = found.gl_pathv[i];
    if (fs::is_directory(path)) {
      walk(path, wanted, what, into);
    } else {
      into.push_back({path.string(), base.empty() ? path : path.lexically_relative(base), ""});
    }
  }
  globfree(&found);
  if (code != 0) into.push_back({pattern, {}, "no file matches; check the path"});
}

}  // namespace

std::vector<Input> expand_inputs(const std::vector<std::string>& words, const Wanted& wanted,
                                 const char* what) {
  std::vector<Input> inputs;
  for (const std::string& word : words) {
    std::error_code ignored;
    if (word == "-") {
      if (words.size() > 1) throw UsageError("'-' (the standard input) must be the only input");
      inputs.push_back({word, "stdin", ""});
    } else if (fs::is_directory(word, ignored)) {
      walk(word, wanted, what, inputs);
    } else if (fs::exists(word, ignored)) {
      inputs.push_back({word, fs::path(word).filename(), ""});
    } else if (word.find_first_of("*?[") != std::string::npos) {
      match(word, wanted, what, inputs);
    } else {
      inputs.push_back({word, {}, "no such file or folder; check the path"});
    }
  }
  std::ranges::sort(inputs, {}, &Input::path);
  std::set<fs::path> seen;
  std::erase_if(inputs, [&](const Input& input) {
    return !seen.insert(fs::path(input.path).lexically_normal()).second;
  });
  return inputs;
}

}  // namespace tessera
