// Memory of mapped files that has been read and will not be soon again.
#pragma once

#include <cstddef>
#include <span>

namespace tessera {

// Gives the whole pages of `bytes` back to the system where they lie in a MappedFile, as
// MappedFile::release_pages does for all of it; leaves other memory alone. For readers that convert
// a file piece by piece, and would else hold it twice.
void release_pages_of(std::span<const std::byte> bytes);

}  // namespace tessera
