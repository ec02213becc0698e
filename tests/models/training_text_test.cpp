// Labelled texts -> vocabulary, limits, split, compact ids and batches; and word vectors.
#include "models/training/training_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <numeric>
#include <set>

#include "kernels/error.h"
#include "models/text/word_vectors.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using test::error_of;

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class TrainingText : public testing::Test {
 protected:
  std::string write(const std::string& name, std::string_view bytes) const {
    const std::string path = folder_ / name;
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<long>(bytes.size()));
    return path;
  }

  std::string write_gzip(const std::string& name, std::string_view bytes) const {
    const std::string path = folder_ / name;
    const gzFile file = gzopen(path.c_str(), "wb");
    gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(file);
    return path;
  }

  // A data set of `count` documents of two classes, of 1 to 9 sentences of 1 to 12 words.
  std::string write_many(int count) const {
    std::string lines;
    for (int i = 0; i < count; ++i) {
      lines += i % 3 == 0 ? "good\t" : "bad\t";
      for (int s = 0; s <= i * 7 % 9; ++s) {
        for (int w = 0; w <= (i + 5 * s) % 12; ++w)
          lines += fmt::format("w{} ", (i * i + s * 31 + w * 17) % 97);
        lines += "end. ";
      }
      lines += '\n';
    }
    return write("many.tsv", lines);
  }

  const test::TempFolder scratch_;
  const std::filesystem::path folder_ = scratch_.path();
};

std::vector<std::vector<std::int32_t>> sentences_of(const TextCorpus& corpus,
                                                    std::size_t document) {
  std::vector<std::vector<std::int32_t>> list;
  for (std::size_t i = 0; i < corpus.sentences(document); ++i) {
    const auto ids = corpus.sentence(document, i);
    list.emplace_back(ids.begin(), ids.end());
  }
  return list;
}

TextData load(const TextDataOptions& options) {
  DataReport report;
  TextData data = load_text_data(options, report);
  report.require_none();
  return data;
}

std::vector<std::string> texts_of(const DataReport& report) {
  std::vector<std::string> texts;
  for (const DataProblem& problem : report.problems()) texts.push_back(problem.to_string());
  return texts;
}

TEST_F(TrainingText, TheVocabularyFollowsTheKerasRules) {
  const std::string path = write("a.tsv", "x\tB b a.\ny\tc A c b.\nx\td.\n");
  const TextData data = load({.train = path, .validation_share = 0});
  // b 3 times; a and c twice, a seen first; d once.
  EXPECT_EQ(data.vocabulary.to_blob(), "b\na\nc\nd\n");
  EXPECT_THAT(data.occurrences, ElementsAre(0, 0, 3, 2, 2, 1));
  EXPECT_THAT(data.classes, ElementsAre("x", "y"));
  ASSERT_EQ(data.train.size(), 3u);
  EXPECT_EQ(data.validation.size(), 0u);
  EXPECT_THAT(sentences_of(data.train, 1), ElementsAre(ElementsAre(4, 3, 4, 2)));
  EXPECT_EQ(data.train.label(1), 1);
  EXPECT_EQ(data.train.line(1), 2u);
  EXPECT_EQ(
      describe(data),
      "3 training and 0 validation documents of 2 classes\n  x: 2 and 0\n  y: 1 and 0\n"
      "vocabulary of 4 words, which leaves 0.0% of the training text unknown\n"
      "limits of 1 (sentences) x 4 (words of each), which keep 100.0% of the training text\n");
}

TEST_F(TrainingText, RareWordsAndThoseBeyondMaxFeaturesAreUnknown) {
  const std::string path = write("a.tsv", "x\tB b a.\ny\tc A c b.\nx\td.\n");
  TextDataOptions options{.train = path, .validation_share = 0, .min_count = 2};
  TextData data = load(options);
  EXPECT_EQ(data.vocabulary.to_blob(), "b\na\nc\n");
  EXPECT_THAT(sentences_of(data.train, 2), ElementsAre(ElementsAre(1)));
  EXPECT_THAT(data.occurrences, ElementsAre(0, 1, 3, 2, 2));

  options.min_count = 1;
  options.rules.max_features = 4;
  data = load(options);
  EXPECT_EQ(data.vocabulary.to_blob(), "b\na\n");
  EXPECT_THAT(sentences_of(data.train, 1), ElementsAre(ElementsAre(1, 3, 1, 2)));

  options.rules.unknown_words = UnknownWords::kDrop;
  DataReport report;
  data = load_text_data(options, report);
  EXPECT_THAT(sentences_of(data.train, 1), ElementsAre(ElementsAre(3, 2)));
  EXPECT_THAT(texts_of(report),
              ElementsAre(AllOf(HasSubstr("a.tsv, line 3: "), HasSubstr("in the vocabulary"))));
}

