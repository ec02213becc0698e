#include "models/image/zarr_labels.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "kernels/error.h"
#include "models/image/zarr.h"
#include "models/image/zarr_codecs.h"

namespace tessera {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

json scale_of_level(int64_t level) {
  const auto factor = static_cast<double>(int64_t{1} << level);
  return json::array({{{"type", "scale"}, {"scale", {factor, factor}}}});
}

json attributes_of(const std::string& name, int64_t levels,
                   const std::vector<LabelClass>& classes) {
  json datasets = json::array(), colours = json::array(), properties = json::array();
  for (int64_t level = 0; level < levels; ++level)
    datasets.push_back(
        {{"path", std::to_string(level)}, {"coordinateTransformations", scale_of_level(level)}});
  for (const LabelClass& one : classes) {
    colours.push_back(
        {{"label-value", one.id}, {"rgba", {one.rgb[0], one.rgb[1], one.rgb[2], 255}}});
    properties.push_back({{"label-value", one.id}, {"class", one.name}});
  }
  json label = {{"version", "0.4"}};
  if (!classes.empty()) {
    label["colors"] = colours;
    label["properties"] = properties;
  }
  const json image = {
      {"version", "0.4"},
      {"name", name},
      {"axes", {{{"name", "y"}, {"type", "space"}}, {{"name", "x"}, {"type", "space"}}}},
      {"datasets", datasets},
      {"type", "nearest"}};
  return {{"multiscales", json::array({image})}, {"image-label", label}};
}

}  // namespace

ZarrLabels::ZarrLabels(fs::path target, const fs::path& scratch, int64_t height, int64_t width,
                       const Image::Pixels& like, const std::vector<LabelClass>& classes)
    : TiledWriter(target, height, width, like, halvings(height, width, kTile)),
      target_(std::move(target)),
      height_(height),
      width_(width),
      classes_(classes) {
  constexpr const char* kTypes[] = {"|u1", "<u2", "<u4", "<f4"};  // as the variant
  type_ = kTypes[like.index()];
  std::string made = (scratch / "store.XXXXXX").string();
  require(::mkdtemp(made.data()) != nullptr, "cannot make a folder for '{}': {}; choose another -o",
          target_.string(), std::strerror(errno));
  store_.path = made;
  std::error_code ignored;  // as a folder of the user's own would be
  fs::permissions(store_.path, fs::perms::all & ~fs::perms::group_write & ~fs::perms::others_write,
                  ignored);
  ZarrLabels::begin_level(0, height, width);
}

ZarrLabels::Folder::~Folder() {
  std::error_code ignored;
  if (!path.empty()) fs::remove_all(path, ignored);
}

void ZarrLabels::begin_level(int64_t level, int64_t height, int64_t width) {
  const std::string name = std::to_string(level);
  level_ = store_.path / name;
  std::error_code error;
  fs::create_directory(level_, error);
  require(!error, "cannot write '{}': {}", target_.string(), error.message());
  write_json((name + "/.zarray").c_str(), {{"zarr_format", 2},
                                           {"shape", {height, width}},
                                           {"chunks", {kTile, kTile}},
                                           {"dtype", type_},
                                           {"compressor", {{"id", "zlib"}, {"level", 6}}},
                                           {"fill_value", 0},
                                           {"order", "C"},
                                           {"filters", nullptr},
                                           {"dimension_separator", "/"}});
}

void ZarrLabels::put_tile(int64_t row, int64_t column, std::span<uint8_t> bytes) {
  if (std::ranges::all_of(bytes, [](uint8_t byte) { return byte == 0; })) return;
  const fs::path folder = level_ / std::to_string(row);
  std::error_code error;
  fs::create_directory(folder, error);
  require(!error, "cannot write '{}': {}", target_.string(), error.message());
  write_file(folder / std::to_string(column), encode_zlib(bytes));
}

std::unique_ptr<StoredImage> ZarrLabels::open_level(int64_t level) {
  return std::make_unique<ZarrReader>(store_.path / std::to_string(level), kMaxSamples);
}

void ZarrLabels::end() {
  write_json(".zgroup", {{"zarr_format", 2}});
  write_json(".zattrs", attributes_of(target_.stem().string(), 1 + smaller_levels(), classes_));
  // All of it, before it gets its name.
  const int folder = ::open(store_.path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = folder >= 0 && ::syncfs(folder) == 0;
  const int error = errno;
  if (folder >= 0) ::close(folder);
  require(synced, "cannot write '{}': {}", target_.string(), std::strerror(error));
}

void ZarrLabels::write_file(const fs::path& path, std::span<const uint8_t> bytes) const {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  bool written = file >= 0;
  for (size_t at = 0; written && at < bytes.size();) {
    const ssize_t count = ::write(file, bytes.data() + at, bytes.size() - at);
    if (count < 0 && errno == EINTR) continue;
    written = count > 0;
    at += written ? static_cast<size_t>(count) : 0;
  }
  const int error = errno;
  if (file >= 0 && ::close(file) != 0) written = false;
  require(written, "cannot write '{}': {}; free some space or choose another -o", target_.string(),
          std::strerror(error != 0 ? error : errno));
}

void ZarrLabels::write_json(const char* name, const json& value) const {
  const std::string text = value.dump(2) + "\n";
  write_file(store_.path / name, {reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

void ZarrLabels::commit() {
  finish();
  require_zarr_labels_may_be(target_, height_, width_);
  std::error_code error, ignored;
  const fs::path old = store_.path.string() + ".old";
  // Another process may do the same at the same time.
  constexpr int kAttempts = 10;
  for (int i = 0; i < kAttempts; ++i) {
    fs::rename(target_, old, ignored);
    fs::rename(store_.path, target_, error);
    fs::remove_all(old, ignored);
    if (!error) return;
  }
  fail("cannot write '{}': {}; choose another -o", target_.string(), error.message());
}

void require_zarr_labels_may_be(const fs::path& target, int64_t height, int64_t width) {
  std::error_code ignored;
  if (!fs::exists(target, ignored)) return;
  bool labels = false;
  PyramidLevel size;
  try {
    labels = fs::is_directory(target) && ZarrReader::has_labels(target);
    if (labels) size = ZarrReader(target, kMaxSamples).levels().front();
  } catch (const Error&) {
    labels = false;
  }
  require(labels,
          "'{}' is there and is no labels of OME-Zarr, so it is not replaced; remove it, or choose "
          "another -o",
          target.string());
  require(size.height == height && size.width == width,
          "'{}' is there and has {} x {} pixels, so it is no mask of this image of {} x {}; remove "
          "it, or choose another -o",
          target.string(), size.height, size.width, height, width);
}

}  // namespace tessera
