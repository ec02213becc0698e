// The safetensors format: a u64 little-endian header length, a JSON header, then the tensors'
// bytes.
//
//   {"__metadata__": {"key": "text"}, "name": {"dtype": "F32", "shape": [2, 3],
//                                              "data_offsets": [0, 24]}, ...}
//
// The reader takes every file as hostile and accepts only what the format allows: one header of at
// most 100 MB, no duplicate or unknown keys, spans that follow each other from 0 to the last byte
// of the file without hole or overlap, and as long as shape and dtype say.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "kernels/tensor.h"

namespace tessera {

// One tensor of a file: its type, and where its bytes begin.
struct SafetensorsEntry {
  TensorType type;
  std::size_t begin = 0;  // from the first byte of the file
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;
  std::size_t data_bytes = 0;  // of all tensors
};

// Reads the header of a whole file in memory. `file` names it in errors. Throws Error for anything
// malformed, for a tensor of more than Shape::kMaxRank axes and for a dtype outside DType.
SafetensorsHeader parse_safetensors(std::span<const std::byte> bytes, std::string_view file);

// Writes a whole file, atomically. Widest elements come first, so that every tensor lies aligned,
// then the order is by name: equal content gives equal bytes. Throws Error where the file cannot
// be written or where a text is not UTF-8.
void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, TensorView>& tensors,
                       const std::map<std::string, std::string>& metadata);

// `name` in quotes, fit for an error text: without control characters, cut after 100 bytes.
std::string in_quotes(std::string_view name);

}  // namespace tessera
