#include "models/image/zarr.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "engine/files/json_text.h"
#include "kernels/error.h"
#include "models/image/zarr_codecs.h"

namespace tessera {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

// An open file of a store, or none where there is no such file.
class ZarrFile {
 public:
  explicit ZarrFile(const fs::path& path) : path_(path) {
    // What is no regular file must not be waited for.
    file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file_ < 0 && (errno == ENOENT || errno == ENOTDIR)) return;
    require(file_ >= 0, "'{}': {}", path.string(), std::strerror(errno));
    struct stat status {};
    const bool regular = ::fstat(file_, &status) == 0 && S_ISREG(status.st_mode);
    if (!regular) ::close(file_);
    require(regular, "'{}' is no file", path.string());
    bytes_ = static_cast<uint64_t>(status.st_size);
  }
  ~ZarrFile() {
    if (file_ >= 0) ::close(file_);
  }
  ZarrFile(const ZarrFile&) = delete;
  ZarrFile& operator=(const ZarrFile&) = delete;

  bool is_there() const { return file_ >= 0; }
  uint64_t bytes() const { return bytes_; }
  int descriptor() const { return file_; }

 private:
  fs::path path_;
  int file_ = -1;
  uint64_t bytes_ = 0;
};

std::vector<uint8_t> read_bytes(int file, uint64_t offset, uint64_t bytes) {
  std::vector<uint8_t> all(static_cast<size_t>(bytes));
  for (size_t at = 0; at < all.size();) {
    const ssize_t count =
        ::pread(file, all.data() + at, all.size() - at, static_cast<off_t>(offset + at));
    if (count < 0 && errno == EINTR) continue;
    require(count >= 0, "{}", std::strerror(errno));
    require(count > 0, "it ends after {} bytes of {}", offset + at, offset + bytes);
    at += static_cast<size_t>(count);
  }
  return all;
}

// Nothing where there is no such file.
std::optional<json> read_metadata(const fs::path& path) {
  static constexpr uint64_t kMostBytes = 1 << 24;
  static constexpr int kMostDepth = 64;
  const ZarrFile file(path);
  if (!file.is_there()) return std::nullopt;
  try {
    require(file.bytes() <= kMostBytes, "{} bytes, expected {} at most", file.bytes(), kMostBytes);
    const std::vector<uint8_t> text = read_bytes(file.descriptor(), 0, file.bytes());
    return parse_json({reinterpret_cast<const char*>(text.data()), text.size()},
                      [](int depth, auto, const json&) {
                        require(depth <= kMostDepth, "objects of more than {} levels", kMostDepth);
                        return true;
                      });
  } catch (const Error& error) {
    fail("'{}': {}", path.string(), error.what());
  }
}

// Of an array or a group of version 3, or of a group of version 2.
json read_attributes(const fs::path& folder) {
  if (const auto node = read_metadata(folder / "zarr.json"))
    return node->is_object() ? node->value("attributes", json()) : json();
  return read_metadata(folder / ".zattrs").value_or(json());
}

bool is_array(const fs::path& folder) {
  if (const auto node = read_metadata(folder / "zarr.json"))
    return node->is_object() && node->value("node_type", json()) == "array";
  return fs::exists(folder / ".zarray");
}

// Whether the attributes, or those of OME-Zarr in them, have a key.
bool has_key(const json& attributes, const char* key) {
  return attributes.is_object() && (attributes.contains(key) ||
                                    (attributes.contains("ome") && attributes["ome"].is_object() &&
                                     attributes["ome"].contains(key)));
}

[[noreturn]] void refuse_group(const json& attributes) {
  const auto has = [&](const char* key) { return has_key(attributes, key); };
  const char* what = has("plate")  ? "it is a plate; name one of its images, plate.zarr/A/1/0 say"
                     : has("well") ? "it is a well of a plate; name one of its images"
                     : has("bioformats2raw.layout")
                         ? "it holds several images; name one of them, image.zarr/0 say"
                         : "name the image or array in it";
  fail("a Zarr group without \"multiscales\": {}", what);
}

}  // namespace

// ---- chunks ------------------------------------------------------------------------------------

ZarrChunks::ZarrChunks(fs::path folder, ZarrArray array)
    : folder_(std::move(folder)), array_(std::move(array)), chunk_bytes_(array_.chunk_bytes()) {}

ZarrChunks::Chunk ZarrChunks::find_kept(const std::vector<int64_t>& key) {
  const auto found = kept_.find(key);
  if (found == kept_.end()) return nullptr;
  uses_.splice(uses_.begin(), uses_, found->second.use);
  return found->second.chunk;
}

