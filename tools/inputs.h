// From the command line's words to the files of a batch.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace tessera {

struct Input {
  std::string path;                // as it is opened; "-" is the standard input
  std::filesystem::path relative;  // below the folder (or glob) that was named; what outputs keep
  std::string error;               // not empty: there is nothing to open, and why

  bool is_stdin() const { return path == "-"; }
  std::string name() const { return is_stdin() ? "standard input" : path; }
};

// Which files of a folder belong to a batch.
using Wanted = std::function<bool(const std::filesystem::path&)>;

// Files stay as they are, folders are walked (hidden files left out), globs (* ? [..]) are matched.
// The result is sorted, so that it does not depend on the order of the file system, and has each
// file once. What names nothing becomes an Input with an error. `what` says in errors what is
// looked for: "images". Throws UsageError for "-" given twice or beside others.
std::vector<Input> expand_inputs(const std::vector<std::string>& words, const Wanted& wanted,
                                 const char* what);

}  // namespace tessera
