// From words to files: order, links, loops, folders that cannot be read, and names of results.
#include "tools/program/inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <random>

#include "tests/support/temp_folder.h"
#include "tools/program/program.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;

class Inputs : public testing::Test {
 protected:
  Inputs() { fs::current_path(root_); }
  ~Inputs() override { fs::current_path(before_); }

  static void make(const fs::path& path) {
    if (path.has_parent_path()) fs::create_directories(path.parent_path());
    std::ofstream(path) << "x";
  }
  static bool is_wanted(const fs::path& path) { return path.extension() == ".png"; }
  static std::vector<Input> expand(const std::vector<std::string>& words,
                                   const ResultFolder& results = {}) {
    return expand_inputs(words, is_wanted, "images", results);
  }
  // Paths with what they keep, or their errors.
  static std::map<std::string, std::string> found(const std::vector<std::string>& words,
                                                  const ResultFolder& results = {}) {
    std::map<std::string, std::string> result;
    for (const Input& input : expand(words, results))
      result[input.path] = input.error.empty() ? input.relative.string() : input.error;
    return result;
  }

  const test::TempFolder scratch_;
  const fs::path root_ = scratch_.path(), before_ = fs::current_path();
};

TEST_F(Inputs, FilesFoldersAndGlobsOnceAndInOrder) {
  for (const char* name : {"in/b.png", "in/a.png", "in/sub/c.png", "in/.hidden.png",
                           "in/.git/d.png", "in/notes.txt", "e.dat"})
    make(name);
  EXPECT_THAT(found({"in", "e.dat"}),
              ElementsAre(Pair("e.dat", "e.dat"), Pair("in/a.png", "a.png"),
                          Pair("in/b.png", "b.png"), Pair("in/sub/c.png", "sub/c.png")));
  EXPECT_THAT(found({"in/b.png", "in", "./in/b.png", "in/*.png"}), testing::SizeIs(3));
  EXPECT_THAT(found({"in/*/c.png"}), ElementsAre(Pair("in/sub/c.png", "sub/c.png")));
  EXPECT_THAT(found({"in/s*"}), ElementsAre(Pair("in/sub/c.png", "c.png")));
  EXPECT_THAT(found({"gone.png", "*.gif"}),
              ElementsAre(Pair("*.gif", HasSubstr("no file matches")),
                          Pair("gone.png", HasSubstr("no such file"))));
  fs::create_directories("empty/deep");
  EXPECT_THAT(found({"empty"}), ElementsAre(Pair("empty", "no images in this folder")));
  EXPECT_THROW(expand({"-", "in"}), UsageError);
  EXPECT_TRUE(expand({"-"}).at(0).is_stdin());
}

TEST_F(Inputs, LinksToFoldersAreFollowedOnce) {
  for (const char* name : {"in/z/a.png", "far/b.png", "far/deep/c.png"}) make(name);
  // First by name, but what lies in the folder itself comes first.
  fs::create_directory_symlink("z", "in/also_z");
  fs::create_directory_symlink("../far", "in/link");
  fs::create_directory_symlink("../far", "in/second_link");
  fs::create_symlink("../far/b.png", "in/file.png");
  EXPECT_THAT(
      found({"in"}),
      ElementsAre(Pair("in/file.png", "file.png"), Pair("in/link/b.png", "link/b.png"),
                  Pair("in/link/deep/c.png", "link/deep/c.png"), Pair("in/z/a.png", "z/a.png")));
  fs::create_directory_symlink("in", "root_link");
  EXPECT_THAT(found({"root_link"}), testing::SizeIs(4));
}

TEST_F(Inputs, LoopsEndAndAreListed) {
  make("in/a/b/x.png");
  make("in/c/y.png");
  fs::create_directory_symlink(".", "in/self");
  fs::create_directory_symlink("../..", "in/a/b/up");
  fs::create_directory_symlink(root_, "in/a/above");
  // Two folders that lead into one another are walked once each, which loses nothing.
  fs::create_directory_symlink("../c", "in/a/c");
  fs::create_directory_symlink("../a", "in/c/a");
  EXPECT_THAT(found({"in"}),
              ElementsAre(Pair("in/a/above", HasSubstr("leads in a circle")),
                          Pair("in/a/b/up", HasSubstr("leads in a circle")),
                          Pair("in/a/b/x.png", "a/b/x.png"), Pair("in/c/y.png", "c/y.png"),
                          Pair("in/self", HasSubstr("leads in a circle"))));
}

TEST_F(Inputs, ManyLinksDoNotMultiply) {
  // Each of 30 folders leads to the next by two links: 2^30 ways.
  make("in/30/x.png");
  for (int i = 0; i < 30; ++i) {
    const std::string folder = "in/" + std::to_string(i), next = "../" + std::to_string(i + 1);
    fs::create_directories(folder);
    fs::create_directory_symlink(next, folder + "/l");
    fs::create_directory_symlink(next, folder + "/r");
  }
  EXPECT_THAT(found({"in"}), ElementsAre(Pair("in/30/x.png", "30/x.png")));
  EXPECT_THAT(found({"in/0"}), testing::SizeIs(1));
}

