// Files that are no texts, known by their first bytes, as models/text/text_stream.h refuses them.
#include "kernels/error.h"
#include "models/text/text_stream.h"

namespace tessera {
namespace {

using namespace std::literals;

struct TextFault {
  std::string_view magic;
  std::string_view name;
  std::string_view remedy;
  size_t offset = 0;
};

constexpr std::string_view kSegment = "give texts, or images to 'tessera segment'";
constexpr std::string_view kUnpack = "unpack it and give the texts in it";
constexpr std::string_view kExport = "save it as plain text, CSV or JSON";
constexpr std::string_view kTwicePacked = "it is compressed twice; unpack it once";

constexpr TextFault kFaults[] = {
    {"version https://git-lfs.github.com/spec/", "a pointer of git-lfs, not the file itself",
     "fetch that with 'git lfs pull'"},
    {"\x89PNG\r\n"sv, "a PNG image", kSegment},
    {"\xFF\xD8\xFF"sv, "a JPEG image", kSegment},
    {"GIF8"sv, "a GIF image", kSegment},
    {"II*\0"sv, "a TIFF image", kSegment},
    {"MM\0*"sv, "a TIFF image", kSegment},
    {"PK\3\4"sv, "a zip archive (as .docx, .xlsx, .odt and .npz are)",
     "unpack it, or save the document as plain text or CSV"},
    {"PK\5\6"sv, "an empty zip archive", "give texts"},
    {"7z\xBC\xAF\x27\x1C"sv, "a 7z archive", kUnpack},
    {"Rar!\x1A\7"sv, "a RAR archive", kUnpack},
    {"ustar"sv, "a tar archive", kUnpack, 257},
    {"\x1F\x8B"sv, "gzip data", kTwicePacked},
    {"BZh91AY&SY"sv, "bzip2 data", kTwicePacked},
    {"\xFD\x37zXZ\0"sv, "xz data", kTwicePacked},
    {"\x28\xB5\x2F\xFD"sv, "zstd data", kTwicePacked},
    {"\x1F\x9D"sv, "data of compress (.Z)", "unpack it with 'uncompress'"},
    {"\x04\x22\x4D\x18"sv, "lz4 data", "unpack it with 'lz4 -d'"},
    {"%PDF-"sv, "a PDF document", "save it as plain text, with 'pdftotext' say"},
    {"{\\rtf"sv, "an RTF document", kExport},
    {"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1"sv, "an Office document (.doc, .xls)", kExport},
    {"PAR1"sv, "a Parquet file", kExport},
    {"ARROW1"sv, "an Arrow file", kExport},
    {"SQLite format 3\0"sv, "an SQLite database", kExport},
    {"\x89HDF\r\n"sv, "an HDF5 file", kExport},
    {"\x93NUMPY"sv, "a numpy array", kExport},
    {"\x7F"
     "ELF"sv,
     "a program", "give texts"}};

}  // namespace

std::string fault_of_beginning(std::string_view bytes) {
  for (const TextFault& kind : kFaults) {
    if (bytes.size() > kind.offset && bytes.substr(kind.offset).starts_with(kind.magic))
      return fmt::format("expected a text, found {}; {}", kind.name, kind.remedy);
  }
  const size_t nul = bytes.find('\0');
  if (nul == std::string_view::npos) return {};
  return fmt::format(
      "expected a text, found a NUL at byte {}: the file is binary, or UTF-16 without a byte order "
      "mark; give a text, or convert it with 'iconv -f UTF-16LE -t UTF-8'",
      nul);
}

}  // namespace tessera
