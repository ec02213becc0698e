// Digests of content: whether something is what it was. 128 bits of XXH3 (libxxhash), fast enough
// to be asked of every byte that is read; no guard against somebody who wants two to be equal.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

namespace tessera {

// Of a sequence that comes in pieces; how it was cut does not matter.
class Digest {
 public:
  Digest();
  ~Digest();

  Digest& add(std::string_view bytes);
  template <class T>
  requires std::is_trivially_copyable_v<T> Digest& add(std::span<const T> values) {
    return add({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  }
  // All bytes of a file. Throws Error where it cannot be read to its end.
  Digest& add_file(const std::filesystem::path& path);

  std::string hex() const;  // 32 digits

 private:
  struct State;
  std::unique_ptr<State> state_;
};

std::string digest_of(std::string_view bytes);
std::string digest_of_file(const std::filesystem::path& path);

}  // namespace tessera