TEST_F(Inputs, DeadLinksAreListedWhereTheyMayHaveBeenMeant) {
  make("in/a.png");
  fs::create_symlink("/gone/b.png", "in/b.png");
  fs::create_symlink("/gone/day2", "in/day2");
  fs::create_symlink("/gone/notes.txt", "in/notes.txt");
  fs::create_symlink("c.png", "in/c.png");
  EXPECT_THAT(found({"in"}),
              ElementsAre(Pair("in/a.png", "a.png"), Pair("in/b.png", HasSubstr("leads nowhere")),
                          Pair("in/c.png", HasSubstr("Too many levels")),
                          Pair("in/day2", HasSubstr("leads nowhere"))));
}

TEST_F(Inputs, FoldersThatCannotBeReadAreListedAndTheOthersWalked) {
  make("in/a.png");
  make("in/closed/b.png");
  make("in/open/c.png");
  make("far/d.png");
  fs::create_directory_symlink("../far", "in/link");
  fs::permissions("in/closed", fs::perms::none);
  fs::permissions("far", fs::perms::none);
  fs::permissions(root_, fs::perms(0755));
  const bool root = ::geteuid() == 0;  // who may read everything
  if (root && ::seteuid(65534) != 0) GTEST_SKIP() << "no other user to run as";
  const auto result = found({"in"});
  const auto alone = found({"in/closed"});
  ASSERT_TRUE(!root || ::seteuid(0) == 0);
  fs::permissions("in/closed", fs::perms::owner_all);
  fs::permissions("far", fs::perms::owner_all);
  EXPECT_THAT(result, ElementsAre(Pair("in/a.png", "a.png"),
                                  Pair("in/closed", "cannot be read: Permission denied"),
                                  Pair("in/link", "cannot be read: Permission denied"),
                                  Pair("in/open/c.png", "open/c.png")));
  EXPECT_THAT(alone, ElementsAre(Pair("in/closed", "cannot be read: Permission denied")));
}

TEST_F(Inputs, TheFolderOfResultsIsNotWalked) {
  for (const char* name : {"in/a.png", "in/a.out.png", "in/out/b.png", "in/out/deep/c.png"})
    make(name);
  fs::create_directory_symlink("../in/out/deep", "in/link");
  const auto is_result = [](const fs::path& path) { return path.string().ends_with(".out.png"); };
  for (const char* out : {"in/out", "in/out/", "./in/../in/out"}) {
    EXPECT_THAT(found({"in"}, {out, is_result}),
                ElementsAre(Pair("in/a.out.png", "a.out.png"), Pair("in/a.png", "a.png")));
  }
  // Where it is the input itself, or lies around it, results alone are left out.
  for (const char* out : {"in", "."}) {
    EXPECT_THAT(found({"in"}, {out, is_result}),
                testing::AllOf(testing::Contains(Pair("in/a.png", "a.png")),
                               testing::Contains(Pair("in/out/b.png", "out/b.png")),
                               testing::Not(testing::Contains(testing::Key("in/a.out.png")))));
    EXPECT_THAT(found({"in/*.png"}, {out, is_result}), ElementsAre(Pair("in/a.png", "a.png")));
    EXPECT_THAT(found({"in/a.out.png"}, {out, is_result}),
                ElementsAre(Pair("in/a.out.png", HasSubstr("is a result"))));
  }
  EXPECT_THAT(found({"in/out"}, {"in/out", is_result}), testing::SizeIs(2));
  EXPECT_THAT(found({"in"}, {"not/there", is_result}), testing::SizeIs(4));
}

TEST_F(Inputs, NamesOfResultsAreDistinctInAnyOrder) {
  const std::vector<std::string> files{"a.png", "a.tif",     "a.png.png", "a.tif.png",
                                       "b.png", "sub/a.png", "c",         "c.png"};
  const std::map<std::string, std::string> expected{{"a.png", "a.png"},
                                                    {"a.tif", "a.tif"},
                                                    {"a.png.png", "a.png.png"},
                                                    {"a.tif.png", "a.tif.png"},
                                                    {"b.png", "b"},
                                                    {"sub/a.png", "sub/a"},
                                                    {"c", "c"},
                                                    {"c.png", "c.png"}};
  std::vector<Input> inputs;
  for (const std::string& file : files) inputs.push_back({file, file, ""});
  std::mt19937 random(3);
  for (int i = 0; i < 20; ++i) {
    std::ranges::shuffle(inputs, random);
    const std::vector<fs::path> names = result_names(inputs);
    std::map<std::string, std::string> found;
    for (std::size_t k = 0; k < inputs.size(); ++k) {
      EXPECT_EQ(inputs[k].error, "");
      found[inputs[k].path] = names[k].string();
    }
    EXPECT_EQ(found, expected);
  }
}

TEST_F(Inputs, WhatCannotBeToldApartIsAnErrorOfEach) {
  std::vector<Input> inputs{{"x/a.png", "a.png", ""},
                            {"y/a.png", "a.png", ""},
                            {"y/b.png", "b.png", ""},
                            {"z", {}, "gone"}};
  result_names(inputs);
  EXPECT_THAT(inputs[0].error, HasSubstr("'y/a.png'"));
  EXPECT_THAT(inputs[1].error, HasSubstr("'x/a.png'"));
  EXPECT_EQ(inputs[2].error, "");
  EXPECT_EQ(inputs[3].error, "gone");
}

}  // namespace
}  // namespace tessera
