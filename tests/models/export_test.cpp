// What is exported, read back by our own importers, gives what the model gives. With
// TESSERA_EXPORT_FOLDER set, models, inputs and answers stay there, for tests/tools/export_test.py
// to hold them against ONNX Runtime and PyTorch.
#include <gmock/gmock.h>

#include <cmath>
#include <cstdlib>

#include "models/export/export.h"
#include "models/import/import.h"
#include "models/import/numpy_file.h"
#include "models/network_run.h"
#include "tests/support/error.h"
#include "tests/support/export_models.h"
#include "tests/support/graph_model.h"
#include "tests/support/temp_folder.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;
using Answers = std::map<std::string, NetworkAnswer>;

class Exported : public testing::Test {
 protected:
  fs::path folder() const {
    const char* kept = std::getenv("TESSERA_EXPORT_FOLDER");
    return kept != nullptr ? fs::path(kept) : temporary_.path();
  }
  void keep(const std::string& name, const std::string& part, const TensorView& tensor) const {
    if (std::getenv("TESSERA_EXPORT_FOLDER") != nullptr)
      write_numpy(folder() / fmt::format("{}.{}.npy", name, part), tensor);
  }

  // A model of images and what comes back of it.
  void check_images(const std::string& name, const ModelConfig& config, std::int64_t height,
                    std::int64_t width, bool onnx_reads = true) {
    RandomWeights weights;
    ModelFile model = model_of(config, weights);
    const std::int64_t c = image_channels(config);
    const Tensor image = random({2, height, width, c}, 7);
    const fs::path onnx = folder() / (name + ".onnx"), torch = folder() / (name + ".pth");
    export_onnx(model, onnx);
    export_pytorch(model, torch);

    const auto bytes = std::as_bytes(std::span(image.view().as<const float>(),
                                               static_cast<std::size_t>(2 * height * width * c)));
    const StoredTensor ours{"", StoredTensor::Type::kF32, {2, height, width, c}, {}, bytes};
    const StoredTensor nchw{"",
                            StoredTensor::Type::kF32,
                            {2, c, height, width},
                            {height * width * c, 1, width * c, c},
                            bytes};
    const Answers expected = run_network(model, {{"image", ours}}, open_cpu_device(1));
    keep(name, "image.in", image.view());
    Answers outside;
    for (const auto& [output, answer] : expected) {
      const std::string given = config.graph              ? output
                                : output == "head/argmax" ? "mask"
                                                          : "probabilities";
      keep(name, given + ".out", answer.view());
      outside[given] = answer;
    }

    ModelFile from_torch = open_model(torch);
    EXPECT_EQ(to_json(from_torch.config)["classes"], to_json(config)["classes"]);
    expect_same(run_network(from_torch, {{"image", ours}}, open_cpu_device(1)), expected);
    // As PyTorch has images, which their channels tell.
    const Answers turned = run_network(from_torch, {{"image", nchw}}, open_cpu_device(1));
    expect_same(turned, expected);
    for (const auto& [output, answer] : turned) {
      if (answer.type.shape.rank() == 4) {
        EXPECT_EQ(answer.type.shape[2], expected.at(output).type.shape[1]);
      }
    }
    StoredTensor neither = ours;
    neither.shape = {2, height, width * c, 1};
    if (c != 1) {
      EXPECT_THAT(error_of([&] {
                    run_network(from_torch, {{"image", neither}}, open_cpu_device(1));
                  }),
                  testing::HasSubstr("expected (n, h, w,"));
    }
    if (!onnx_reads) return;
    ModelFile from_onnx = open_model(onnx);
    EXPECT_EQ(to_json(from_onnx.config)["classes"], to_json(config)["classes"]);
    expect_same(run_network(from_onnx, {{"image", nchw}}, open_cpu_device(1)), outside);
  }

