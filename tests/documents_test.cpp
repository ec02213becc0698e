#include "models/documents.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <string_view>
#include <vector>

#include "kernels/error.h"

namespace tessera {
namespace {

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

  std::string write_gzip(const std::string& name, const std::string& bytes) {
    const std::string path = folder_ / name;
    const gzFile file = gzopen(path.c_str(), "wb");
    EXPECT_EQ(gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size())),
              static_cast<int>(bytes.size()));
    gzclose(file);
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
    DocumentOptions options;
    options.format = document_format_of(path);
    return read_all(path, options);
  }

  std::filesystem::path folder_;
};

bool holds(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST_F(Documents, FormatFollowsTheName) {
  EXPECT_EQ(document_format_of("a/b.tsv"), DocumentFormat::kTsv);
  EXPECT_EQ(document_format_of("b.tsv.gz"), DocumentFormat::kTsv);
  EXPECT_EQ(document_format_of("b.jsonl"), DocumentFormat::kJsonl);
  EXPECT_EQ(document_format_of("b.ndjson.gz"), DocumentFormat::kJsonl);
  EXPECT_EQ(document_format_of("b.txt"), DocumentFormat::kText);
  EXPECT_EQ(document_format_of("-"), DocumentFormat::kText);
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
  const std::string path = write_gzip("a.tsv.gz", lines);
  const auto records = read_all(path);
  ASSERT_EQ(records.size(), 20000u);
  EXPECT_EQ(records[19999].label, "19999");

  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  DocumentReader reader(path, {.format = DocumentFormat::kTsv});
  size_t good = 0;
  EXPECT_THROW(
      {
        while (reader.next()) ++good;
      },
      Error);
  EXPECT_LT(good, 20000u);
  EXPECT_FALSE(reader.next().has_value());
}

TEST_F(Documents, WhatCannotBeOpenedIsAnError) {
  EXPECT_THROW(DocumentReader(folder_ / "absent.txt", {}), Error);
  EXPECT_THROW(DocumentReader(folder_, {}), Error);
}

}  // namespace
}  // namespace tessera