TEST_F(TrainingText, IdsAreThoseOfTheTokenizer) {
  const std::string path = write_many(300);
  for (const UnknownWords unknown : {UnknownWords::kIndex, UnknownWords::kDrop}) {
    TextDataOptions options{.train = path, .validation_share = 0.2, .min_count = 20, .seed = 3};
    options.rules.unknown_words = unknown;
    options.rules.max_sentences = 5;
    options.rules.max_words = 7;
    options.threads = 2;
    const TextData data = load(options);
    const Tokenizer tokenizer(data.rules, data.vocabulary);
    std::vector<std::string> lines(1);
    std::ifstream stream(path);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    std::size_t checked = 0;
    for (const TextCorpus* corpus : {&data.train, &data.validation}) {
      for (std::size_t i = 0; i < corpus->size(); ++i) {
        const std::string& line = lines[corpus->line(i)];
        std::vector<std::vector<std::int32_t>> expected;
        for (const Sentence& sentence :
             tokenizer.tokenize(line.substr(line.find('\t'))).sentences) {
          expected.emplace_back();
          for (const Word& word : sentence.words) expected.back().push_back(word.id);
        }
        EXPECT_EQ(sentences_of(*corpus, i), expected) << line;
        EXPECT_TRUE(line.starts_with(data.classes[static_cast<std::size_t>(corpus->label(i))]));
        ++checked;
      }
    }
    EXPECT_EQ(checked, 300u);
  }
}

TEST_F(TrainingText, LimitsAreQuantilesOfTheTrainingDocuments) {
  std::string lines;
  for (int i = 1; i <= 100; ++i) {
    lines += i % 2 == 0 ? "a\t" : "b\t";
    for (int s = 0; s < i; ++s) lines += "one two. ";
    lines += "\n";
  }
  lines += "a\t" + std::string(100, 'x') + " y y y y y y y y y.\n";
  const std::string path = write("a.tsv", lines);
  TextDataOptions options{.train = path, .validation_share = 0};
  TextData data = load(options);
  EXPECT_EQ(data.rules.max_sentences, 95);  // of 101 documents 96 have no more
  EXPECT_EQ(data.rules.max_words, 2);
  options.quantile = 1;
  EXPECT_EQ(load(options).rules.max_words, 10);
  options.rules.max_sentences = 7;
  data = load(options);
  EXPECT_EQ(data.rules.max_sentences, 7);
  EXPECT_EQ(data.train.sentences(50), 7u);

  EXPECT_EQ(nearest_rank({}, 0.5), 1);
  EXPECT_EQ(nearest_rank({5}, 0.01), 5);
  EXPECT_EQ(nearest_rank({4, 1, 3, 2}, 0.5), 2);
  EXPECT_EQ(nearest_rank({4, 1, 3, 2}, 0.51), 3);
}

TEST_F(TrainingText, TheSplitIsStratifiedSeededAndTheSameForAnyThreads) {
  TextDataOptions options{.train = write_many(300), .validation_share = 0.1, .seed = 1};
  const TextData one = load(options);
  EXPECT_EQ(one.validation.size(), 30u);
  const auto good = [&](const TextCorpus& corpus) {
    std::size_t count = 0;
    for (std::size_t i = 0; i < corpus.size(); ++i) count += corpus.label(i) == 1;
    return count;
  };
  EXPECT_EQ(good(one.validation), 10u);
  EXPECT_EQ(good(one.train), 90u);
  const auto lines = [](const TextCorpus& corpus) {
    std::vector<std::size_t> list;
    for (std::size_t i = 0; i < corpus.size(); ++i) list.push_back(corpus.line(i));
    return list;
  };
  options.threads = 3;
  const TextData again = load(options);
  EXPECT_EQ(lines(again.validation), lines(one.validation));
  EXPECT_EQ(again.vocabulary.to_blob(), one.vocabulary.to_blob());
  options.seed = 2;
  EXPECT_NE(lines(load(options).validation), lines(one.validation));
}

