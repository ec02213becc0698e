#include "tools/program/inputs.h"

#include <glob.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <utility>

#include "tools/program/program.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

constexpr const char* kNoFile = "is a pipe or socket, not a file; name it by itself";

bool is_hidden(const fs::path& path) {
  return path.filename().string().starts_with('.');
}

// Both as the file system names them.
bool lies_in(const fs::path& path, const fs::path& folder) {
  return std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first ==
         folder.end();
}

// One folder and all below it.
class Walk {
 public:
  Walk(const fs::path& root, const Wanted& wanted, const Wanted& wanted_folder,
       const fs::path& results, std::vector<Input>& into)
      : root_(root),
        wanted_(wanted),
        wanted_folder_(wanted_folder),
        results_(results),
        into_(into) {}

  // What lies there comes first, what links lead to behind it, so that a link to what is met anyway
  // changes nothing.
  void run() {
    walk_all_below(root_);
    while (!links_.empty()) {
      const fs::path link = links_.extract(links_.begin()).value();
      std::error_code error;
      const fs::path target = fs::canonical(link, error);
      if (error) {
        refuse(link, error);
      } else if (lies_in(fs::canonical(link.parent_path()), target)) {
        add_error(link,
                  fmt::format("leads in a circle, back to '{}'; remove the link", target.string()));
      } else if (results_.empty() || !lies_in(target, results_)) {
        walk_all_below(link);
      }
    }
  }

 private:
  void add_error(const fs::path& path, std::string text) {
    into_.push_back({path.string(), {}, std::move(text)});
  }
  void refuse(const fs::path& path, const std::error_code& error) {
    add_error(path, "cannot be read: " + error.message());
  }

  void walk_all_below(const fs::path& top) {
    std::vector<fs::path> folders{top};
    while (!folders.empty()) {
      const fs::path folder = std::move(folders.back());
      folders.pop_back();
      walk_one(folder, folders);
    }
  }

  void walk_one(const fs::path& folder, std::vector<fs::path>& folders) {
    struct stat status {};
    std::error_code error;
    if (::stat(folder.c_str(), &status) != 0)
      return refuse(folder, {errno, std::generic_category()});
    if (!walked_.emplace(status.st_dev, status.st_ino).second) return;
    if (!results_.empty() && folder != root_ && fs::equivalent(folder, results_, error)) return;
    fs::directory_iterator entry(folder, error);
    for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
      if (!is_hidden(entry->path())) take(*entry, folders);
    }
    if (error) refuse(folder, error);
  }

  void take(const fs::directory_entry& entry, std::vector<fs::path>& folders) {
    std::error_code error;
    const fs::path& path = entry.path();
    const fs::file_status status = entry.status(error);  // of what a link leads to
    if (fs::is_directory(status)) {
      if (wanted_folder_ && wanted_folder_(path)) {
        into_.push_back({path.string(), path.lexically_relative(root_), ""});
      } else if (entry.is_symlink(error)) {
        links_.insert(path);
      } else {
        folders.push_back(path);
      }
    } else if (fs::is_regular_file(status)) {
      if (wanted_(path)) into_.push_back({path.string(), path.lexically_relative(root_), ""});
    } else if (wanted_(path) || !path.has_extension()) {  // one that may have been meant
      if (status.type() == fs::file_type::not_found) {
        add_error(path, "is a link that leads nowhere");
      } else if (error) {
        refuse(path, error);
      } else if (wanted_(path)) {
        add_error(path, kNoFile);
      }
    }
  }

  const fs::path& root_;
  const Wanted& wanted_;
  const Wanted& wanted_folder_;
  const fs::path& results_;
  std::vector<Input>& into_;
  std::set<fs::path> links_;  // to folders, not followed yet
  std::set<std::pair<dev_t, ino_t>> walked_;
};

// What `words` name, one after the other.
class Expansion {
 public:
  Expansion(const Wanted& wanted, const char* what, const ResultFolder& results,
            const Wanted& wanted_folder)
      : wanted_(wanted), wanted_folder_(wanted_folder), what_(what), is_result_(results.is_result) {
    if (!results.path.empty()) results_ = fs::weakly_canonical(results.path / "x").parent_path();
  }

  void add(const std::string& word) {
    std::error_code error;
    const fs::file_status status = fs::status(word, error);
    if (word == "-") {
      inputs_.push_back({word, "stdin", ""});
    } else if (fs::is_directory(status)) {
      add_folder(word);
    } else if (status.type() != fs::file_type::not_found && error) {
      inputs_.push_back({word, {}, "cannot be read: " + error.message()});
    } else if (fs::exists(status)) {
      add_file(word, fs::path(word).filename());
    } else if (word.find_first_of("*?[") != std::string::npos) {
      add_matches(word);
    } else {
      inputs_.push_back({word, {}, "no such file or folder; check the path"});
    }
  }

