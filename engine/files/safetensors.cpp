#include "engine/files/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "engine/files/atomic_file.h"
#include "kernels/error.h"

namespace tessera {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are used where they lie");

constexpr std::size_t kLengthBytes = 8;               // of the u64 before the header
constexpr std::size_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kDataAlignment = 8;             // of the first tensor, in files we write
constexpr std::string_view kMetadataKey = "__metadata__";

constexpr std::array<std::pair<std::string_view, DType>, 6> kDTypes{{{"F32", DType::kF32},
                                                                     {"BF16", DType::kBF16},
                                                                     {"F16", DType::kF16},
                                                                     {"I32", DType::kI32},
                                                                     {"I64", DType::kI64},
                                                                     {"U8", DType::kU8}}};

// What the JSON says of one tensor, each field once.
struct RawEntry {
  std::optional<DType> dtype;
  std::optional<std::vector<std::uint64_t>> shape;
  std::optional<std::vector<std::uint64_t>> offsets;
};

// Walks the header's JSON as it is read. A DOM would keep the last of two equal keys; here each
// second one is an error, and so is any value at a place where the format has none, which also
// bounds the depth.
class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(std::string_view file) : file_(file) {}

  std::map<std::string, RawEntry> tensors;
  std::map<std::string, std::string> metadata;

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) return go(Place::kTop);
    if (place_ != Place::kTop) unexpected("an object");
    if (name_ == kMetadataKey) return go(Place::kMetadata);
    return go(Place::kTensor);
  }

  bool end_object() override {
    if (place_ == Place::kTop) return go(Place::kEnd);
    if (place_ == Place::kTensor) {
      const RawEntry& entry = tensors[name_];
      for (const auto& [present, field] : {std::pair{entry.dtype.has_value(), "dtype"},
                                           std::pair{entry.shape.has_value(), "shape"},
                                           std::pair{entry.offsets.has_value(), "data_offsets"}})
        require(present, "{}: tensor {} has no '{}' in its header; export the file again", file_,
                in_quotes(name_), field);
    }
    return go(Place::kTop);
  }

  bool key(string_t& key) override {
    if (place_ == Place::kTop) {
      name_ = key;
      const bool first = key == kMetadataKey ? !std::exchange(metadata_seen_, true)
                                             : tensors.try_emplace(key).second;
      require(first, "{}: {} is in the header twice; export the file again", file_, in_quotes(key));
    } else if (place_ == Place::kMetadata) {
      require(metadata.try_emplace(key).second,
              "{}: metadata key {} is in the header twice; export the file again", file_,
              in_quotes(key));
      field_ = key;
    } else {
      const RawEntry& entry = tensors[name_];
      const bool first = key == "dtype"          ? !entry.dtype
                         : key == "shape"        ? !entry.shape
                         : key == "data_offsets" ? !entry.offsets
                                                 : false;
      require(first,
              "{}: tensor {} has an unknown or repeated key {} in its header; expected 'dtype', "
              "'shape' and 'data_offsets', once each",
              file_, in_quotes(name_), in_quotes(key));
      field_ = key;
    }
    return true;
  }

  bool string(string_t& text) override {
    if (place_ == Place::kMetadata) {
      metadata[field_] = std::move(text);
      return true;
    }
    if (place_ != Place::kTensor || field_ != "dtype") unexpected("a text");
    const auto known = std::find_if(kDTypes.begin(), kDTypes.end(),
                                    [&](const auto& pair) { return pair.first == text; });
    require(known != kDTypes.end(),
            "{}: tensor {} has element type {}; expected F32, BF16, F16, I32, I64 or U8: convert "
            "it before exporting",
            file_, in_quotes(name_), in_quotes(text));
    tensors[name_].dtype = known->second;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ != Place::kTensor || field_ == "dtype") unexpected("a list");
    numbers() = std::vector<std::uint64_t>();
    return go(Place::kList);
  }

  bool end_array() override { return go(Place::kTensor); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::kList) unexpected(std::to_string(value));
    auto& list = *numbers();
    if (field_ == "shape")
      require(list.size() < Shape::kMaxRank, "{}: tensor {} has more than the {} axes supported",
              file_, in_quotes(name_), Shape::kMaxRank);
    else
      require(list.size() < 2, "{}: tensor {} has more than two data_offsets", file_,
              in_quotes(name_));
    list.push_back(value);
    return true;
  }

  bool number_integer(number_integer_t value) override { unexpected(std::to_string(value)); }
  bool number_float(number_float_t, const string_t&) override {
    unexpected("a fraction or too large a number");
  }
  bool boolean(bool) override { unexpected("true or false"); }
  bool null() override { unexpected("null"); }
  bool binary(binary_t&) override { unexpected("binary data"); }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    fail("{}: its header is not valid JSON, at byte {}; export the file again", file_, position);
  }

 private:
  // Where in the header the next token lies.
  enum class Place { kStart, kTop, kMetadata, kTensor, kList, kEnd };

  bool go(Place place) {
    place_ = place;
    return true;
  }

  std::optional<std::vector<std::uint64_t>>& numbers() {
    RawEntry& entry = tensors[name_];
    return field_ == "shape" ? entry.shape : entry.offsets;
  }

  [[noreturn]] void unexpected(std::string_view what) const {
    if (place_ == Place::kTensor || place_ == Place::kList)
      fail(
          "{}: tensor {}: {} found in '{}'; expected dtype as text, shape and data_offsets as "
          "lists of whole numbers from 0 up",
          file_, in_quotes(name_), what, field_);
    if (place_ == Place::kMetadata)
      fail("{}: metadata {}: {} found; expected a text", file_, in_quotes(field_), what);
    fail("{}: {} found for {} in the header; expected an object with dtype, shape and data_offsets",
         file_, what, in_quotes(name_));
  }

  std::string_view file_;
  Place place_ = Place::kStart;
  std::string name_;   // the tensor being read
  std::string field_;  // and which of its fields, or which metadata key
  bool metadata_seen_ = false;
};