TEST_F(TrainingText, EveryProblemIsReportedWithItsLine) {
  const std::string train = write("train.tsv",
                                  "a\tgood text\n"
                                  "no tab here\n"
                                  "b\t...\n"
                                  "b\tbad \xFF\xFE text\n"
                                  "\tno label\n"
                                  "a\xFF\ttext\n");
  const std::string validation = write("validation.jsonl",
                                       "{\"text\": \"good\", \"label\": \"a\"}\n"
                                       "{\"text\": \"good\", \"label\": \"c\"}\n"
                                       "{\"text\": \"good\"}\n"
                                       "{\"text\": 3}\n");
  DataReport report;
  const TextData data = load_text_data({.train = train, .validation = validation}, report);
  EXPECT_EQ(data.train.size(), 2u);
  EXPECT_EQ(data.validation.size(), 1u);
  EXPECT_THAT(texts_of(report),
              ElementsAre(AllOf(HasSubstr("train.tsv, line 2: "), HasSubstr("no tab")),
                          AllOf(HasSubstr("train.tsv, line 5: "), HasSubstr("no label")),
                          AllOf(HasSubstr("train.tsv, line 6: "), HasSubstr("label is not UTF-8")),
                          AllOf(HasSubstr("train.tsv, line 3: "), HasSubstr("no words")),
                          AllOf(HasSubstr("validation.jsonl, line 3: "), HasSubstr("no label")),
                          AllOf(HasSubstr("validation.jsonl, line 4: "), HasSubstr("JSON number")),
                          AllOf(HasSubstr("validation.jsonl, line 2: "), HasSubstr("\"c\""))));
  EXPECT_THAT(report.notes(),
              ElementsAre(AllOf(HasSubstr("2 byte sequences of 1 documents are not UTF-8"),
                                HasSubstr("line 4")),
                          HasSubstr("no validation document of class \"b\"")));
  EXPECT_THAT(error_of([&] { report.require_none(); }),
              AllOf(HasSubstr("7 problems"), HasSubstr("line 6")));
}

TEST_F(TrainingText, AManyTimesWrongFileIsNotListedWithoutEnd) {
  std::string lines = "a\tx\nb\ty\n";
  for (int i = 0; i < 5000; ++i) lines += "no tab\n";
  DataReport report;
  load_text_data({.train = write("a.tsv", lines)}, report);
  EXPECT_EQ(report.problem_count(), 5000u);
  EXPECT_EQ(report.problems().size(), DataReport::kMaxKept);
  EXPECT_THAT(error_of([&] { report.require_none(); }), HasSubstr("and 4980 more"));
}

TEST_F(TrainingText, AbsentClassesAndUnusableFilesAreErrors) {
  DataReport report;
  const auto error = [&](const TextDataOptions& options) {
    DataReport fresh;
    return error_of([&] { load_text_data(options, fresh); });
  };
  EXPECT_THAT(error({.train = write("one.tsv", "a\tx\na\ty\n")}),
              AllOf(HasSubstr("1 classes (\"a\")"), HasSubstr("right column")));
  EXPECT_THAT(error({.train = write("none.tsv", "")}), HasSubstr("no documents"));
  EXPECT_THAT(error({.train = write("a.txt", "a\tx\n")}), HasSubstr("expected labelled documents"));
  EXPECT_THAT(error({.train = folder_ / "absent.tsv"}), HasSubstr("cannot be opened"));
  const std::string good = write("good.tsv", "a\tx\nb\ty\n");
  EXPECT_THAT(error({.train = good, .validation_share = 1}), HasSubstr("validation share is 1"));
  EXPECT_THAT(error({.train = good, .quantile = 0}), HasSubstr("quantile"));
  EXPECT_THAT(error({.train = good, .min_count = 0}), HasSubstr("at least 1"));
  EXPECT_THAT(error({.train = good, .classes = {"a", "a"}}), HasSubstr("named twice"));
  load_text_data({.train = good, .validation_share = 0, .classes = {"a", "b", "c"}}, report);
  EXPECT_THAT(texts_of(report), ElementsAre(HasSubstr("no document of class \"c\"")));
}

TEST_F(TrainingText, ADamagedFileIsReportedOnce) {
  std::string lines;
  for (int i = 0; i < 20000; ++i) lines += fmt::format("{}\ttext {}\n", i % 2, i * 7919 % 10007);
  const std::string path = write_gzip("a.tsv.gz", lines);
  EXPECT_EQ(load({.train = path, .validation_share = 0}).train.size(), 20000u);
  std::filesystem::resize_file(path, std::filesystem::file_size(path) / 2);
  DataReport report;
  EXPECT_GT(load_text_data({.train = path}, report).train.size(), 100u);
  EXPECT_THAT(texts_of(report), ElementsAre(HasSubstr("cannot be read further")));
}