  std::vector<Input> take() {
    if (inputs_.empty() && !skipped_.empty()) {
      inputs_.push_back({skipped_,
                         {},
                         "is a result that lies in the output folder; name its input, "
                         "or another folder with -o"});
    }
    return std::move(inputs_);
  }

 private:
  bool is_in_results(const fs::path& path) const {
    return !results_.empty() && lies_in(fs::weakly_canonical(path), results_);
  }

  void add_file(const std::string& path, fs::path relative) {
    if (is_result_ && is_result_(path) && is_in_results(path)) {
      skipped_ = path;
    } else {
      inputs_.push_back({path, std::move(relative), ""});
    }
  }

  void add_folder(const fs::path& named) {
    const fs::path folder = named.has_filename() ? named : named.parent_path();  // "scans/"
    if (wanted_folder_ && wanted_folder_(folder)) {
      inputs_.push_back({folder.string(), folder.filename(), ""});
      return;
    }
    const std::size_t before = inputs_.size();
    const bool beside_results = is_in_results(folder);
    const Wanted wanted = [&](const fs::path& path) {
      return wanted_(path) && !(beside_results && is_result_(path));
    };
    Walk(folder, wanted, wanted_folder_, results_, inputs_).run();
    if (inputs_.size() == before)
      inputs_.push_back({folder.string(), {}, fmt::format("no {} in this folder", what_)});
  }

  // The folder of a pattern that is fixed: "scans/*/a.png" keeps "scans".
  static fs::path fixed_part(const std::string& pattern) {
    return fs::path(pattern.substr(0, pattern.find_first_of("*?["))).parent_path();
  }

  void add_matches(const std::string& pattern) {
    glob_t found{};
    const int code = glob(pattern.c_str(), 0, nullptr, &found);
    const fs::path base = fixed_part(pattern);
    for (std::size_t i = 0; code == 0 && i < found.gl_pathc; ++i) {
      const fs::path path = found.gl_pathv[i];
      std::error_code ignored;
      if (fs::is_directory(path, ignored)) {
        add_folder(path);
      } else if (fs::is_fifo(path, ignored) || fs::is_socket(path, ignored)) {
        inputs_.push_back({path.string(), {}, kNoFile});
      } else {
        add_file(path.string(), base.empty() ? path : path.lexically_relative(base));
      }
    }
    globfree(&found);
    if (code != 0) inputs_.push_back({pattern, {}, "no file matches; check the path"});
  }

  const Wanted& wanted_;
  const Wanted& wanted_folder_;
  const char* what_;
  const Wanted& is_result_;
  fs::path results_;  // as the file system names it
  std::vector<Input> inputs_;
  std::string skipped_;
};

}  // namespace

std::vector<Input> expand_inputs(const std::vector<std::string>& words, const Wanted& wanted,
                                 const char* what, const ResultFolder& results,
                                 const Wanted& wanted_folder) {
  if (words.size() > 1 && std::ranges::find(words, "-") != words.end())
    throw UsageError("'-' (the standard input) must be the only input");
  Expansion expansion(wanted, what, results, wanted_folder);
  for (const std::string& word : words) expansion.add(word);
  std::vector<Input> inputs = expansion.take();
  std::ranges::stable_sort(inputs, {}, &Input::path);
  std::set<fs::path> seen;
  std::erase_if(inputs, [&](const Input& input) {
    return !seen.insert(fs::path(input.path).lexically_normal()).second;
  });
  return inputs;
}

std::vector<fs::path> result_names(std::vector<Input>& inputs) {
  std::vector<fs::path> names;
  for (const Input& input : inputs) names.push_back(fs::path(input.relative).replace_extension());
  // An ending that is kept may make a name that another input has: "a.png" of "a.png.tif".
  for (bool changed = true; changed;) {
    changed = false;
    std::map<fs::path, std::vector<std::size_t>> by_name;
    for (std::size_t i = 0; i < inputs.size(); ++i)
      if (inputs[i].error.empty()) by_name[names[i]].push_back(i);
    for (const auto& [name, owners] : by_name) {
      if (owners.size() < 2) continue;
      bool longer = false;
      for (const std::size_t i : owners) {
        longer = longer || names[i] != inputs[i].relative;
        names[i] = inputs[i].relative;
      }
      changed = changed || longer;
      for (std::size_t k = 0; !longer && k < owners.size(); ++k) {
        inputs[owners[k]].error = fmt::format(
            "its results would have the name of those of '{}'; name the folder above both, which "
            "keeps sub-folders, or give each its own -o",
            inputs[owners[k == 0 ? 1 : 0]].path);
      }
    }
  }
  return names;
}

}  // namespace tessera
