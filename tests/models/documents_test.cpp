#include "models/text/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string_view>
#include <vector>

#include "tests/support/documents.h"

namespace tessera {
namespace {

using test::Documents;
using test::LabelAndText;
using test::pairs_of;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

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

TEST_F(Documents, ATextThatLooksLikeACollectionIsSaid) {
  const auto notes = [&](const char* name, std::string_view bytes, DocumentOptions options = {}) {
    DocumentReader reader(write(name, bytes), options);
    EXPECT_TRUE(reader.next().has_value());
    std::string all;
    for (const std::string& note : reader.notes()) all += note;
    return all;
  };
  const std::string tsv = "ham\tSee you there.\n\nspam\tBuy now!\nham\tA line that is c";
  for (const char* name : {"SMSSpamCollection", "train.txt"}) {
    EXPECT_TRUE(holds(notes(name, tsv), "looks like a TSV")) << name;
    EXPECT_TRUE(holds(notes(name, tsv), "--format tsv")) << name;
  }
  EXPECT_TRUE(holds(notes("a.txt", "{\"text\": \"x\"}\n{\"text\": \"y\"}\n"), "--format jsonl"));
  for (const char* text :
       {"One.\tTwo.\nThree.\n", "a\tb\n", "\tIndented.\n\tTwice.\n", "a\tb\tc\na\tb\tc\n",
        "{so}\n{or so}\n", "A sentence of forty characters and a few more\tend.\nx\ty\n", ""}) {
    EXPECT_EQ(notes("a.txt", text), "") << text;
  }
  EXPECT_EQ(notes("a.txt", tsv, {.format = DocumentFormat::kText}), "");
  EXPECT_EQ(notes("a.txt", tsv, {.format = DocumentFormat::kLines}), "");
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
  EXPECT_TRUE(holds(records[1].error, "line 2: no JSON from column")) << records[1].error;
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

TEST_F(Documents, WhatIsNoJsonIsSaidInWordsOfOurOwn) {
  const auto error = [&](const std::string& text) {
    const auto records = read_all(write("a.jsonl", text), {.format = DocumentFormat::kJsonl});
    EXPECT_THAT(records.at(0).error, Not(HasSubstr("json.exception"))) << text;
    return records.at(0).error;
  };
  EXPECT_THAT(
      error("{\"text\": \"x\", "),
      HasSubstr("a.jsonl, line 1: no JSON from column 15 on: expected string literal, found "
                "end of input"));
  EXPECT_THAT(error("{\"text\" \"y\"}"),
              HasSubstr("column 11 on: expected ':', found string literal"));
  EXPECT_THAT(error("{\"text\": nul}"), HasSubstr("column 13 on: a word without quotes"));
  EXPECT_THAT(error("{\"text\": -x}"), HasSubstr("invalid number; expected digit after '-'"));
  EXPECT_THAT(error("{\"text\": 1e999}"), HasSubstr("larger than a double"));
  EXPECT_THAT(error("{\"text\": \"a"), EndsWith("invalid string: missing closing quote"));
  EXPECT_THAT(error("{\"text\": \"a\"} b"), EndsWith("expected end of input, found a word without "
                                                     "quotes"));
  // What stands there may look like a part of the message.
  EXPECT_THAT(error("{\"text\": \"'; expected nothing; last read: 'a"), EndsWith("closing quote"));
  const auto lines = read_all(write("a.json", "[7,\n{\"label\": 1,\n \"text\" 2}]"));
  EXPECT_THAT(lines.at(1).error,
              HasSubstr("line 2: no JSON from column 9 of its line 2 on: expected ':'"));
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
  EXPECT_THAT(test::error_of([&] { read_all(path, {.label_field = "none"}); }),
              AllOf(HasSubstr("no column is named \"none\", but \"id\", \"Text\""),
                    HasSubstr("--label-field")));
  EXPECT_EQ(read_all(path, {.text_column = 3, .skip_header = true})[0].text, "x");
  EXPECT_THAT(test::error_of([&] { read_all(path, {.text_field = "body"}); }),
              AllOf(HasSubstr("no column is named \"body\""), HasSubstr("--text-field")));
  EXPECT_THAT(refusal("b.csv", "review,sentiment\nGood.,positive\n"),
              AllOf(HasSubstr("\"review\", \"sentiment\""), HasSubstr("--label-field")));
  EXPECT_THAT(pairs_of(read_all(write("b.csv", "review,sentiment\nGood.,positive\n"),
                                {.text_field = "review", .label_field = "sentiment"})),
              ElementsAre(LabelAndText("positive", "Good.")));
  const std::string twice = write("t.csv", "Text,label,TEXT,label\n1,2,3,4\n");
  EXPECT_THAT(
      test::error_of([&] { read_all(twice); }),
      AllOf(HasSubstr("more than one column is named \"text\""), HasSubstr("--text-column")));
  EXPECT_THAT(test::error_of([&] { read_all(twice, {.text_field = "TEXT"}); }),
              HasSubstr("more than one column is named \"label\""));
  EXPECT_EQ(read_all(twice, {.text_field = "TEXT", .label_field = "Text"})[0].text, "3");
  const auto by_number =
      read_all(twice, {.text_column = 0, .label_column = 3, .skip_header = true});
  EXPECT_THAT(pairs_of(by_number), ElementsAre(LabelAndText("4", "1")));
  // Without names there are a label and a text.
  EXPECT_THAT(pairs_of(read_all(write("c.csv", "3,\"a, b\"\n"))),
              ElementsAre(LabelAndText("3", "a, b")));
  EXPECT_THAT(read_all(write("c.csv", "3,a, b\n"))[0].error, HasSubstr("found 3"));
  EXPECT_THAT(pairs_of(read_all(write("d.csv", "label;text\nx;\"a;b, c\"\n"))),
              ElementsAre(LabelAndText("x", "a;b, c")));
  EXPECT_THAT(pairs_of(read_all(write("e.csv", "label\ttext\nx\ta, b\n"))),
              ElementsAre(LabelAndText("x", "a, b")));
  EXPECT_THAT(pairs_of(read_all(write("f.csv", "label|text\nx|a, b\n"))),
              ElementsAre(LabelAndText("x", "a, b")));
  EXPECT_THAT(pairs_of(read_all(write("g.csv", "sep=;\r\nlabel;text\r\nx;\"a;b, c\"\r\n"))),
              ElementsAre(LabelAndText("x", "a;b, c")));
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
                                HasSubstr("--text-column 1 --label-column 0"))));
  EXPECT_THAT(notes("Sentiment\tReview\nx\ty\n"),
              ElementsAre(AllOf(HasSubstr("header (\"Sentiment\", \"Review\")"),
                                HasSubstr("--text-field review --label-field sentiment"))));
  EXPECT_THAT(notes("a\treview\n", {.text_column = 1}), ElementsAre(HasSubstr("--skip-header")));
  EXPECT_THAT(notes("label\ttext\nneg\tDull.\n", {.skip_header = true}), IsEmpty());
  EXPECT_THAT(notes("neg\tDull\npos\tfine\n"), IsEmpty());
  EXPECT_THAT(notes("text\tA text about a label.\n"), IsEmpty());
  const auto named =
      read_all(write("b.tsv", "id\treview\tlabel\n7\tfine\tpos\n"), {.text_field = "review"});
  EXPECT_THAT(pairs_of(named), ElementsAre(LabelAndText("pos", "fine")));
}

