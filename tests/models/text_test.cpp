#include "models/text/text.h"

#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "kernels/error.h"
#include "models/text/unicode.h"
#include "tests/support/error.h"

namespace tessera {
namespace {

using nlohmann::json;
using Strings = std::vector<std::string>;

using test::error_of;

#define EXPECT_ERROR_WITH(action, part) \
  EXPECT_NE(error_of([&] { action; }).find(part), std::string::npos) << error_of([&] { action; })

Document tokenize(std::string_view text, const TextRules& rules = {},
                  std::string_view vocabulary = "the\nand\na\n") {
  return Tokenizer(rules, Vocabulary::from_blob(vocabulary)).tokenize(text);
}

Strings sentences_of(std::string_view text, const TextRules& rules = {}) {
  Strings found;
  for (const Sentence& sentence : tokenize(text, rules).sentences) {
    found.emplace_back(text.substr(sentence.span.begin, sentence.span.end - sentence.span.begin));
  }
  return found;
}

Strings words_of(std::string_view text, const TextRules& rules = {}) {
  Strings found;
  for (const Sentence& sentence : tokenize(text, rules).sentences) {
    for (const Word& word : sentence.words) found.push_back(word.text);
  }
  return found;
}

// Rules.

TEST(TextRules, GoThroughJsonUnchanged) {
  TextRules rules;
  rules.strip_characters = "\u2019'";
  rules.html_breaks = HtmlBreaks::kNewline;
  rules.lower_case = false;
  rules.filters = "!\n\u00BF";
  rules.split = "\u00A0";
  rules.white_space = WhiteSpace::kKeras;
  rules.unknown_words = UnknownWords::kDrop;
  rules.max_sentences = 12;
  rules.max_words = 34;
  rules.max_features = 20000;
  rules.splitter = SplitterRules::plain();
  rules.splitter.abbreviations = {"bzw", "z.b"};
  rules.splitter.newlines = Newlines::kEvery;
  EXPECT_EQ(text_rules_from_json(to_json(rules)), rules);
  EXPECT_EQ(text_rules_from_json(json::parse(to_json(rules).dump())), rules);
  EXPECT_EQ(text_rules_from_json(to_json(TextRules{})), TextRules{});
  EXPECT_EQ(text_rules_from_json(json::object()), TextRules{});
}

TEST(TextRules, KerasRuleIsOneThatAFileNames) {
  const auto rule = [](const char* text) {
    return text_rules_from_json(json::parse(text)).white_space;
  };
  EXPECT_EQ(rule(R"({"white_space": "keras"})"), WhiteSpace::kKeras);
  EXPECT_EQ(rule("{}"), WhiteSpace::kSplits);
  // What older versions wrote without being asked.
  EXPECT_EQ(rule(R"({"white_space_splits": false})"), WhiteSpace::kSplits);
  EXPECT_EQ(rule(R"({"white_space_splits": true})"), WhiteSpace::kSplits);
  EXPECT_ERROR_WITH(rule(R"({"white_space": "none"})"), "one of \"splits\", \"keras\"");
}

TEST(TextRules, EveryKeyIsWritten) {
  // A key that is not written would fall back to the default on the other machine.
  const json written = to_json(TextRules{});
  EXPECT_EQ(written.size(), 11u);
  EXPECT_EQ(written.at("splitter").size(), 11u);
}

TEST(TextRules, RefusesWhatItDoesNotKnow) {
  const auto read = [](const char* text) { text_rules_from_json(json::parse(text)); };
  EXPECT_ERROR_WITH(read("[]"), "expected a JSON object");
  EXPECT_ERROR_WITH(read(R"({"lowercase": true})"), "unknown key \"lowercase\"");
  EXPECT_ERROR_WITH(read(R"({"splitter": {"abbrev": []}})"), "unknown key \"abbrev\"");
  EXPECT_ERROR_WITH(read(R"({"lower_case": 1})"), "lower_case: expected true or false, found 1");
  EXPECT_ERROR_WITH(read(R"({"max_words": 1.5})"), "expected a whole number");
  EXPECT_ERROR_WITH(read(R"({"max_words": 18446744073709551615})"), "expected a whole number");
  EXPECT_ERROR_WITH(read(R"({"max_words": -1})"), "max_words is -1");
  EXPECT_ERROR_WITH(read(R"({"max_features": 2})"), "max_features is 2");
  EXPECT_ERROR_WITH(read(R"({"filters": null})"), "expected a string");
  EXPECT_ERROR_WITH(read(R"({"split": "ab"})"), "exactly one character");
  EXPECT_ERROR_WITH(read(R"({"split": ""})"), "exactly one character");
  EXPECT_ERROR_WITH(read(R"({"unknown_words": "skip"})"), "one of \"index\", \"drop\"");
  EXPECT_ERROR_WITH(read(R"({"splitter": {"abbreviations": [1]}})"), "a list of strings");
  EXPECT_ERROR_WITH(read(R"({"splitter": {"abbreviations": [""]}})"), "has 0 bytes");
  TextRules rules;
  rules.filters = "\xFF";
  EXPECT_ERROR_WITH(validate(rules), "filters: expected UTF-8");
}

// Sentences.

struct SplitCase {
  const char* text;
  Strings sentences;
};

class Splitting : public testing::TestWithParam<SplitCase> {};

TEST_P(Splitting, FindsTheSentences) {
  EXPECT_EQ(sentences_of(GetParam().text), GetParam().sentences) << GetParam().text;
}

INSTANTIATE_TEST_SUITE_P(
    English, Splitting,
    testing::Values(
        SplitCase{"", {}}, SplitCase{" \n\t ", {}}, SplitCase{"... !!! ...", {}},
        SplitCase{"No stop at the end", {"No stop at the end"}},
        SplitCase{"  One. Two!  Three? ", {"One.", "Two!", "Three?"}},
        SplitCase{"it was bad. i left early.", {"it was bad.", "i left early."}},
        // Abbreviations.
        SplitCase{"Once again Mr. Costner dragged it out. Why?",
                  {"Once again Mr. Costner dragged it out.", "Why?"}},
        SplitCase{"Dr. No met Mrs. A. He ran.", {"Dr. No met Mrs. A.", "He ran."}},
        SplitCase{"(Prof. Lee) came, e.g. Monday. Fine.",
                  {"(Prof. Lee) came, e.g. Monday.", "Fine."}},
        SplitCase{"Apples, pears, etc. are sold. It rains.",
                  {"Apples, pears, etc. are sold.", "It rains."}},
        SplitCase{"We sell apples, etc. The rest is gone.",
                  {"We sell apples, etc.", "The rest is gone."}},
        SplitCase{"Acme Inc. Chairman Li spoke at 5 p.m. They left.",
                  {"Acme Inc. Chairman Li spoke at 5 p.m.", "They left."}},
        SplitCase{"See No. 5 and p. 12. I said no. I meant it.",
                  {"See No. 5 and p. 12.", "I said no.", "I meant it."}},
        SplitCase{"Harry Connick Jr. sings on Main St. again.",
                  {"Harry Connick Jr. sings on Main St. again."}},
        SplitCase{"She lives on xyzmr. Dogs bark.", {"She lives on xyzmr.", "Dogs bark."}},
        // Initials and acronyms.
        SplitCase{"J. R. R. Tolkien and J.-P. Sartre met. Rarely.",
                  {"J. R. R. Tolkien and J.-P. Sartre met.", "Rarely."}},
        SplitCase{"The U.S. Coast Guard saved the U.S. They did.",
                  {"The U.S. Coast Guard saved the U.S.", "They did."}},
        SplitCase{"It was plan B. The end.", {"It was plan B.", "The end."}},
        SplitCase{"\u00C9. Zola wrote.", {"\u00C9. Zola wrote."}},
        // Decimals, times, addresses.
        SplitCase{"It cost 3.50 or $4.20. Version 1.2.3 of example.com is out.",
                  {"It cost 3.50 or $4.20.", "Version 1.2.3 of example.com is out."}},
        SplitCase{"It was 1999. Then came 2000.", {"It was 1999.", "Then came 2000."}},
        SplitCase{"I give it .5 stars. Bad.", {"I give it .5 stars.", "Bad."}},
        // Quotes and brackets.
        SplitCase{"\"Stop!\" he said. \"Why?\" She left.",
                  {"\"Stop!\" he said.", "\"Why?\"", "She left."}},
        SplitCase{"'It is over.' Then he went. 'Good.'",
                  {"'It is over.'", "Then he went.", "'Good.'"}},
        SplitCase{"\u201CGo now.\u201D \u201CNever!\u201D \u00ABOui.\u00BB Fin.",
                  {"\u201CGo now.\u201D", "\u201CNever!\u201D", "\u00ABOui.\u00BB", "Fin."}},
        SplitCase{"He won (at last!) and left. (Nobody cared.) End.",
                  {"He won (at last!) and left.", "(Nobody cared.)", "End."}},
        // Ellipses.
        SplitCase{"I thought maybe... maybe not. Well... Yes.",
                  {"I thought maybe... maybe not.", "Well...", "Yes."}},
        SplitCase{"Wait\u2026 what\u2026 No.", {"Wait\u2026 what\u2026", "No."}},
        SplitCase{"And so . . . he went . . . The end.",
                  {"And so . . . he went . . .", "The end."}},
        SplitCase{"He ran. ...and then fell.", {"He ran.", "...and then fell."}},
        // Runs.
        SplitCase{"What?! No way!!! Really?? yes.", {"What?!", "No way!!!", "Really??", "yes."}},
        SplitCase{"Good movie!!!!!Watch it.", {"Good movie!!!!!Watch it."}},
        // Lists and lines.
        SplitCase{"1. Buy milk. 2. Go home.", {"1. Buy milk.", "2. Go home."}},
        SplitCase{"1. Milk\n2. Bread\n10. Tea", {"1. Milk", "2. Bread", "10. Tea"}},
        SplitCase{"A title\n\nThe text\ngoes on. End", {"A title", "The text\ngoes on.", "End"}},
        SplitCase{"A title\r\n \t\r\nThe text\r\ngoes on.", {"A title", "The text\r\ngoes on."}},
        SplitCase{"I met Mr.\nSmith.", {"I met Mr.\nSmith."}},
        SplitCase{"Bad.<br /><br />Very<BR/>bad.", {"Bad.", "Very<BR/>bad."}},
        // Other scripts.
        SplitCase{"\u4F60\u597D\u3002\u518D\u89C1\uFF01",
                  {"\u4F60\u597D\u3002", "\u518D\u89C1\uFF01"}},
        SplitCase{"\u041F\u0440\u0438\u0432\u0435\u0442. \u041A\u0430\u043A?",
                  {"\u041F\u0440\u0438\u0432\u0435\u0442.", "\u041A\u0430\u043A?"}},
        SplitCase{"One.\u00A0Two.\u2003Three.", {"One.", "Two.", "Three."}}));

TEST(SplitterRules, NewlinesAreARule) {
  TextRules rules;
  const char* text = "One\ntwo\n\nthree";
  EXPECT_EQ(sentences_of(text, rules), (Strings{"One\ntwo", "three"}));
  rules.splitter.newlines = Newlines::kEvery;
  EXPECT_EQ(sentences_of(text, rules), (Strings{"One", "two", "three"}));
  rules.splitter.newlines = Newlines::kSpace;
  EXPECT_EQ(sentences_of(text, rules), (Strings{text}));
}

TEST(SplitterRules, HtmlBreaksAreARule) {
  TextRules rules;
  const char* text = "One <br/>two<br />three<Br  > four <brr>";
  EXPECT_EQ(words_of(text, rules), (Strings{"one", "two", "three", "four", "brr"}));
  rules.html_breaks = HtmlBreaks::kKeep;
  EXPECT_EQ(words_of(text, rules),
            (Strings{"one", "br", "two", "br", "three", "br", "four", "brr"}));
  rules.html_breaks = HtmlBreaks::kNewline;
  rules.splitter.newlines = Newlines::kEvery;
  EXPECT_EQ(sentences_of(text, rules), (Strings{"One", "two", "three", "four <brr>"}));
}

TEST(SplitterRules, PlainSplitsAtEveryStopBeforeWhiteSpace) {
  TextRules rules;
  rules.splitter = SplitterRules::plain();
  EXPECT_EQ(sentences_of("Mr. X... went 3.5 miles\n\non (ok.) Foot. \"Now.\" yes.", rules),
            (Strings{"Mr.", "X...", "went 3.5 miles\n\non (ok.) Foot.", "\"Now.\"", "yes."}));
}

TEST(SplitterRules, AbbreviationsTravelWithTheRules) {
  TextRules rules;
  EXPECT_EQ(sentences_of("Das ist z.B. Unsinn.", rules).size(), 2u);
  rules.splitter.abbreviations = {"Z.B."};  // case and the last stop do not matter
  EXPECT_EQ(sentences_of("Das ist z.B. Unsinn.", rules).size(), 1u);
}

// Words.

TEST(Words, FollowTheKerasTokenizer) {
  EXPECT_EQ(words_of("Hello, World! foo_bar a-b (x) [y] 10:30\tz\nw"),
            (Strings{"hello", "world", "foo", "bar", "a", "b", "x", "y", "10", "30", "z", "w"}));
  EXPECT_EQ(words_of("don't \"quote\" back\\slash"), (Strings{"dont", "quote", "backslash"}));
}

TEST(Words, AreSplitByEveryWhiteSpaceUnlessTheModelAsksForKerasRule) {
  // What Python's str.split() splits at.
  for (const char* space :
       {" ",      "\t",     "\n",     "\v",     "\f",     "\r",     "\r\n",   "\x1C",
        "\x1D",   "\x1E",   "\x1F",   "\u0085", "\u00A0", "\u1680", "\u2000", "\u2007",
        "\u200A", "\u2028", "\u2029", "\u202F", "\u205F", "\u3000"}) {
    EXPECT_EQ(words_of(std::string("was") + space + "a"), (Strings{"was", "a"})) << space;
  }
  EXPECT_EQ(words_of("zero\u200Bwidth"), (Strings{"zero\u200Bwidth"}));  // no white space
  // keras.preprocessing.text.text_to_word_sequence splits at its split character alone.
  TextRules rules;
  rules.white_space = WhiteSpace::kKeras;
  EXPECT_EQ(words_of("a\u00A0b c\rd e\tf\ng", rules), (Strings{"a\u00A0b", "c\rd", "e", "f", "g"}));
}

TEST(Words, KerasDefaultsKeepTheApostrophe) {
  TextRules rules;
  rules.strip_characters.clear();
  EXPECT_EQ(words_of("Don't 'stop'", rules), (Strings{"don't", "'stop'"}));
}

TEST(Words, SplitAndFiltersAreRules) {
  TextRules rules;
  rules.strip_characters = "x";
  rules.filters = "a";  // filters act on the lowered text, as in Keras
  rules.split = ",";
  rules.splitter = SplitterRules::plain();
  rules.white_space = WhiteSpace::kKeras;
  EXPECT_EQ(words_of("One two,Threefour", rules), (Strings{"one two", "threefour"}));
  EXPECT_EQ(words_of("bAcxd,,e", rules), (Strings{"b", "cd", "e"}));
  rules.lower_case = false;
  EXPECT_EQ(words_of("bAcad", rules), (Strings{"bAc", "d"}));
}

TEST(Words, AreLoweredAsPythonDoes) {
  EXPECT_EQ(words_of("\u00C4RGER \u1E9E \u0130X \u039F\u0394\u039F\u03A3 \u03A3\u0391 \u03A3"),
            (Strings{"\u00E4rger", "\u00DF", "i\u0307x", "\u03BF\u03B4\u03BF\u03C2", "\u03C3\u03B1",
                     "\u03C3"}));
}

TEST(Words, SpansPointIntoTheOriginal) {
  const std::string text = "  \"\u0130stanbul's\" <br />N\u00F6! ";
  const Document document = tokenize(text);
  ASSERT_EQ(document.sentences.size(), 1u);
  const Sentence& sentence = document.sentences[0];
  EXPECT_EQ(sentence.span, (Span{2, text.size() - 1}));
  ASSERT_EQ(sentence.words.size(), 2u);
  EXPECT_EQ(sentence.words[0].text, "i\u0307stanbuls");
  EXPECT_EQ(sentence.words[0].span, (Span{3, 14}));
  EXPECT_EQ(text.substr(3, 11), "\u0130stanbul's");
  EXPECT_EQ(sentence.words[1].span, (Span{22, 25}));
}

TEST(Words, IdsComeFromTheVocabulary) {
  TextRules rules;
  const Document kept = tokenize("The cat and the dog.", rules);
  std::vector<int32_t> ids;
  for (const Word& word : kept.sentences.at(0).words) ids.push_back(word.id);
  EXPECT_EQ(ids, (std::vector<int32_t>{2, 1, 3, 2, 1}));
  EXPECT_EQ(kept.unknown_words, 2u);

  rules.unknown_words = UnknownWords::kDrop;
  const Document dropped = tokenize("The cat and the dog. Cats! A dog.", rules);
  ASSERT_EQ(dropped.sentences.size(), 2u);  // "Cats!" has no word left
  EXPECT_EQ(dropped.sentences[0].words.size(), 3u);
  EXPECT_EQ(dropped.sentences[1].words.at(0).id, 4);
  EXPECT_EQ(dropped.unknown_words, 4u);

  rules.unknown_words = UnknownWords::kIndex;
  rules.max_features = 3;  // ids 0, 1 and 2
  EXPECT_EQ(tokenize("the and a", rules).unknown_words, 2u);
}

TEST(Words, TruncationIsCounted) {
  TextRules rules;
  rules.max_sentences = 2;
  rules.max_words = 3;
  const Document document = tokenize("A b c d e. !!! F g. H i j k. ... L.", rules);
  ASSERT_EQ(document.sentences.size(), 2u);
  EXPECT_EQ(document.sentences[0].words.size(), 3u);
  EXPECT_EQ(document.sentences[1].words.size(), 2u);
  EXPECT_EQ(document.sentences_dropped, 2u);
  EXPECT_EQ(document.words_dropped, 2u + 4u + 1u);
  const Document whole = tokenize("A b c d e. F g. H i j k.");
  EXPECT_EQ(whole.sentences_dropped + whole.words_dropped, 0u);
}

TEST(Words, DroppedUnknownWordsTakeNoPlace) {
  TextRules rules;
  rules.unknown_words = UnknownWords::kDrop;
  rules.max_words = 2;
  const Document document = tokenize("xx the yy and zz a", rules);
  EXPECT_EQ(document.sentences.at(0).words.size(), 2u);
  EXPECT_EQ(document.words_dropped, 1u);
  EXPECT_EQ(document.unknown_words, 3u);
}

// Hostile text.

TEST(InvalidUtf8, IsReplacedPerMaximalSubpart) {
  struct Case {
    const char* bytes;
    size_t replaced;
  };
  // The rows of the Unicode Standard's section 3.9, and truncated ends.
  for (const Case& c : {Case{"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", 8},
                        Case{"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", 8},
                        Case{"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", 7},
                        Case{"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", 4}, Case{"a\xE2\x82", 1},
                        Case{"a\xF0", 1}, Case{"\u20AC\U0010FFFF", 0}}) {
    EXPECT_EQ(decode(c.bytes).invalid_sequences, c.replaced) << c.bytes;
  }
}

TEST(InvalidUtf8, KeepsOffsetsAndIsCounted) {
  const std::string text =
      "ab\xE2\x82"
      "c \xFF.";
  const Document document = tokenize(text);
  EXPECT_EQ(document.invalid_sequences, 2u);
  const std::vector<Word>& words = document.sentences.at(0).words;
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[0].text, "ab\uFFFDc");
  EXPECT_EQ(words[0].span, (Span{0, 5}));
  EXPECT_EQ(words[1].span, (Span{6, 7}));
}

TEST(HugeText, OneWordOfTenMegabytes) {
  const std::string text(10'000'000, 'X');
  const Document document = tokenize(text);
  ASSERT_EQ(document.sentences.size(), 1u);
  EXPECT_EQ(document.sentences[0].words.at(0).text, std::string(text.size(), 'x'));
  EXPECT_EQ(document.sentences[0].words[0].span, (Span{0, text.size()}));
}

TEST(HugeText, PatternsThatInviteQuadraticWork) {
  // Quadratic code would need hours for these.
  TextRules rules;
  rules.max_sentences = 5;
  rules.max_words = 5;
  for (const char* unit : {".", ". ", "\n", "\n ", "'", ". '", "<br ", "(", "a.", "a. ", "1. ",
                           "\u03A3\u0307", "?!", ". . ", "mr. ", "\xE2\x82", " "}) {
    std::string text;
    while (text.size() < 2'000'000) text += unit;
    const Document document = tokenize(text, rules);
    EXPECT_LE(document.sentences.size(), 5u) << unit;
  }
}

TEST(HugeText, NulIsACharacterLikeAnyOther) {
  const std::string text("a\0b the", 7);
  EXPECT_EQ(words_of(text), (Strings{std::string("a\0b", 3), "the"}));
}

// Spans of random texts.

TEST(Spans, OfRandomTextsAreOrderedAndReproduceTheWords) {
  const std::vector<std::string> pieces = {
      "a",      "B",      " ",      " ",      "  ",     ".",      ". ",         "'",      "\"",
      "\\",     "\u0130", "\u1E9E", "\u03A3", "\u03C3", "\u00E9", "\U0001F600", "\u4F60", "<br />",
      "\n",     "\n\n",   "?!",     "...",    "Mr.",    "1. ",    "(",          ")",      "\u0307",
      "\u2126", "\u212A", "\u00A0", "\t",     "-",      "the",    "\u3002",     "Dz"};
  std::mt19937 random(7);
  TextRules html_kept;
  html_kept.html_breaks = HtmlBreaks::kKeep;
  TextRules plain;
  plain.splitter = SplitterRules::plain();
  html_kept.white_space = WhiteSpace::kKeras;
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (size_t n = random() % 60; n > 0; --n) text += pieces[random() % pieces.size()];
    for (const TextRules& rules : {TextRules{}, html_kept, plain}) {
      const CodePointSet stripped(rules.strip_characters, "strip_characters");
      const auto on_boundary = [&](size_t at) {
        return at == text.size() || (at < text.size() && (text[at] & 0xC0) != 0x80);
      };
      size_t reached = 0;
      for (const Sentence& sentence : tokenize(text, rules).sentences) {
        ASSERT_FALSE(sentence.words.empty()) << text;
        ASSERT_LE(reached, sentence.span.begin) << text;
        ASSERT_TRUE(on_boundary(sentence.span.begin) && on_boundary(sentence.span.end)) << text;
        reached = sentence.span.begin;
        for (const Word& word : sentence.words) {
          ASSERT_LE(reached, word.span.begin) << text;
          ASSERT_LT(word.span.begin, word.span.end) << text;
          ASSERT_TRUE(on_boundary(word.span.begin) && on_boundary(word.span.end)) << text;
          reached = word.span.end;
          std::u32string kept;
          for (const char32_t code : decode_strictly(
                   text.substr(word.span.begin, word.span.end - word.span.begin), "slice")) {
            if (!stripped.contains(code)) kept.push_back(code);
          }
          ASSERT_EQ(lower_case(kept), word.text) << text;
        }
        ASSERT_LE(reached, sentence.span.end) << text;
        reached = sentence.span.end;
      }
      ASSERT_LE(reached, text.size());
    }
  }
}

