// Zip archives, for what other programs keep in them. Members lie where they lie: a stored one is
// used in place in the mapped file, so that a checkpoint of 1 GB costs what is wanted of it.
//
// Read by the central directory alone, in one pass (no library gives the place of a stored member);
// zlib inflates. The reader takes every file as hostile: refused are names twice or that lead
// elsewhere ("../x", "/x"), members that overlap each other or the directory, encrypted ones,
// several disks, and what an inflated member holds beyond what it says.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace tessera {

struct ZipMember {
  std::string_view name;             // in the file's bytes
  std::span<const std::byte> bytes;  // as they lie there
  std::uint64_t size = 0;            // of the content
  std::uint32_t checksum = 0;        // CRC-32 of the content
  std::uint16_t method = 0;          // 0: stored, 8: deflated

  bool is_stored() const { return method == 0; }
};

class ZipArchive {
 public:
  // `bytes` is the whole file and must outlive the archive; `file` names it in errors. Throws Error
  // for all that is named above, and for what is no zip file.
  static ZipArchive read(std::span<const std::byte> bytes, std::string file);

  const std::vector<ZipMember>& members() const { return members_; }
  // Null where there is none.
  const ZipMember* find(std::string_view name) const;

  // A member's content, checked against its checksum: of a stored one where it lies, of a deflated
  // one in `inflated`. Throws Error for more than `limit` bytes, for another compression, and where
  // size or checksum are wrong.
  std::span<const std::byte> content(const ZipMember& member, std::size_t limit,
                                     std::string& inflated) const;

 private:
  std::string file_;
  std::vector<ZipMember> members_;  // folders left out
  std::unordered_map<std::string_view, std::size_t> by_name_;
};

}  // namespace tessera
