#include "engine/files/weights.h"

#include <fmt/ranges.h>

#include <algorithm>
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

}  // namespace

void Weights::read(std::span<const std::byte> bytes) {
  SafetensorsHeader header = parse_safetensors(bytes, file_);
  for (auto& [name, entry] : header.tensors)
    items_.emplace_hint(items_.end(), name, Item{entry.type, bytes.data() + entry.begin});
  metadata_ = std::move(header.metadata);
  total_bytes_ = header.data_bytes;
}

Weights Weights::open(const std::filesystem::path& path) {
  Weights weights(path.string());
  weights.map_ = MappedFile::open(path, "a safetensors file");
  weights.read(weights.map_.bytes());
  return weights;
}

Weights Weights::from_bytes(std::span<const std::byte> bytes, std::string name) {
  Weights weights(std::move(name));
  weights.read(bytes);
  return weights;
}

Weights Weights::from_views(const std::map<std::string, TensorView>& tensors, std::string name,
                            std::vector<std::shared_ptr<const void>> owners) {
  Weights weights(std::move(name));
  weights.owners_ = std::move(owners);
  for (const auto& [tensor, view] : tensors) {
    weights.items_.emplace_hint(weights.items_.end(), tensor,
                                Item{view.type, view.as<std::byte>()});
    weights.total_bytes_ += view.type.bytes();
  }
  return weights;
}

TensorView Weights::take(std::string_view name, const Shape& shape) {
  const auto item = items_.find(name);
  if (item != items_.end()) {
    const TensorType& type = item->second.type;
    require(type.shape == shape,
            "{}: tensor {} has shape {}; the model's configuration expects {}: are weights and "
            "configuration of one model?",
            file_, in_quotes(name), type.shape, shape);
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
  const TensorType& type = item.type;
  // The view's pointer is mutable for the sake of outputs; the pages themselves are read-only.
  auto* pointer = const_cast<std::byte*>(item.bytes);
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
  map_.release_pages();
}

}  // namespace tessera