// The type that an entry declares, and its bytes, multiplied with care.
std::pair<TensorType, std::size_t> checked_type(const std::string& name, const RawEntry& entry,
                                                std::string_view file) {
  const auto unit = static_cast<std::int64_t>(size_of(*entry.dtype));
  std::int64_t product = unit;  // extents of 0 count as 1: products of some axes must fit as well
  bool empty = false;
  std::vector<std::int64_t> dims;
  for (const std::uint64_t extent : *entry.shape) {
    empty = empty || extent == 0;
    require(
        std::in_range<std::int64_t>(extent) &&
            !__builtin_mul_overflow(
                product, std::max<std::int64_t>(1, static_cast<std::int64_t>(extent)), &product),
        "{}: tensor {} claims a shape of more than 2^63 bytes; the header lies, get the file "
        "again",
        file, in_quotes(name));
    dims.push_back(static_cast<std::int64_t>(extent));
  }
  return {{*entry.dtype, Shape(dims)}, empty ? 0 : static_cast<std::size_t>(product)};
}

}  // namespace

std::string in_quotes(std::string_view name) {
  constexpr std::size_t kMaxBytes = 100;
  std::size_t length = std::min(name.size(), kMaxBytes);
  // Not to cut through a UTF-8 character: back to where the byte behind the cut begins one.
  while (length > 0 && length < name.size() && (name[length] & 0xc0) == 0x80) --length;
  std::string text = "'";
  for (const char c : name.substr(0, length))
    text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return text + (length < name.size() ? "...'" : "'");
}

