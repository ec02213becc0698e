// HANs of other programs against PyTorch's answers, and their vocabularies
// (tools/golden/make_pytorch_goldens.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "engine/files/json_text.h"
#include "models/import/import.h"
#include "models/session.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using nlohmann::json;
using test::error_of;
using testing::AllOf;
using testing::HasSubstr;

std::filesystem::path golden(const std::string& name) {
  return test::source_dir() / "tests/golden/import/pytorch" / name;
}

ImportOptions options_of(const std::filesystem::path& vocabulary,
                         std::map<std::string, std::string> choices = {}) {
  ImportOptions options;
  options.vocabulary = vocabulary;
  options.choices = std::move(choices);
  return options;
}

struct ForeignHan {
  const char* name;
  const char* family;
  const char* vocabulary;  // a file beside it, or empty
};
void PrintTo(const ForeignHan& han, std::ostream* out) {
  *out << han.name;
}

class ForeignHans : public testing::TestWithParam<ForeignHan> {
 protected:
  ImportOptions options() const {
    const bool beside = *GetParam().vocabulary != '\0';
    return options_of(beside ? golden(GetParam().vocabulary) : "", {{"sentences", "plain"}});
  }
  std::filesystem::path file() const {
    return golden(std::string("han_") + GetParam().name + ".pt");
  }
};

INSTANTIATE_TEST_SUITE_P(
    Families, ForeignHans,
    testing::Values(
        ForeignHan{"sgrvinod", "sgrvinod/a-PyTorch-Tutorial-to-Text-Classification", ""},
        ForeignHan{"uvipen", "uvipen/Hierarchical-attention-networks-pytorch", "glove.txt"},
        ForeignHan{"uvipen_plain", "uvipen/Hierarchical-attention-networks-pytorch", "glove.txt"},
        ForeignHan{"cedias", "cedias/Hierarchical-Sentiment", ""},
        ForeignHan{"joungheekim", "JoungheeKim/Pytorch-Hierarchical-Attention-Network",
                   "words.txt"}),
    [](const auto& param) { return std::string(param.param.name); });

TEST_P(ForeignHans, GivePyTorchsAnswers) {
  Imported imported = import_model(file(), options());
  EXPECT_EQ(imported.family, GetParam().family);
  const test::TempFolder scratch;
  const std::string path = (scratch.path() / "han.safetensors").string();
  save_model(path, imported.config, imported.tensors, imported.vocabulary);

  std::ifstream expected_file(golden(std::string("han_") + GetParam().name + ".json"));
  const json expected = json::parse(expected_file);
  const auto text = expected["text"].get<std::string>();
  Session session = Session::open(path, {.device = "cpu", .threads = 1});
  const Classification answer = session.classify(std::string_view(text));
  ASSERT_EQ(answer.error, "");
  EXPECT_EQ(answer.unknown_words, 1u);

  // Sums of some ten terms in f32, and two levels of them.
  constexpr double kBound = 2e-6;
  const auto expect_near = [&](double value, double other, const std::string& what) {
    EXPECT_TRUE(std::abs(value - other) <= kBound) << what << ": " << value << ", " << other;
  };
  ASSERT_EQ(answer.probabilities.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i)
    expect_near(answer.probabilities[i], expected["probabilities"][i], "probability");
  ASSERT_EQ(answer.sentences.size(), expected["sentence_weights"].size());
  for (std::size_t i = 0; i < answer.sentences.size(); ++i) {
    expect_near(answer.sentences[i].weight, expected["sentence_weights"][i], "sentence");
    ASSERT_EQ(answer.sentences[i].words.size(), expected["word_weights"][i].size());
    for (std::size_t j = 0; j < answer.sentences[i].words.size(); ++j)
      expect_near(answer.sentences[i].words[j].weight, expected["word_weights"][i][j], "word");
  }
}