void ZarrChunks::keep_chunk(const std::vector<int64_t>& key, const Chunk& chunk) {
  // A column of chunks as high as a window, or a row of them: what the next window needs again.
  constexpr int64_t kMostKept = int64_t{1} << 25;
  const auto bytes = std::ssize(*chunk);
  if (bytes > kMostKept) return;
  while (kept_bytes_ + bytes > kMostKept) {
    const auto oldest = kept_.find(uses_.back());
    kept_bytes_ -= std::ssize(*oldest->second.chunk);
    kept_.erase(oldest);
    uses_.pop_back();
  }
  uses_.push_front(key);
  kept_[key] = {chunk, uses_.begin()};
  kept_bytes_ += bytes;
}

ZarrChunks::Chunk ZarrChunks::read(const std::vector<int64_t>& coordinates, bool keep) {
  if (Chunk kept = find_kept(coordinates)) return kept;
  const Chunk chunk = decode(coordinates);
  if (chunk && keep) keep_chunk(coordinates, chunk);
  return chunk;
}

ZarrChunks::Chunk ZarrChunks::decode(const std::vector<int64_t>& coordinates) {
  std::vector<int64_t> in_file = coordinates;
  for (size_t i = 0; i < array_.shards.size(); ++i) in_file[i] /= array_.shards[i];
  const std::string key = zarr_key(array_, in_file);
  const ZarrFile file(folder_ / key);
  if (!file.is_there()) return nullptr;
  try {
    Place place{0, file.bytes()};
    if (!array_.shards.empty()) {
      const auto found = find_in_shard(file.descriptor(), file.bytes(), coordinates, in_file);
      if (!found) return nullptr;
      place = *found;
    }
    const auto most = static_cast<uint64_t>(most_stored_bytes(chunk_bytes_));
    require(place.bytes <= most, "{} bytes, expected {} at most", place.bytes, most);
    auto decoded = std::make_shared<std::vector<uint8_t>>(
        decode_zarr(array_.codecs, read_bytes(file.descriptor(), place.offset, place.bytes),
                    static_cast<size_t>(chunk_bytes_)));
    if (array_.is_big_endian) {
      const auto size = static_cast<size_t>(array_.sample_bytes());
      for (size_t i = 0; i < decoded->size(); i += size)
        std::reverse(decoded->data() + i, decoded->data() + i + size);
    }
    ++decoded_;
    return decoded;
  } catch (const Error& error) {
    fail("damaged Zarr chunk '{}': {}; fetch or save it again", (folder_ / key).string(),
         error.what());
  }
}

std::optional<ZarrChunks::Place> ZarrChunks::find_in_shard(int file, uint64_t file_bytes,
                                                           const std::vector<int64_t>& coordinates,
                                                           const std::vector<int64_t>& shard) {
  constexpr size_t kEntry = 16;  // offset and size, of 8 bytes each
  int64_t count = 1, index = 0;
  for (size_t i = 0; i < shard.size(); ++i) {
    count *= array_.shards[i];
    index = index * array_.shards[i] + coordinates[i] % array_.shards[i];
  }
  std::vector<int64_t> key{-1};  // no chunk's
  key.insert(key.end(), shard.begin(), shard.end());
  Chunk places = find_kept(key);
  if (!places) {
    const size_t bytes = static_cast<size_t>(count) * kEntry;
    const uint64_t stored = bytes + 4 * array_.index_codecs.size();
    require(stored <= file_bytes, "its index takes {} bytes, it has {}", stored, file_bytes);
    places = std::make_shared<const std::vector<uint8_t>>(decode_zarr(
        array_.index_codecs,
        read_bytes(file, array_.index_at_end ? file_bytes - stored : 0, stored), bytes));
    keep_chunk(key, places);
  }
  uint64_t entry[2];
  std::memcpy(entry, places->data() + static_cast<size_t>(index) * kEntry, kEntry);
  if (entry[0] == UINT64_MAX && entry[1] == UINT64_MAX) return std::nullopt;
  require(entry[0] <= file_bytes && entry[1] <= file_bytes - entry[0],
          "its index places a chunk of {} bytes at byte {} of {}", entry[1], entry[0], file_bytes);
  return Place{entry[0], entry[1]};
}

// ---- images ------------------------------------------------------------------------------------

bool ZarrReader::recognises(const fs::path& folder) {
  std::error_code ignored;
  return std::ranges::any_of(
      std::initializer_list<const char*>{".zarray", ".zgroup", ".zattrs", "zarr.json"},
      [&](const char* name) { return fs::is_regular_file(folder / name, ignored); });
}

