// How this library talks to libtiff: its messages become text, and a file may lie in memory.
// Included by the tiff*.cpp alone.
#pragma once

#include <tiffio.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace tessera {

// What libtiff does its work on; stable in memory because libtiff holds its address.
struct TiffContext {
  TiffContext() = default;
  TiffContext(const TiffContext&) = delete;
  TiffContext& operator=(const TiffContext&) = delete;
  ~TiffContext() { close(); }

  // These leave `handle` null and say why in `error` where libtiff refuses. `mode` is libtiff's.
  void open(const std::filesystem::path& path, const char* mode);
  void open(std::span<const uint8_t> file);  // to read; `file` must outlive the context
  void close();

  // Copies `to.size()` bytes from `offset` of the file, as they are there. False where it ends.
  bool read_raw(uint64_t offset, std::span<uint8_t> to) const;
  uint64_t file_size() const;

  TIFF* handle = nullptr;
  std::span<const uint8_t> bytes;  // the file, when it is in memory
  uint64_t position = 0;           // in `bytes`
  std::string error;               // libtiff's first message since it was last cleared
  bool warnings_are_errors = false;
};

// A tag of the current directory, or `missing`.
template <class T>
T tiff_field(TIFF* handle, uint32_t tag, T missing) {
  T value = missing;
  return TIFFGetFieldDefaulted(handle, tag, &value) == 1 ? value : missing;
}

}  // namespace tessera
