// Keras' files: what Keras computes, we compute. tools/golden/make_keras_goldens.py wrote them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "engine/files/weights.h"
#include "models/import/hdf5.h"
#include "models/import/import.h"
#include "models/import/keras_file.h"
#include "models/session.h"
#include "tests/support/error.h"
#include "tests/support/golden.h"
#include "tests/support/network.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using test::error_of;
using test::Tensor;
using testing::AllOf;
using testing::HasSubstr;

std::filesystem::path golden(const std::string& name) {
  return test::source_dir() / "tests/golden/import" / name;
}

// What the file's own graph makes of `input`, as model.predict does.
std::vector<float> prediction_of(const Imported& imported, const TensorView& input) {
  const std::vector<Tensor> outputs = test::run_graph_reference(
      build_network(imported.config),
      [&](const std::string& name, const Shape&) { return imported.tensors.at(name); },
      {test::copy_of(input)});
  return outputs[0].values();
}

class KerasImage : public testing::TestWithParam<std::tuple<const char*, const char*>> {};

TEST_P(KerasImage, AnswersAsKerasDoes) {
  const auto [name, ending] = GetParam();
  const std::string framework = std::string(ending).substr(1, 2);
  const Imported imported = import_model(golden(std::string(name) + ending));
  Weights expected = Weights::open(golden(std::string(name) + ".safetensors"));
  const TensorView answer = expected.take_any_shape("output_" + framework);
  const std::vector<float> found = prediction_of(imported, expected.take_any_shape("input"));
  ASSERT_EQ(found.size(), static_cast<std::size_t>(answer.shape().elements()));
  for (std::size_t i = 0; i < found.size(); ++i)
    ASSERT_TRUE(std::abs(found[i] - answer.as<float>()[i]) <= 1e-5f) << i << " of " << found.size();
  EXPECT_TRUE(imported.unused.empty()) << imported.unused[0];
  EXPECT_EQ(imported.config.provenance["imported"]["family"], "Keras model");
}

INSTANTIATE_TEST_SUITE_P(
    Files, KerasImage,
    testing::Values(std::tuple{"keras_zhixuhao", "_tf.hdf5"},
                    std::tuple{"keras_zerocost", "_tf.h5"},
                    std::tuple{"keras_zerocost", "_tf.keras"},
                    std::tuple{"keras_zerocost", "_k3.h5"},
                    std::tuple{"keras_zerocost", "_k3.keras"}, std::tuple{"keras_layers", "_tf.h5"},
                    std::tuple{"keras_layers", "_tf.keras"}, std::tuple{"keras_layers", "_k3.h5"},
                    std::tuple{"keras_layers", "_k3.keras"}, std::tuple{"keras_encoder", "_tf.h5"},
                    std::tuple{"keras_encoder", "_tf.keras"}, std::tuple{"keras_encoder", "_k3.h5"},
                    std::tuple{"keras_encoder", "_k3.keras"}),
    [](const auto& instance) {
      std::string name = std::string(std::get<0>(instance.param)) + std::get<1>(instance.param);
      std::ranges::replace(name, '.', '_');
      return name;
    });

class KerasAnswers : public testing::TestWithParam<const char*> {};

// The other answers' layers are left out, be they code.
TEST_P(KerasAnswers, TheFirstIsTakenUnlessAnotherIsNamed) {
  const std::string ending = GetParam();
  const std::filesystem::path file = golden("keras_resized_" + ending);
  Weights expected = Weights::open(golden("keras_resized.safetensors"));
  const TensorView input = expected.take_any_shape("input");
  const std::pair<const char*, const char*> cases[] = {
      {"", "output_"}, {"main", "output_"}, {"edges", "edges_"}};
  for (const auto& [answer, kept] : cases) {
    ImportOptions options;
    if (*answer != '\0') options.choices["answer"] = answer;
    const Imported imported = import_model(file, options);
    const TensorView wanted = expected.take_any_shape(kept + ending.substr(0, 2));
    const std::vector<float> found = prediction_of(imported, input);
    ASSERT_EQ(found.size(), static_cast<std::size_t>(wanted.shape().elements()));
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_TRUE(std::abs(found[i] - wanted.as<float>()[i]) <= 1e-5f) << answer << i;
    EXPECT_EQ(imported.unused.size(), 2U);
    const auto guess = std::ranges::find(imported.guesses, "answer", &Guess::name);
    ASSERT_NE(guess, imported.guesses.end());
    EXPECT_EQ(guess->value, *answer == '\0' ? "main" : answer);
  }
  ImportOptions code;
  code.choices["answer"] = "code";
  EXPECT_THAT(error_of([&] { import_model(file, code); }),
              AllOf(HasSubstr("'code' (Lambda, which is code)"), HasSubstr("tf2onnx")));
  code.choices["answer"] = "none";
  EXPECT_THAT(error_of([&] { import_model(file, code); }), HasSubstr("edges"));
}

