// Where the tests find files. One source file alone is compiled with the folders of this tree, so
// that another checkout of the same tests can share compiled objects.
#pragma once

#include <filesystem>

namespace tessera::test {

// The project's root; TESSERA_SOURCE_DIR names it on a machine that has only the tests' program.
std::filesystem::path source_dir();

// Real data and models that are not part of the tree: TESSERA_SHARED, or the folder `shared` beside
// the root. It need not exist; tests that read it skip then.
std::filesystem::path shared_dir();

// The program of this build; empty where it is not built.
std::filesystem::path program();

}  // namespace tessera::test