TEST_F(Documents, ATsvIsReadByTheNamesOfItsFirstLine) {
  const auto pairs = [&](const char* bytes, const DocumentOptions& options = {}) {
    return pairs_of(read_all(write("a.tsv", bytes), options));
  };
  const LabelAndText good("positive", "Great film"), bad("negative", "Bad film");
  const char* const numbered = "id\ttext\tlabel\n1\tGreat film\tpositive\n";
  EXPECT_THAT(pairs(numbered), ElementsAre(good));
  EXPECT_THAT(pairs(numbered, {.text_field = "text", .label_field = "label"}), ElementsAre(good));
  EXPECT_THAT(pairs(numbered, {.label_field = "LABEL"}), ElementsAre(good));
  const char* const turned = "Text\tLabel\nGreat film\tpositive\nBad film\tnegative\n";
  EXPECT_THAT(pairs(turned), ElementsAre(good, bad));
  EXPECT_THAT(pairs(turned, {.skip_header = true}), ElementsAre(good, bad));
  EXPECT_THAT(pairs("label\ttext\npositive\tGreat film\n"), ElementsAre(good));
  EXPECT_THAT(pairs("content\ttarget\nGreat film\tpositive\n",
                    {.text_field = "content", .label_field = "target"}),
              ElementsAre(good));
  // The text's name alone, where no label can stand before it.
  const LabelAndText unlabelled("-", "Great film");
  EXPECT_THAT(pairs("text\nGreat film\n"), ElementsAre(unlabelled));
  EXPECT_THAT(pairs("id\ttext\n1\tGreat film\n"), ElementsAre(unlabelled));
  EXPECT_THAT(pairs("\ttext\n1\tGreat film\n"), ElementsAre(unlabelled));
  EXPECT_THAT(pairs("key\ttext\tlang\nk\tGreat film\ten\n"), ElementsAre(unlabelled));
  EXPECT_THAT(pairs("spam\tbody\n0\tGreat film\n", {.text_field = "body"}),
              ElementsAre(unlabelled));
}