TEST_F(TrainingText, ClassesThatAreNumbersAreInTheirOrder) {
  EXPECT_THAT(load({.train = write("a.tsv", "10\tx\n2\ty\n1\tz\n"), .validation_share = 0}).classes,
              ElementsAre("1", "2", "10"));
  EXPECT_THAT(load({.train = write("b.tsv", "10\tx\n2\ty\nb\tz\n"), .validation_share = 0}).classes,
              ElementsAre("10", "2", "b"));
}

TEST_F(TrainingText, AFileForEvaluationIsReadAsTheModelReads) {
  const TextData data =
      load({.train = write("a.tsv", "x\tone two. three\ny\tone\n"), .validation_share = 0});
  DataReport report;
  const TextCorpus corpus =
      load_text_corpus(write("test.tsv", "y\tfour one. two two two\nz\tone\n"), {}, data.rules,
                       data.vocabulary, data.classes, 1, report);
  ASSERT_EQ(corpus.size(), 1u);
  EXPECT_EQ(corpus.label(0), 1);
  EXPECT_THAT(sentences_of(corpus, 0), ElementsAre(ElementsAre(1, 2), ElementsAre(3, 3)));
  EXPECT_THAT(texts_of(report), ElementsAre(HasSubstr("test.tsv, line 2")));
}

// Slots of ids, padding included, of all batches.
std::size_t slots_of(const TextCorpus& corpus,
                     const std::vector<std::vector<std::uint32_t>>& plan) {
  HanConfig config{.max_sentences = 1000, .max_words = 1000};
  TextBatch batch;
  std::size_t slots = 0;
  for (const auto& documents : plan) {
    fill_batch(corpus, config, documents, batch);
    slots += batch.input.ids.size();
  }
  return slots;
}

TEST_F(TrainingText, AnEpochHasEachDocumentOnceAndSeedsDecideItsOrder) {
  const TextCorpus corpus = load({.train = write_many(1003), .validation_share = 0}).train;
  for (const bool grouped : {false, true}) {
    const auto plan = epoch_batches(corpus, 16, 1, 0, grouped);
    EXPECT_EQ(plan.size(), 63u);
    std::set<std::uint32_t> seen;
    for (const auto& batch : plan) {
      EXPECT_LE(batch.size(), 16u);
      seen.insert(batch.begin(), batch.end());
    }
    EXPECT_EQ(seen.size(), 1003u);
    EXPECT_EQ(plan, epoch_batches(corpus, 16, 1, 0, grouped));
    EXPECT_NE(plan, epoch_batches(corpus, 16, 1, 1, grouped));
    EXPECT_NE(plan, epoch_batches(corpus, 16, 2, 0, grouped));
  }
  EXPECT_LT(slots_of(corpus, epoch_batches(corpus, 16, 1, 0, true)),
            slots_of(corpus, epoch_batches(corpus, 16, 1, 0, false)) * 2 / 3);
  EXPECT_THAT(error_of([&] { epoch_batches(corpus, 0, 1, 0, true); }), HasSubstr("batch size"));

  const auto evaluation = evaluation_batches(corpus, 16);
  EXPECT_GE(corpus.sentences(evaluation.front().front()),
            corpus.sentences(evaluation.back().back()));
  EXPECT_LT(slots_of(corpus, evaluation), corpus.words() * 2);
}

