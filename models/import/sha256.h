// SHA-256 of a file's content, which packages name for what belongs to them.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace tessera {

std::string sha256_of(std::span<const std::byte> bytes);  // 64 digits

}  // namespace tessera
