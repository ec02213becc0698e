#include "models/import/foreign_safetensors.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <utility>

#include "engine/files/json_text.h"
#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/model_file.h"

namespace tessera {
namespace {

using nlohmann::json;
using StoredType = StoredTensor::Type;

constexpr std::size_t kLengthBytes = 8;                              // of the header's length
constexpr std::uint64_t kMostHeaderBytes = std::uint64_t{32} << 20;  // of other programs' files
constexpr const char* kMetadata = "__metadata__";

constexpr std::array<std::pair<std::string_view, StoredType>, 10> kForeignTypes{
    {{"BOOL", StoredType::kBool},
     {"U8", StoredType::kU8},
     {"I8", StoredType::kI8},
     {"I16", StoredType::kI16},
     {"I32", StoredType::kI32},
     {"I64", StoredType::kI64},
     {"F16", StoredType::kF16},
     {"BF16", StoredType::kBF16},
     {"F32", StoredType::kF32},
     {"F64", StoredType::kF64}}};

struct ForeignHeader {
  json object;
  std::span<const std::byte> data;
};

ForeignHeader read_header(std::span<const std::byte> bytes, const std::string& file) {
  std::uint64_t length = 0;
  require(bytes.size() >= kLengthBytes, "{}: {} bytes are too few for a safetensors file", file,
          bytes.size());
  std::memcpy(&length, bytes.data(), kLengthBytes);
  require(length <= kMostHeaderBytes && length <= bytes.size() - kLengthBytes,
          "{}: a safetensors header of {} bytes is announced, but {} follow, and at most {} are "
          "read; the file is cut short, get it again",
          file, length, bytes.size() - kLengthBytes, kMostHeaderBytes);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes,
                              static_cast<std::size_t>(length));
  constexpr int kMostDepth = 3;  // the header, a tensor, its shape
  const auto shallow = [&](int depth, json::parse_event_t, json&) {
    require(depth <= kMostDepth, "its values lie more than {} deep", kMostDepth);
    return true;
  };
  try {
    ForeignHeader header{parse_json(text, shallow),
                         bytes.subspan(kLengthBytes + static_cast<std::size_t>(length))};
    require(header.object.is_object(), "it is no JSON object");
    return header;
  } catch (const Error& error) {
    fail("{}: its safetensors header cannot be read: {}; export the file again", file,
         error.what());
  }
}

std::vector<std::int64_t> numbers_of(const json& entry, const char* field, const std::string& name,
                                     const std::string& file) {
  std::vector<std::int64_t> numbers;
  const auto found = entry.find(field);
  bool valid = found != entry.end() && found->is_array();
  for (std::size_t i = 0; valid && i < found->size(); ++i) {
    valid = (*found)[i].is_number_unsigned() &&
            std::in_range<std::int64_t>((*found)[i].get<std::uint64_t>());
    if (valid) numbers.push_back((*found)[i].get<std::int64_t>());
  }
  require(valid, "{}: tensor {} has no '{}' of whole numbers; export the file again", file,
          in_quotes(name), field);
  return numbers;
}

StoredTensor tensor_of(const std::string& name, const json& entry, const ForeignHeader& header,
                       const std::string& file) {
  StoredTensor tensor;
  tensor.name = name;
  const auto dtype = entry.find("dtype");
  const std::string type =
      dtype != entry.end() && dtype->is_string() ? dtype->get<std::string>() : "";
  const auto known = std::find_if(kForeignTypes.begin(), kForeignTypes.end(),
                                  [&](const auto& pair) { return pair.first == type; });
  require(known != kForeignTypes.end(),
          "{}: tensor {} has element type {}; expected F64, F32, F16, BF16, BOOL or whole numbers: "
          "convert it before exporting",
          file, in_quotes(name), in_quotes(type));
  tensor.type = known->second;
  tensor.shape = numbers_of(entry, "shape", name, file);
  const std::vector<std::int64_t> offsets = numbers_of(entry, "data_offsets", name, file);
  require(offsets.size() == 2 && offsets[0] <= offsets[1] &&
              std::cmp_less_equal(offsets[1], header.data.size()),
          "{}: tensor {} does not lie in the {} bytes that follow the header; the file is cut "
          "short, get it again",
          file, in_quotes(name), header.data.size());
  tensor.bytes = header.data.subspan(static_cast<std::size_t>(offsets[0]),
                                     static_cast<std::size_t>(offsets[1] - offsets[0]));
  check_stored(tensor);
  require(std::cmp_equal(tensor.elements() * static_cast<std::int64_t>(size_of(tensor.type)),
                         tensor.bytes.size()),
          "{}: tensor {} is {} {}, but spans {} bytes; export the file again", file,
          in_quotes(name), name_of(tensor.type), shape_text(tensor.shape), tensor.bytes.size());
  return tensor;
}

}  // namespace

