#include "models/documents.h"

#include <bzlib.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

#include "kernels/error.h"
#include "tests/support/error.h"

namespace tessera {
namespace {

using namespace std::literals;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

using LabelAndText = std::pair<std::string, std::string>;

std::vector<LabelAndText> pairs_of(const std::vector<DocumentRecord>& records) {
  std::vector<LabelAndText> pairs;
  for (const DocumentRecord& record : records)
    pairs.emplace_back(record.label.value_or("-"), record.text + record.error);
  return pairs;
}

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

class Documents : public testing::Test {
 protected:
  void SetUp() override {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    folder_ = std::filesystem::temp_directory_path() /
              ("tessera_documents_" + std::to_string(getpid()) + "_" + test->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string write(const std::string& name, std::string_view bytes) {
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<long>(bytes.size()));
    return path;
  }

  static std::vector<DocumentRecord> read_all(const std::string& path, DocumentOptions options) {
    DocumentReader reader(path, std::move(options));
    std::vector<DocumentRecord> records;
    while (std::optional<DocumentRecord> record = reader.next()) {
      records.push_back(std::move(*record));
    }
    EXPECT_FALSE(reader.next().has_value());
    return records;
  }

  static std::vector<DocumentRecord> read_all(const std::string& path) {
    return read_all(path, DocumentOptions{});
  }

  // What keeps the file from being opened.
  std::string refusal(const std::string& name, std::string_view bytes,
                      const DocumentOptions& options = {}) {
    const std::string path = write(name, bytes);
    return test::error_of([&] { read_all(path, options); });
  }

  std::filesystem::path folder_;
};

bool holds(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Documents, FormatFollowsTheEndingInWhateverCase) {
  EXPECT_EQ(document_format_of("a/b.tsv"), DocumentFormat::kTsv);
  EXPECT_EQ(document_format_of("B.TSV.GZ"), DocumentFormat::kTsv);
  EXPECT_EQ(document_format_of("b.tab"), DocumentFormat::kTsv);
  EXPECT_EQ(document_format_of("b.Csv.xz"), DocumentFormat::kCsv);
  EXPECT_EQ(document_format_of("b.jsonl"), DocumentFormat::kJsonl);
  EXPECT_EQ(document_format_of("b.ndjson.zst"), DocumentFormat::kJsonl);
  EXPECT_EQ(document_format_of("b.JSON.bz2"), DocumentFormat::kJson);
  EXPECT_EQ(document_format_of("b.txt"), DocumentFormat::kText);
  for (const char* name : {"-", "b", "b.gz", "tsv", "b.tsv.7z", "a.tsv/b", ".gz", ""})
    EXPECT_EQ(document_format_of(name), std::nullopt) << name;
  EXPECT_TRUE(is_document_name("in/B.CSV.zstd"));
  EXPECT_FALSE(is_document_name("in/b.png"));
}

TEST_F(Documents, FormatFollowsTheContentWhereTheNameSaysNothing) {
  const auto format = [&](const char* name, std::string_view bytes, DocumentOptions options = {}) {
    return DocumentReader(write(name, bytes), options).format();
  };
  EXPECT_EQ(format("a", " {\"text\": \"x\"}\n{\"text\": \"y\"}\n"), DocumentFormat::kJsonl);
  EXPECT_EQ(format("a", "{\n \"text\": \"x\"\n}\n"), DocumentFormat::kJson);
  EXPECT_EQ(format("a.dat", "\n[ {\"text\": \"x\"}]"), DocumentFormat::kJson);
  EXPECT_EQ(format("a", "[1] He said {so}."), DocumentFormat::kText);
  EXPECT_EQ(format("a", "{so} he said."), DocumentFormat::kText);
  EXPECT_EQ(format("a", ""), DocumentFormat::kText);
  EXPECT_EQ(format("a.json", "{\"text\": \"x\"}\nbad\n"), DocumentFormat::kJsonl);
  EXPECT_EQ(format("a.jsonl", "[{\"text\": \"x\"}]"), DocumentFormat::kJson);
  EXPECT_EQ(format("a.txt", "{\"text\": \"x\"}"), DocumentFormat::kText);
  EXPECT_EQ(format("a.tsv", "{\"text\": \"x\"}", {.format = DocumentFormat::kJsonl}),
            DocumentFormat::kJsonl);
}

TEST_F(Documents, PlainTextIsOneDocument) {
  const auto records = read_all(write("a.txt", "\xEF\xBB\xBFOne\n\ntwo\r\n"));
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].text, "One\n\ntwo\r\n");
  EXPECT_FALSE(records[0].label.has_value());
  const auto empty = read_all(write("b.txt", ""));
  ASSERT_EQ(empty.size(), 1u);
  EXPECT_EQ(empty[0].text + empty[0].error, "");
}

TEST_F(Documents, TsvIsLabelTabText) {
  const auto records =
      read_all(write("a.tsv", "pos\tGood.\r\n\nneg\tBad\tor so.\nnothing\npos\tx"));
  ASSERT_EQ(records.size(), 4u);
  EXPECT_EQ(records[0].label, "pos");
  EXPECT_EQ(records[0].text, "Good.");
  EXPECT_EQ(records[1].text, "Bad\tor so.");
  EXPECT_EQ(records[1].line, 3u);
  EXPECT_TRUE(holds(records[2].error, "a.tsv, line 4: expected label<TAB>text"))
      << records[2].error;
  EXPECT_EQ(records[3].text, "x");
  EXPECT_EQ(records[3].error, "");
}

TEST_F(Documents, TsvColumnsCanBeChosen) {
  DocumentOptions options;
  options.format = DocumentFormat::kTsv;
  options.text_column = 2;
  options.label_column = 0;
  options.skip_header = true;
  const std::string path = write("a.tsv", "label\tid\ttext\tmore\nA\t1\tone\tx\nB\t2\nC\t3\tthree");
  const auto records = read_all(path, options);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].text, "one");
  EXPECT_EQ(records[0].label, "A");
  EXPECT_TRUE(holds(records[1].error, "line 3: expected a column 2 (from 0), found 2 columns"))
      << records[1].error;
  EXPECT_EQ(records[2].text, "three");

  options.label_column.reset();
  EXPECT_FALSE(read_all(path, options)[0].label.has_value());
  options.label_column = 2;
  EXPECT_THROW(DocumentReader(path, options), Error);
  options.text_column.reset();
  EXPECT_THROW(DocumentReader(path, options), Error);
}

