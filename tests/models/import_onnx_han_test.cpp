// HANs out of ONNX files: of PyTorch's two exporters and tf2onnx against ONNX Runtime
// (tools/golden/make_onnx_han_goldens.py), our own exports, and networks that are none.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <onnx.pb.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "kernels/cpu/convert.h"
#include "models/export/export.h"
#include "models/import/import.h"
#include "models/import/numpy_file.h"
#include "models/network_run.h"
#include "models/session.h"
#include "tests/support/error.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr int kRows = 30;  // of the goldens' tables

fs::path golden(const std::string& name) {
  return test::source_dir() / "tests/golden/import/onnx_han" / name;
}

// {"w1": 1, ..}: a word for each row but the padding's.
fs::path write_words(const fs::path& folder) {
  const fs::path path = folder / "words.json";
  std::ofstream file(path);
  for (int id = 1; id < kRows; ++id) file << (id == 1 ? "{" : ", ") << "\"w" << id << "\": " << id;
  file << "}";
  return path;
}

struct OnnxHan {
  const char* name;
  bool masked, carried;
  double eps;
};
void PrintTo(const OnnxHan& han, std::ostream* out) {
  *out << han.name;
}

class OnnxHans : public testing::TestWithParam<OnnxHan> {};

INSTANTIATE_TEST_SUITE_P(Exporters, OnnxHans,
                         testing::Values(OnnxHan{"torch_gru", false, false, 0},
                                         OnnxHan{"torch_gru_open", false, false, 1e-4},
                                         OnnxHan{"torch_packed", true, false, 0},
                                         OnnxHan{"torch_packed_open", true, false, 0},
                                         OnnxHan{"torch_carried", false, true, 0},
                                         OnnxHan{"dynamo_lstm", false, false, 1e-4},
                                         OnnxHan{"dynamo_gru_open", false, false, 0},
                                         OnnxHan{"dynamo_carried", false, true, 0},
                                         OnnxHan{"keras_gru", false, false, 1e-7},
                                         OnnxHan{"keras_lstm_dense", false, false, 1e-7}),
                         [](const auto& param) { return std::string(param.param.name); });

TEST_P(OnnxHans, GiveOnnxRuntimesAnswers) {
  const test::TempFolder scratch;
  const std::string name = GetParam().name;
  const fs::path file = golden(name + ".onnx");
  ModelFile model = open_model(file, {.vocabulary = write_words(scratch.path())});
  const HanConfig& config = *model.config.han;
  EXPECT_EQ(config.masked, GetParam().masked);
  EXPECT_EQ(config.carried, GetParam().carried);
  EXPECT_EQ(config.tanh_word_score, GetParam().carried);
  EXPECT_FLOAT_EQ(static_cast<float>(config.eps), static_cast<float>(GetParam().eps));

  // Our ids are one higher: 1 stands for unknown words.
  const NumpyArray ids = read_numpy(golden(name + ".ids.npy"));
  std::vector<std::int64_t> ours = read_integers(ids.tensor), words, sentences{0};
  for (std::int64_t& id : ours) id += id > 0 ? 1 : 0;
  std::map<std::string, StoredTensor> inputs;
  const auto give = [&](const char* input, const std::vector<std::int64_t>& values,
                        std::vector<std::int64_t> shape) {
    inputs[input] = {
        input, StoredTensor::Type::kI64, std::move(shape), {}, std::as_bytes(std::span(values))};
  };
  give("ids", ours, ids.tensor.shape);
  if (config.masked) {
    words = read_integers(read_numpy(golden(name + ".words.npy")).tensor);
    sentences = read_integers(read_numpy(golden(name + ".sentences.npy")).tensor);
    give("word_counts", words, {1, ids.tensor.shape[1]});
    give("sentence_counts", sentences, {1});
  }
  const auto answers = run_network(model, inputs, open_cpu_device(1));
  const std::vector<float> probabilities = floats_of(answers.at("softmax"));
  const FloatTensor expected = read_floats(read_numpy(golden(name + ".expected.npy")).tensor);
  ASSERT_EQ(probabilities.size(), expected.values.size());
  // Sums of some ten terms in f32 on both sides, and two levels of them.
  for (std::size_t i = 0; i < probabilities.size(); ++i)
    EXPECT_TRUE(std::abs(probabilities[i] - expected.values[i]) <= 4e-6)
        << probabilities[i] << ", " << expected.values[i];
}

