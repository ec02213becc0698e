#include "models/training/text_corpus.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

#include "engine/train/random.h"
#include "kernels/error.h"
#include "models/text/text.h"

namespace tessera {
namespace {

// Documents by size: sentences first, because a document's padding is a multiple of them.
std::vector<std::tuple<std::size_t, std::size_t>> sizes_of(const TextCorpus& corpus) {
  std::vector<std::tuple<std::size_t, std::size_t>> sizes;
  for (std::size_t i = 0; i < corpus.size(); ++i)
    sizes.emplace_back(corpus.sentences(i), corpus.longest_sentence(i));
  return sizes;
}

std::vector<std::vector<std::uint32_t>> cut(std::span<const std::uint32_t> order,
                                            std::size_t batch_size) {
  std::vector<std::vector<std::uint32_t>> batches;
  for (std::size_t i = 0; i < order.size(); i += batch_size) {
    const auto part = order.subspan(i, std::min(batch_size, order.size() - i));
    batches.emplace_back(part.begin(), part.end());
  }
  return batches;
}

std::vector<std::uint32_t> all_documents(const TextCorpus& corpus, std::size_t batch_size) {
  require(batch_size > 0, "the batch size is 0; expected at least 1 document");
  require(corpus.size() <= std::numeric_limits<std::uint32_t>::max(),
          "{} documents; at most 2^32 are supported", corpus.size());
  std::vector<std::uint32_t> order(corpus.size());
  std::iota(order.begin(), order.end(), 0u);
  return order;
}

}  // namespace

std::size_t TextCorpus::longest_sentence(std::size_t document) const {
  std::size_t longest = 0;
  for (std::size_t i = 0; i < sentences(document); ++i)
    longest = std::max(longest, sentence(document, i).size());
  return longest;
}

void TextCorpus::end_sentence() {
  const std::size_t begin = sentence_ends_.empty() ? 0 : sentence_ends_.back();
  if (ids_.size() > begin) sentence_ends_.push_back(ids_.size());
}

bool TextCorpus::end_document(std::int32_t label, std::size_t line) {
  const std::size_t begin = document_ends_.empty() ? 0 : document_ends_.back();
  if (sentence_ends_.size() == begin) return false;
  document_ends_.push_back(sentence_ends_.size());
  labels_.push_back(label);
  lines_.push_back(line);
  return true;
}

std::vector<std::vector<std::uint32_t>> epoch_batches(const TextCorpus& corpus,
                                                      std::size_t batch_size, std::uint64_t seed,
                                                      std::uint64_t epoch, bool grouped) {
  // Documents are sorted within pools of so many batches: large enough for neighbours to be alike,
  // small enough that a batch is another mixture in each epoch.
  constexpr std::size_t kPoolBatches = 50;
  std::vector<std::uint32_t> order = all_documents(corpus, batch_size);
  Random random(seed, stream_of("epoch", epoch));
  random.shuffle(std::span(order));
  if (!grouped) return cut(order, batch_size);

  const auto sizes = sizes_of(corpus);
  const std::size_t pool = kPoolBatches * batch_size;
  for (std::size_t i = 0; i < order.size(); i += pool) {
    const auto begin = order.begin() + static_cast<std::ptrdiff_t>(i);
    std::stable_sort(begin, begin + static_cast<std::ptrdiff_t>(std::min(pool, order.size() - i)),
                     [&](std::uint32_t a, std::uint32_t b) { return sizes[a] < sizes[b]; });
  }
  std::vector<std::vector<std::uint32_t>> batches = cut(order, batch_size);
  random.shuffle(std::span(batches));
  return batches;
}

std::vector<std::vector<std::uint32_t>> evaluation_batches(const TextCorpus& corpus,
                                                           std::size_t batch_size) {
  std::vector<std::uint32_t> order = all_documents(corpus, batch_size);
  const auto sizes = sizes_of(corpus);
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return sizes[a] > sizes[b]; });
  return cut(order, batch_size);
}

void fill_batch(const TextCorpus& corpus, const HanConfig& config,
                std::span<const std::uint32_t> documents, TextBatch& batch) {
  HanBatch& input = batch.input;
  input.documents = static_cast<std::int64_t>(documents.size());
  std::size_t sentences = 0, words = 0;
  for (const std::uint32_t document : documents) {
    sentences = std::max(sentences, corpus.sentences(document));
    words = std::max(words, corpus.longest_sentence(document));
  }
  require(std::cmp_less_equal(sentences, config.max_sentences) &&
              std::cmp_less_equal(words, config.max_words),
          "a document of {} sentences of up to {} words was given, the model takes {} x {}",
          sentences, words, config.max_sentences, config.max_words);
  if (!config.masked) {
    sentences = static_cast<std::size_t>(config.max_sentences);
    words = static_cast<std::size_t>(config.max_words);
  }
  if (config.missing_sentences) sentences = static_cast<std::size_t>(config.max_sentences);
  input.sentences = static_cast<std::int64_t>(sentences);
  input.words = static_cast<std::int64_t>(words);
  input.ids.assign(documents.size() * sentences * words, Vocabulary::kPaddingId);
  input.word_counts.assign(documents.size() * sentences, 0);
  input.sentence_counts.clear();
  batch.labels.clear();
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const std::size_t count = corpus.sentences(documents[i]);
    for (std::size_t j = 0; j < count; ++j) {
      const std::span<const std::int32_t> ids = corpus.sentence(documents[i], j);
      const std::size_t row = i * sentences + j;
      input.word_counts[row] = static_cast<std::int32_t>(ids.size());
      std::copy(ids.begin(), ids.end(),
                input.ids.begin() + static_cast<std::ptrdiff_t>(row * words));
    }
    input.sentence_counts.push_back(
        static_cast<std::int32_t>(config.missing_sentences ? sentences : count));
    batch.labels.push_back(corpus.label(documents[i]));
  }
}

}  // namespace tessera