TEST_F(Documents, JsonLinesGoOnAfterBadRecords) {
  const auto records = read_all(write("a.jsonl",
                                      "{\"text\": \"A\\u00e9\\n\", \"label\": \"x\"}\n"
                                      "{\"text\": \n"
                                      "{\"text\": 3}\n"
                                      "{\"body\": \"no\"}\n"
                                      "[1]\n"
                                      "{\"text\": \"\xFF\"}\n"
                                      "{\"text\": \"b\", \"label\": []}\n"
                                      "\n"
                                      "{\"text\": \"c\", \"label\": 4}\n"
                                      "{\"text\": \"d\", \"label\": null}"));
  ASSERT_EQ(records.size(), 9u);
  EXPECT_EQ(records[0].text, "A\u00E9\n");
  EXPECT_EQ(records[0].label, "x");
  EXPECT_TRUE(holds(records[1].error, "line 2: expected one JSON object")) << records[1].error;
  EXPECT_TRUE(holds(records[2].error, "found a JSON number")) << records[2].error;
  EXPECT_TRUE(holds(records[3].error, "no field \"text\"")) << records[3].error;
  EXPECT_TRUE(holds(records[4].error, "found a JSON array")) << records[4].error;
  EXPECT_TRUE(holds(records[5].error, "line 6")) << records[5].error;
  EXPECT_TRUE(holds(records[6].error, "\"label\"")) << records[6].error;
  EXPECT_EQ(records[7].label, "4");
  EXPECT_EQ(records[7].line, 9u);
  EXPECT_EQ(records[8].text, "d");
  EXPECT_FALSE(records[8].label.has_value());
}

