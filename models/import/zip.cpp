#include "models/import/zip.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/files/mapped_pages.h"
#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

// APPNOTE.TXT of PKWARE, sections 4.3.6 to 4.3.16 and 4.5.3.
constexpr std::uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50;
constexpr std::uint32_t kEnd = 0x06054b50, kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50;
constexpr std::size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22;
constexpr std::size_t kEnd64Bytes = 56, kLocatorBytes = 20;
constexpr std::size_t kMaxComment = 0xffff;
constexpr std::uint16_t kZip64Field = 1;
constexpr std::uint32_t kIn64 = 0xffffffff;  // "the number stands in the zip64 field"
constexpr std::uint64_t kMaxMembers = 1 << 20;

// The bytes of an archive, and its name for errors.
struct ZipBytes {
  std::span<const std::byte> bytes;
  const std::string& file;

  template <class... Args>
  [[noreturn]] void fault(fmt::format_string<Args...> text, Args&&... args) const {
    fail("{}: this zip file cannot be read: {}; get it again", file,
         fmt::format(text, std::forward<Args>(args)...));
  }
  std::span<const std::byte> at(std::uint64_t begin, std::uint64_t size,
                                std::string_view what) const {
    if (begin > bytes.size() || size > bytes.size() - begin)
      fault("{} lies at {} to {} of {} bytes", what, begin, begin + size, bytes.size());
    return bytes.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(size));
  }
  template <class Number>
  Number number(std::uint64_t begin) const {
    Number value;
    std::memcpy(&value, at(begin, sizeof value, "a field").data(), sizeof value);
    return value;
  }
  std::string_view text(std::uint64_t begin, std::uint64_t size) const {
    const auto part = at(begin, size, "a text");
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
};

struct Directory {
  std::uint64_t begin = 0, size = 0, members = 0;
};

Directory find_directory(const ZipBytes& zip) {
  const std::size_t all = zip.bytes.size();
  if (all < kEndBytes) zip.fault("it has {} bytes", all);
  std::uint64_t end = all - kEndBytes;
  const std::uint64_t least = end - std::min<std::uint64_t>(end, kMaxComment);
  while (zip.number<std::uint32_t>(end) != kEnd ||
         end + kEndBytes + zip.number<std::uint16_t>(end + 20) != all) {
    if (end == least) zip.fault("it has no directory at its end, so it was cut");
    --end;
  }
  Directory directory{zip.number<std::uint32_t>(end + 16), zip.number<std::uint32_t>(end + 12),
                      zip.number<std::uint16_t>(end + 10)};
  std::uint64_t disks = zip.number<std::uint16_t>(end + 4), behind = end;
  if (end >= kLocatorBytes && zip.number<std::uint32_t>(end - kLocatorBytes) == kEnd64Locator) {
    const auto at = zip.number<std::uint64_t>(end - kLocatorBytes + 8);
    zip.at(at, kEnd64Bytes, "its zip64 directory's end");
    if (zip.number<std::uint32_t>(at) != kEnd64) zip.fault("its zip64 directory has no end");
    directory = {zip.number<std::uint64_t>(at + 48), zip.number<std::uint64_t>(at + 40),
                 zip.number<std::uint64_t>(at + 32)};
    disks = zip.number<std::uint32_t>(at + 16);
    behind = at;
  }
  if (disks != 0) zip.fault("it is one of several parts");
  zip.at(directory.begin, directory.size, "its directory");
  if (directory.begin + directory.size > behind) zip.fault("its directory overlaps its end");
  if (directory.members > kMaxMembers)
    zip.fault("it has {} members, at most {} are taken", directory.members, kMaxMembers);
  return directory;
}

void check_name(const ZipBytes& zip, std::string_view name) {
  bool leads_elsewhere = name.empty() || name.front() == '/' || name.find('\\') != name.npos ||
                         name.find('\0') != name.npos || (name.size() > 1 && name[1] == ':');
  for (std::size_t begin = 0; begin < name.size() && !leads_elsewhere;) {
    const std::size_t end = std::min(name.find('/', begin), name.size());
    leads_elsewhere = name.substr(begin, end - begin) == "..";
    begin = end + 1;
  }
  if (leads_elsewhere)
    zip.fault("its member {} has a name that leads out of it; expected names inside of it",
              in_quotes(name));
}

// The 64-bit numbers of a member whose 32-bit fields refer to them, in this order.
void read_zip64(const ZipBytes& zip, std::uint64_t begin, std::uint64_t size,
                std::initializer_list<std::uint64_t*> numbers) {
  for (std::uint64_t at = begin; at + 4 <= begin + size;) {
    const auto id = zip.number<std::uint16_t>(at);
    const std::uint64_t length = zip.number<std::uint16_t>(at + 2);
    at += 4;
    if (id == kZip64Field) {
      std::uint64_t from = at;
      for (std::uint64_t* number : numbers) {
        if (*number != kIn64) continue;
        if (from + 8 > std::min(at + length, begin + size)) zip.fault("a zip64 field is cut");
        *number = zip.number<std::uint64_t>(from);
        from += 8;
      }
      return;
    }
    at += length;
  }
}

}  // namespace

