// From the command line's words to the files of a batch.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "models/outputs.h"

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

// Where a batch writes, so that results are not taken for inputs.
struct ResultFolder {
  std::filesystem::path path;  // empty: there is none
  Wanted is_result = {};       // by a file's name
};

// Files stay as they are, folders are walked unless `wanted_folder` takes them as they are, globs
// (* ? [..]) are matched. Of a folder hidden files are left out, links to folders are followed, and
// each folder is walked once. The folder of results is not walked; where it is itself the input, or
// holds one, only its results are left out. The result is sorted, so that it does not depend on the
// order of the file system, and has each file once. What names nothing, cannot be read or leads in
// a circle becomes an Input with an error. `what` says in errors what is looked for: "images".
// Throws UsageError for "-" given twice or beside others.
std::vector<Input> expand_inputs(const std::vector<std::string>& words, const Wanted& wanted,
                                 const char* what, const ResultFolder& results = {},
                                 const Wanted& wanted_folder = {});

// What the results of each input are called below an output folder: its relative name without the
// ending. Where several would be called alike their endings stay ("a.png", "a.tif"), whatever the
// order; those that are alike even so get an error.
std::vector<std::filesystem::path> result_names(std::vector<Input>& inputs);

}  // namespace tessera