bool may_be_safetensors(std::span<const std::byte> bytes) {
  return bytes.size() > kLengthBytes && bytes[kLengthBytes] == std::byte{'{'};
}

bool is_own_safetensors(std::span<const std::byte> bytes, const std::string& file) {
  const ForeignHeader header = read_header(bytes, file);
  const auto metadata = header.object.find(kMetadata);
  return metadata != header.object.end() && metadata->is_object() && metadata->contains(kModelKey);
}

Contents read_safetensors(const MappedFile& file, const std::string& name) {
  const ForeignHeader header = read_header(file.bytes(), name);
  Contents contents;
  contents.file = name;
  contents.format = "safetensors";
  contents.said["metadata"] = json::object();
  for (const auto& [tensor, entry] : header.object.items()) {
    if (tensor != kMetadata)
      contents.tensors.push_back(tensor_of(tensor, entry, header, name));
    else if (entry.is_object())
      contents.said["metadata"] = entry;
  }
  contents.owners.push_back(file.owner());
  return contents;
}

void add_config(const std::filesystem::path& folder, Contents& contents) {
  const std::filesystem::path path = folder / "config.json";
  std::error_code missing;
  constexpr std::uintmax_t kMostBytes = 1 << 20;
  if (!std::filesystem::is_regular_file(path, missing) ||
      std::filesystem::file_size(path, missing) > kMostBytes || missing)
    return;
  const MappedFile file = MappedFile::open(path, "a configuration");
  try {
    contents.said["config"] =
        parse_json({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
  } catch (const Error& error) {
    contents.notes.push_back(
        fmt::format("{} is no JSON and not used: {}", path.string(), error.what()));
  }
}

Contents read_sharded_safetensors(const std::filesystem::path& index) {
  const MappedFile file = MappedFile::open(index, "an index of safetensors files");
  const json object =
      parse_json({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()});
  require(object.is_object() && object.contains("weight_map") && object["weight_map"].is_object(),
          "{}: expected {{\"weight_map\": {{tensor: file}}}}", index.string());
  struct Shard {
    Contents contents;
    std::map<std::string_view, const StoredTensor*> by_name;
  };
  std::map<std::string, Shard> shards;
  Contents contents;
  contents.file = index.string();
  contents.format = "safetensors";
  for (const auto& [name, shard] : object["weight_map"].items()) {
    require(shard.is_string(), "{}: the file of tensor {} is no text", index.string(),
            in_quotes(name));
    const std::string& part = shard.get_ref<const std::string&>();
    require(part.find('/') == part.npos && part.find('\\') == part.npos && part != "..",
            "{}: the file {} of tensor {} leads out of the folder; expected a name", index.string(),
            in_quotes(part), in_quotes(name));
    require(part.ends_with(".safetensors"),
            "{}: the tensor {} lies in {}, expected safetensors; load the model and save it with "
            "save_pretrained(folder, safe_serialization=True)",
            index.string(), in_quotes(name), in_quotes(part));
    auto at = shards.find(part);
    if (at == shards.end()) {
      const std::filesystem::path path = index.parent_path() / part;
      at = shards.try_emplace(part).first;
      Shard& read = at->second;
      read.contents = read_safetensors(MappedFile::open(path, "a safetensors file"), path.string());
      for (const StoredTensor& tensor : read.contents.tensors)
        read.by_name.emplace(tensor.name, &tensor);
    }
    const auto tensor = at->second.by_name.find(name);
    require(tensor != at->second.by_name.end(), "{}: {} has no tensor {}; get the files again",
            index.string(), in_quotes(part), in_quotes(name));
    contents.tensors.push_back(*tensor->second);
  }
  for (auto& [part, shard] : shards)
    contents.owners.insert(contents.owners.end(), shard.contents.owners.begin(),
                           shard.contents.owners.end());
  return contents;
}

std::filesystem::path weights_in(const std::filesystem::path& folder) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                           "pytorch_model.bin.index.json"}) {
    std::error_code missing;
    if (std::filesystem::exists(folder / name, missing)) return folder / name;
  }
  constexpr std::array<std::string_view, 10> kEndings{
      ".safetensors", ".pt", ".pth", ".ckpt", ".bin", ".onnx", ".hdf5", ".h5", ".keras", ".zip"};
  std::vector<std::filesystem::path> found;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (std::find(kEndings.begin(), kEndings.end(), entry.path().extension().string()) !=
        kEndings.end())
      found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  std::vector<std::string> names;
  for (const auto& path : found) names.push_back(in_quotes(path.filename().string()));
  require(found.size() == 1, "{}: the folder has {} files of weights{}{}; name the one to read",
          folder.string(), found.size(), found.empty() ? "" : ": ", fmt::join(names, ", "));
  return found[0];
}

}  // namespace tessera