bool ZarrReader::has_labels(const fs::path& folder) {
  return recognises(folder) && has_key(read_attributes(folder), "image-label");
}

ZarrReader::ZarrReader(fs::path folder, int64_t max_samples)
    : folder_(std::move(folder)), max_samples_(max_samples) {
  const json attributes = read_attributes(folder_);
  if (is_array(folder_)) {
    image_.paths = {""};
    // As xarray names the axes of version 2.
    if (attributes.is_object() && attributes.contains("_ARRAY_DIMENSIONS")) {
      const json& names = attributes["_ARRAY_DIMENSIONS"];
      if (names.is_array() &&
          std::ranges::all_of(names, [](const json& name) { return name.is_string(); }))
        image_.axes = names.get<std::vector<std::string>>();
    }
  } else {
    auto image = read_zarr_multiscales(attributes);
    if (!image) refuse_group(attributes);
    image_ = std::move(*image);
  }
  choose_level(0);
}

ZarrReader::Opened ZarrReader::open(const std::string& path) const {
  const fs::path folder = path.empty() ? folder_ : folder_ / path;
  auto metadata = read_metadata(folder / "zarr.json");
  if (!metadata) metadata = read_metadata(folder / ".zarray");
  require(metadata.has_value(), "'{}' has no .zarray or zarr.json of an array", folder.string());
  ZarrArray array = read_zarr_array(*metadata);
  ZarrAxes axes = find_zarr_axes(image_.axes.empty() ? array.axes : image_.axes, array.shape);
  return {std::move(array), std::move(axes)};
}

std::vector<PyramidLevel> ZarrReader::levels() {
  std::vector<PyramidLevel> all;
  for (const std::string& path : image_.paths) {
    const Opened level = open(path);
    all.push_back({level.array.shape[level.axes.y], level.array.shape[level.axes.x]});
  }
  return all;
}

void ZarrReader::choose_level(int64_t level) {
  const std::string& path = image_.paths[static_cast<size_t>(level)];
  Opened opened = open(path);
  axes_ = std::move(opened.axes);
  chunks_.emplace(path.empty() ? folder_ : folder_ / path, std::move(opened.array));
}

void ZarrReader::choose_channel(int64_t channel) {
  const int64_t all = axes_.channel ? extent(*axes_.channel) : 1;
  require(channel >= 0 && channel < all, "--channel {}: it has {} channels (counted from 0)",
          channel, all);
  only_channel_ = channel;
}

int64_t ZarrReader::channels() const {
  const int64_t all = axes_.channel && !only_channel_ ? extent(*axes_.channel) : 1;
  require(all == 1 || all == 3,
          "it has {} channels, expected 1 (grey) or 3 (RGB); choose one of them with --channel, "
          "from 0 to {}",
          all, all - 1);
  return all;
}

int64_t ZarrReader::page_count() const {
  int64_t count = 1;
  for (const size_t axis : axes_.pages) count *= extent(axis);
  return count;
}

ImageLayout ZarrReader::layout(int64_t) {
  const ZarrArray& array = chunks_->array();
  ImageLayout layout{extent(axes_.y), extent(axes_.x), channels(), array.sample_bytes()};
  layout.chunk_height = std::min(array.chunk[axes_.y], layout.height);
  layout.chunk_width = std::min(array.chunk[axes_.x], layout.width);
  return layout;
}

Image ZarrReader::read(int64_t page, StoredValues*) {
  const ImageLayout all = layout(page);
  require_readable_size(all.height, all.width, all.channels, max_samples_);
  return read_part(page, {0, 0, all.height, all.width});
}

Image ZarrReader::read_part(int64_t page, const ImageWindow& part, StoredValues*) {
  const ImageLayout all = layout(page);
  require(0 <= part.y0 && part.y0 < part.y1 && part.y1 <= all.height && 0 <= part.x0 &&
              part.x0 < part.x1 && part.x1 <= all.width,
          "rows {} to {} and columns {} to {} do not lie in a picture of {} x {}", part.y0, part.y1,
          part.x0, part.x1, all.height, all.width);
  require_readable_size(part.y1 - part.y0, part.x1 - part.x0, all.channels, kMaxSamples);
  switch (chunks_->array().type) {
    case ZarrType::kU8:
      return read_as<uint8_t>(page, part);
    case ZarrType::kU16:
      return read_as<uint16_t>(page, part);
    case ZarrType::kU32:
      return read_as<uint32_t>(page, part);
    default:
      return read_as<float>(page, part);
  }
}

