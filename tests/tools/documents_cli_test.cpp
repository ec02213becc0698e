// Documents and labels as a user gives them to `classify`, `eval` and `train`: kinds of files,
// white space, headers, labels that are none of the classes.
#include "tests/support/cli.h"

namespace tessera::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

class DocumentsCli : public Cli {
 protected:
  // The small HAN with other classes and text rules.
  std::string model_of(const std::vector<std::string>& classes, const json& rules) {
    HanConfig han;
    han.words = 7;
    han.features = 6;
    han.units = 5;
    han.attention = 4;
    han.classes = static_cast<int>(classes.size());
    han.max_sentences = 3;
    han.max_words = 6;
    json infos = json::array();
    for (const std::string& name : classes) infos.push_back({{"name", name}});
    const fs::path path = at("models/made.safetensors");
    write_model(path, build_han(han),
                {{DType::kI32, {1, 3, 6}}, {DType::kI32, {1, 3}}, {DType::kI32, {1}}},
                {{"format", 1},
                 {"architecture", "han"},
                 {"han", to_json(han)},
                 {"text", rules},
                 {"classes", infos}},
                "the\nfilm\nwas\ngreat\ndull\n");
    return path.string();
  }

  // Label and probability of each document, without its name.
  std::vector<std::string> answers(const std::string& file, const std::string& model) {
    const Result result = run({"classify", file, "-m", model});
    EXPECT_EQ(result.code, 0) << result.err;
    std::vector<std::string> lines;
    std::istringstream stream(result.out);
    for (std::string line; std::getline(stream, line);)
      if (!line.starts_with('#')) lines.push_back(line.substr(0, line.rfind('\t')));
    return lines;
  }
};

TEST_F(DocumentsCli, KindsByContentGiveTheSameAnswers) {
  const std::string one = "the film was great. dull", two = "dull\nfilm, the film";
  const json objects = {{{"text", one}, {"label", "good"}}, {{"text", two}, {"label", "bad"}}};
  write_bytes(at("a.jsonl"), objects[0].dump() + "\n" + objects[1].dump() + "\n");
  const std::vector<std::string> expected = answers("a.jsonl", han_);
  ASSERT_EQ(expected.size(), 2u);
  write_bytes(at("b.JSON"), objects.dump(1));
  write_bytes(at("c.csv"), "label,text\ngood," + one + "\nbad,\"" + two + "\"\n");
  write_bytes(at("d.TSV"), "good\t" + one + "\nbad\t\"" + two + "\"\n");
  write_bytes(at("e"), objects.dump());
  for (const char* name : {"b.JSON", "c.csv", "d.TSV", "e"})
    EXPECT_EQ(answers(name, han_), expected) << name;
  // Values on one line have names of their own.
  EXPECT_THAT(run(classify({"e"})).out, AllOf(HasSubstr("\te:1\n"), HasSubstr("\te:2\n")));
  fs::create_directories(at("in/deeper"));
  for (const char* name : {"b.JSON", "c.csv", "d.TSV"})
    fs::rename(at(name), at("in/deeper") / name);
  EXPECT_EQ(answers("in", han_).size(), 6u);
  expect_error(run(classify({"e", "--format", "csv"})), 1, "");  // what is said overrules
}

