// What a foreign file holds, whoever made it: tensors where their bytes lie, and what the file says
// besides. Readers of containers make it (one file each in this room), families and graph readers
// turn it into a network (import.h). Nothing of a file is ever executed.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/train/float_tensor.h"

namespace tessera {

// A tensor of a foreign file, not read yet.
struct StoredTensor {
  enum class Type : std::uint8_t { kBool, kU8, kI8, kI16, kI32, kI64, kF16, kBF16, kF32, kF64 };

  std::string name;
  Type type = Type::kF32;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;  // in elements, none negative; empty: dense, row-major
  std::span<const std::byte> bytes;   // from the first element on

  std::int64_t elements() const;
  bool is_float() const { return type >= Type::kF16; }
};
std::size_t size_of(StoredTensor::Type type);                 // bytes of one element
std::string_view name_of(StoredTensor::Type type);            // "f32", "i64", ...
std::string shape_text(std::span<const std::int64_t> shape);  // "(64, 3, 3, 3)"

// Throws Error unless no size or stride is negative, no product overflows and every element lies
// within `bytes`, none twice. Readers call it on each tensor that they make.
void check_stored(const StoredTensor& tensor);

// The values as f32, in the order of `axes` (of the result: its axis i is the tensor's axes[i]);
// empty: as they are. Other types are converted; f64 is rounded.
FloatTensor read_floats(const StoredTensor& tensor, std::span<const int> axes = {});

// The values of a whole-number or bool tensor. Throws Error for a tensor of floats.
std::vector<std::int64_t> read_integers(const StoredTensor& tensor);

struct Contents {
  std::string file;                   // its path, for errors
  std::string format;                 // "PyTorch", "Keras (HDF5)", "safetensors", ...
  std::vector<StoredTensor> tensors;  // in the file's order, no name twice
  // What the file says besides, by who says it; families look up what they know:
  //   "modules"  PyTorch: {"module path": version} of state_dict's _metadata
  //   "objects"  PyTorch: whole modules, {"module path": {"class": .., "attributes": {..}}}
  //   "entries"  PyTorch: plain values beside the tensors (numbers, texts, lists, dicts)
  //   "config"   Hugging Face's config.json; Keras' model_config; nnU-Net's plans
  nlohmann::json said = nlohmann::json::object();
  std::vector<std::string> notes;  // what the reader passed over, for the user to know
  std::vector<std::shared_ptr<const void>> owners;  // of the bytes

  // Null where there is none.
  const StoredTensor* find(std::string_view name) const;
};

}  // namespace tessera
