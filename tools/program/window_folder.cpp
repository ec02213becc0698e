#include "tools/program/window_folder.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "kernels/error.h"
#include "models/image/tiff.h"

namespace tessera {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr const char* kManifest = "windows.json";

}  // namespace

WindowFolder::WindowFolder(const fs::path& mask) : path_(mask) {
  path_ += ".windows";
}

bool WindowFolder::exists() const {
  std::error_code ignored;
  return fs::is_directory(path_, ignored) && !fs::is_empty(path_, ignored);
}

json WindowFolder::manifest() const {
  std::ifstream file(path_ / kManifest, std::ios::binary);
  json manifest = json::parse(file, nullptr, false);
  require(manifest.is_object(),
          "the folder '{}' of finished windows has no readable {}; remove the folder, or choose "
          "another -o",
          path_.string(), kManifest);
  return manifest;
}

json WindowFolder::begin(const json& manifest) {
  std::string made = path_.string() + ".XXXXXX";
  require(::mkdtemp(made.data()) != nullptr,
          "cannot make the folder '{}' for finished windows: {}; choose another -o", path_.string(),
          std::strerror(errno));
  std::error_code error, ignored;
  fs::permissions(made, fs::perms::all & ~fs::perms::group_write & ~fs::perms::others_write,
                  ignored);
  try {
    AtomicFile file(fs::path(made) / kManifest, Durability::kPower);
    file.stream() << manifest.dump(2) << '\n';
    file.commit();
    fs::rename(made, path_, error);  // which a folder that is there, and not empty, withstands
  } catch (...) {
    fs::remove_all(made, ignored);
    throw;
  }
  if (!error) return manifest;
  fs::remove_all(made, ignored);
  require(exists(), "cannot make the folder '{}' for finished windows: {}; choose another -o",
          path_.string(), error.message());
  return this->manifest();
}

fs::path WindowFolder::file_of(std::int64_t row, std::int64_t column) const {
  return path_ / fmt::format("row{}-column{}.mask.tif", row, column);
}

bool WindowFolder::has(std::int64_t row, std::int64_t column, std::int64_t height,
                       std::int64_t width) const {
  std::error_code ignored;
  if (!fs::exists(file_of(row, column), ignored)) return false;
  try {
    const ImageLayout layout = open(row, column).layout();
    return layout.height == height && layout.width == width && layout.channels == 1 &&
           layout.sample_bytes == 1;
  } catch (const Error&) {
    return false;
  }
}

void WindowFolder::add(std::int64_t row, std::int64_t column, const Image& mask) {
  TiledTiffWriter file(file_of(row, column), mask.height, mask.width, mask.pixels);
  file.write(0, 0, mask);
  file.commit();
}

ImageReader WindowFolder::open(std::int64_t row, std::int64_t column) const {
  return ImageReader(file_of(row, column));
}

void WindowFolder::discard(std::int64_t row, std::int64_t column) {
  std::error_code ignored;
  fs::remove(file_of(row, column), ignored);
}

void WindowFolder::remove() {
  // In one step for other processes; what stays costs disk, and the mask is there.
  std::error_code ignored;
  fs::path done = path_;
  done += ".done";
  fs::remove_all(done, ignored);
  fs::rename(path_, done, ignored);
  fs::remove_all(done, ignored);
}

}  // namespace tessera
