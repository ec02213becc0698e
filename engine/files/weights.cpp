#include "engine/files/weights.h"

#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <utility>

#include "kernels/error.h"

namespace tessera {
namespace {

constexpr std::size_t kNamesInError = 10;
constexpr std::size_t kCloseNames = 3;

// Levenshtein's distance: insertions, deletions and replacements that turn `a` into `b`.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, diagonal + 1, row[j] + 1});
    }
  }
  return row.back();
}

// The few of `names` nearest to `wanted`, quoted.
std::vector<std::string> close_names(std::string_view wanted,
                                     const std::vector<std::string>& names) {
  constexpr std::size_t kMaxCompared = 10'000;  // a hostile file may hold millions
  constexpr std::size_t kMaxBytes = 200;
  std::vector<std::pair<std::size_t, std::string_view>> ranked;
  for (std::string_view name : std::span(names).first(std::min(names.size(), kMaxCompared)))
    ranked.emplace_back(edit_distance(wanted.substr(0, kMaxBytes), name.substr(0, kMaxBytes)),
                        name);
  std::sort(ranked.begin(), ranked.end());
  std::vector<std::string> nearest;
  for (const auto& [distance, name] : ranked) {
    if (nearest.size() == kCloseNames) break;
    nearest.push_back(in_quotes(name));
  }
  return nearest;
}

// Closes a file when it goes out of scope.
struct Descriptor {
  int number;
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
};

}  // namespace

Weights::Weights(std::span<const std::byte> bytes, std::string file)
    : file_(std::move(file)), bytes_(bytes) {
  SafetensorsHeader header = parse_safetensors(bytes_, file_);
  for (auto& [name, entry] : header.tensors)
    items_.emplace_hint(items_.end(), name, Item{entry, false, nullptr});
  metadata_ = std::move(header.metadata);
  total_bytes_ = header.data_bytes;
}

Weights Weights::open(const std::filesystem::path& path) {
  const std::string file = path.string();
  // Not to wait for a writer where the path is a pipe.
  const Descriptor descriptor{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat status {};
  require(descriptor.number >= 0 && ::fstat(descriptor.number, &status) == 0,
          "cannot open '{}': {}; expected a safetensors file", file, std::strerror(errno));
  require(S_ISREG(status.st_mode),
          "cannot open '{}': it is not a regular file; expected a safetensors file", file);
  require(status.st_size > 0, "'{}' is empty; expected a safetensors file", file);
  const auto size = static_cast<std::size_t>(status.st_size);
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor.number, 0);
  require(address != MAP_FAILED, "cannot map the {} bytes of '{}': {}", size, file,
          std::strerror(errno));
  std::shared_ptr<std::byte> map(static_cast<std::byte*>(address),
                                 [size](std::byte* pages) { ::munmap(pages, size); });
  Weights weights({map.get(), size}, file);
  weights.map_ = std::move(map);
  return weights;
}

Weights Weights::from_bytes(std::span<const std::byte> bytes, std::string name) {
  return Weights(bytes, std::move(name));
}

TensorView Weights::take(std::string_view name, const Shape& shape) {
  const auto item = items_.find(name);
  if (item != items_.end()) {
    const TensorType& type = item->second.entry.type;
    require(type.shape == shape,
            "{}: tensor {} has shape {}; the model's configuration expects {}: are weights and "
            "configuration of one model?",
            file_, in_quotes(name), type.shape.to_string(), shape.to_string());
  }
  return take_any_shape(name);
}

TensorView Weights::take_any_shape(std::string_view name) {
  const auto found = items_.find(name);
  if (found == items_.end())
    fail("{}: no tensor {} among its {}; close to it: {}", file_, in_quotes(name), items_.size(),
         fmt::join(close_names(name, names()), ", "));
  Item& item = found->second;
  item.used = true;
  const TensorType& type = item.entry.type;
  // The view's pointer is mutable for the sake of outputs; the pages themselves are read-only.
  auto* pointer = const_cast<std::byte*>(bytes_.data() + item.entry.begin);
  if (reinterpret_cast<std::uintptr_t>(pointer) % size_of(type.dtype) == 0) return {pointer, type};
  if (!item.aligned_copy) {
    item.aligned_copy = std::make_shared_for_overwrite<std::byte[]>(type.bytes());
    std::copy_n(pointer, type.bytes(), item.aligned_copy.get());
  }
  return {item.aligned_copy.get(), type};
}

bool Weights::contains(std::string_view name) const {
  return items_.contains(name);
}

std::vector<std::string> Weights::names() const {
  std::vector<std::string> list;
  list.reserve(items_.size());
  for (const auto& [name, item] : items_) list.push_back(name);
  return list;
}

void Weights::check_all_used() const {
  std::vector<std::string> listed;
  std::size_t unused = 0;
  for (const auto& [name, item] : items_) {
    if (item.used) continue;
    if (++unused <= kNamesInError) listed.push_back(in_quotes(name));
  }
  if (unused > listed.size()) listed.push_back("...");
  require(unused == 0,
          "{}: {} of {} tensors are no part of the model: {}; is the configuration of this model?",
          file_, unused, items_.size(), fmt::join(listed, ", "));
}

std::optional<std::string> Weights::metadata(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::nullopt;
  return found->second;
}

void Weights::release_pages() const {
  // Advice: where the system does not take it, the pages merely stay.
  if (map_) ::madvise(map_.get(), bytes_.size(), MADV_DONTNEED);
}

}  // namespace tessera