INSTANTIATE_TEST_SUITE_P(Files, KerasAnswers, testing::Values("tf.h5", "k3.keras"),
                         [](const auto& instance) {
                           return std::string(instance.param).substr(0, 2);
                         });

// A model that rescales bytes is given those of images of any type.
TEST(KerasPixels, RescalingIsPartOfTheNetwork) {
  const Preprocessing preprocessing =
      import_model(golden("keras_layers_k3.keras")).config.preprocessing;
  EXPECT_EQ(preprocessing.scale, Scale::kUnit);
  EXPECT_EQ(preprocessing.std, std::vector<float>(3, 1 / 255.0f));
}

// ---- containers

std::filesystem::path hostile(const std::string& name) {
  return golden("hdf5") / (name + ".h5");
}

struct HostileFile {
  const char* name;
  const char* message;  // what is wrong, or its remedy
};
class KerasHostile : public testing::TestWithParam<HostileFile> {};

TEST_P(KerasHostile, IsRefused) {
  EXPECT_THAT(error_of([] { import_model(hostile(GetParam().name)); }),
              AllOf(HasSubstr(GetParam().name), HasSubstr(GetParam().message)));
}

INSTANTIATE_TEST_SUITE_P(Files, KerasHostile,
                         testing::Values(HostileFile{"cycle", "second link"},
                                         HostileFile{"twice", "save the model again"},
                                         HostileFile{"soft_link", "weights in one file"},
                                         HostileFile{"external_link", "an external link"},
                                         HostileFile{"virtual", "save the model with its weights"},
                                         HostileFile{"external_storage", "which is not opened"},
                                         HostileFile{"filter", "without it"},
                                         HostileFile{"huge", "save the model again"},
                                         HostileFile{"overflow", "more than any memory"},
                                         HostileFile{"unwritten", "never written"},
                                         HostileFile{"big_endian", "little-endian machine"},
                                         HostileFile{"deep", "nest deeper than 32"},
                                         HostileFile{"keras1", "load it with Keras 2"},
                                         HostileFile{"other", "none that Keras wrote"},
                                         HostileFile{"missing_group", "save it again"}),
                         [](const auto& instance) { return instance.param.name; });

TEST(KerasHdf5, ReadsWhatIsCompressed) {
  std::ifstream stream(hostile("chunked"), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const Hdf5 file = read_hdf5(std::as_bytes(std::span(text)), "chunked");
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].name, "conv/bias:0");
  EXPECT_EQ(read_floats(file.tensors[0]).values, (std::vector<float>{0, 1, 2, 3}));
  const FloatTensor kernel = read_floats(file.tensors[1]);
  EXPECT_EQ(kernel.shape, Shape({1, 1, 16, 4}));
  for (std::size_t i = 0; i < kernel.values.size(); ++i)
    ASSERT_EQ(kernel.values[i], static_cast<float>(i % 8));
  EXPECT_EQ(file.groups.at("conv")["weight_names"][0], "kernel:0");
}

// However a file is cut off or a byte of it is changed, the answer is an Error or a model.
TEST(KerasHdf5, DamageIsAnError) {
  std::ifstream stream(golden("keras_zerocost_tf.h5"), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(stream), {}};
  const auto reads = [](const std::string& bytes) {
    try {
      read_keras_hdf5(std::as_bytes(std::span(bytes)), "damaged.h5");
      return true;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), HasSubstr("damaged.h5"));
      return false;
    }
  };
  EXPECT_TRUE(reads(text));
  for (const std::size_t size : {9u, 96u, 800u, 5000u, 60000u})
    EXPECT_FALSE(reads(text.substr(0, size))) << size;
  for (std::size_t at = 8; at < text.size(); at = at * 9 / 8 + 1) {
    std::string changed = text;
    changed[at] = static_cast<char>(changed[at] ^ 0x81);
    reads(changed);
  }
}

// ---- descriptions, beside weights that have none

class KerasDescription : public testing::Test {
 protected:
  KerasDescription() { std::filesystem::copy(hostile("pieces"), folder_.path() / "weights.h5"); }

