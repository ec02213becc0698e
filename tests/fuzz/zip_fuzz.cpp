// Any bytes at all are a zip archive or an Error; its members lie inside, none over another.
#include <string>

#include "models/import/zip.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace tessera;
  try {
    const ZipArchive archive = ZipArchive::read(std::as_bytes(std::span(bytes, size)), "fuzz");
    std::size_t held = 0;
    for (const ZipMember& member : archive.members()) {
      fuzz::check(archive.find(member.name) == &member);
      held += member.bytes.size();
      try {
        constexpr std::size_t kLimit = std::size_t{64} << 20;
        std::string inflated;
        fuzz::check(archive.content(member, kLimit, inflated).size() == member.size);
      } catch (const Error& error) {
        fuzz::check_error(error);
      }
    }
    fuzz::check(held <= size);
  } catch (const Error& error) {
    fuzz::check_error(error);
  }
  return 0;
}