ZipArchive ZipArchive::read(std::span<const std::byte> bytes, std::string file) {
  ZipArchive archive;
  archive.file_ = std::move(file);
  const ZipBytes zip{bytes, archive.file_};
  const Directory directory = find_directory(zip);
  const std::uint64_t end = directory.begin + directory.size;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> spans;  // of members, headers included
  std::uint64_t at = directory.begin;
  for (std::uint64_t i = 0; i < directory.members; ++i) {
    if (at + kCentralBytes > end || zip.number<std::uint32_t>(at) != kCentralHeader)
      zip.fault("its directory names {} members and holds {}", directory.members, i);
    const auto flags = zip.number<std::uint16_t>(at + 8);
    const auto name_size = zip.number<std::uint16_t>(at + 28);
    const auto extra_size = zip.number<std::uint16_t>(at + 30);
    std::uint64_t packed = zip.number<std::uint32_t>(at + 20);
    std::uint64_t begin = zip.number<std::uint32_t>(at + 42);
    ZipMember member;
    member.method = zip.number<std::uint16_t>(at + 10);
    member.checksum = zip.number<std::uint32_t>(at + 16);
    member.size = zip.number<std::uint32_t>(at + 24);
    member.name = zip.text(at + kCentralBytes, name_size);
    read_zip64(zip, at + kCentralBytes + name_size, extra_size, {&member.size, &packed, &begin});
    at += kCentralBytes + name_size + extra_size + zip.number<std::uint16_t>(at + 32);
    if (at > end) zip.fault("its directory is cut");

    check_name(zip, member.name);
    const std::string quoted = in_quotes(member.name);
    if ((flags & 1) != 0) zip.fault("its member {} is encrypted", quoted);
    zip.at(begin, kLocalBytes, fmt::format("the member {}", quoted));
    if (zip.number<std::uint32_t>(begin) != kLocalHeader)
      zip.fault("its member {} does not lie where the directory says", quoted);
    // The sizes of the local header may be missing (a data descriptor follows the content); its
    // name and fields end where the content begins.
    const auto local_name = zip.number<std::uint16_t>(begin + 26);
    const std::uint64_t data =
        begin + kLocalBytes + local_name + zip.number<std::uint16_t>(begin + 28);
    if (zip.text(begin + kLocalBytes, local_name) != member.name)
      zip.fault("its member {} has another name where it lies", quoted);
    member.bytes = zip.at(data, packed, fmt::format("the member {}", quoted));
    if (member.is_stored() && packed != member.size)
      zip.fault("its member {} is stored as {} bytes and said to hold {}", quoted, packed,
                member.size);
    spans.emplace_back(begin, data + packed);
    if (member.name.ends_with('/')) continue;
    if (!archive.by_name_.emplace(member.name, archive.members_.size()).second)
      zip.fault("its member {} is there twice", quoted);
    archive.members_.push_back(member);
  }
  std::sort(spans.begin(), spans.end());
  for (std::size_t i = 0; i < spans.size(); ++i) {
    const std::uint64_t next = i + 1 < spans.size() ? spans[i + 1].first : directory.begin;
    if (spans[i].second > next) zip.fault("its members overlap, at byte {}", next);
  }
  return archive;
}

const ZipMember* ZipArchive::find(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &members_[found->second];
}

std::span<const std::byte> ZipArchive::content(const ZipMember& member, std::size_t limit,
                                               std::string& inflated) const {
  const ZipBytes zip{member.bytes, file_};
  const std::string quoted = in_quotes(member.name);
  if (member.size > limit)
    zip.fault("its member {} holds {} bytes, at most {} are taken", quoted, member.size, limit);
  std::span<const std::byte> content = member.bytes;
  if (!member.is_stored()) {
    if (member.method != Z_DEFLATED)
      zip.fault("its member {} is compressed by method {}, expected none or deflate", quoted,
                member.method);
    // Asked for one byte more than it should hold, so that more is noticed; a directory that lies
    // about the size of little data does not cost memory.
    constexpr std::size_t kMostPerByte = 1032;  // what deflate makes of a byte, at most
    if (member.size / kMostPerByte > member.bytes.size())
      zip.fault("its member {} is {} bytes, which cannot hold {}", quoted, member.bytes.size(),
                member.size);
    if (member.bytes.size() > std::numeric_limits<uInt>::max() ||
        member.size >= std::numeric_limits<uInt>::max())
      zip.fault("its member {} is too large to inflate", quoted);
    inflated.assign(static_cast<std::size_t>(member.size) + 1, '\0');
    z_stream stream{};
    constexpr int kRawDeflate = -MAX_WBITS;
    require(inflateInit2(&stream, kRawDeflate) == Z_OK, "{}: zlib cannot start", file_);
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(member.bytes.data()));
    stream.avail_in = static_cast<uInt>(member.bytes.size());
    stream.next_out = reinterpret_cast<Bytef*>(inflated.data());
    stream.avail_out = static_cast<uInt>(inflated.size());
    const int result = inflate(&stream, Z_FINISH);
    const std::size_t made = inflated.size() - stream.avail_out;
    inflateEnd(&stream);
    if (result != Z_STREAM_END || made != member.size)
      zip.fault("its member {} does not inflate to the {} bytes that are said", quoted,
                member.size);
    inflated.resize(made);
    content = std::as_bytes(std::span(inflated));
  }
  if (crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size()) != member.checksum)
    zip.fault("the content of its member {} has another checksum than is said", quoted);
  release_pages_of(content);  // who converts it comes along piece by piece
  return content;
}

}  // namespace tessera
