#include "engine/files/digest.h"

#include <xxhash.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <vector>

#include "kernels/error.h"

namespace tessera {

struct Digest::State {
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> xxh3{XXH3_createState(),
                                                                &XXH3_freeState};
};

Digest::Digest() : state_(std::make_unique<State>()) {
  if (!state_->xxh3) throw std::bad_alloc();
  XXH3_128bits_reset(state_->xxh3.get());
}

Digest::~Digest() = default;

Digest& Digest::add(std::string_view bytes) {
  XXH3_128bits_update(state_->xxh3.get(), bytes.data(), bytes.size());
  return *this;
}

Digest& Digest::add_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.is_open(), "cannot read '{}': {}", path.string(), std::strerror(errno));
  std::vector<char> piece(std::size_t{1} << 18);
  while (file) {
    file.read(piece.data(), static_cast<std::streamsize>(piece.size()));
    add({piece.data(), static_cast<std::size_t>(file.gcount())});
  }
  require(!file.bad(), "cannot read '{}': {}", path.string(), std::strerror(errno));
  return *this;
}

std::string Digest::hex() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_->xxh3.get());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

std::string digest_of(std::string_view bytes) {
  return Digest().add(bytes).hex();
}

std::string digest_of_file(const std::filesystem::path& path) {
  return Digest().add_file(path).hex();
}

}  // namespace tessera
