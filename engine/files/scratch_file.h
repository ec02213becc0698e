// What waits on disk in files without a name, which are gone with the process, however that ends.
#pragma once

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <type_traits>
#include <vector>

namespace tessera {

// Opens one in `folder`, to read and write; the caller closes it. Throws Error where none can be
// made there.
int open_scratch_file(const std::filesystem::path& folder);

// Bytes of such a file as memory. They are in the process while they are used and until they are
// released; what is released stays in the system's cache, or on disk, and comes back when it is
// touched.
class ScratchBytes {
 public:
  explicit ScratchBytes(const std::filesystem::path& folder);
  ~ScratchBytes();
  ScratchBytes(const ScratchBytes&) = delete;
  ScratchBytes& operator=(const ScratchBytes&) = delete;

  std::byte* data() const { return data_; }
  // Makes it so large, the new bytes 0. Moves data(). Throws Error where the disk is full.
  void grow(std::size_t bytes);
  void release();

 private:
  std::filesystem::path folder_;
  int file_ = -1;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A table that grows at its end: in memory, or in a scratch file where a folder is named.
template <class T>
class ScratchTable {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  ScratchTable() = default;
  explicit ScratchTable(const std::filesystem::path& folder) {
    if (!folder.empty()) file_.emplace(folder);
  }

  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return first_[i]; }
  const T& operator[](std::size_t i) const { return first_[i]; }

  // By value: it may be one of the table, which moves.
  void push_back(T value) {
    if (size_ == capacity_) reserve(std::max<std::size_t>(kLeast, 2 * capacity_));
    first_[size_++] = value;
  }
  // Of the process's memory, what a scratch file keeps.
  void release() {
    if (file_) file_->release();
  }

 private:
  static constexpr std::size_t kLeast = 256;

  void reserve(std::size_t capacity) {
    if (file_) {
      file_->grow(capacity * sizeof(T));
      first_ = reinterpret_cast<T*>(file_->data());
    } else {
      memory_.resize(capacity);
      first_ = memory_.data();
    }
    capacity_ = capacity;
  }

  std::optional<ScratchBytes> file_;
  std::vector<T> memory_;
  T* first_ = nullptr;
  std::size_t size_ = 0, capacity_ = 0;
};

}  // namespace tessera