SafetensorsHeader parse_safetensors(std::span<const std::byte> bytes, std::string_view file) {
  require(bytes.size() >= kLengthBytes,
          "{}: {} bytes are too few for a safetensors file; is it the right file, whole?", file,
          bytes.size());
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  require(length <= kMaxHeaderBytes,
          "{}: its first 8 bytes announce a header of {} bytes; a safetensors header has at most "
          "{}: is it a safetensors file?",
          file, length, kMaxHeaderBytes);
  require(length <= bytes.size() - kLengthBytes,
          "{}: a header of {} bytes is announced but only {} follow; the file is cut short, get it "
          "again",
          file, length, bytes.size() - kLengthBytes);
  std::string_view json(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  // The parser takes a NUL for the end and would not see what lies behind it.
  require(json.starts_with('{') && json.find('\0') == json.npos,
          "{}: its header is not a JSON object; is it a safetensors file?", file);
  json = json.substr(0, json.find_last_not_of(' ') + 1);

  HeaderReader reader(file);
  nlohmann::json::sax_parse(json.begin(), json.end(), &reader);

  struct Span {
    std::uint64_t begin, end;
    std::string_view name;
    bool operator<(const Span& other) const {
      return std::pair(begin, end) < std::pair(other.begin, other.end);
    }
  };
  SafetensorsHeader header;
  header.metadata = std::move(reader.metadata);
  std::vector<Span> spans;
  const std::size_t data_begin = kLengthBytes + length;
  header.data_bytes = bytes.size() - data_begin;
  for (const auto& [name, entry] : reader.tensors) {
    require(entry.offsets->size() == 2, "{}: tensor {} has {} data_offsets; expected two", file,
            in_quotes(name), entry.offsets->size());
    const std::uint64_t begin = entry.offsets->front(), end = entry.offsets->back();
    require(begin <= end && end <= header.data_bytes,
            "{}: tensor {} lies at bytes {} to {} of {}; the file is cut short or lies, get it "
            "again",
            file, in_quotes(name), begin, end, header.data_bytes);
    const auto [type, needed] = checked_type(name, entry, file);
    require(needed == end - begin, "{}: tensor {} is {}, which is {} bytes, but it spans {}", file,
            in_quotes(name), type, needed, end - begin);
    header.tensors.emplace(name, SafetensorsEntry{type, data_begin + begin});
    spans.push_back({begin, end, name});
  }
  std::sort(spans.begin(), spans.end());
  std::uint64_t expected = 0;
  for (const Span& span : spans) {
    require(span.begin == expected,
            "{}: tensor {} begins at byte {} where {} was expected: tensors {}; export it again",
            file, in_quotes(span.name), span.begin, expected,
            span.begin < expected ? "overlap" : "leave a hole");
    expected = span.end;
  }
  require(expected == header.data_bytes,
          "{}: {} bytes follow the last tensor, which ends at {}; export the file again", file,
          header.data_bytes - expected, expected);
  return header;
}

void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const std::pair<const std::string, TensorView>*> order;
  for (const auto& item : tensors) {
    require(item.first != kMetadataKey, "{}: a tensor cannot be named '{}'", path.string(),
            kMetadataKey);
    order.push_back(&item);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return size_of(a->second.type.dtype) > size_of(b->second.type.dtype);
  });

  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadataKey)] = metadata;
  std::size_t offset = 0;
  for (const auto* item : order) {
    const TensorType& type = item->second.type;
    const auto dtype = std::find_if(kDTypes.begin(), kDTypes.end(),
                                    [&](const auto& pair) { return pair.second == type.dtype; });
    header[item->first] = {
        {"dtype", dtype->first},
        {"shape", std::vector(type.shape.dims().begin(), type.shape.dims().end())},
        {"data_offsets", {offset, offset + type.bytes()}}};
    offset += type.bytes();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::exception& error) {
    fail("{}: a name or metadata text is not UTF-8: {}", path.string(), error.what());
  }
  text.append((kDataAlignment - text.size() % kDataAlignment) % kDataAlignment, ' ');
  require(text.size() <= kMaxHeaderBytes,
          "{}: its header would have {} bytes; the format allows {}: shorten the metadata",
          path.string(), text.size(), kMaxHeaderBytes);

  AtomicFile file(path, Durability::kPower);  // models and checkpoints: hours of work
  std::ostream& out = file.stream();
  const std::uint64_t length = text.size();
  out.write(reinterpret_cast<const char*>(&length), kLengthBytes);
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
  for (const auto* item : order)
    out.write(item->second.as<const char>(),
              static_cast<std::streamsize>(item->second.type.bytes()));
  file.commit();
}

}  // namespace tessera
