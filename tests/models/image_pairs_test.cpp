// Images and the masks that belong to them: files, lists, splits.
#include "models/image/image_pairs.h"

#include <set>

#include "models/image/tiff.h"
#include "tests/support/labelled_images.h"

namespace tessera {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// ---- files -------------------------------------------------------------------------------------

TEST_F(TrainingImages, PairsAreFoundByName) {
  for (const char* name : {"b", "a", "day/10", "day/9"}) write_pair(name, 4, 5);
  fs::rename(folder_ / "masks/a.png", folder_ / "masks/a_mask.png");
  fs::rename(folder_ / "masks/b.png", folder_ / "masks/b.mask.png");
  write_text("images/.hidden.png", "x");
  write_text("images/notes.txt", "x");
  DataReport report;
  EXPECT_THAT(names_of(pairs(report)), ElementsAre("a", "b", "day/10", "day/9"));
  EXPECT_EQ(report.problem_count(), 0U) << testing::PrintToString(texts_of(report));
}

TEST_F(TrainingImages, EveryFileWithoutItsPartnerIsReported) {
  for (const char* name : {"a", "b", "c"}) write_pair(name, 4, 5);
  fs::remove(folder_ / "masks/a.png");
  fs::remove(folder_ / "images/b.png");
  write("masks/c_mask.png", {4, 5, 1, Bytes(20)});
  write("images/d.png", {4, 5, 1, Bytes(20)});
  DataReport report;
  EXPECT_THAT(pairs(report), IsEmpty());
  EXPECT_THAT(texts_of(report),
              ElementsAre(AllOf(HasSubstr("images/a.png"), HasSubstr("has no mask")),
                          AllOf(HasSubstr("images/c.png"), HasSubstr("two masks")),
                          AllOf(HasSubstr("images/d.png"), HasSubstr("has no mask")),
                          AllOf(HasSubstr("masks/b.png"), HasSubstr("no image belongs"))));
  DataReport empty;
  fs::create_directories(folder_ / "none");
  find_pairs(folder_ / "none", folder_ / "none", empty);
  EXPECT_THAT(texts_of(empty), ElementsAre(HasSubstr("no images in this folder")));
  EXPECT_THAT(error_of([&] { find_pairs(folder_ / "gone", folder_ / "none", empty); }),
              HasSubstr("is no folder"));
}

TEST_F(TrainingImages, MasksOfOtherNamesAreSaidOnce) {
  for (const char* number : {"000", "001"}) {
    write(std::string("images/t") + number + ".png", {4, 5, 1, Bytes(20)});
    write(std::string("masks/man_seg") + number + ".png", {4, 5, 1, Bytes(20)});
  }
  DataReport report;
  EXPECT_THAT(pairs(report), IsEmpty());
  EXPECT_THAT(texts_of(report),
              ElementsAre(AllOf(HasSubstr("none of its 2 images"), HasSubstr("'t000.png'"),
                                HasSubstr("'man_seg000.png'"), HasSubstr("image<TAB>mask"),
                                HasSubstr("paste <(ls"))));
}

TEST_F(TrainingImages, PagesOfAStackArePairs) {
  for (const char* folder : {"images", "masks"}) {
    fs::create_directories(folder_ / folder);
    TiffWriter stack(folder_ / folder / "s.tif");
    for (int page = 0; page < 3; ++page) stack.append({4, 5, 1, Bytes(20, page == 1 ? 255 : 0)});
    stack.commit();
  }
  DataReport report;
  const ImagePairs found = pairs(report);
  EXPECT_THAT(names_of(found), ElementsAre("s#0", "s#1", "s#2"));
  LabelledImages loaded(found, MaskRules::parse("binary", 2), {}, {}, 0);
  EXPECT_EQ(loaded.load(0)->classes, Bytes(20, 0));
  EXPECT_EQ(loaded.load(1)->classes, Bytes(20, 1));
  EXPECT_THAT(split_pairs(found, "names:s#1", 0).validation, ElementsAre(1));
  write("masks/t.png", {4, 5, 1, Bytes(20)});
  TiffWriter stack(folder_ / "images/t.tif");
  for (int page = 0; page < 2; ++page) stack.append({4, 5, 1, Bytes(20)});
  stack.commit();
  DataReport uneven;
  pairs(uneven);
  EXPECT_THAT(texts_of(uneven), ElementsAre(HasSubstr("2 pages")));
}

TEST_F(TrainingImages, AListNamesPairs) {
  write_pair("a", 4, 5);
  write_text("list.tsv",
             "# comment\nimages/a.png\tmasks/a.png\r\n\nimages/a.png\nx.png\tmasks/a.png\n"
             "images/../images/a.png\tmasks/a.png\n");
  DataReport report;
  const ImagePairs found = read_pair_list(folder_ / "list.tsv", report);
  EXPECT_THAT(names_of(found), ElementsAre("images/a"));
  EXPECT_THAT(texts_of(report), ElementsAre(AllOf(HasSubstr("line 4"), HasSubstr("no tab")),
                                            AllOf(HasSubstr("line 5"), HasSubstr("x.png")),
                                            AllOf(HasSubstr("line 6"), HasSubstr("line 2 names"))));
  write_text("header.tsv", "# comment\nimage\tmask\nimages/a.png\tmasks/a.png\nb\tc\n");
  DataReport header;
  EXPECT_THAT(names_of(read_pair_list(folder_ / "header.tsv", header)), ElementsAre("images/a"));
  EXPECT_THAT(texts_of(header),
              ElementsAre(AllOf(HasSubstr("line 2"), HasSubstr("looks like a header"),
                                HasSubstr("'image' and 'mask'")),
                          AllOf(HasSubstr("line 4"), HasSubstr("there is no file")),
                          AllOf(HasSubstr("line 4"), HasSubstr("there is no file"))));
  write_text("pairs.csv", "images/a.png,masks/a.png\n");
  DataReport commas;
  read_pair_list(folder_ / "pairs.csv", commas);
  EXPECT_THAT(texts_of(commas), ElementsAre(HasSubstr("found a ',' and no tab; put a tab")));
  write_text("empty.tsv", "\n");
  DataReport empty;
  read_pair_list(folder_ / "empty.tsv", empty);
  EXPECT_THAT(texts_of(empty), ElementsAre(HasSubstr("names no images")));
}

TEST_F(TrainingImages, MasksAreFoundByTheUsualEndings) {
  const std::vector<std::string> endings = {"_mask",  "_masks",     "-label",        "_labels",
                                            "_SEG",   ".gt",        "_ground_truth", "_cp_masks",
                                            " truth", "_annotation"};
  std::vector<std::string> names;
  for (std::size_t i = 0; i < endings.size(); ++i) {
    names.push_back(fmt::format("{}", i));
    write_pair(names.back(), 4, 5);
    fs::rename(folder_ / "masks" / (names.back() + ".png"),
               folder_ / "masks" / (names.back() + endings[i] + ".png"));
  }
  // An image whose own name ends so has the mask of its very name, and one with an ending more.
  for (const char* name : {"x_seg", "y_seg"}) {
    names.emplace_back(name);
    write_pair(name, 4, 5);
  }
  fs::rename(folder_ / "masks/y_seg.png", folder_ / "masks/y_seg_mask.png");
  DataReport report;
  EXPECT_EQ(names_of(pairs(report)), names);
  EXPECT_EQ(report.problem_count(), 0U) << testing::PrintToString(texts_of(report));
  // An ending alone is no name, and "label" within a word is no ending.
  for (const char* name : {"_mask", "relabel"})
    write("masks/" + std::string(name) + ".png", {4, 5, 1, Bytes(20)});
  pairs(report);
  EXPECT_THAT(texts_of(report),
              ElementsAre(HasSubstr("/images/_mask'"), HasSubstr("/images/relabel'")));
}

TEST_F(TrainingImages, MasksLieBesideImages) {
  for (const char* name : {"a", "b", "c_seg"}) {
    write("images/" + std::string(name) + ".png", {4, 5, 1, Bytes(20)});
    write("images/" + std::string(name) + "_masks.png", {4, 5, 1, Bytes(20)});
  }
  write("images/lonely.png", {4, 5, 1, Bytes(20)});
  write_text("list.tsv", "images/a.png\timages/a.png\n");
  DataReport report;
  const ImagePairs found = find_pairs(folder_ / "images", folder_ / "images/", report);
  EXPECT_THAT(names_of(found), ElementsAre("a", "b", "c_seg"));
  EXPECT_EQ(found[2].mask.filename(), "c_seg_masks.png");
  read_pair_list(folder_ / "list.tsv", report);
  EXPECT_THAT(texts_of(report), ElementsAre(HasSubstr("it has no mask"), HasSubstr("own mask")));
}

TEST_F(TrainingImages, AMaskThatIsNotReadIsNamed) {
  for (const char* name : {"a", "b", "c"}) {
    write_pair(name, 4, 5);
    fs::remove(folder_ / "masks" / fmt::format("{}.png", name));
  }
  write_text("masks/a_mask.gif", "GIF89a");
  write_text("masks/b.npy", "x");
  write_text("masks/notes.txt", "x");
  DataReport report;
  EXPECT_THAT(pairs(report), IsEmpty());
  EXPECT_THAT(texts_of(report),
              ElementsAre(AllOf(HasSubstr("images/a.png"), HasSubstr("a_mask.gif"),
                                HasSubstr("not read; convert it to PNG or TIFF")),
                          AllOf(HasSubstr("images/b.png"), HasSubstr("b.npy")),
                          AllOf(HasSubstr("images/c.png"), HasSubstr("it has no mask"))));
  DataReport empty;
  find_pairs(folder_ / "masks", folder_ / "images", empty);
  EXPECT_THAT(texts_of(empty)[0], AllOf(HasSubstr("no images"), HasSubstr("a_mask.gif")));
}

TEST_F(TrainingImages, TheContentTellsAStackWhateverItsEnding) {
  const std::vector<std::string> endings = {".Tif", ".TIFF", ".tiF", ".btf", ".png"};
  for (std::size_t i = 0; i < endings.size(); ++i) {
    for (const char* folder : {"images", "masks"}) {
      fs::create_directories(folder_ / folder);
      TiffWriter stack(folder_ / folder / fmt::format("{}{}", i, endings[i]));
      for (int page = 0; page < 2; ++page) stack.append({4, 5, 1, Bytes(20, page == 1 ? 255 : 0)});
      stack.commit();
    }
  }
  DataReport report;
  const ImagePairs found = pairs(report);
  EXPECT_THAT(names_of(found),
              ElementsAre("0#0", "0#1", "1#0", "1#1", "2#0", "2#1", "3#0", "3#1", "4#0", "4#1"));
  LabelledImages loaded(found, MaskRules::parse("binary", 2), {}, {}, 0);
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_EQ(loaded.load(i)->classes, Bytes(20, i % 2 == 1 ? 1 : 0)) << found[i].name;
}

// What a text editor of another system makes of ASCII or Latin-1.
std::string utf16(std::string_view latin1, bool little) {
  std::string bytes = little ? "\xFF\xFE" : "\xFE\xFF";
  for (const char c : latin1) {
    if (little) bytes += c;
    bytes += '\0';
    if (!little) bytes += c;
  }
  return bytes;
}

TEST_F(TrainingImages, ListsOfOtherSystemsAreRead) {
  const std::string name = "z\xC3\xA4h", latin1 = "z\xE4h";
  write_pair(name, 4, 5);
  write_pair("a", 4, 5);
  const auto list = [](const std::string& one) {
    return fmt::format("images/{0}.png\tmasks/{0}.png\r\nimages/a.png\tmasks/a.png", one);
  };
  const std::map<std::string, std::pair<std::string, std::string>> texts = {
      {"bom.tsv", {"\xEF\xBB\xBF" + list(name), "\xEF\xBB\xBFimages/" + name + "\r\n"}},
      {"crlf.tsv", {list(name), "images/" + name + "\r\n"}},
      {"little.tsv", {utf16(list(latin1), true), utf16("images/" + latin1 + "\r\n", true)}},
      {"big.tsv", {utf16(list(latin1), false), utf16("images/" + latin1, false)}}};
  for (const auto& [file, text] : texts) {
    write_text(file, text.first);
    write_text(file + ".names", text.second);
    DataReport report;
    const ImagePairs found = read_pair_list(folder_ / file, report);
    EXPECT_EQ(report.problem_count(), 0U) << testing::PrintToString(texts_of(report));
    EXPECT_THAT(names_of(found), ElementsAre("images/" + name, "images/a")) << file;
    const Split split = split_pairs(found, "list:" + (folder_ / (file + ".names")).string(), 0);
    EXPECT_THAT(split.validation, ElementsAre(0)) << file;
  }
}

// ---- splits ------------------------------------------------------------------------------------

TEST(Splits, HoldOutWhatTheirRuleSays) {
  ImagePairs pairs;
  for (int i = 0; i < 30; ++i) pairs.push_back({fmt::format("{}", i), {}, {}});
  const auto held_out = [&](const std::string& rule, std::uint64_t seed = 1) {
    const Split split = split_pairs(pairs, rule, seed);
    std::set<std::size_t> all(split.training.begin(), split.training.end());
    all.insert(split.validation.begin(), split.validation.end());
    EXPECT_EQ(all.size(), pairs.size());
    EXPECT_EQ(split.training.size() + split.validation.size(), pairs.size());
    EXPECT_TRUE(std::ranges::is_sorted(split.training));
    return split.validation;
  };
  EXPECT_THAT(held_out("none"), IsEmpty());
  EXPECT_THAT(held_out("every:10"), ElementsAre(0, 10, 20));
  EXPECT_THAT(held_out("names:3,24..29"), ElementsAre(3, 24, 25, 26, 27, 28, 29));
  pairs[3].image = "images/3.png";
  pairs[4] = {"b/4", "images/b/4.tif", {}};
  pairs[5] = {"b/4#1", "images/b/4.tif", {}};
  EXPECT_THAT(held_out("names:3.png,b/4.tif"), ElementsAre(3, 4, 5));
  EXPECT_NE(error_of([&] { split_pairs(pairs, "names:4.tif", 0); }), "");
  EXPECT_EQ(held_out("0.2").size(), 6U);
  EXPECT_EQ(held_out("0.001").size(), 1U);
  EXPECT_EQ(held_out("0.2"), held_out("0.2"));
  EXPECT_NE(held_out("0.2"), held_out("0.2", 2));
  std::set<std::size_t> folds;
  for (int fold = 1; fold <= 4; ++fold) {
    const auto part = held_out(fmt::format("fold:{}/4", fold));
    EXPECT_GE(part.size(), 7U);
    folds.insert(part.begin(), part.end());
  }
  EXPECT_EQ(folds.size(), 30U);
  for (const char* rule :
       {"", "half", "1.5", "0", "every:1", "every:x", "fold:0/4", "fold:5/4", "fold:1/31",
        "names:77", "names:9..3", "list:/gone/file", "names:0..29"}) {
    EXPECT_NE(error_of([&] { split_pairs(pairs, rule, 0); }), "") << rule;
  }
}

}  // namespace
}  // namespace tessera
