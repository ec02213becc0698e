// Files of documents that a test writes and reads again.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/text/documents.h"
#include "tests/support/error.h"
#include "tests/support/temp_folder.h"

namespace tessera::test {

using LabelAndText = std::pair<std::string, std::string>;

inline std::vector<LabelAndText> pairs_of(const std::vector<DocumentRecord>& records) {
  std::vector<LabelAndText> pairs;
  for (const DocumentRecord& record : records)
    pairs.emplace_back(record.label.value_or("-"), record.text + record.error);
  return pairs;
}

class Documents : public testing::Test {
 protected:
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

  const test::TempFolder scratch_;
  const std::filesystem::path folder_ = scratch_.path();
};

}  // namespace tessera::test