TEST_F(TrainingText, BatchesArePaddedToTheirLongestOrToTheModel) {
  const TextData data = load({.train = write("a.tsv", "x\tone two three. four\ny\tone\n"),
                              .validation_share = 0,
                              .quantile = 1});
  HanConfig config{.words = data.vocabulary.size(), .max_sentences = 3, .max_words = 4};
  TextBatch batch;
  fill_batch(data.train, config, std::vector<std::uint32_t>{1, 0}, batch);
  EXPECT_EQ(batch.input.sentences, 2);
  EXPECT_EQ(batch.input.words, 3);
  EXPECT_THAT(batch.input.ids, ElementsAre(2, 0, 0, 0, 0, 0, 2, 3, 4, 5, 0, 0));
  EXPECT_THAT(batch.input.word_counts, ElementsAre(1, 0, 3, 1));
  EXPECT_THAT(batch.input.sentence_counts, ElementsAre(1, 2));
  EXPECT_THAT(batch.labels, ElementsAre(1, 0));

  config.masked = false;
  fill_batch(data.train, config, std::vector<std::uint32_t>{1}, batch);
  EXPECT_THAT(batch.input.ids, ElementsAre(2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  EXPECT_THAT(batch.labels, ElementsAre(1));
  EXPECT_EQ(batch.input.inputs(config)[0].type.shape, (Shape{1, 3, 4}));

  config.max_words = 2;
  EXPECT_THAT(
      error_of([&] { fill_batch(data.train, config, std::vector<std::uint32_t>{0}, batch); }),
      HasSubstr("the model takes 3 x 2"));
}

const Vocabulary kWords = Vocabulary::from_blob("the\ncat\nsat\n");

TEST_F(TrainingText, WordVectorsAreTakenAndMissingOnesDrawn) {
  const std::string lines = "the 1 2\n. . 7 8e-60\ncat -0.5 1e-60\r\ndog 5 x\n";
  for (const std::string& path : {write("a.txt", lines), write_gzip("a.txt.gz", lines),
                                  write("header.vec", "4 2\n" + lines)}) {
    DataReport report;
    const WordVectors vectors = load_word_vectors(path, kWords, {.seed = 1}, report);
    report.require_none();
    EXPECT_EQ(vectors.width, 2);
    EXPECT_EQ(vectors.lines, 4u);
    EXPECT_EQ(vectors.words_found, 2);
    EXPECT_DOUBLE_EQ(vectors.word_coverage(), 2.0 / 3);
    EXPECT_DOUBLE_EQ(vectors.text_coverage(std::vector<std::int64_t>{0, 2, 5, 2, 1}), 0.7);
    ASSERT_EQ(vectors.rows.size(), 10u);
    EXPECT_THAT(std::span(vectors.rows).subspan(4, 4), ElementsAre(1, 2, -0.5f, 0));
    EXPECT_THAT(std::span(vectors.rows).first(2), ElementsAre(0, 0));
    for (const std::size_t i : {2, 3, 8, 9}) {
      EXPECT_NE(vectors.rows[i], 0);
      EXPECT_LE(std::abs(vectors.rows[i]), 0.05f);
    }
    DataReport other;
    EXPECT_EQ(load_word_vectors(path, kWords, {.seed = 1}, other).rows, vectors.rows);
    EXPECT_NE(load_word_vectors(path, kWords, {.seed = 2}, other).rows, vectors.rows);
  }
}

TEST_F(TrainingText, BadVectorLinesAreNamed) {
  const std::string path = write("a.txt",
                                 "the 1 2\n"
                                 "cat 1\n"
                                 "cat 1 2 3\n"
                                 "the 3 4\n"
                                 "sat 1 nan\n"
                                 "cat 1 2,5\n");
  DataReport report;
  const WordVectors vectors = load_word_vectors(path, kWords, {}, report);
  EXPECT_EQ(vectors.words_found, 1);
  EXPECT_THAT(texts_of(report),
              ElementsAre(AllOf(HasSubstr("line 2: "), HasSubstr("2 numbers, found 2 fields")),
                          AllOf(HasSubstr("line 3: "), HasSubstr("2 numbers, found 4 fields")),
                          AllOf(HasSubstr("line 4: "), HasSubstr("\"the\" has a vector on line 1")),
                          AllOf(HasSubstr("line 5: "), HasSubstr("\"nan\" at place 2")),
                          AllOf(HasSubstr("line 6: "), HasSubstr("\"2,5\" at place 2"))));
  EXPECT_EQ(vectors.rows[4], 1);  // the first of two

  EXPECT_THAT(error_of([&] { load_word_vectors(path, kWords, {.width = 3}, report); }),
              HasSubstr("line 1: vectors of 2 numbers, the embedding has 3"));
  EXPECT_THAT(error_of([&] { load_word_vectors(write("b.txt", "\n"), kWords, {}, report); }),
              HasSubstr("no word vectors"));
  EXPECT_THAT(error_of([&] { load_word_vectors(write("c.txt", "word\n"), kWords, {}, report); }),
              HasSubstr("found 1 fields"));
}

// Where the shared data lies: the real files, as the trainer reads them.
TEST_F(TrainingText, RealDataAndGloveLoadWithoutAProblem) {
  const std::filesystem::path shared = test::shared_dir() / "data";
  if (!std::filesystem::exists(shared / "text/ag_news/train.tsv.gz"))
    GTEST_SKIP() << "no data in " << shared;
  const TextData data = load({.train = shared / "text/ag_news/train.tsv.gz", .seed = 1});
  EXPECT_EQ(data.classes.size(), 4u);
  EXPECT_EQ(data.train.size() + data.validation.size(), 4999u);
  DataReport report;
  const WordVectors vectors = load_word_vectors(shared / "glove/glove.6B.100d.50k.txt.gz",
                                                data.vocabulary, {.width = 100}, report);
  report.require_none();
  EXPECT_EQ(vectors.lines, 50000u);
  EXPECT_GT(vectors.text_coverage(data.occurrences), 0.9);
}

}  // namespace
}  // namespace tessera
