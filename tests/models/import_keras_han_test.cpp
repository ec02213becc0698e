// Keras' HANs and the vocabularies beside them. tools/golden/make_keras_han_goldens.py wrote them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "engine/files/weights.h"
#include "models/import/import.h"
#include "models/import/vocabulary_file.h"
#include "tests/support/error.h"
#include "tests/support/golden.h"
#include "tests/support/network.h"
#include "tests/support/paths.h"
#include "tests/support/sanitizers.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using test::error_of;
using test::Tensor;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::filesystem::path golden(const std::string& name) {
  return test::source_dir() / "tests/golden/import" / name;
}

class Scratch : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& name, const std::string& text) {
    std::ofstream(folder_.path() / name, std::ios::binary) << text;
    return folder_.path() / name;
  }
  VocabularyFile read(const std::string& text) {
    return read_vocabulary_file(write("words", text));
  }

  test::TempFolder folder_;
};

struct HanFile {
  const char* file;
  const char* answer;
};

class KerasHan : public Scratch, public testing::WithParamInterface<HanFile> {};

TEST_P(KerasHan, AnswersAsKerasDoes) {
  std::string index;  // the words w1 ... w19, Keras' ids of them
  for (int i = 1; i < 20; ++i) index += fmt::format("{}\"w{}\": {}", i > 1 ? ", " : "{", i, i);
  ImportOptions options;
  options.vocabulary = write("index.json", index + "}");
  const Imported imported = import_model(golden(GetParam().file), options);
  Weights answers = Weights::open(golden(std::string(GetParam().answer) + ".safetensors"));
  const TensorView ids = answers.take_any_shape("ids");
  const TensorView expected = answers.take_any_shape("probabilities");

  std::vector<Document> documents;
  const Shape shape = ids.shape();
  for (std::int64_t d = 0; d < shape[0]; ++d) {
    Document& document = documents.emplace_back();
    for (std::int64_t s = 0; s < shape[1]; ++s) {
      Sentence sentence;
      for (std::int64_t w = 0; w < shape[2]; ++w) {
        const std::int32_t id = ids.as<std::int32_t>()[(d * shape[1] + s) * shape[2] + w];
        const std::string word = fmt::format("w{}", id);
        if (id > 0) sentence.words.push_back({word, imported.vocabulary->find(word), {}});
      }
      if (!sentence.words.empty()) document.sentences.push_back(sentence);
    }
  }
  const HanConfig& config = *imported.config.han;
  HanBatch batch = batch_documents(config, documents);
  std::vector<Tensor> inputs;
  for (const TensorView& view : batch.inputs(config)) inputs.push_back(test::copy_of(view));
  const std::vector<float> found =
      test::run_graph_reference(
          build_han(config),
          [&](const std::string& name, const Shape&) { return imported.tensors.at(name); },
          inputs)[0]
          .values();
  ASSERT_EQ(found.size(), static_cast<std::size_t>(expected.shape().elements()));
  for (std::size_t i = 0; i < found.size(); ++i)
    EXPECT_TRUE(std::abs(found[i] - expected.as<float>()[i]) <= 1e-5f)
        << i << ": " << found[i] << ", expected " << expected.as<float>()[i];
  EXPECT_TRUE(imported.unused.empty()) << imported.unused[0];
}

INSTANTIATE_TEST_SUITE_P(
    Files, KerasHan,
    testing::Values(HanFile{"keras_han_deepresearch.h5", "keras_han_deepresearch"},
                    HanFile{"keras_han_deepresearch.keras", "keras_han_deepresearch"},
                    HanFile{"keras_han_deepresearch_k3.h5", "keras_han_deepresearch_k3"},
                    HanFile{"keras_han_deepresearch_k3.keras", "keras_han_deepresearch_k3"},
                    HanFile{"keras_han_richliao.h5", "keras_han_richliao"},
                    HanFile{"keras_han_gru_k3.keras", "keras_han_gru_k3"},
                    HanFile{"keras_han_gru.h5", "keras_han_gru"},
                    HanFile{"keras_han_cudnn.h5", "keras_han_gru"}),
    [](const auto& instance) {
      std::string name = instance.param.file;
      std::ranges::replace(name, '.', '_');
      return name;
    });

TEST(KerasHanFile, NeedsAVocabulary) {
  EXPECT_THAT(error_of([] { import_model(golden("keras_han_gru.h5")); }),
              AllOf(HasSubstr("--vocabulary"), HasSubstr("tokenizer.json")));
}