  // Maps of `answers` are ours, or (n, c, h, w).
  static void expect_same(const Answers& answers, const Answers& expected) {
    ASSERT_EQ(answers.size(), expected.size());
    for (const auto& [name, answer] : answers) {
      SCOPED_TRACE(name);
      ASSERT_TRUE(expected.contains(name));
      const NetworkAnswer& other = expected.at(name);
      const Shape &a = answer.type.shape, &b = other.type.shape;
      ASSERT_EQ(a.elements(), b.elements());
      const bool turned = a.rank() == 4 && a != b;
      const std::int64_t pixels = turned ? b[1] * b[2] : 1, c = turned ? b[3] : 1;
      double largest = 0, scale = 1;
      for (std::int64_t i = 0; i < a.elements(); ++i) {
        const std::int64_t at =
            turned ? (i / (c * pixels) * pixels + i % pixels) * c + i / pixels % c : i;
        const double mine = value(answer, i), wanted = value(other, at);
        if (std::abs(wanted) > scale) scale = std::abs(wanted);
        if (!(std::abs(mine - wanted) <= largest)) largest = std::abs(mine - wanted);
      }
      EXPECT_TRUE(largest <= 1e-6 * scale) << largest << " of " << scale;
    }
  }
  static double value(const NetworkAnswer& answer, std::int64_t i) {
    return answer.type.dtype == DType::kU8 ? answer.view().as<std::uint8_t>()[i]
                                           : answer.view().as<float>()[i];
  }

 private:
  TempFolder temporary_;
};

class ExportedOperator : public Exported, public testing::WithParamInterface<OperatorNetwork> {};

TEST_P(ExportedOperator, ComesBackTheSame) {
  check_images(GetParam().name, config_of(GetParam()), 16, 12);
}
INSTANTIATE_TEST_SUITE_P(, ExportedOperator, testing::ValuesIn(operator_networks()),
                         [](const auto& one) { return one.param.name; });

class ExportedUNet : public Exported, public testing::WithParamInterface<UNetVariant> {};

TEST_P(ExportedUNet, ComesBackTheSame) {
  const auto& [name, unet, height, width] = GetParam();
  ModelConfig config;
  config.unet = unet;
  config.preprocessing.channels = unet.channels;
  for (int i = 0; i < std::max(unet.classes, 2); ++i)
    config.classes.push_back({fmt::format("class {}", i), {}});
  // Where a map is padded to its skip, sizes that divide alone come back: ONNX has shapes for it.
  const bool divides = height % 8 == 0 && width % 8 == 0;
  check_images(std::string("unet_") + name, config, height, width,
               unet.padding == UNetConfig::Padding::kValid || divides);
  if (unet.padding == UNetConfig::Padding::kSame)
    check_images(fmt::format("unet_{}_even", name), config, 24, 40);
}
INSTANTIATE_TEST_SUITE_P(, ExportedUNet, testing::ValuesIn(unet_variants()),
                         [](const auto& one) { return std::string(one.param.name); });

TEST_F(Exported, ResNetLikeComesBackTheSame) {
  check_images("resnet_like", config_of(resnet_like(), 8, {"a", "b", "c"}), 32, 48);
}

TEST_F(Exported, WeightsBesideTheFileComeBackTheSame) {
  ModelConfig config = config_of(resnet_like(), 8, {"a", "b", "c"});
  RandomWeights weights;
  ModelFile model = model_of(config, weights);
  const TempFolder folder;
  export_onnx(model, folder.path() / "inside.onnx");
  const auto written = export_onnx(model, folder.path() / "beside.onnx", 1000);
  ASSERT_EQ(written.size(), 2u);
  EXPECT_LT(fs::file_size(written[0]), fs::file_size(folder.path() / "inside.onnx"));
  const Imported inside = import_model(folder.path() / "inside.onnx");
  const Imported beside = import_model(folder.path() / "beside.onnx");
  ASSERT_EQ(inside.tensors.size(), beside.tensors.size());
  for (const auto& [name, tensor] : inside.tensors) {
    const TensorView& other = beside.tensors.at(name);
    ASSERT_EQ(tensor.type, other.type);
    EXPECT_EQ(std::memcmp(tensor.pointer, other.pointer, tensor.type.bytes()), 0) << name;
  }
}