// Vocabulary.

TEST(Vocabulary, LineIHasIdIPlusTwo) {
  const Vocabulary vocabulary = Vocabulary::from_blob("the\n\u00E9t\u00E9\nand");
  EXPECT_EQ(vocabulary.size(), 5);
  EXPECT_EQ(vocabulary.find("the"), 2);
  EXPECT_EQ(vocabulary.find("\u00E9t\u00E9"), 3);
  EXPECT_EQ(vocabulary.find("and"), 4);
  EXPECT_EQ(vocabulary.find("or"), Vocabulary::kUnknownId);
  EXPECT_EQ(vocabulary.find(""), Vocabulary::kUnknownId);
  EXPECT_EQ(vocabulary.word(4), "and");
  EXPECT_ERROR_WITH(vocabulary.word(1), "expected 2 to 4");
  EXPECT_ERROR_WITH(vocabulary.word(5), "expected 2 to 4");
  EXPECT_EQ(vocabulary.to_blob(), "the\n\u00E9t\u00E9\nand\n");
  EXPECT_EQ(Vocabulary::from_blob(vocabulary.to_blob()).to_blob(), vocabulary.to_blob());
}

TEST(Vocabulary, RefusesHostileBlobs) {
  const auto read = [](std::string_view blob) { Vocabulary::from_blob(blob); };
  EXPECT_ERROR_WITH(read(""), "found none");
  EXPECT_ERROR_WITH(read("a\n\nb\n"), "line 2 is empty");
  EXPECT_ERROR_WITH(read("\n"), "line 1 is empty");
  EXPECT_ERROR_WITH(read("a\nb\nc\nb\n"), "line 4 repeats the word 'b' of line 2");
  EXPECT_ERROR_WITH(read(std::string_view("a\nb\0c\n", 6)), "line 2 holds a NUL");
  EXPECT_ERROR_WITH(read("a\nb\n\xC3\n"), "line 3 is not UTF-8 at its byte 0");
  EXPECT_ERROR_WITH(read("a\n" + std::string(1025, 'b')), "line 2 has 1025 bytes");
  EXPECT_ERROR_WITH(read("a\r\nb\r\n"), "carriage return");
  EXPECT_EQ(Vocabulary::from_blob("a\r\nb\n").find("a\r"), 2);
}

TEST(Vocabulary, IsFittedByFrequencyThenFirstAppearance) {
  const Strings texts = {"Dog cat. Bird, bird!", "cat fish; BIRD"};
  TextRules rules;
  EXPECT_EQ(fit_vocabulary(texts, rules).to_blob(), "bird\ncat\ndog\nfish\n");
  rules.max_features = 4;  // padding, unknown and two words
  EXPECT_EQ(fit_vocabulary(texts, rules).to_blob(), "bird\ncat\n");
  EXPECT_ERROR_WITH(fit_vocabulary(Strings{"", "..."}, rules), "no word");
}

TEST(Vocabulary, FitLeavesOutWhatNoBlobCanHold) {
  TextRules rules;
  rules.filters = "";
  rules.white_space = WhiteSpace::kKeras;
  const Strings texts = {std::string(2000, 'x') + " a\nb " + std::string("c\0d", 3) + " e"};
  EXPECT_EQ(fit_vocabulary(texts, rules).to_blob(), "e\n");
}

}  // namespace
}  // namespace tessera