// ---- vocabularies

std::vector<std::string> words_of(const VocabularyFile& file) {
  std::vector<std::string> words;
  for (const VocabularyFile::Entry& entry : file.entries)
    words.push_back(fmt::format("{}={}", entry.id, entry.word));
  return words;
}

TEST(VocabularyFiles, KerasTokenizersAreOneInEveryForm) {
  const VocabularyFile expected = read_vocabulary_file(golden("keras_tokenizer.json"));
  EXPECT_EQ(words_of(expected).front(), "1=the");
  EXPECT_EQ(expected.entries.size(), 13u);
  EXPECT_EQ(expected.id_limit, 12);
  ASSERT_TRUE(expected.rules.has_value());
  EXPECT_EQ(expected.rules->unknown_words, UnknownWords::kDrop);
  EXPECT_EQ(expected.rules->white_space, WhiteSpace::kKeras);
  for (const char* name : {"keras_tokenizer_twice.json", "keras_tokenizer_2.pickle",
                           "keras_tokenizer_4.pickle", "keras_tokenizer_5.pickle"}) {
    const VocabularyFile file = read_vocabulary_file(golden(name));
    EXPECT_EQ(words_of(file), words_of(expected)) << name;
    EXPECT_EQ(file.rules, expected.rules) << name;
    EXPECT_EQ(file.id_limit, expected.id_limit) << name;
  }
}

// oov_token=True makes the boolean a key, which JSON writes as the word "true".
TEST(VocabularyFiles, TheBooleanTrueIsNotTheWord) {
  const VocabularyFile file = read_vocabulary_file(golden("keras_tokenizer_true.json"));
  EXPECT_EQ(file.unknown_id, 1);
  EXPECT_EQ(file.rules->unknown_words, UnknownWords::kIndex);
  const auto words = words_of(file);
  EXPECT_EQ(words[0], "1=true");
  EXPECT_EQ(std::ranges::count_if(words, [](const auto& word) { return word.ends_with("=true"); }),
            2);
}

using VocabularyForms = Scratch;

TEST_F(VocabularyForms, ListsAndMapsAreToldApart) {
  EXPECT_THAT(words_of(read("the\na\r\n\nof\n")), ElementsAre("0=the", "1=a", "2=of"));
  EXPECT_THAT(words_of(read("the 0.1 -2e-3\na 1 2\n")), ElementsAre("0=the", "1=a"));
  EXPECT_THAT(words_of(read("2 3\nthe 1 2 3\n1 1 2 3\n")), ElementsAre("0=the", "1=1"));
  EXPECT_THAT(words_of(read(R"(["the", "a"])")), ElementsAre("0=the", "1=a"));
  EXPECT_THAT(words_of(read(R"({"a": 2, "the": 1})")), ElementsAre("1=the", "2=a"));
  EXPECT_THAT(words_of(read(R"({"2": "a", "1": "the"})")), ElementsAre("1=the", "2=a"));
  EXPECT_EQ(read(R"({"<pad>": 0, "a": 1, "<unk>": 2})").unknown_id, 2);
}

TEST(VocabularyFiles, PicklesOfAllProtocolsAndJsonAreTheSame) {
  const auto words = [](const std::string& name) {
    return words_of(read_vocabulary_file(golden("pytorch/" + name)));
  };
  EXPECT_EQ(words("words.json").size(), 13u);
  for (int protocol = 0; protocol <= 5; ++protocol)
    EXPECT_EQ(words(fmt::format("words_{}.pickle", protocol)), words("words.json")) << protocol;
  EXPECT_THAT(error_of([&] { words("command.pickle"); }),
              HasSubstr("give the tokenizer or its word_index"));
}

TEST_F(VocabularyForms, WordsOfAListKeepTheirFirstPlace) {
  const VocabularyFile doubled = read("a\nb\na\nc\n");
  EXPECT_THAT(words_of(doubled), ElementsAre("0=a", "1=b", "3=c"));
  EXPECT_EQ(doubled.listed, 4);
  // GloVe has words with blanks.
  EXPECT_THAT(words_of(read("the 0.5 -1\n. . . 1e-3 2\nnew\t0 0\n")),
              ElementsAre("0=the", "1=. . .", "2=new"));
  EXPECT_THAT(words_of(read("\xef\xbb\xbfthe\r\nnew york\r\n")),
              ElementsAre("0=the", "1=new york"));
  EXPECT_THAT(words_of(read("[\n(\nthe\n")), ElementsAre("0=[", "1=(", "2=the"));
}

