// Labelled documents, of a file or in memory, with numbers for their words and labels: what
// training and its evaluation make a corpus of.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/data_report.h"
#include "models/text/documents.h"
#include "models/text/text.h"
#include "models/train.h"
#include "models/training/text_corpus.h"

namespace tessera {

// Distinct texts, numbered by first appearance.
class Interner {
 public:
  // Throws Error for more than 2^31 texts.
  std::int32_t number(std::string_view text);
  const std::vector<std::string_view>& texts() const { return texts_; }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };
  std::unordered_map<std::string, std::int32_t, Hash, std::equal_to<>> numbers_;
  std::vector<std::string_view> texts_;  // into the map's keys, which stay where they are
};

// What all files have in common: words and labels by number, in the order in which they came.
struct Reading {
  Interner words;
  Interner labels;
};

// What documents in memory are called in reports, where a line is a document's number from 1.
inline constexpr const char* kDocumentsInMemory = "documents";

// Throws OptionError for a format that is none.
DocumentOptions reader_options(const DocumentFileOptions& files);

TextCorpus read_labelled_documents(std::span<const LabelledText> documents,
                                   const TextSplitter& splitter, int threads, Reading& reading,
                                   DataReport& report);

// The documents of one file with numbers of `reading` for ids and labels, without any limit; bad
// ones are reported and left out.
TextCorpus read_labelled_documents(const std::string& path, const DocumentOptions& documents,
                                   const TextSplitter& splitter, int threads, Reading& reading,
                                   DataReport& report);

}  // namespace tessera