TEST_F(Exported, EqualModelsGiveEqualBytes) {
  ModelConfig config = config_of(resnet_like(), 8, {"a", "b", "c"});
  RandomWeights weights;
  ModelFile model = model_of(config, weights);
  const TempFolder folder;
  const auto bytes_of = [](const fs::path& path) {
    const MappedFile file = MappedFile::open(path, "a file");
    return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  };
  for (const char* name : {"a", "b"}) {
    fs::create_directory(folder.path() / name);
    export_onnx(model, folder.path() / name / "x.onnx");
    export_pytorch(model, folder.path() / name / "x.pth");
  }
  for (const char* file : {"x.onnx", "x.pth", "x.py"})
    EXPECT_EQ(bytes_of(folder.path() / "a" / file), bytes_of(folder.path() / "b" / file)) << file;
}

class ExportedHan : public Exported, public testing::WithParamInterface<HanVariant> {};

TEST_P(ExportedHan, ComesBackTheSame) {
  const std::string name = std::string("han_") + GetParam().name;
  ModelConfig config;
  config.han = GetParam().config;
  config.han->max_sentences = 4;
  config.han->max_words = 9;
  config.text.max_sentences = 4;
  config.text.max_words = 9;
  config.classes = {{"bad", {}}, {"good", {}}};
  RandomWeights weights;
  ModelFile model = model_of(config, weights);
  std::string words;
  for (int i = 2; i < config.han->words; ++i) words += fmt::format("w\u00f6rd{}\n", i);
  model.vocabulary = Vocabulary::from_blob(words);

  const std::vector<Tensor> given = han_inputs(*config.han);
  const std::vector<NetworkTensor> names = network_inputs(config);
  std::map<std::string, StoredTensor> inputs;
  for (std::size_t i = 0; i < given.size(); ++i) {
    const auto dims = given[i].type().shape.dims();
    inputs[names[i].name] = {names[i].name,
                             StoredTensor::Type::kI32,
                             {dims.begin(), dims.end()},
                             {},
                             {given[i].view().as<const std::byte>(), given[i].type().bytes()}};
    keep(name, names[i].name + ".in", given[i].view());
  }
  Answers expected = run_network(model, inputs, open_cpu_device(1));
  // Outside they have plain names.
  const auto named = [&](const std::string& from, const std::string& to) {
    keep(name, to + ".out", expected.at(from).view());
  };
  named("softmax", "probabilities");
  named("word/attention:1", "word_attention");
  named("sentence/attention:1", "sentence_attention");

  export_onnx(model, folder() / (name + ".onnx"));
  const auto written = export_pytorch(model, folder() / (name + ".pth"));
  ASSERT_EQ(written.size(), 3u);
  // Words that lie beside are found, and those of another place are to be named.
  EXPECT_EQ(open_model(written[0]).vocabulary->to_blob(), words);
  ModelFile onnx = open_model(folder() / (name + ".onnx"));
  EXPECT_EQ(*onnx.config.han, *config.han);
  EXPECT_EQ(onnx.vocabulary->to_blob(), words);
  const Answers same = run_network(onnx, inputs, open_cpu_device(1));
  for (const auto& [output, answer] : expected)
    EXPECT_EQ(floats_of(same.at(output)), floats_of(answer)) << output;
  const fs::path elsewhere = folder() / (name + ".words");
  fs::rename(written[2], elsewhere);
  EXPECT_THAT(error_of([&] { open_model(written[0]); }), testing::HasSubstr("--vocabulary"));
  ModelFile back =
      open_model(written[0], {.family = "", .key = "", .vocabulary = elsewhere, .choices = {}});
  EXPECT_EQ(back.vocabulary->to_blob(), words);
  expect_same(run_network(back, inputs, open_cpu_device(1)), expected);
}
INSTANTIATE_TEST_SUITE_P(, ExportedHan, testing::ValuesIn(han_variants()),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace tessera::test
