// The text pipeline against ids that another program made from real reviews.
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "models/text/documents.h"
#include "models/text/text.h"
#include "tests/support/paths.h"

namespace tessera {
namespace {

constexpr int64_t kSentences = 20;
constexpr int64_t kWords = 40;
constexpr size_t kReviews = 64;
constexpr size_t kEveryNth = 5;  // the reference took every fifth review of the test set

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::vector<int32_t> read_tensor(const std::string& safetensors, const char* name) {
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, safetensors.data(), sizeof header_bytes);
  const auto header = nlohmann::json::parse(safetensors.substr(sizeof header_bytes, header_bytes));
  const auto offsets = header.at(name).at("data_offsets").get<std::vector<size_t>>();
  std::vector<int32_t> values((offsets.at(1) - offsets.at(0)) / sizeof(int32_t));
  std::memcpy(values.data(),
              safetensors.data() + sizeof header_bytes + header_bytes + offsets.at(0),
              values.size() * sizeof(int32_t));
  return values;
}

// The cleaning and splitting of the script that trained the reference model.
TextRules reference_rules() {
  TextRules rules;
  rules.splitter = SplitterRules::plain();
  rules.max_sentences = kSentences;
  rules.max_words = kWords;
  return rules;
}

std::vector<int32_t> padded_ids(const Document& document) {
  std::vector<int32_t> ids(kSentences * kWords, Vocabulary::kPaddingId);
  for (size_t s = 0; s < document.sentences.size(); ++s) {
    const std::vector<Word>& words = document.sentences[s].words;
    for (size_t w = 0; w < words.size(); ++w) ids[s * kWords + w] = words[w].id;
  }
  return ids;
}

TEST(TextOnImdb, ReproducesTheReferenceIds) {
  const auto model = test::shared_dir() / "models/han_imdb";
  const auto reviews = test::shared_dir() / "data/text/imdb/test.tsv.gz";
  if (!exists(model) || !exists(reviews)) GTEST_SKIP() << "no reviews in " << test::shared_dir();
  const std::string reference = read_file(model / "han_imdb_gru50.reference.safetensors");
  const std::vector<int32_t> expected = read_tensor(reference, "ids");  // (64, 20, 40)
  const std::vector<int32_t> labels = read_tensor(reference, "labels");
  ASSERT_EQ(expected.size(), kReviews * kSentences * kWords);
  const Tokenizer tokenizer(reference_rules(),
                            Vocabulary::from_blob(read_file(model / "han_imdb_vocabulary.txt")));

  DocumentReader reader(reviews, {.format = DocumentFormat::kTsv});
  for (size_t i = 0; i < kReviews; ++i) {
    for (size_t skipped = 0; i > 0 && skipped + 1 < kEveryNth; ++skipped) reader.next();
    const auto review = reader.next();
    ASSERT_TRUE(review.has_value() && review->error.empty());
    EXPECT_EQ(review->label, labels.at(i) == 1 ? "pos" : "neg") << i;
    const auto begin = expected.begin() + static_cast<long>(i * kSentences * kWords);
    EXPECT_EQ(padded_ids(tokenizer.tokenize(review->text)),
              std::vector<int32_t>(begin, begin + kSentences * kWords))
        << "line " << review->line;
  }
}

TEST(TextOnImdb, FitsTheReferenceVocabulary) {
  const auto vocabulary = test::shared_dir() / "models/han_imdb/han_imdb_vocabulary.txt";
  const auto reviews = test::shared_dir() / "data/text/imdb/train.tsv.gz";
  if (!exists(vocabulary) || !exists(reviews))
    GTEST_SKIP() << "no reviews in " << test::shared_dir();
  TextRules rules = reference_rules();
  rules.max_features = 20000;
  VocabularyBuilder builder(rules);
  DocumentReader reader(reviews, {.format = DocumentFormat::kTsv});
  while (const auto review = reader.next()) builder.add(review->text);
  EXPECT_EQ(builder.build().to_blob(), read_file(vocabulary));
}

}  // namespace
}  // namespace tessera
