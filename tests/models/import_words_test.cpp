// Networks of words that are no HANs (tools/golden/make_word_goldens.py): each is refused with what
// it is and what can be done, whatever wrote it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "models/import/import.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"

namespace tessera {
namespace {

using testing::AllOf;
using testing::HasSubstr;

struct WordCase {
  const char* file;
  const char* kind;
};
void PrintTo(const WordCase& one, std::ostream* out) {
  *out << one.file;
}

class NetworksOfWords : public testing::TestWithParam<WordCase> {};

TEST_P(NetworksOfWords, AreRefusedWithWhatTheyAre) {
  const std::filesystem::path file =
      test::source_dir() / "tests/golden/import/words" / GetParam().file;
  ASSERT_TRUE(std::filesystem::exists(file));
  EXPECT_THAT(test::error_of([&] { import_model(file); }),
              AllOf(HasSubstr(file.string()), HasSubstr(GetParam().kind),
                    HasSubstr("`tessera train han`")));
}

INSTANTIATE_TEST_SUITE_P(
    Files, NetworksOfWords,
    testing::Values(
        WordCase{"lstm.pth", "a recurrent network of words in one level, with a table (20, 6)"},
        WordCase{"attention_gru.pth", "a recurrent network of words in one level, with attention"},
        WordCase{"stacked.pth", "Where it is a HAN, export it as ONNX"},
        WordCase{"cnn_1d.pth", "a convolutional network of words"},
        WordCase{"cnn_2d.pth", "a convolutional network of words"},
        WordCase{"transformer.pth", "a transformer of words (BERT and its like)"},
        WordCase{"bert.bin", "a transformer of words (BERT and its like)"},
        WordCase{"bag.pth", "a network of words without recurrent layers"},
        WordCase{"lstm.onnx", "a recurrent network of words in one level"},
        WordCase{"attention_gru.onnx", "a recurrent network of words in one level"},
        WordCase{"stacked.onnx", "a network of words, and none of Tessera's HANs"},
        WordCase{"cnn_1d.onnx", "a convolutional network of words"},
        WordCase{"cnn_2d.onnx", "a convolutional network of words"},
        WordCase{"transformer.onnx", "a transformer of words (BERT and its like)"},
        WordCase{"bag.onnx", "a network of words without recurrent layers"},
        WordCase{"keras_lstm.keras", "in one level (Embedding, LSTM, Dense)"},
        WordCase{"keras_bidirectional.h5", "in one level (Embedding, Bidirectional GRU, Dense)"},
        WordCase{"keras_cnn.h5", "in one level (Embedding, Conv1D, GlobalMaxPooling1D, Dense)"},
        WordCase{"keras_bag.h5", "in one level (Embedding, GlobalAveragePooling1D, Dense)"},
        WordCase{"keras_vectors.keras", "a network of sequences, not of images"},
        WordCase{"keras_hierarchical_lstm.keras", "a network of words, and no HAN"}),
    [](const auto& instance) {
      std::string name = instance.param.file;
      std::ranges::replace(name, '.', '_');
      return name;
    });

}  // namespace
}  // namespace tessera