TEST(OnnxHan, ClassifiesTextsWithAVocabulary) {
  const test::TempFolder scratch;
  SessionOptions options;
  options.device = "cpu";
  options.foreign.vocabulary = write_words(scratch.path());
  Session session = Session::open(golden("keras_gru.onnx").string(), options);
  const Classification answer = session.classify(std::string_view("w3 w4 w5. w6 w29."));
  EXPECT_EQ(answer.sentences.size(), 2u);
  EXPECT_EQ(answer.sentences[0].words.size(), 3u);
  EXPECT_EQ(answer.unknown_words, 0u);
  EXPECT_NEAR(answer.probabilities[0] + answer.probabilities[1] + answer.probabilities[2], 1, 1e-5);
}

TEST(OnnxHan, NeedsWords) {
  EXPECT_THAT(error_of([] { open_model(golden("torch_gru.onnx")); }),
              AllOf(HasSubstr("torch_gru.onnx"), HasSubstr("--vocabulary")));
}

TEST(OnnxHan, AnOpenLengthIsTheUsersToSay) {
  const test::TempFolder scratch;
  ImportOptions options{.vocabulary = write_words(scratch.path())};
  options.choices = {{"max_words", "12"}};
  const Imported imported = import_model(golden("torch_gru_open.onnx"), options);
  EXPECT_EQ(imported.config.han->max_words, 12);
  EXPECT_EQ(imported.config.han->max_sentences, 15);
  ASSERT_FALSE(imported.guesses.empty());
  EXPECT_EQ(imported.guesses[0].name, "max_sentences");
  options.choices = {{"max_words", "-1"}};
  EXPECT_THAT(error_of([&] { import_model(golden("torch_gru_open.onnx"), options); }),
              HasSubstr("max_words"));
  options.choices = {{"concat", "up_first"}};
  EXPECT_THAT(error_of([&] { import_model(golden("torch_gru_open.onnx"), options); }),
              HasSubstr("concat"));
}

TEST(OnnxHan, OthersAreRefusedByTheirNodes) {
  EXPECT_THAT(error_of([] { open_model(golden("torch_pooled.onnx")); }),
              AllOf(HasSubstr("torch_pooled.onnx"), HasSubstr("tanh(W h + b)")));
  EXPECT_THAT(error_of([] { open_model(golden("keras_loops.onnx")); }),
              AllOf(HasSubstr("Loop '"), HasSubstr("ReverseSequence '"), HasSubstr(".h5")));
}

TEST(OnnxHan, ANetworkThatGivesOtherAnswersIsNone) {
  // The file's own answer decides, whatever its nodes look like: here scores are bent otherwise.
  std::ifstream file(golden("dynamo_lstm.onnx"), std::ios::binary);
  onnx::ModelProto model;
  ASSERT_TRUE(model.ParseFromIstream(&file));
  int changed = 0;
  for (onnx::NodeProto& node : *model.mutable_graph()->mutable_node()) {
    if (node.op_type() != "Softmax" && node.op_type() != "Exp") continue;
    node.set_op_type("Sigmoid");
    node.clear_attribute();
    ++changed;
  }
  ASSERT_GT(changed, 0);
  const test::TempFolder scratch;
  const fs::path path = scratch.path() / "other.onnx";
  std::ofstream out(path, std::ios::binary);
  model.SerializeToOstream(&out);
  out.close();
  EXPECT_THAT(error_of([&] { open_model(path, {.vocabulary = write_words(scratch.path())}); }),
              HasSubstr("differ by"));
}

// ---- our own exports ---------------------------------------------------------------------------

TEST(OnnxHan, OurExportIsReadBackToTheByte) {
  const test::TempFolder scratch;
  const fs::path model = test::source_dir() / "models/demo/han_imdb.safetensors";
  if (!fs::exists(model)) GTEST_SKIP() << "no " << model;
  ModelFile file = ModelFile::open(model);
  const fs::path path = scratch.path() / "han.onnx";
  export_onnx(file, path);
  Imported imported = import_model(path);  // its words lie beside it
  save_model(scratch.path() / "back.safetensors", imported.config, imported.tensors,
             imported.vocabulary);
  ModelFile back = ModelFile::open(scratch.path() / "back.safetensors");
  EXPECT_EQ(*back.config.han, *file.config.han);
  EXPECT_EQ(back.config.text, file.config.text);
  ASSERT_EQ(back.weights.names(), file.weights.names());
  for (const std::string& name : file.weights.names()) {
    const TensorView a = file.weights.take_any_shape(name), b = back.weights.take_any_shape(name);
    if (name == "vocabulary")
      EXPECT_EQ(std::memcmp(a.pointer, b.pointer, a.type.bytes()), 0);
    else
      EXPECT_EQ(to_f32(a), to_f32(b)) << name;
  }
  fs::remove(scratch.path() / "han.words.json");
  EXPECT_THAT(error_of([&] { import_model(path); }), HasSubstr(".words.json"));
}

}  // namespace
}  // namespace tessera
