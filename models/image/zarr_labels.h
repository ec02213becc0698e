// Labels as a store of OME-Zarr (NGFF 0.4 on Zarr 2, which napari, ome-zarr and zarr 2 and 3 read):
// a multiscales image of the axes y and x with the metadata of label images, chunks of one tile
// each, zlib. Chunks of zeros are left out, as the fill value says them.
#pragma once

#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <vector>

#include "models/image/stored_image.h"

namespace tessera {

struct LabelClass {
  int64_t id = 0;
  std::string name;
  std::array<uint8_t, 3> rgb{};
};

class ZarrLabels : public TiledWriter {
 public:
  // `scratch` is a folder of the same file system, in which the store lies until commit() gives it
  // its name. `classes` may be empty: labels then have no names and colours.
  ZarrLabels(std::filesystem::path target, const std::filesystem::path& scratch, int64_t height,
             int64_t width, const Image::Pixels& like, const std::vector<LabelClass>& classes);

  // Labels that are there are replaced.
  void commit() override;
  const std::filesystem::path& path() const override { return store_.path; }

 private:
  // Removed with its content, unless that has got another name.
  struct Folder {
    std::filesystem::path path;
    ~Folder();
  };

  void begin_level(int64_t level, int64_t height, int64_t width) override;
  void put_tile(int64_t row, int64_t column, std::span<uint8_t> bytes) override;
  void end_level() override {}
  std::unique_ptr<StoredImage> open_level(int64_t level) override;
  void end() override;
  void write_file(const std::filesystem::path& path, std::span<const uint8_t> bytes) const;
  void write_json(const char* name, const nlohmann::json& value) const;

  std::filesystem::path target_;
  Folder store_;
  std::filesystem::path level_;
  const char* type_;  // of samples
  int64_t height_, width_;
  std::vector<LabelClass> classes_;
};

// Throws Error where something is at `target` that is no store of labels of this size, and so may
// not be replaced.
void require_zarr_labels_may_be(const std::filesystem::path& target, int64_t height, int64_t width);

}  // namespace tessera
