#include "engine/files/digest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <fstream>

#include "kernels/error.h"

namespace tessera {
namespace {

// Of the xxhsum program: printf '' | xxhsum -H2, printf 'tessera' | xxhsum -H2.
TEST(DigestTest, IsXxh3) {
  EXPECT_EQ(digest_of(""), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(digest_of("tessera"), "157800c744fd9a1904c1a9b49517cd58");
}

TEST(DigestTest, DoesNotDependOnThePieces) {
  std::string text(600000, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 3);
  Digest pieces;
  for (std::size_t begin = 0, size = 1; begin < text.size(); begin += size++)
    pieces.add(std::string_view(text).substr(begin, size));
  EXPECT_EQ(pieces.hex(), digest_of(text));
  const auto path = std::filesystem::temp_directory_path() / fmt::format("digest_{}", ::getpid());
  std::ofstream(path, std::ios::binary) << text;
  EXPECT_EQ(digest_of_file(path), digest_of(text));
  std::filesystem::remove(path);
  text.back() ^= 1;
  EXPECT_NE(pieces.hex(), digest_of(text));
  const std::array<std::uint32_t, 2> numbers{0x34333231, 0x38373635};
  EXPECT_EQ(Digest().add(std::span<const std::uint32_t>(numbers)).hex(), digest_of("12345678"));
}

TEST(DigestTest, SaysWhichFileCannotBeRead) {
  EXPECT_THROW(digest_of_file("/nowhere/at/all"), Error);
  EXPECT_THROW(digest_of_file("/"), Error);  // a folder opens, and cannot be read
}

}  // namespace
}  // namespace tessera