TEST_P(ForeignHans, OpenWithoutAStepBetweenWhereTheVocabularyIsInTheFile) {
  if (*GetParam().vocabulary != '\0') {
    EXPECT_THAT(error_of([&] { open_model(file()); }),
                AllOf(HasSubstr("vocabulary"), HasSubstr("--vocabulary")));
  } else {
    EXPECT_EQ(open_model(file()).vocabulary->size(),
              import_model(file(), options()).vocabulary->size());
  }
}

TEST(ForeignHan, TheTanhAroundItsScoresFollowsTheSourceOrTheUser) {
  const auto score_of = [](const char* name, std::map<std::string, std::string> choices) {
    const Imported imported =
        import_model(golden(name), options_of(golden("glove.txt"), std::move(choices)));
    const HanConfig& config = *imported.config.han;
    EXPECT_TRUE(config.carried);
    EXPECT_FALSE(config.masked);
    EXPECT_EQ(config.max_sentences, 4);
    EXPECT_EQ(config.max_words, 8);
    return std::pair(config.tanh_word_score, config.tanh_sentence_score);
  };
  EXPECT_EQ(score_of("han_uvipen.pt", {}), std::pair(true, true));
  EXPECT_EQ(score_of("han_uvipen_plain.pt", {}), std::pair(false, false));
  EXPECT_EQ(score_of("han_uvipen.pt", {{"score", "tanh_sentence"}}), std::pair(false, true));
  EXPECT_THAT(error_of([&] {
                score_of("han_uvipen.pt", {{"score", "relu"}});
              }),
              HasSubstr("expected one of"));
}

TEST(ForeignHan, RowsOfTheEmbeddingFollowTheVocabulary) {
  const Imported imported = import_model(golden("han_sgrvinod.pt"));
  EXPECT_EQ(imported.vocabulary->size(), 13);
  EXPECT_EQ(imported.vocabulary->find("alpha"), 2);
  EXPECT_EQ(imported.vocabulary->find("lambda"), 12);
  EXPECT_EQ(imported.config.han->words, 13);
  // A word whose row is the unknown one's is unknown.
  EXPECT_EQ(import_model(golden("han_cedias.pt")).vocabulary->find("strange"),
            Vocabulary::kUnknownId);
}

class ForeignHanWords : public testing::Test {
 protected:
  std::filesystem::path write(const std::string& text) {
    const std::filesystem::path path = scratch_.path() / "words";
    std::ofstream(path, std::ios::binary) << text;
    return path;
  }
  test::TempFolder scratch_;
};

TEST_F(ForeignHanWords, ThatDoNotFitTheEmbeddingAreRefused) {
  EXPECT_THAT(
      error_of([&] { import_model(golden("han_uvipen.pt"), options_of(write("one\ntwo\n"))); }),
      AllOf(HasSubstr("2 words"), HasSubstr("12 rows"), HasSubstr("expected 11 words")));
  EXPECT_THAT(
      error_of([&] { import_model(golden("han_cedias.pt"), options_of(write("{\"x\": 400}"))); }),
      HasSubstr("row 400"));
}

TEST(RealModels, CheckpointsOfTheHanOfImdbAgreeWithPyTorch) {
  const std::filesystem::path folder = test::shared_dir() / "models/han_imdb";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const ImportOptions options = options_of(folder / "han_imdb_vocabulary.txt");
  const Imported expected = import_model(folder / "han_imdb_gru50.safetensors", options);
  EXPECT_EQ(expected.family, "HAN of the paper");
  for (const char* name : {"han_imdb_gru50.pt", "han_imdb_gru50_legacy.pt"}) {
    const Imported imported = import_model(folder / name, options);
    ASSERT_EQ(imported.tensors.size(), expected.tensors.size());
    EXPECT_EQ(imported.vocabulary->to_blob(), expected.vocabulary->to_blob());
    for (const auto& [tensor, view] : expected.tensors)
      EXPECT_EQ(std::memcmp(imported.tensors.at(tensor).pointer, view.pointer, view.type.bytes()),
                0)
          << tensor;
  }
}

}  // namespace
}  // namespace tessera
