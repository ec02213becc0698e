// Zarr stores in a folder, versions 2 and 3: a bare array, or an image of OME-Zarr.
//
// Read: uint8, uint16, uint32 and float32 of either order of bytes; chunks without compression, or
// by zlib, gzip, zstd and blosc, with CRC-32C; shards; C and F order; any separator. A chunk that
// is missing is the fill value. One channel is grey, three are RGB, of others one is chosen. Planes
// of all axes beside y, x and c are pages: of t, z and so on the last runs fastest. Metadata and
// chunks are hostile; nothing outside the folder is opened by what they name.
#pragma once

#include <filesystem>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/image/stored_image.h"
#include "models/image/zarr_metadata.h"

namespace tessera {

// The chunks of one array.
class ZarrChunks {
 public:
  using Chunk = std::shared_ptr<const std::vector<uint8_t>>;

  ZarrChunks(std::filesystem::path folder, ZarrArray array);

  const ZarrArray& array() const { return array_; }
  // Samples in C or F order, bytes in the machine's. Null: it is not there. With `keep` it stays in
  // memory for the next time, as long as there is room.
  Chunk read(const std::vector<int64_t>& coordinates, bool keep);
  int64_t decoded() const { return decoded_; }  // chunks

 private:
  struct Kept {
    Chunk chunk;
    std::list<std::vector<int64_t>>::iterator use;
  };
  // Where a chunk lies in its file.
  struct Place {
    uint64_t offset = 0;
    uint64_t bytes = 0;
  };

  Chunk decode(const std::vector<int64_t>& coordinates);
  std::optional<Place> find_in_shard(int file, uint64_t file_bytes,
                                     const std::vector<int64_t>& coordinates,
                                     const std::vector<int64_t>& shard);
  Chunk find_kept(const std::vector<int64_t>& key);
  void keep_chunk(const std::vector<int64_t>& key, const Chunk& chunk);

  std::filesystem::path folder_;
  ZarrArray array_;
  int64_t chunk_bytes_;
  std::map<std::vector<int64_t>, Kept> kept_;
  std::list<std::vector<int64_t>> uses_;  // the latest first
  int64_t kept_bytes_ = 0;
  int64_t decoded_ = 0;
};

class ZarrReader : public StoredImage {
 public:
  ZarrReader(std::filesystem::path folder, int64_t max_samples);

  int64_t page_count() const override;
  // StoredValues are those there are.
  Image read(int64_t page, StoredValues* stored = nullptr) override;
  ImageLayout layout(int64_t page) override;
  Image read_part(int64_t page, const ImageWindow& part, StoredValues* stored = nullptr) override;
  std::vector<PyramidLevel> levels() override;
  void choose_level(int64_t level) override;
  void choose_channel(int64_t channel) override;

  // Whether a folder has the metadata of a store.
  static bool recognises(const std::filesystem::path& folder);
  // Whether its pixels are labels of objects or classes ("image-label").
  static bool has_labels(const std::filesystem::path& folder);

 private:
  struct Opened {
    ZarrArray array;
    ZarrAxes axes;
  };
  Opened open(const std::string& path) const;  // of an array, below the folder
  template <class T>
  Image read_as(int64_t page, const ImageWindow& part);
  int64_t extent(size_t axis) const { return chunks_->array().shape[axis]; }
  int64_t channels() const;  // 1 or 3; throws Error where one must be chosen

  std::filesystem::path folder_;
  int64_t max_samples_;
  ZarrMultiscales image_;  // of a bare array one path, empty
  std::optional<ZarrChunks> chunks_;
  ZarrAxes axes_;
  std::optional<int64_t> only_channel_;
};

// The files of a store's image, sorted: all below the folder but what `labels` has.
std::vector<std::filesystem::path> zarr_files(const std::filesystem::path& folder);

}  // namespace tessera
