#include "tests/support/paths.h"

#include <cstdlib>

namespace tessera::test {

std::filesystem::path source_dir() {
  const char* given = std::getenv("TESSERA_SOURCE_DIR");
  return given != nullptr ? given : TESSERA_SOURCE_DIR;
}

std::filesystem::path shared_dir() {
  const char* given = std::getenv("TESSERA_SHARED");
  return given != nullptr ? std::filesystem::path(given) : source_dir().parent_path() / "shared";
}

std::filesystem::path program() {
  return TESSERA_PROGRAM;
}

}  // namespace tessera::test
