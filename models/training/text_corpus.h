// Documents as word ids, and the batches that a HAN is trained and evaluated on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "models/networks/han.h"

namespace tessera {

// Word ids and labels of many documents, in three arrays instead of a heap block per sentence.
// Every document has at least one sentence, and every sentence at least one word.
class TextCorpus {
 public:
  std::size_t size() const { return labels_.size(); }  // documents
  std::size_t words() const { return ids_.size(); }

  std::int32_t label(std::size_t document) const { return labels_[document]; }
  std::size_t line(std::size_t document) const { return lines_[document]; }  // of its file, from 1
  std::size_t sentences(std::size_t document) const {
    return document_ends_[document] - first_sentence(document);
  }
  std::span<const std::int32_t> sentence(std::size_t document, std::size_t index) const {
    const std::size_t at = first_sentence(document) + index;
    const std::size_t begin = at == 0 ? 0 : sentence_ends_[at - 1];
    return std::span(ids_).subspan(begin, sentence_ends_[at] - begin);
  }
  std::size_t longest_sentence(std::size_t document) const;  // in words

  // Words, then the end of their sentence, and so on, then the end of the document. An end without
  // words (or sentences) before it adds nothing; end_document then returns false.
  void add_word(std::int32_t id) { ids_.push_back(id); }
  void end_sentence();
  bool end_document(std::int32_t label, std::size_t line);

 private:
  std::size_t first_sentence(std::size_t document) const {
    return document == 0 ? 0 : document_ends_[document - 1];
  }

  std::vector<std::int32_t> ids_;
  std::vector<std::size_t> sentence_ends_;  // in ids_
  std::vector<std::size_t> document_ends_;  // in sentence_ends_
  std::vector<std::int32_t> labels_;
  std::vector<std::size_t> lines_;
};

// Indices into a corpus, one list per step of an epoch: each document once, in an order that seed
// and epoch decide; the last batch may be smaller. `grouped` draws documents of similar size into
// one batch, for masked training, where a batch is padded to its longest document.
std::vector<std::vector<std::uint32_t>> epoch_batches(const TextCorpus& corpus,
                                                      std::size_t batch_size, std::uint64_t seed,
                                                      std::uint64_t epoch, bool grouped);

// The same for evaluation: by falling size, so that memory is at its peak in the first batch.
std::vector<std::vector<std::uint32_t>> evaluation_batches(const TextCorpus& corpus,
                                                           std::size_t batch_size);

struct TextBatch {
  HanBatch input;
  std::vector<std::int32_t> labels;  // (documents)
};

// Writes the batch of `documents`, reusing what memory `batch` has: masked, padded to its longest
// document and sentence; unmasked, to the limits of `config`, which hold for every document.
void fill_batch(const TextCorpus& corpus, const HanConfig& config,
                std::span<const std::uint32_t> documents, TextBatch& batch);

}  // namespace tessera