TEST_F(VocabularyForms, WordsMayShareAnId) {
  EXPECT_THAT(words_of(read(R"({"the": 1, "a": 1})")), ElementsAre("1=the", "1=a"));
}

TEST_F(VocabularyForms, WhatIsNoVocabularySaysWhatIs) {
  EXPECT_THAT(error_of([&] { read("the 1 2\na 1\n"); }), HasSubstr("line 2"));
  EXPECT_THAT(error_of([&] { read("{}"); }), HasSubstr("{word: row}"));
  EXPECT_THAT(error_of([&] { read("{\n  \"a\": 1,\n"); }), HasSubstr("begins as JSON"));
  for (const char* text : {"{\"a\": \"b\"}", "[1]", "{\"a\": 1e99}"})
    EXPECT_THAT(error_of([&] { read(text); }), HasSubstr("expected")) << text;
  EXPECT_THAT(error_of([&] { read(R"({"a": 1.5})"); }), HasSubstr("whole number"));
  EXPECT_THAT(error_of([&] { read(R"({"a": {"b": 1}})"); }), HasSubstr("expected its id"));
  EXPECT_THAT(error_of([&] { read(R"({"a": -1})"); }), HasSubstr("word_index"));
  EXPECT_THAT(error_of([&] { read(R"({"class_name": "Tokenizer", "config": {}})"); }),
              HasSubstr("to_json()"));
  EXPECT_THAT(error_of([&] { read(R"({"a": )"); }), HasSubstr("to_json()"));
  EXPECT_THAT(error_of([&] { read(std::string("PK\0\0", 4)); }), HasSubstr("list of words"));
  std::string nested = "\"a\"";
  for (int i = 0; i < 6; ++i) nested = nlohmann::json(nested).dump();
  EXPECT_THAT(error_of([&] { read(nested); }), HasSubstr("levels deep"));
  EXPECT_THAT(error_of([&] { read(std::string(100, '[') + std::string(100, ']')); }),
              HasSubstr("nests deeper"));
}

constexpr int kMillion = 1'000'000 / test::kTimesLess;

TEST_F(VocabularyForms, AMillionEqualWordsAreOne) {
  std::string text = "{";
  for (int i = 1; i <= kMillion; ++i) text += fmt::format("\"word\":{},", i);
  const VocabularyFile file = read(text + "\"other\":3}");
  EXPECT_THAT(words_of(file), ElementsAre("3=other", fmt::format("{}=word", kMillion)));
  EXPECT_THAT(file.notes,
              ElementsAre(HasSubstr(fmt::format("{} of {}", kMillion - 1, kMillion + 1))));
}

TEST_F(VocabularyForms, AMillionEqualWordsOfAPickleAreOne) {
  std::string pickle = "\x80\x02}(";
  for (int i = 0; i < kMillion; ++i) pickle += std::string("X\4\0\0\0wordK\7", 11);
  EXPECT_THAT(words_of(read(pickle + "u.")), ElementsAre("7=word"));
}

TEST_F(VocabularyForms, RowsFollowTheWords) {
  const std::vector<float> rows{0, 0, 10, 11, 20, 21, 30, 31, 40, 41};
  StoredTensor embedding{
      "embeddings", StoredTensor::Type::kF32, {5, 2}, {}, std::as_bytes(std::span(rows))};
  const OrderedVocabulary with_unknown =
      order_vocabulary(read(R"({"b": 3, "<unk>": 1, "a": 2, "c": 9})"), embedding);
  EXPECT_EQ(with_unknown.vocabulary.to_blob(), "a\nb\n");
  EXPECT_EQ(with_unknown.embedding.values, (std::vector<float>{0, 0, 10, 11, 20, 21, 30, 31}));
  EXPECT_TRUE(with_unknown.knows_unknown);
  EXPECT_THAT(with_unknown.notes, ElementsAre(HasSubstr("no row")));
  // A list of four words and five rows: the first word is 1.
  const OrderedVocabulary listed = order_vocabulary(read("a\nb\nc\nd\n"), embedding);
  EXPECT_EQ(listed.embedding.values[4], 10);
  EXPECT_FALSE(listed.knows_unknown);
  EXPECT_THAT(error_of([&] { order_vocabulary(read("a\nb\nc\nd\ne\nf\n"), embedding); }),
              HasSubstr("has 5 rows"));
}

}  // namespace
}  // namespace tessera
