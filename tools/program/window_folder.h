// The finished windows of one large image, as files in a folder beside its mask: `out.tif.windows`.
// Each is whole or not there, and outlives a kill and a loss of power, so that a run goes on where
// an earlier one ended, and several processes, on several machines, make one mask without locks.
//
// windows.json says what the windows are made from and how the image is cut. Whoever makes the
// folder first decides that; it appears with the folder, in one step.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/image/image_io.h"

namespace tessera {

class WindowFolder {
 public:
  explicit WindowFolder(const std::filesystem::path& mask);

  const std::filesystem::path& path() const { return path_; }
  bool exists() const;
  // What windows.json says. Throws Error where the folder has none that can be read.
  nlohmann::json manifest() const;
  // Makes the folder. Returns the manifest that counts: where another process was faster, its.
  nlohmann::json begin(const nlohmann::json& manifest);

  // By the window's place among rows and columns of windows. A file that is damaged is not there.
  bool has(std::int64_t row, std::int64_t column, std::int64_t height, std::int64_t width) const;
  void add(std::int64_t row, std::int64_t column, const Image& mask);
  ImageReader open(std::int64_t row, std::int64_t column) const;
  void discard(std::int64_t row, std::int64_t column);

  void remove();  // with all windows

 private:
  std::filesystem::path file_of(std::int64_t row, std::int64_t column) const;

  std::filesystem::path path_;
};

}  // namespace tessera
