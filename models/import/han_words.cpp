#include "models/import/han_words.h"

#include <utility>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/vocabulary_file.h"

namespace tessera {

void give_words(Imported& imported, HanConfig& config, const StoredTensor& embedding,
                const ImportOptions& options) {
  require(!options.vocabulary.empty(),
          "the model knows words by numbers alone; give its tokenizer (--vocabulary "
          "tokenizer.json, a pickled one, or a list of words)");
  const VocabularyFile file = read_vocabulary_file(options.vocabulary);
  OrderedVocabulary ordered = order_vocabulary(file, embedding);
  config.words = ordered.vocabulary.size();
  config.features = static_cast<int>(embedding.shape[1]);
  imported.add("embedding/weight", std::move(ordered.embedding));
  imported.vocabulary = std::move(ordered.vocabulary);
  for (const std::vector<std::string>* notes : {&file.notes, &std::as_const(ordered.notes)})
    imported.notes.insert(imported.notes.end(), notes->begin(), notes->end());
  TextRules& rules = imported.config.text;
  if (file.rules) rules = *file.rules;
  if (!ordered.knows_unknown) rules.unknown_words = UnknownWords::kDrop;
  rules.max_sentences = config.max_sentences;
  rules.max_words = config.max_words;
  imported.guesses.push_back(
      {"sentences", "tessera",
       "how texts were split into sentences is not in the file; Tessera's own rules are taken"});
  if (!file.rules)
    imported.guesses.push_back({"words", "tessera",
                                "how sentences were split into words is not in the file; Tessera's "
                                "own rules are taken"});
}

Vocabulary exported_words(const std::string& model, const ImportOptions& options) {
  std::filesystem::path path = options.vocabulary;
  if (path.empty()) path = std::filesystem::path(model).replace_extension(".words.json");
  std::error_code missing;
  require(!options.vocabulary.empty() || std::filesystem::exists(path, missing),
          "{}: it holds no vocabulary, without which no text can be read; give the .words.json "
          "that was exported with it with --vocabulary",
          model);
  const VocabularyFile file = read_vocabulary_file(path);
  const std::int64_t first = Vocabulary::kFirstWordId;
  std::vector<std::string> words(file.entries.size());
  for (const VocabularyFile::Entry& entry : file.entries) {
    const std::int64_t place = file.has_ids ? entry.id - first : entry.id;
    require(place >= 0 && place < static_cast<std::int64_t>(words.size()) &&
                words[static_cast<std::size_t>(place)].empty(),
            "{}: the word {} has the id {}, expected each from {} to {} once", file.file,
            in_quotes(entry.word), entry.id, file.has_ids ? first : 0,
            (file.has_ids ? first : 0) + static_cast<std::int64_t>(words.size()) - 1);
    words[static_cast<std::size_t>(place)] = entry.word;
  }
  std::string blob;
  for (const std::string& word : words) (blob += word) += '\n';
  return Vocabulary::from_blob(blob);
}

}  // namespace tessera