template <class T>
Image ZarrReader::read_as(int64_t page, const ImageWindow& part) {
  const ZarrArray& array = chunks_->array();
  const int64_t all_channels = channels();
  const int64_t first_channel = only_channel_.value_or(0);
  Image image{part.y1 - part.y0, part.x1 - part.x0, all_channels, {}};

  const size_t rank = array.shape.size();
  std::vector<int64_t> stride(rank, 1);  // of a chunk's samples
  for (size_t i = 1; i < rank; ++i) {
    const size_t axis = array.first_axis_fastest ? i : rank - 1 - i;
    const size_t faster = array.first_axis_fastest ? axis - 1 : axis + 1;
    stride[axis] = stride[faster] * array.chunk[faster];
  }
  std::vector<int64_t> at(rank);  // of a chunk in the grid
  int64_t page_offset = 0;        // of the page's plane in its chunk
  bool whole_planes = true;       // whether a chunk has this page's plane alone
  for (size_t i = axes_.pages.size(); i-- > 0;) {
    const size_t axis = axes_.pages[i];
    const int64_t place = page % array.shape[axis];
    page /= array.shape[axis];
    at[axis] = place / array.chunk[axis];
    page_offset += place % array.chunk[axis] * stride[axis];
    whole_planes &= array.chunk[axis] == 1;
  }

  T fill;
  std::memcpy(&fill, array.fill.data(), sizeof(T));
  std::vector<T> pixels(static_cast<size_t>(image.samples()), fill);
  const int64_t chunk_h = array.chunk[axes_.y], chunk_w = array.chunk[axes_.x];
  const int64_t chunk_c = axes_.channel ? array.chunk[*axes_.channel] : 1;
  const int64_t y_stride = stride[axes_.y], x_stride = stride[axes_.x];
  const int64_t c_stride = axes_.channel ? stride[*axes_.channel] : 0;
  for (int64_t cy = part.y0 / chunk_h; cy * chunk_h < part.y1; ++cy) {
    const int64_t y0 = std::max(part.y0, cy * chunk_h), y1 = std::min(part.y1, (cy + 1) * chunk_h);
    for (int64_t cx = part.x0 / chunk_w; cx * chunk_w < part.x1; ++cx) {
      const int64_t x0 = std::max(part.x0, cx * chunk_w),
                    x1 = std::min(part.x1, (cx + 1) * chunk_w);
      const int64_t height = std::min(chunk_h, extent(axes_.y) - cy * chunk_h),
                    width = std::min(chunk_w, extent(axes_.x) - cx * chunk_w);
      const bool is_all_read = y1 - y0 == height && x1 - x0 == width && whole_planes;
      at[axes_.y] = cy;
      at[axes_.x] = cx;
      for (int64_t c = 0; c < all_channels;) {
        const int64_t channel = first_channel + c, begin = channel % chunk_c;
        const int64_t count = std::min(chunk_c - begin, all_channels - c);
        if (axes_.channel) at[*axes_.channel] = channel / chunk_c;
        const int64_t decoded = chunks_->decoded();
        const ZarrChunks::Chunk chunk = chunks_->read(at, !is_all_read);
        samples_decoded_ += (chunks_->decoded() - decoded) * height * width * count;
        for (int64_t y = y0; chunk != nullptr && y < y1; ++y) {
          for (int64_t k = 0; k < count; ++k) {
            const T* from = reinterpret_cast<const T*>(chunk->data()) + page_offset +
                            (y - cy * chunk_h) * y_stride + (x0 - cx * chunk_w) * x_stride +
                            (begin + k) * c_stride;
            T* to =
                pixels.data() + ((y - part.y0) * image.width + x0 - part.x0) * all_channels + c + k;
            for (int64_t x = x0; x < x1; ++x, from += x_stride, to += all_channels) *to = *from;
          }
        }
        c += count;
      }
    }
  }
  image.pixels = std::move(pixels);
  return image;
}

std::vector<fs::path> zarr_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code error;
  fs::recursive_directory_iterator entry(folder, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    std::error_code ignored;
    if (entry.depth() == 0 && entry->path().filename() == "labels")
      entry.disable_recursion_pending();
    if (entry->is_regular_file(ignored)) files.push_back(entry->path());
  }
  require(!error, "cannot read the folder '{}': {}", folder.string(), error.message());
  std::ranges::sort(files);
  return files;
}

}  // namespace tessera
