// Files of words: any bytes at all are a vocabulary or an Error.
#include "models/import/vocabulary_file.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace tessera;
  try {
    const VocabularyFile file = read_vocabulary(std::as_bytes(std::span(bytes, size)), "fuzz");
    for (std::size_t i = 1; i < file.entries.size(); ++i)
      fuzz::check(file.entries[i - 1].id <= file.entries[i].id);
    constexpr std::int64_t kRows = 64;
    const std::vector<float> values(2 * kRows, 1.0f);
    const StoredTensor embedding{
        "embedding", StoredTensor::Type::kF32, {kRows, 2}, {}, std::as_bytes(std::span(values))};
    const OrderedVocabulary ordered = order_vocabulary(file, embedding);
    fuzz::check(ordered.embedding.values.size() ==
                2 * static_cast<std::size_t>(ordered.vocabulary.size()));
  } catch (const Error& error) {
    fuzz::check_error(error);
  }
  return 0;
}
