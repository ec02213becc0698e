// The tensors of a model file, used where they lie: a read-only memory map of a safetensors file
// (engine/files/safetensors.h).
//
//   Weights weights = Weights::open("unet.safetensors");
//   TensorView kernel = weights.take("down0/conv1/weight", {64, 1, 3, 3});
//   weights.check_all_used();
//
// Views live as long as the Weights that gave them (moving it keeps them) and must not be written
// to. A tensor that the file holds unaligned, which the format allows, is copied when first taken.
// The file must not be changed in place meanwhile; replacing it, as AtomicFile does, is safe.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/files/mapped_file.h"
#include "engine/files/safetensors.h"
#include "kernels/tensor.h"

namespace tessera {

class Weights {
 public:
  // Throws Error if the file cannot be read or is not a well-formed safetensors file.
  static Weights open(const std::filesystem::path& path);
  // Reads a whole file that lies in memory, which must outlive the result. `name` is for errors.
  static Weights from_bytes(std::span<const std::byte> bytes, std::string name = "memory");
  // Tensors in memory, in `owners`' if those are given.
  static Weights from_views(const std::map<std::string, TensorView>& tensors, std::string name,
                            std::vector<std::shared_ptr<const void>> owners = {});

  // The tensor, marked as used; it may be taken again. Throws Error where it is missing (listing
  // names close to it) or has another shape.
  TensorView take(std::string_view name, const Shape& shape);
  TensorView take_any_shape(std::string_view name);

  bool contains(std::string_view name) const;
  std::vector<std::string> names() const;  // sorted
  // Throws Error listing the tensors that were never taken.
  void check_all_used() const;

  std::optional<std::string> metadata(const std::string& key) const;
  const std::string& file() const { return file_; }         // path, or name, for errors
  std::size_t total_bytes() const { return total_bytes_; }  // of all tensors

  // Gives the mapped pages back to the system, for example once weights are packed: they stop
  // counting as memory in use, and are read from the file again when touched.
  void release_pages() const;

 private:
  struct Item {
    TensorType type;
    const std::byte* bytes = nullptr;
    bool used = false;
    std::shared_ptr<std::byte[]> aligned_copy = nullptr;
  };

  explicit Weights(std::string file) : file_(std::move(file)) {}
  void read(std::span<const std::byte> bytes);

  std::string file_;
  MappedFile map_;  // empty where the bytes belong to the caller
  std::vector<std::shared_ptr<const void>> owners_;
  std::map<std::string, Item, std::less<>> items_;
  std::map<std::string, std::string> metadata_;
  std::size_t total_bytes_ = 0;
};

}  // namespace tessera
