// What a journal finds again: of the same model and options, the last of a key, and nothing that a
// kill or a stranger has torn.
#include "tools/program/journal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>
#include <random>

#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class Journals : public testing::Test {
 protected:
  static void write(const fs::path& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
  }
  static std::string read(const fs::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
  }
  Journal open(bool resume = true, const json& options = {{"a", 1}}) const {
    return {path_, model_, options, resume};
  }

  const test::TempFolder scratch_;
  const fs::path folder_ = scratch_.path(), path_ = folder_ / "journal";
  std::string model_ = "a digest";
};

TEST_F(Journals, TheLastRecordOfAKeyCounts) {
  const std::string odd("\xff\n \0", 4);
  {
    Journal journal = open();
    journal.add("x", {{"value", 1}});
    journal.add(odd, {{"value", odd.substr(1)}});
    journal.begin("x");
    journal.add("x", {{"value", 2}});
    journal.add("y", {{"value", 3}});
    journal.begin("y");  // and killed
  }
  Journal journal = open();
  EXPECT_EQ(journal.find("x")->at("value"), 2);
  EXPECT_EQ(journal.find(odd)->at("value"), odd.substr(1));
  EXPECT_FALSE(journal.find("y"));
  EXPECT_TRUE(journal.has("y"));
  EXPECT_FALSE(journal.has("z"));
  EXPECT_EQ(journal.stale_line("text"), "");
  EXPECT_FALSE(open(false).find("x"));
}

TEST_F(Journals, RecordsOfOthersAreCountedWithTheReason) {
  open().add("x", {{"value", 1}});
  open().add("y", {{"value", 1}});
  Journal other = open(true, {{"a", 2}});
  EXPECT_FALSE(other.find("x"));
  EXPECT_EQ(other.stale_line("text"), "done again: 1 text (1 for other options)");
  model_ = "another";
  Journal journal = open();
  EXPECT_FALSE(journal.find("x"));
  EXPECT_FALSE(journal.find("y"));
  journal.count_stale("another text");
  EXPECT_EQ(journal.stale_line("text"),
            "done again: 3 texts (2 for another model, 1 for another text)");
}

TEST_F(Journals, EveryTornOrChangedLineIsPassedOver) {
  {
    Journal journal = open();
    for (int i = 0; i < 3; ++i) journal.add(std::to_string(i), {{"value", i}});
  }
  const std::string whole = read(path_);
  const std::size_t last = whole.rfind('\n', whole.size() - 2) + 1;
  for (std::size_t cut = last; cut + 1 < whole.size(); cut += 9) {
    write(path_, whole.substr(0, cut));
    Journal journal = open();
    EXPECT_EQ(journal.find("1")->at("value"), 1);
    EXPECT_FALSE(journal.has("2")) << cut;
    journal.add("2", {{"value", 4}});  // behind what is torn
    EXPECT_EQ(open().find("2")->at("value"), 4) << cut;
  }
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    std::string changed = whole;
    changed[random() % changed.size()] ^= static_cast<char>(1 << random() % 8);
    write(path_, changed);
    Journal journal = open();
    int found = 0;
    for (int k = 0; k < 3; ++k) {
      const auto record = journal.find(std::to_string(k));
      EXPECT_TRUE(!record || record->at("value") == k);
      found += record ? 1 : 0;
    }
    EXPECT_GE(found, 1);  // a changed line break costs two lines
    EXPECT_LE(found, 2);
  }
}

TEST_F(Journals, ProcessesShareIt) {
  constexpr int kProcesses = 4, kLines = 200;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    {
      Journal journal = open();
      for (int i = 0; i < kLines; ++i)
        journal.add(std::to_string(p) + "-" + std::to_string(i),
                    {{"value", std::string(static_cast<std::size_t>(37 * i), 'x')}});
    }
    ::_exit(0);
  }
  for (const pid_t child : children) ::waitpid(child, nullptr, 0);
  Journal journal = open();
  for (int p = 0; p < kProcesses; ++p) {
    for (int i = 0; i < kLines; ++i) {
      const auto record = journal.find(std::to_string(p) + "-" + std::to_string(i));
      ASSERT_TRUE(record) << p << ' ' << i;
      EXPECT_EQ(record->at("value").get<std::string>().size(), static_cast<std::size_t>(37 * i));
    }
  }
}

}  // namespace
}  // namespace tessera