TEST_F(DocumentsCli, BinariesAreRefusedInABatch) {
  make_image("in/image.txt");
  write_bytes(at("in/good.txt"), "great");
  write_bytes(at("in/pointer.tsv"), "version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
  const Result result = run(classify({"in"}));
  EXPECT_EQ(result.code, 3);
  EXPECT_EQ(lines_of(result.out), 1u) << result.out;
  EXPECT_THAT(result.err, AllOf(HasSubstr("in/image.txt: expected a text, found a PNG image"),
                                HasSubstr("git lfs pull")));
}

TEST_F(DocumentsCli, WhiteSpaceSplitsUnlessTheModelAsksForKerasRule) {
  write_bytes(at("lf.jsonl"), R"({"text": "The film\nwas great.\nThe film was dull."})");
  write_bytes(at("crlf.jsonl"),
              R"({"text": "The\u00a0film\r\nwas\u3000great.\r\nThe\ffilm was\u2028dull."})");
  EXPECT_EQ(answers("crlf.jsonl", han_), answers("lf.jsonl", han_));
  const Result unknown = run(classify({"crlf.jsonl", "--json"}));
  EXPECT_THAT(unknown.out, HasSubstr("\"unknown_words\":0"));
  EXPECT_THAT(run({"info", han_}).out, HasSubstr("white_space splits"));

  const std::string keras = model_of({"bad", "good"}, {{"white_space", "keras"}});
  EXPECT_NE(answers("crlf.jsonl", keras), answers("lf.jsonl", keras));
  EXPECT_THAT(run({"classify", "crlf.jsonl", "--json", "-m", keras}).out,
              Not(HasSubstr("\"unknown_words\":0")));
  EXPECT_THAT(run({"info", keras}).out, HasSubstr("white_space keras"));
}

TEST_F(DocumentsCli, NumbersAmongNumberedClassesAreNamesAlone) {
  const std::string model = model_of({"1", "2", "3", "4", "50"}, json::object());
  write_bytes(at("a.tsv"), "1\tgreat\n0\tgreat\n6\tgreat\n5\tgreat\n+1\tgreat\n");
  const Result labels = run({"classify", "a.tsv", "-m", model});
  EXPECT_THAT(labels.out, HasSubstr("of 1 right; 4 more have a label that the model does not know"))
      << labels.out;
  const Result result = run({"eval", "a.tsv", "-m", model});
  EXPECT_EQ(result.code, 3);
  EXPECT_THAT(result.err, AllOf(HasSubstr("label '0'"), HasSubstr("label '6'"),
                                HasSubstr("label '5'"), HasSubstr("label '+1'")));
  EXPECT_THAT(result.out, HasSubstr("of 1 right"));
}

TEST_F(DocumentsCli, NumbersAreIndicesIfAllLabelsAreOfClasses) {
  write_bytes(at("a.tsv"), "1\tgreat\n0\tgreat\ngood\tgreat\n");
  const Result result = run({"eval", "a.tsv", "-m", han_});
  EXPECT_EQ(result.code, 0);
  EXPECT_THAT(result.out, HasSubstr("of 3 right"));
  EXPECT_THAT(result.err, HasSubstr("2 of the labels are numbers, taken as indices of classes"));
  EXPECT_THAT(run({"classify", "a.tsv", "-m", han_}).out,
              AllOf(HasSubstr("of 3 right; 2 of the labels are numbers")));

  // Stars are no indices, though 1 could be one.
  write_bytes(at("b.tsv"), "1\tfilm\n4\tgreat film\n5\tgreat\n2\tdull\n");
  EXPECT_THAT(run({"classify", "b.tsv", "-m", han_}).out,
              HasSubstr("# no accuracy: no label is the name of a class; 4 have a label that"));
  const Result stars = run({"eval", "b.tsv", "-m", han_});
  EXPECT_EQ(stars.code, 3);
  EXPECT_EQ(stars.out, "");
  EXPECT_THAT(stars.err, AllOf(HasSubstr("label '1': 1 documents"), HasSubstr("no index either"),
                               HasSubstr("label '2'"), HasSubstr("label '5'")));
  const Result lines = run({"classify", "b.tsv", "-m", han_, "--json"});
  EXPECT_THAT(lines.out, AllOf(HasSubstr("\"accuracy\":null"), HasSubstr("\"labelled\":0"),
                               HasSubstr("\"labels_unknown_to_the_model\":4")));

  // A name beside them counts alone.
  write_bytes(at("c.tsv"), "1\tfilm\n4\tgreat film\ngood\tgreat\n");
  EXPECT_THAT(run({"eval", "c.tsv", "-m", han_}).out, HasSubstr("of 1 right"));
  EXPECT_THAT(run({"classify", "c.tsv", "-m", han_}).out,
              HasSubstr("of 1 right; 2 more have a label that the model does not know"));
}

TEST_F(DocumentsCli, LabelsThatLookAlikeAndHeadersAreSaid) {
  const std::string rows =
      "label\ttext\nneg\tDull film.\npos\tGood film.\nneg \tBad film.\nPos\tFine film.\n";
  write_bytes(at("a.tsv"), rows + "neg\tA bad one.\npos\tA fine one.\n");
  const Result checked = run({"train", "han", "a.tsv", "-o", "m.safetensors", "--check"});
  EXPECT_THAT(checked.err, AllOf(HasSubstr("\"neg\", \"neg \""), HasSubstr("\"pos\", \"Pos\""),
                                 HasSubstr("it names the columns (\"label\", \"text\")"),
                                 HasSubstr("of 4 classes")));
  const Result clean =
      run({"train", "han", "a.tsv", "-o", "m.safetensors", "--check", "--skip-header"});
  EXPECT_THAT(clean.err, Not(HasSubstr("columns")));
  EXPECT_THAT(clean.err, HasSubstr("of 4 classes"));

  write_bytes(at("b.tsv"), "label\ttext\ngood\tgreat\nGood\tfilm\nBAD \tdull\n");
  const Result evaluated = run({"eval", "b.tsv", "-m", han_});
  EXPECT_EQ(evaluated.code, 3);
  EXPECT_THAT(evaluated.err, AllOf(HasSubstr("\"good\", \"Good\""), HasSubstr("\"bad\", \"BAD \""),
                                   HasSubstr("it names the columns")));
  EXPECT_THAT(run(classify({"b.tsv"})).err, HasSubstr("it names the columns"));
  EXPECT_THAT(run(classify({"b.tsv", "--skip-header"})).err, IsEmpty());
}

TEST_F(DocumentsCli, TrainingReadsEveryKind) {
  json rows = json::array();
  std::string csv = "text,label\n";
  for (int i = 0; i < 20; ++i) {
    const std::string text = i % 2 == 0 ? "A lovely film.\nSeen twice." : "An awful, awful film.";
    const char* label = i % 2 == 0 ? "good" : "bad";
    rows.push_back({{"text", text}, {"label", label}});
    csv += "\"" + text + "\"," + label + "\n";
  }
  write_bytes(at("a.json"), rows.dump());
  write_bytes(at("a.CSV"), csv);
  for (const char* name : {"a.json", "a.CSV"}) {
    const Result result = run({"train", "han", name, "-o", "m.safetensors", "--check"});
    EXPECT_EQ(result.code, 0) << result.err;
    EXPECT_THAT(result.err, AllOf(HasSubstr("18 training and 2 validation documents of 2 classes"),
                                  HasSubstr("vocabulary of 7 words")));
  }
  write_bytes(at("a.txt"), "good\tx\nbad\ty\n");
  const Result text = run({"train", "han", "a.txt", "-o", "m.safetensors", "--check"});
  EXPECT_EQ(text.code, 1);
  EXPECT_THAT(text.err, HasSubstr("a.txt: expected labelled documents"));
  EXPECT_EQ(
      run({"train", "han", "a.txt", "-o", "m.safetensors", "--check", "--format", "tsv"}).code, 0);
}

}  // namespace
}  // namespace tessera::test