TEST_F(Documents, ATsvWithoutNamesIsLabelAndText) {
  const auto pairs = [&](const char* bytes, const DocumentOptions& options = {}) {
    return pairs_of(read_all(write("a.tsv", bytes), options));
  };
  for (const char* first : {"pos\ttext", "text\tgood", "text\tA text of that class.", "text\ttext",
                            "label\tA label.", "pos\tmore\ttext of two columns", "pos\ttext\t"}) {
    const std::string rows = std::string(first) + "\nneg\tDull.\n";
    const auto found = pairs(rows.c_str());
    ASSERT_EQ(found.size(), 2u) << first;
    EXPECT_EQ(found[0].first + "\t" + found[0].second, first);
    EXPECT_EQ(found[1], LabelAndText("neg", "Dull."));
  }
  const char* const plain = "text\tlabel\nneg\tDull.\n";
  EXPECT_THAT(pairs(plain, {.text_column = 1, .label_column = 0}),
              ElementsAre(LabelAndText("text", "label"), LabelAndText("neg", "Dull.")));
  EXPECT_THAT(pairs("some remark\nneg\tDull.\n", {.skip_header = true}),
              ElementsAre(LabelAndText("neg", "Dull.")));
  EXPECT_THAT(pairs("sentiment\treview\nneg\tDull.\n", {.skip_header = true}),
              ElementsAre(LabelAndText("neg", "Dull.")));
}

TEST_F(Documents, NamesThatDoNotFitAreRefused) {
  const char* const numbered = "id\ttext\tlabel\n1\tGreat film\tpositive\n";
  EXPECT_THAT(refusal("a.tsv", numbered, {.text_field = "nosuch"}),
              AllOf(HasSubstr("no column is named \"nosuch\", but \"id\", \"text\", \"label\""),
                    HasSubstr("--text-field")));
  EXPECT_THAT(refusal("a.tsv", numbered, {.label_field = "nosuch"}),
              AllOf(HasSubstr("\"id\", \"text\", \"label\""), HasSubstr("--label-field")));
  EXPECT_THAT(refusal("a.tsv", "pos\tA good film.\n", {.text_field = "text"}),
              HasSubstr("no column is named \"text\", but \"pos\", \"A good film.\""));
  const std::string longer = "pos\t" + std::string(39, 'x') + "\u00E9 and more\n";
  EXPECT_THAT(refusal("a.tsv", longer, {.text_field = "text"}),
              HasSubstr("\"" + std::string(39, 'x') + "..\""));
  EXPECT_THAT(refusal("a.csv", "text,label\na,b\n", {.text_field = "text", .label_field = "Text"}),
              HasSubstr("for the text and the label"));
  EXPECT_THAT(refusal("a.tsv", numbered, {.text_column = 1, .label_field = "label"}),
              AllOf(HasSubstr("by number and by name"), HasSubstr("--label-column")));
  for (const char* ending : {"a.tsv", "a.csv"}) {
    const auto columns = [&](std::string text) {
      if (std::string_view(ending) == "a.csv") std::ranges::replace(text, '\t', ',');
      return text;
    };
    const std::string turned = columns("Review\tSentiment\nGood\tpositive\n");
    for (const bool skip : {false, true})
      EXPECT_THAT(refusal(ending, turned, {.skip_header = skip}),
                  AllOf(HasSubstr("\"Review\", \"Sentiment\""),
                        HasSubstr("--text-field review --label-field sentiment")))
          << ending;
    EXPECT_THAT(
        refusal(ending, columns("Id\tThe opinion\tStars\n1\tGood\t5\n"), {.skip_header = true}),
        HasSubstr("--text-field NAME --label-field stars"))
        << ending;
  }
}

TEST_F(Documents, LabelsThatNoNameFindsAreSaid) {
  const auto notes = [&](const char* name, const char* bytes, DocumentOptions options = {}) {
    DocumentReader reader(write(name, bytes), std::move(options));
    while (reader.next()) {
    }
    return reader.notes();
  };
  EXPECT_THAT(notes("a.csv", "text,sentiment\nGood,positive\n"),
              ElementsAre(HasSubstr("--label-field sentiment")));
  EXPECT_THAT(notes("a.csv", "text,author\nGood,me\n"), IsEmpty());
  const char* const object = "{\"text\": \"Good\", \"stars\": 5}\n";
  EXPECT_THAT(notes("a.jsonl", object, {.label_field = "star"}),
              ElementsAre(AllOf(HasSubstr("\"star\""), HasSubstr("--label-field"))));
  EXPECT_THAT(notes("a.jsonl", object, {.label_field = "stars"}), IsEmpty());
  EXPECT_THAT(notes("a.jsonl", object), IsEmpty());
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
  for (size_t i = 0; i < records.size(); ++i) EXPECT_EQ(records[i].number, i + 1);
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
  EXPECT_THAT(bad[1].error, HasSubstr("no JSON"));
  EXPECT_EQ(bad[2].text, "y");
}

TEST_F(Documents, LinesAreDocuments) {
  const auto records =
      read_all(write("a.tsv", "one\ttwo\r\n\nthree"), {.format = DocumentFormat::kLines});
  EXPECT_THAT(pairs_of(records),
              ElementsAre(LabelAndText("-", "one\ttwo"), LabelAndText("-", "three")));
  EXPECT_EQ(records[1].line, 3u);
}

}  // namespace
}  // namespace tessera
