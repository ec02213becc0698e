// Compressions, encodings and files that are no text, as the reader of documents meets them.
#include "models/text/text_stream.h"

#include <bzlib.h>
#include <gmock/gmock.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <memory>

#include "tests/support/documents.h"

namespace tessera {
namespace {

using namespace std::literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using test::LabelAndText;
using test::pairs_of;

class TextStreams : public test::Documents {};

std::string gzip(std::string_view bytes) {
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, MAX_WBITS + 16, 8, Z_DEFAULT_STRATEGY);
  std::string packed(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string bzip2(std::string_view bytes) {
  std::string packed(bytes.size() + bytes.size() / 100 + 600, '\0');
  auto size = static_cast<unsigned>(packed.size());
  EXPECT_EQ(BZ2_bzBuffToBuffCompress(packed.data(), &size, const_cast<char*>(bytes.data()),
                                     static_cast<unsigned>(bytes.size()), 9, 0, 0),
            BZ_OK);
  packed.resize(size);
  return packed;
}

std::string xz(std::string_view bytes) {
  std::string packed(lzma_stream_buffer_bound(bytes.size()), '\0');
  size_t size = 0;
  EXPECT_EQ(lzma_easy_buffer_encode(
                6, LZMA_CHECK_CRC64, nullptr, reinterpret_cast<const std::uint8_t*>(bytes.data()),
                bytes.size(), reinterpret_cast<std::uint8_t*>(packed.data()), &size, packed.size()),
            LZMA_OK);
  packed.resize(size);
  return packed;
}

std::string zstd(std::string_view bytes) {
  const auto context =
      std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)>(ZSTD_createCCtx(), ZSTD_freeCCtx);
  ZSTD_CCtx_setParameter(context.get(), ZSTD_c_checksumFlag, 1);
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  packed.resize(
      ZSTD_compress2(context.get(), packed.data(), packed.size(), bytes.data(), bytes.size()));
  return packed;
}

using Packer = std::string (*)(std::string_view);
constexpr std::pair<const char*, Packer> kPackers[] = {
    {"gz", gzip}, {"bz2", bzip2}, {"xz", xz}, {"zst", zstd}};

// As an editor saves it, with a byte order mark.
std::string utf16(std::u16string_view text, bool big_endian) {
  std::string bytes = big_endian ? "\xFE\xFF" : "\xFF\xFE";
  for (const char16_t unit : text) {
    const char high = static_cast<char>(unit >> 8), low = static_cast<char>(unit & 0xFF);
    bytes += big_endian ? high : low;
    bytes += big_endian ? low : high;
  }
  return bytes;
}

TEST_F(TextStreams, GzipIsReadAndDamageEndsTheStream) {
  std::string lines;
  for (int i = 0; i < 20000; ++i) {
    lines += std::to_string(i) + "\ttext " + std::to_string(i * 7919 % 10007) + "\n";
  }
  const std::string path = write("a.tsv.gz", gzip(lines));
  const auto records = read_all(path);
  ASSERT_EQ(records.size(), 20000u);
  EXPECT_EQ(records[19999].label, "19999");

  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  DocumentReader reader(path, {});
  size_t good = 0;
  EXPECT_THROW(
      {
        while (reader.next()) ++good;
      },
      Error);
  EXPECT_LT(good, 20000u);
  EXPECT_FALSE(reader.next().has_value());
}

TEST_F(TextStreams, EveryCompressionIsReadInOneOrMoreMembers) {
  std::string lines;
  for (int i = 0; i < 9000; ++i)
    lines += std::to_string(i) + "\ttext " + std::to_string(i * 7919 % 10007) + "\n";
  for (const auto& [ending, pack] : kPackers) {
    const std::string name = std::string("a.tsv.") + ending;
    const auto whole = read_all(write(name, pack(lines)));
    ASSERT_EQ(whole.size(), 9000u) << ending;
    EXPECT_EQ(whole[8999].text, "text " + std::to_string(8999 * 7919 % 10007)) << ending;
    // `cat a.gz b.gz`, with padding as tapes have it; named as if it were not compressed.
    const auto both =
        read_all(write("both.tsv", pack("a\tone\nb\tt") + pack("wo\n") + std::string(8, '\0')));
    EXPECT_THAT(pairs_of(both), ElementsAre(LabelAndText("a", "one"), LabelAndText("b", "two")))
        << ending;
    EXPECT_THAT(pairs_of(read_all(write("empty.tsv", pack("")))), IsEmpty()) << ending;
  }
  EXPECT_THAT(pairs_of(read_all(write("plain.tsv.gz", "BZh\tx\n"))),
              ElementsAre(LabelAndText("BZh", "x")));
}

TEST_F(TextStreams, DamagedCompressionIsAnError) {
  std::string lines;
  for (int i = 0; i < 3000; ++i) lines += "a\t" + std::to_string(i * 7919 % 10007) + " words\n";
  for (const auto& [ending, pack] : kPackers) {
    const std::string packed = pack(lines);
    for (const size_t size : {packed.size() - 1, packed.size() / 2, size_t{11}})
      EXPECT_THAT(refusal("a.tsv", packed.substr(0, size)),
                  AllOf(HasSubstr("a.tsv: cannot be read further"), HasSubstr("incomplete")))
          << ending << size;
    EXPECT_THAT(refusal("a.tsv", packed + packed.substr(0, packed.size() / 2)),
                HasSubstr("incomplete"))
        << ending;
    EXPECT_THAT(refusal("a.tsv", packed + "there is more behind it"), HasSubstr("damaged"))
        << ending;
    std::string flipped = packed;
    flipped[flipped.size() / 2] ^= 0x10;
    EXPECT_THAT(refusal("a.tsv", flipped), HasSubstr("cannot be read further")) << ending;
    EXPECT_THAT(refusal("a.tsv", pack(packed)), HasSubstr("compressed twice")) << ending;
  }
}

TEST_F(TextStreams, Utf16And32WithAMarkAreRead) {
  for (const bool big_endian : {false, true}) {
    EXPECT_EQ(read_all(write("a.txt", utf16(u"Un \u00E9t\u00E9 \U0001F600.", big_endian)))[0].text,
              "Un \u00E9t\u00E9 \U0001F600.");
    // As Excel saves "Unicode text"; longer than what is read at once.
    std::u16string sheet;
    for (int i = 0; i < 9000; ++i) sheet += u"pos\tGut \U0001F600\r\n";
    const auto rows = read_all(write("a.tsv", utf16(sheet, big_endian)));
    ASSERT_EQ(rows.size(), 9000u);
    for (const DocumentRecord& row : rows) ASSERT_EQ(row.text, "Gut \U0001F600");
  }
  EXPECT_EQ(read_all(write("a.txt", gzip(utf16(u"zip", false))))[0].text, "zip");
  EXPECT_EQ(read_all(write("a.txt", "\xFF\xFE\0\0A\0\0\0\0\xF6\1\0"sv))[0].text, "A\U0001F600");
  EXPECT_EQ(read_all(write("a.txt", "\0\0\xFE\xFF\0\0\0A"sv))[0].text, "A");
  EXPECT_EQ(read_all(write("a.tsv", "\xEF\xBB\xBFpos\tx\n"))[0].label, "pos");
  EXPECT_EQ(read_all(write("a.txt", "\xFF\xFE"))[0].text, "");
  EXPECT_THAT(refusal("a.txt", utf16(u"odd", false) + "x"), HasSubstr("middle of a character"));
  EXPECT_THAT(refusal("a.txt", utf16(u"high", true) + "\xD8\x01"),
              HasSubstr("middle of a character"));
  // A surrogate without its other half is one invalid sequence, as in UTF-8.
  DocumentReader lone(write("a.txt", utf16(u"a lone \xDC01 one", false)), {});
  EXPECT_EQ(lone.next()->text, "a lone \xFF one");
  EXPECT_THAT(lone.notes(), ElementsAre(HasSubstr("1 byte sequences of 1 documents")));
}

TEST_F(TextStreams, FilesThatAreNoTextAreRefusedByTheirTrueName) {
  const std::pair<std::string_view, const char*> cases[] = {
      {"\x89PNG\r\n\x1A\n\0\0\0\rIHDR"sv, "a PNG image"},
      {"\xFF\xD8\xFF\xE0\0\x10JFIF"sv, "a JPEG image"},
      {"GIF89a"sv, "a GIF image"},
      {"II*\0\x08\0\0\0"sv, "a TIFF image"},
      {"PK\3\4\x14\0"sv, ".docx"},
      {"%PDF-1.7\n"sv, "pdftotext"},
      {"PAR1\x15\x04"sv, "a Parquet file"},
      {"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1\0"sv, ".xls"},
      {"{\\rtf1\\ansi Hello}"sv, "an RTF document"},
      {"7z\xBC\xAF\x27\x1C\0"sv, "a 7z archive"},
      {"SQLite format 3\0"sv, "an SQLite database"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:07\nsize 5\n"sv, "git lfs pull"},
      {"pos\tgood\0film\n"sv, "a NUL at byte 8"},
      {"I\0 \0w\0a\0s\0"sv, "UTF-16 without a byte order mark"}};
  for (const auto& [bytes, reason] : cases) {
    for (const char* name : {"a.txt", "a.tsv", "a.csv", "a.jsonl", "a.json", "a"})
      EXPECT_THAT(refusal(name, bytes), AllOf(HasSubstr(name), HasSubstr(reason)));
    EXPECT_THAT(refusal("a.txt", gzip(bytes)), HasSubstr(reason));
  }
  std::string tar(600, 'x');
  tar.replace(257, 5, "ustar");
  EXPECT_THAT(refusal("a.txt", gzip(tar)), HasSubstr("a tar archive"));
  EXPECT_EQ(read_all(write("a.txt", "GIF and PDF are formats, II and MM orders."))[0].error, "");
  // Far behind the beginning it is one record's fault.
  std::string lines;
  for (int i = 0; i < 3000; ++i) lines += "a\tsome words\n";
  const auto records = read_all(write("a.tsv", lines + "a\tx\0y\na\tz\n"s));
  ASSERT_EQ(records.size(), 3002u);
  EXPECT_THAT(records[3000].error, AllOf(HasSubstr("line 3001"), HasSubstr("a NUL")));
  EXPECT_EQ(records[3001].text, "z");
}

TEST_F(TextStreams, OtherEncodingsAreRefusedAndStraysCounted) {
  // "Это хороший фильм." in windows-1251.
  const std::string cyrillic = "\xDD\xF2\xEE \xF5\xEE\xF0\xEE\xF8\xE8\xE9 \xF4\xE8\xEB\xFC\xEC.";
  EXPECT_THAT(read_all(write("a.txt", cyrillic))[0].error,
              AllOf(HasSubstr("a.txt: it is not UTF-8"), HasSubstr("iconv")));
  DocumentReader reader(write("a.tsv", "x\tun caf\xE9 noir\nx\tbon\ny\t" + cyrillic + "\n"), {});
  EXPECT_EQ(reader.next()->error, "");
  EXPECT_EQ(reader.next()->error, "");
  EXPECT_THAT(reader.next()->error, HasSubstr("a.tsv, line 3: it is not UTF-8"));
  EXPECT_THAT(reader.notes(), ElementsAre(AllOf(HasSubstr("1 byte sequences of 1 documents"),
                                                HasSubstr("line 1"))));
}

TEST_F(TextStreams, LinesOfOldMacintoshFilesEndAtCarriageReturns) {
  EXPECT_THAT(pairs_of(read_all(write("a.tsv", "neg\tDull.\rpos\tGood.\r"))),
              ElementsAre(LabelAndText("neg", "Dull."), LabelAndText("pos", "Good.")));
  EXPECT_THAT(pairs_of(read_all(write("a.tsv", "neg\tA\rB.\n"))),
              ElementsAre(LabelAndText("neg", "A\rB.")));
  const std::string first = "neg\tA\r" + std::string(100000, 'x');
  EXPECT_EQ(read_all(write("a.tsv", first + "\npos\tB\n")).size(), 2u);
}

TEST_F(TextStreams, WhatCannotBeOpenedIsAnError) {
  EXPECT_THROW(DocumentReader(folder_ / "absent.txt", {}), Error);
  EXPECT_THROW(DocumentReader(folder_, {}), Error);
}

}  // namespace
}  // namespace tessera
