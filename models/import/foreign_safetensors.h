// Safetensors files of other programs: names and shapes alone, of every element type that a
// StoredTensor has; and the folders that Hugging Face's tools write around them.
#pragma once

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>

#include "engine/files/mapped_file.h"
#include "models/import/contents.h"

namespace tessera {

// Whether the file begins as a safetensors file does.
bool may_be_safetensors(std::span<const std::byte> bytes);

// Whether a safetensors file is one of Tessera's own. Throws Error where its header is none.
bool is_own_safetensors(std::span<const std::byte> bytes, const std::string& file);

// `name` is the file's path. Texts of the header's "__metadata__" are said["metadata"]. Throws
// Error for a header that is malformed, and for tensors that do not lie in the file.
Contents read_safetensors(const MappedFile& file, const std::string& name);

// The config.json beside a file or in a folder as said["config"], where there is one that is JSON.
void add_config(const std::filesystem::path& folder, Contents& contents);

// A folder with the tensors in several files: {"weight_map": {tensor: file}} in
// model.safetensors.index.json. Files must lie in the folder. Throws Error as read_safetensors.
Contents read_sharded_safetensors(const std::filesystem::path& index);

// The one file of weights in a folder: model.safetensors, its index, pytorch_model.bin, or the only
// file of a kind that models have. Throws Error where there is none, or several.
std::filesystem::path weights_in(const std::filesystem::path& folder);

}  // namespace tessera
