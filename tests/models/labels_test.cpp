#include "models/text/labels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Names = std::vector<std::string>;

TEST(Labels, FoldedAreWhatPeopleSee) {
  EXPECT_EQ(folded_label(" Neg\t"), "neg");
  EXPECT_EQ(folded_label("sci \u00A0 tech"), "sci tech");
  EXPECT_EQ(folded_label("caf\u00E9"), folded_label("CAFE\u0301"));  // NFC, NFD
  EXPECT_EQ(folded_label("STRASSE"), folded_label("stra\u00DFe"));   // Python's casefold
  EXPECT_EQ(folded_label("\uFF11"), "1");                            // a wide digit
  EXPECT_EQ(folded_label("\uFEFFpos\u200B"), "pos");                 // invisible
  EXPECT_EQ(folded_label("\xFF neg"), "\xFF neg");
  EXPECT_EQ(folded_label(""), "");
  EXPECT_NE(folded_label("1"), folded_label("01"));
  EXPECT_NE(folded_label("cafe"), folded_label("caf\u00E9"));
}

TEST(Labels, LookAlikesAreGroupedInTheirOrder) {
  EXPECT_THAT(look_alikes(Names{"neg", "pos", "neg ", "Pos", "neutral", "neg", "POS"}),
              ElementsAre(ElementsAre("neg", "neg "), ElementsAre("pos", "Pos", "POS")));
  EXPECT_THAT(look_alikes(Names{"1", "10", "01", "1.5", "1.00", ".0", "v1.0", "v1"}), IsEmpty());
  EXPECT_THAT(look_alikes(Names{"1.0", "-2", "1", "-2.0 ", "3.0"}),
              ElementsAre(ElementsAre("1.0", "1"), ElementsAre("-2", "-2.0 ")));
  EXPECT_THAT(look_alikes(Names{}), IsEmpty());
}

TEST(Labels, HeadersAreKnownByTheirNames) {
  EXPECT_TRUE(looks_like_header(Names{"label", "text"}));
  EXPECT_TRUE(looks_like_header(Names{"Review", "Sentiment "}));
  EXPECT_TRUE(looks_like_header(Names{"id", "TEXT", "user_name"}));
  EXPECT_FALSE(looks_like_header(Names{"neg", "Dull film."}));
  EXPECT_FALSE(looks_like_header(Names{"text", "A text about labels."}));
  EXPECT_FALSE(looks_like_header(Names{"3", "text"}));
  EXPECT_FALSE(looks_like_header(Names{"label"}));
  EXPECT_FALSE(looks_like_header(Names{"label", ""}));
}

TEST(Labels, WholeNumbers) {
  for (const char* name : {"0", "12", "-3", "+4", "007"})
    EXPECT_TRUE(is_whole_number(name)) << name;
  for (const char* name : {"", "-", "1.0", "1a", " 1", "one"})
    EXPECT_FALSE(is_whole_number(name)) << name;
}

}  // namespace
}  // namespace tessera
