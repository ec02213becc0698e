// Opening what a user named as input.
#pragma once

#include <filesystem>

namespace tessera {

// A descriptor to read from, or -1 and errno. A named pipe is waited for until something is written
// to it or its writer is gone; a signal that the program handles ends that with EINTR, so that the
// first Ctrl-C is enough where nobody ever writes.
int open_input(const std::filesystem::path& path);

}  // namespace tessera