  // A model of `layers`, JSON between the image and the convolution.
  std::string error_with(const std::string& layers,
                         const std::string& conv = R"("padding": "same")",
                         const std::string& reads = "image") {
    write(R"({"class_name": "Functional", "config": {"name": "m", "layers": [
      {"class_name": "InputLayer", "config": {"name": "image", "batch_shape": [null, null, null, 1]},
       "name": "image", "inbound_nodes": []}, )" +
          layers + R"(
      {"class_name": "Conv2D", "name": "conv", "config": {"name": "conv", "kernel_size": [1, 1], )" +
          conv + R"(}, "inbound_nodes": [[[")" + reads + R"(", 0, 0, {}]]]}],
      "input_layers": [["image", 0, 0]], "output_layers": [["conv", 0, 0]]}})");
    try {
      import_model(folder_.path() / "weights.h5");
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  }
  void write(const std::string& text) { std::ofstream(folder_.path() / "config.json") << text; }
  static std::string layer(const std::string& type, const std::string& config,
                           const std::string& reads = "image") {
    return fmt::format(R"({{"class_name": "{}", "name": "x", "config": {{"name": "x"{}}},
                        "inbound_nodes": [[["{}", 0, 0, {{}}]]]}},)",
                       type, config, reads);
  }

  test::TempFolder folder_;
};

TEST_F(KerasDescription, BesideTheWeightsIsUsed) {
  EXPECT_EQ(error_with(""), "");
  std::filesystem::remove(folder_.path() / "config.json");
  EXPECT_THAT(error_of([&] { import_model(folder_.path() / "weights.h5"); }),
              HasSubstr("no known network"));
}

TEST_F(KerasDescription, ThatCannotBeTakenSaysWhy) {
  EXPECT_THAT(error_with(layer("Lambda", ""), R"("padding": "same")", "x"),
              AllOf(HasSubstr("'x' (Lambda, which is code)"), HasSubstr("tf2onnx")));
  EXPECT_THAT(error_with(layer("Mystery", ""), R"("data_format": "channels_first")", "x"),
              AllOf(HasSubstr("'x' (Mystery)"), HasSubstr("'conv' (channels first)")));
  EXPECT_THAT(error_with(layer("ReLU", "", "x"), "\"padding\": \"same\"", "x"),
              HasSubstr("in a cycle"));
  EXPECT_THAT(error_with(layer("ReLU", "", "gone")), HasSubstr("'gone', which does not exist"));
  EXPECT_THAT(error_with(layer("ReLU", ""), R"("strides": [0, 1])"),
              HasSubstr("expected a whole number from 1"));
  EXPECT_THAT(error_with(layer("ReLU", ""), R"("activation": "mish")"), HasSubstr("'mish'"));
  EXPECT_THAT(error_with(layer("ReLU", ""), R"("padding": "full")"), HasSubstr("\"same\""));
  EXPECT_THAT(
      error_with(layer("ZeroPadding2D", R"(, "padding": 99999999)"), R"("padding": "same")", "x"),
      HasSubstr("expected a whole number from 0"));
  EXPECT_THAT(
      error_with(layer("Reshape", R"(, "target_shape": [4, 4])"), R"("padding": "same")", "x"),
      HasSubstr("it moves pixels"));
  EXPECT_THAT(error_with(layer("GlobalAveragePooling2D", ""), R"("padding": "same")", "x"),
              HasSubstr("no map"));
  write(std::string(300, '[') + std::string(300, ']'));
  EXPECT_THAT(error_of([&] { import_model(folder_.path() / "weights.h5"); }),
              HasSubstr("nests deeper than 200"));
  write(R"({"class_name": "MyModel", "config": {}})");
  EXPECT_THAT(error_of([&] { import_model(folder_.path() / "weights.h5"); }),
              AllOf(HasSubstr("'MyModel'"), HasSubstr("rebuild it")));
}

// A 3x3 convolution of stride 2 pads one row behind, of even sizes: others are not offered.
TEST(KerasImageFile, SizesAreThoseThatDivide) {
  EXPECT_EQ(import_model(golden("keras_layers_tf.h5")).config.graph->multiple, 6);
  EXPECT_EQ(import_model(golden("keras_zhixuhao_tf.hdf5")).config.graph->multiple, 16);
}

// dic-hela-new1.h5: somebody's network of cells, by INVENTORY.md with an IoU of about 0.80.
TEST(KerasImageFile, SegmentsTheCellsItWasTrainedOn) {
  const std::filesystem::path shared = test::shared_dir();
  const std::filesystem::path model = shared / "models/keras_dic_hela/dic-hela-new1.h5";
  if (!std::filesystem::exists(model)) GTEST_SKIP() << "needs " << model;
  const Imported imported = import_model(model);
  EXPECT_EQ(imported.config.preprocessing.channels, 3);
  EXPECT_TRUE(imported.unused.empty()) << imported.unused[0];
}

}  // namespace
}  // namespace tessera
