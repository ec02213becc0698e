#include "models/outputs.h"

#include <fmt/format.h>

#include "models/train.h"

namespace tessera {

namespace fs = std::filesystem;

void require_no_input(std::string_view option, const fs::path& output,
                      const std::vector<std::string>& read) {
  std::error_code error;
  if (!fs::is_regular_file(output, error) && !fs::is_directory(output, error)) return;
  const auto check = [&](const fs::path& file) {
    if (fs::equivalent(output, file, error))
      throw OptionError(
          fmt::format("{} {}: this file is read too, and would be replaced; choose another name",
                      option, output.string()));
  };
  for (const std::string& one : read) {
    check(one);
    if (!fs::is_directory(one, error)) continue;
    for (fs::directory_iterator entry(one, error), end; !error && entry != end;
         entry.increment(error))
      check(entry->path());
  }
}

}  // namespace tessera
