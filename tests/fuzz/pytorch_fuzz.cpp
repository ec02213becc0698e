// Checkpoints of PyTorch from the container to the network: zip archives, pickles in a row, and
// bare pickles that are put into an archive here, so that they may change their length.
#include <zlib.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "models/import/pytorch.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace tessera;

std::uint32_t checksum_of(std::string_view content) {
  return static_cast<std::uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size()));
}

// Stored members, as the formats' description has them (models/import/zip.cpp).
class ZipWriter {
 public:
  void add(const std::string& name, std::string_view content) {
    const std::uint32_t begin = static_cast<std::uint32_t>(file_.size());
    const std::string sizes = number<std::uint32_t>(checksum_of(content)) +
                              number<std::uint32_t>(content.size()) +
                              number<std::uint32_t>(content.size());
    const std::string common = std::string(8, '\0') + sizes + number<std::uint16_t>(name.size());
    file_ += "PK\3\4" + number<std::uint16_t>(20) + common + number<std::uint16_t>(0) + name;
    file_ += content;
    directory_ += "PK\1\2" + number<std::uint32_t>(20) + common + std::string(12, '\0') +
                  number<std::uint32_t>(begin) + name;
    ++members_;
  }
  std::string finish() const {
    return file_ + directory_ + "PK\5\6" + std::string(4, '\0') + number<std::uint16_t>(members_) +
           number<std::uint16_t>(members_) + number<std::uint32_t>(directory_.size()) +
           number<std::uint32_t>(file_.size()) + number<std::uint16_t>(0);
  }

 private:
  template <class Number>
  static std::string number(std::size_t value) {
    const Number narrow = static_cast<Number>(value);
    return {reinterpret_cast<const char*>(&narrow), sizeof narrow};
  }

  std::string file_, directory_;
  std::size_t members_ = 0;
};

std::string archive_of(std::string_view pickle) {
  constexpr int kStorages = 48;
  static const std::string storage(8 << 10, '\1');
  ZipWriter zip;
  zip.add("fuzz/data.pkl", pickle);
  for (int i = 0; i < kStorages; ++i) zip.add("fuzz/data/" + std::to_string(i), storage);
  return zip.finish();
}

// Of an archive whose members changed, the checksums that they have now.
void mend_checksums(std::string& file) {
  const ZipArchive archive = ZipArchive::read(std::as_bytes(std::span(file)), "fuzz");
  for (const ZipMember& member : archive.members()) {
    if (!member.is_stored()) continue;
    const std::uint32_t checksum =
        checksum_of({reinterpret_cast<const char*>(member.bytes.data()), member.bytes.size()});
    constexpr std::ptrdiff_t kChecksumBeforeName = 30;
    std::memcpy(const_cast<char*>(member.name.data()) - kChecksumBeforeName, &checksum,
                sizeof checksum);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  try {
    std::string file(reinterpret_cast<const char*>(bytes), size);
    const std::span<const std::byte> given = std::as_bytes(std::span(bytes, size));
    const bool in_a_row = is_pytorch_pickles(given);
    if (file.starts_with("PK")) {
      mend_checksums(file);
    } else if (!in_a_row) {
      file = archive_of(file);
    }
    if (file.empty()) return 0;
    const fuzz::MemoryFile memory(std::as_bytes(std::span(file)));
    const MappedFile map = memory.map();
    Contents contents;
    if (in_a_row) {
      contents = read_pytorch_pickles(map, "fuzz", "");
    } else {
      const ZipArchive archive = ZipArchive::read(map.bytes(), "fuzz");
      if (!is_pytorch_zip(archive)) return 0;
      contents = read_pytorch_zip(map, archive, "fuzz", "");
    }
    fuzz::use(contents);
    fuzz::use(match_family(contents, {}));
  } catch (const Error& error) {
    fuzz::check_error(error);
  }
  return 0;
}