TEST_F(Documents, JsonFieldsCanBeChosen) {
  DocumentOptions options;
  options.format = DocumentFormat::kJsonl;
  options.text_field = "body";
  options.label_field = "class";
  const auto records = read_all(write("a.jsonl", R"({"body": "B", "class": true})"), options);
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].text, "B");
  EXPECT_EQ(records[0].label, "true");
}

TEST_F(Documents, DeeplyNestedJsonIsOnlyABadRecord) {
  const std::string deep(1'000'000, '[');
  const auto records = read_all(write("a.jsonl", deep + "\n{\"text\": \"b\"}"));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_NE(records[0].error, "");
  EXPECT_EQ(records[1].text, "b");
}

TEST_F(Documents, GzipIsReadAndDamageEndsTheStream) {
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

TEST_F(Documents, EveryCompressionIsReadInOneOrMoreMembers) {
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

TEST_F(Documents, DamagedCompressionIsAnError) {
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

TEST_F(Documents, Utf16And32WithAMarkAreRead) {
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

TEST_F(Documents, FilesThatAreNoTextAreRefusedByTheirTrueName) {
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

TEST_F(Documents, OtherEncodingsAreRefusedAndStraysCounted) {
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

// What Python 3.11's csv.reader gives for the same bytes, opened with newline="".
TEST_F(Documents, CsvIsReadAsPythonsModuleReadsIt) {
  const auto records = read_all(write("a.csv",
                                      "label,text\r\n"
                                      "pos,\"A good film, warm and slow.\"\r\n"
                                      "\r\n"
                                      "neg,\"A \"\"comedy\"\" that is not.\nNot once.\"\r\n"
                                      "\"pos\",He said \"hi\" twice\r\n"
                                      "neg,\r\n"
                                      "neg,\"\"\r\n"
                                      "pos,\"\"\"\"\r\n"
                                      "pos,\"a\r\nb\n\nc,\"\r\n"
                                      "neg, \"space before\"\n"
                                      "neg,last"));
  EXPECT_THAT(pairs_of(records),
              ElementsAre(LabelAndText("pos", "A good film, warm and slow."),
                          LabelAndText("neg", "A \"comedy\" that is not.\nNot once."),
                          LabelAndText("pos", "He said \"hi\" twice"), LabelAndText("neg", ""),
                          LabelAndText("neg", ""), LabelAndText("pos", "\""),
                          LabelAndText("pos", "a\r\nb\n\nc,"),
                          LabelAndText("neg", " \"space before\""), LabelAndText("neg", "last")));
  EXPECT_EQ(records[0].line, 2u);
  EXPECT_EQ(records[1].line, 4u);
  EXPECT_EQ(records[2].line, 6u);
  EXPECT_EQ(records[6].line, 10u);
  EXPECT_EQ(records[7].line, 14u);
}

TEST_F(Documents, CsvColumnsAreThoseThatTheFirstLineNames) {
  const std::string path =
      write("a.csv", "id,Text,stars,Label\n1,\"one, two\",5,x\n2,three,4,y\n3\n");
  const auto records = read_all(path);
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].text, "one, two");
  EXPECT_EQ(records[0].label, "x");
  EXPECT_THAT(records[2].error, HasSubstr("line 4: expected a column 1 (from 0), found 1 columns"));
  EXPECT_EQ(read_all(path, {.label_field = "STARS"})[1].label, "4");
  EXPECT_EQ(read_all(path, {.label_field = "none"})[1].label, std::nullopt);
  EXPECT_EQ(read_all(path, {.text_column = 3, .skip_header = true})[0].text, "x");
  EXPECT_THAT(test::error_of([&] { read_all(path, {.text_field = "body"}); }),
              AllOf(HasSubstr("no column is named \"body\""), HasSubstr("--text-field")));
  EXPECT_THAT(refusal("b.csv", "review,sentiment\nGood.,positive\n"),
              AllOf(HasSubstr("\"review\", \"sentiment\""), HasSubstr("--label-field")));
  EXPECT_THAT(pairs_of(read_all(write("b.csv", "review,sentiment\nGood.,positive\n"),
                                {.text_field = "review", .label_field = "sentiment"})),
              ElementsAre(LabelAndText("positive", "Good.")));
  // Without names there are a label and a text.
  EXPECT_THAT(pairs_of(read_all(write("c.csv", "3,\"a, b\"\n"))),
              ElementsAre(LabelAndText("3", "a, b")));
  EXPECT_THAT(read_all(write("c.csv", "3,a, b\n"))[0].error, HasSubstr("found 3"));
  EXPECT_THAT(pairs_of(read_all(write("d.csv", "label;text\nx;\"a;b, c\"\n"))),
              ElementsAre(LabelAndText("x", "a;b, c")));
  EXPECT_THAT(pairs_of(read_all(write("e.csv", "label\ttext\nx\ta, b\n"))),
              ElementsAre(LabelAndText("x", "a, b")));
}

TEST_F(Documents, CsvQuotesThatAreOddAreBadRecords) {
  const auto records =
      read_all(write("a.csv", "a,\"good\" film\nb,fine\nc,\"never closed\nd,next\n"));
  ASSERT_EQ(records.size(), 4u);
  EXPECT_THAT(records[0].error,
              AllOf(HasSubstr("line 1: column 1 opens a quote"), HasSubstr("twice")));
  EXPECT_EQ(records[1].text, "fine");
  EXPECT_THAT(records[2].error, HasSubstr("line 3: column 1 opens a quote"));
  EXPECT_EQ(records[3].text, "next");
}

TEST_F(Documents, QuotedTsvIsReadAndOtherQuotesKeepTheirBytes) {
  const auto texts = [&](const char* bytes) { return pairs_of(read_all(write("a.tsv", bytes))); };
  // As csv.writer(delimiter="\t") writes them: minimal quotes, then all.
  EXPECT_THAT(texts("pos\t\"A good film, with \"\"heart\"\".\nI like it.\"\nneg\tDull.\n"),
              ElementsAre(LabelAndText("pos", "A good film, with \"heart\".\nI like it."),
                          LabelAndText("neg", "Dull.")));
  EXPECT_THAT(texts("\"pos\"\t\"One.\r\nTwo.\"\r\n\"neg\"\t\"a\tb\"\r\n"),
              ElementsAre(LabelAndText("pos", "One.\r\nTwo."), LabelAndText("neg", "a\tb")));
  // Not written by it.
  EXPECT_THAT(texts("pos\t\"Good\" is not enough.\nneg\tHe said \"no\"\npos\t\"No end\nneg\tx\"\n"),
              ElementsAre(LabelAndText("pos", "\"Good\" is not enough."),
                          LabelAndText("neg", "He said \"no\""), LabelAndText("pos", "\"No end"),
                          LabelAndText("neg", "x\"")));
  EXPECT_THAT(texts("pos\t\"\n"), ElementsAre(LabelAndText("pos", "\"")));
  EXPECT_THAT(texts("pos\ta\t\"b\"\t \"c\"\n"), ElementsAre(LabelAndText("pos", "a\tb\t \"c\"")));
}

TEST_F(Documents, ManyOpenQuotesAreReadInLinearTime) {
  std::string lines;
  for (int i = 0; i < 200000; ++i) lines += "a\t\"x\t\"y\n";
  EXPECT_EQ(read_all(write("a.tsv", lines)).size(), 200000u);
  EXPECT_EQ(read_all(write("a.tsv", "a\t\"" + std::string(200000, '\n') + "b\tx\n")).size(), 2u);
}

TEST_F(Documents, AHeaderIsNoticed) {
  const auto notes = [&](const char* bytes, DocumentOptions options = {}) {
    DocumentReader reader(write("a.tsv", bytes), options);
    while (reader.next()) {
    }
    return reader.notes();
  };
  EXPECT_THAT(notes("label\ttext\nneg\tDull film.\n"),
              ElementsAre(AllOf(HasSubstr("a.tsv, line 1"), HasSubstr("\"label\", \"text\""),
                                HasSubstr("--skip-header"))));
  EXPECT_THAT(notes("Review\tSentiment\nx\ty\n"), ElementsAre(HasSubstr("header")));
  EXPECT_THAT(notes("label\ttext\nneg\tDull.\n", {.skip_header = true}), IsEmpty());
  EXPECT_THAT(notes("neg\tDull\npos\tfine\n"), IsEmpty());
  EXPECT_THAT(notes("text\tA text about a label.\n"), IsEmpty());
  const auto named =
      read_all(write("b.tsv", "id\treview\tlabel\n7\tfine\tpos\n"), {.text_field = "review"});
  EXPECT_THAT(pairs_of(named), ElementsAre(LabelAndText("pos", "fine")));
}

TEST_F(Documents, JsonArraysAreReadElementByElement) {
  const auto records = read_all(write("a.json",
                                      "[ {\"text\": \"a]\\\"}\", \"label\": 1},\n"
                                      "  \"only \\\\\", {\"text\": [[2]]},\n\n"
                                      "  7, {\"label\": \"x\",\n \"text\": \"b\"}\n]\n"));
  ASSERT_EQ(records.size(), 5u);
  EXPECT_EQ(records[0].text, "a]\"}");
  EXPECT_EQ(records[0].label, "1");
  EXPECT_EQ(records[1].text, "only \\");
  EXPECT_THAT(records[2].error, AllOf(HasSubstr("a.json, line 2"), HasSubstr("JSON array")));
  EXPECT_THAT(records[3].error, AllOf(HasSubstr("line 4"), HasSubstr("JSON number")));
  EXPECT_EQ(records[4].text, "b");
  EXPECT_EQ(records[4].line, 4u);
  EXPECT_THAT(read_all(write("a.json", " [ ] ")), IsEmpty());
  EXPECT_THAT(pairs_of(read_all(write("a.json", "{\n\"text\": \"x\"\n}\n{\"text\":\n\"y\"}"))),
              ElementsAre(LabelAndText("-", "x"), LabelAndText("-", "y")));
  EXPECT_THAT(refusal("a.json", "[\"x\" \"y\"]"), HasSubstr("line 1: expected a comma or ]"));
  EXPECT_THAT(refusal("a.json", "[\"x\",\n]"), HasSubstr("line 2: expected an element"));
  EXPECT_THAT(refusal("a.json", "[\"x\""), HasSubstr("has no end"));
  EXPECT_THAT(refusal("a.json", "[\"x\", {\"text\": \"y"), HasSubstr("middle of a JSON value"));
  EXPECT_THAT(refusal("a.json", "[\"x\"] y"), HasSubstr("more behind"));
  const auto bad = read_all(write("a.json", "{\"text\": \"x\"},{\"text\": \"y\"} nul"),
                            {.format = DocumentFormat::kJson});
  ASSERT_EQ(bad.size(), 4u);
  EXPECT_THAT(bad[1].error, HasSubstr("expected one JSON object"));
  EXPECT_EQ(bad[2].text, "y");
}

TEST_F(Documents, LinesOfOldMacintoshFilesEndAtCarriageReturns) {
  EXPECT_THAT(pairs_of(read_all(write("a.tsv", "neg\tDull.\rpos\tGood.\r"))),
              ElementsAre(LabelAndText("neg", "Dull."), LabelAndText("pos", "Good.")));
  EXPECT_THAT(pairs_of(read_all(write("a.tsv", "neg\tA\rB.\n"))),
              ElementsAre(LabelAndText("neg", "A\rB.")));
  const std::string first = "neg\tA\r" + std::string(100000, 'x');
  EXPECT_EQ(read_all(write("a.tsv", first + "\npos\tB\n")).size(), 2u);
}

TEST_F(Documents, LinesAreDocuments) {
  const auto records =
      read_all(write("a.tsv", "one\ttwo\r\n\nthree"), {.format = DocumentFormat::kLines});
  EXPECT_THAT(pairs_of(records),
              ElementsAre(LabelAndText("-", "one\ttwo"), LabelAndText("-", "three")));
  EXPECT_EQ(records[1].line, 3u);
}

TEST_F(Documents, WhatCannotBeOpenedIsAnError) {
  EXPECT_THROW(DocumentReader(folder_ / "absent.txt", {}), Error);
  EXPECT_THROW(DocumentReader(folder_, {}), Error);
}

}  // namespace
}  // namespace tessera
