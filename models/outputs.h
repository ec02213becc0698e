// What an output must not be.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// Refuses an output that is one of the files that are read, because writing it would destroy them.
// `option` is what named it; a folder in `read` stands for itself and the files in it. Throws
// OptionError.
void require_no_input(std::string_view option, const std::filesystem::path& output,
                      const std::vector<std::string>& read);

}  // namespace tessera
