// Networks known by the names of their tensors, against PyTorch's own answers
// (tools/golden/make_import_goldens.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>

#include "engine/files/safetensors.h"
#include "engine/passes/passes.h"
#include "engine/run/executor.h"
#include "models/image/mask.h"
#include "models/import/foreign_safetensors.h"
#include "models/import/import.h"
#include "models/session.h"
#include "tests/support/error.h"
#include "tests/support/golden.h"
#include "tests/support/network.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera {
namespace {

using nlohmann::json;
using test::error_of;
using test::Tensor;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// A golden file, without what it holds for the test.
struct Golden {
  Contents contents;
  ImportOptions options;
  std::string family;
  Tensor input, logits;
};

Golden load(const std::string& name) {
  const std::filesystem::path path =
      test::source_dir() / "tests/golden/import" / (name + ".safetensors");
  const MappedFile file = MappedFile::open(path, "a golden file");
  Golden golden{read_safetensors(file, name), {}, {}, {}, {}};
  const auto take = [&](const char* tensor) {
    const StoredTensor* found = golden.contents.find(tensor);
    if (found == nullptr) fail("{} has no {}", name, tensor);
    const FloatTensor values = read_floats(*found);
    return test::copy_of(values.view());
  };
  golden.input = take("golden/input");
  golden.logits = take("golden/logits");
  std::erase_if(golden.contents.tensors,
                [](const StoredTensor& tensor) { return tensor.name.starts_with("golden/"); });
  const json metadata = golden.contents.said.at("metadata");
  golden.family = metadata.at("family");
  const json choices = json::parse(metadata.at("choices").get<std::string>());
  for (const auto& [key, value] : choices.items()) golden.options.choices[key] = value;
  const json said = json::parse(metadata.at("said").get<std::string>());
  for (const auto& [key, value] : said.items()) golden.contents.said[key] = value;
  return golden;
}

// What the one family that matches makes of it; fails where another one does.
Imported import_golden(const Golden& golden) {
  std::optional<Imported> result;
  std::string reasons;
  for (const Family& family : families()) {
    std::string why;
    std::optional<Imported> imported = family.match(golden.contents, golden.options, why);
    if (!why.empty()) reasons += fmt::format("\n{}: {}", family.name, why);
    if (!imported) continue;
    EXPECT_EQ(family.name, golden.family);
    EXPECT_FALSE(result) << "two families match";
    result = std::move(imported);
  }
  if (!result) fail("no family matches:{}", reasons);
  return *std::move(result);
}

std::vector<std::string> golden_names() {
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(test::source_dir() / "tests/golden/import")) {
    if (entry.path().extension() != ".safetensors") continue;
    const std::string name = entry.path().stem().string();
    const MappedFile file = MappedFile::open(entry.path(), "a golden file");
    if (parse_safetensors(file.bytes(), name).metadata.contains("family")) names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

// The network's own output, as a user's machine computes it.
std::vector<float> logits_of(const Imported& imported, const Tensor& input) {
  const WeightSource weights = [&](const std::string& name, const Shape& shape) {
    const TensorView view = imported.tensors.at(name);
    EXPECT_EQ(view.shape(), shape) << name;
    return view;
  };
  const std::vector<TensorType> types{input.type()};
  Executor executor(optimise_for_cpu(imported.config.graph->network.graph, types, DType::kF32),
                    weights, types, open_cpu_device(2));
  return test::run_executor(executor, {input}).at(0).values();
}

// Over the largest expected value; NaN where one of them is.
float largest_difference(const std::vector<float>& values, const std::vector<float>& expected) {
  if (values.size() != expected.size()) fail("{} values, not {}", values.size(), expected.size());
  float largest = 0, worst = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    largest = std::max(largest, std::abs(expected[i]));
    const float difference = std::abs(values[i] - expected[i]);
    worst = !(difference <= worst) ? difference : worst;
  }
  return worst / largest;
}

class ImportFamilies : public testing::TestWithParam<std::string> {};

// PyTorch's own f32 kernels differ by 6e-6 of the largest logit among each other.
TEST_P(ImportFamilies, GivesPyTorchsLogits) {
  const Golden golden = load(GetParam());
  const Imported imported = import_golden(golden);
  std::vector<float> expected = golden.logits.values();
  // Where the author's network ends in its activation, so does ours.
  if (imported.config.graph->network.outputs[0].kind == NetworkOutput::Kind::kProbabilities)
    for (float& value : expected) value = 1 / (1 + std::exp(-value));
  const float difference = largest_difference(logits_of(imported, golden.input), expected);
  RecordProperty("difference", std::to_string(difference));
  EXPECT_TRUE(difference <= 1e-5f) << difference;
}

// The model file that an import writes is one that opens, with the same network.
TEST_P(ImportFamilies, ItsModelFileOpens) {
  const Golden golden = load(GetParam());
  const Imported imported = import_golden(golden);
  const test::TempFolder scratch;
  const std::filesystem::path path = scratch.path() / "model.safetensors";
  save_model(path, imported.config, imported.tensors, std::nullopt);
  Session session = Session::open(path.string(), {.device = "cpu"});
  EXPECT_TRUE(json::parse(session.config_json()) == to_json(imported.config));
  EXPECT_EQ(session.classes().size(), std::max<std::size_t>(2, golden.logits.type().shape[-1]));
}

INSTANTIATE_TEST_SUITE_P(Goldens, ImportFamilies, testing::ValuesIn(golden_names()),
                         [](const auto& golden) { return golden.param; });

std::optional<Imported> match(const char* name, const Contents& contents,
                              const ImportOptions& options, std::string& why) {
  for (const Family& family : families())
    if (family.name == name) return family.match(contents, options, why);
  fail("no family {}", name);
}

constexpr const char* kMilesial = "milesial/Pytorch-UNet";

TEST(ImportFamily, MatchesOnlyWhereAllTensorsAreItsOwn) {
  Golden golden = load("milesial_2022_bilinear");
  std::vector<StoredTensor>& tensors = golden.contents.tensors;
  std::string why;
  StoredTensor gate = tensors.at(0);
  gate.name = "att.conv.weight";
  tensors.push_back(gate);
  EXPECT_FALSE(match(kMilesial, golden.contents, {}, why));
  EXPECT_THAT(why, HasSubstr("also the tensor 'att.conv.weight'"));
  tensors.pop_back();
  const auto inc = std::ranges::find(tensors, "inc.double_conv.3.weight", &StoredTensor::name);
  const StoredTensor kept = *inc;
  inc->name = "inc.double_conv.7.weight";
  EXPECT_FALSE(match(kMilesial, golden.contents, {}, why));
  EXPECT_THAT(why, HasSubstr("no tensor 'inc.double_conv.3.weight'"));
  *inc = kept;
  inc->shape[1] -= 1;
  EXPECT_FALSE(match(kMilesial, golden.contents, {}, why));
  EXPECT_THAT(why,
              AllOf(HasSubstr("'inc.double_conv.3.weight' has the shape"), HasSubstr("expected")));
  *inc = kept;
  inc->shape.push_back(1);
  EXPECT_THAT(error_of([&] { match(kMilesial, golden.contents, {}, why); }),
              AllOf(HasSubstr("3-D"), HasSubstr("2-D model")));
}

TEST(ImportFamily, ChoicesOverruleGuesses) {
  const Golden golden = load("milesial_2022_transposed");
  std::string why;
  const auto guesses = [&](const std::map<std::string, std::string>& choices) {
    ImportOptions options;
    options.choices = choices;
    const auto imported = match(kMilesial, golden.contents, options, why);
    std::map<std::string, std::string> result;
    for (const Guess& guess : imported.value().guesses) result[guess.name] = guess.value;
    return std::pair{result, imported->config};
  };
  EXPECT_EQ(guesses({}).first,
            (std::map<std::string, std::string>{{"input", "unit"}, {"output", "softmax"}}));
  const auto [chosen, config] = guesses(
      {{"output", "sigmoid"}, {"input", "imagenet"}, {"std", "1,0.5,0.25"}, {"multiple", "16"}});
  EXPECT_EQ(chosen.at("output"), "sigmoid");
  EXPECT_EQ(config.graph->network.outputs[0].activation, Head::Output::kSigmoid);
  EXPECT_EQ(config.graph->multiple, 16);
  EXPECT_THAT(config.preprocessing.mean, ElementsAre(0.485f, 0.456f, 0.406f));
  EXPECT_THAT(config.preprocessing.std, ElementsAre(1, 0.5f, 0.25f));
  EXPECT_THAT(error_of([&] { guesses({{"output", "relu"}}); }), HasSubstr("sigmoid, softmax"));
  EXPECT_THAT(error_of([&] { guesses({{"depth", "3"}}); }), HasSubstr("no such choice"));
  EXPECT_THAT(error_of([&] { guesses({{"std", "1,2"}}); }), HasSubstr("expected 3 numbers"));
  EXPECT_THAT(error_of([&] { guesses({{"std", "1,x,2"}}); }), HasSubstr("expected numbers"));
  EXPECT_THAT(error_of([&] { guesses({{"multiple", "0"}}); }), HasSubstr("from 1"));
}

// What stands in a config.json that is not there is a guess.
TEST(ImportFamily, SmpsInterpolationMayBeGiven) {
  Golden golden = load("smp_resnet18_depth4");  // bilinear, by its configuration
  golden.contents.said.erase("config");
  const Imported guessed = import_golden(golden);
  const auto guess = std::ranges::find(guessed.guesses, "interpolation", &Guess::name);
  ASSERT_NE(guess, guessed.guesses.end());
  EXPECT_EQ(guess->value, "nearest");
  golden.options.choices["interpolation"] = "bilinear";
  EXPECT_LE(
      largest_difference(logits_of(import_golden(golden), golden.input), golden.logits.values()),
      1e-5f);
}

TEST(ImportFamily, MilesialsMaskValuesBecomeColours) {
  const ModelConfig rgb = import_golden(load("milesial_2022_transposed")).config;
  EXPECT_EQ(rgb.classes.at(1).colour, (Rgb{255, 128, 0}));
  const ModelConfig grey = import_golden(load("milesial_2022_bilinear")).config;
  EXPECT_EQ(grey.classes.at(1).colour, (Rgb{255, 255, 255}));
  EXPECT_EQ(grey.classes.at(0).name, "value 0");
  Golden golden = load("milesial_2022_bilinear");
  golden.contents.said["entries"]["mask_values"] = {0, 1};
  const ModelConfig ids = import_golden(golden).config;
  EXPECT_EQ(ids.classes.at(1).name, "value 1");
  EXPECT_EQ(ids.classes.at(1).colour, default_colours(2)[1]);
  golden.contents.said["entries"]["mask_values"] = "none";
  EXPECT_EQ(import_golden(golden).config.classes.at(1).name, "class 1");
}

TEST(ImportFamily, TensorsOfF32StayWhereTheyLie) {
  const Golden golden = load("milesial_2022_transposed");
  const Imported imported = import_golden(golden);
  for (const auto& [name, view] : imported.tensors)
    EXPECT_EQ(view.pointer, golden.contents.find(name)->bytes.data()) << name;
  EXPECT_THAT(imported.unused, IsEmpty());
}

TEST(ImportFamily, WhatIsKnownAndNotReadIsNamed) {
  Golden golden = load("leejunhyun");
  golden.contents.tensors.at(0).name = "Att5.W_g.0.weight";
  EXPECT_THAT(error_of([&] { import_golden(golden); }),
              AllOf(HasSubstr("an Attention U-Net"), HasSubstr("torch.onnx.export")));
}

TEST(ImportFamily, HeadsOfTrainingAreUnused) {
  EXPECT_THAT(
      import_golden(load("nnunet_residual")).unused,
      testing::UnorderedElementsAre("decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias",
                                    "decoder.seg_layers.1.weight", "decoder.seg_layers.1.bias"));
}

const Node& node_of(const Imported& imported, const std::string& name) {
  const std::vector<Node>& nodes = imported.config.graph->network.graph.nodes;
  const auto found = std::ranges::find(nodes, name, &Node::name);
  if (found == nodes.end()) fail("no node {}", name);
  return *found;
}

TEST(ImportFamily, WholeModulesTellTheirSettings) {
  Golden golden = load("mateuszbuda");
  golden.contents.said["objects"]["encoder1.enc1norm1"] = {
      {"class", "torch.nn.modules.batchnorm.BatchNorm2d"}, {"attributes", {{"eps", 0.25}}}};
  Imported imported = import_golden(golden);
  EXPECT_EQ(std::get<BatchNorm>(node_of(imported, "encoder1.enc1norm1").op).eps, 0.25);
  EXPECT_EQ(std::get<BatchNorm>(node_of(imported, "encoder1.enc1norm2").op).eps, 1e-5);

  golden = load("nnunet_plain");
  const std::string module = "encoder.stages.0.0.convs.0.nonlin";
  golden.contents.said["objects"][module] = {{"class", "torch.nn.modules.activation.ReLU"},
                                             {"attributes", json::object()}};
  EXPECT_EQ(std::get<Activation>(node_of(import_golden(golden), module).op).kind,
            Activation::Kind::kRelu);
  golden.contents.said["objects"][module]["class"] = "torch.nn.modules.activation.RReLU";
  std::string why;
  EXPECT_FALSE(match("nnU-Net v2", golden.contents, {}, why));
  EXPECT_THAT(why, HasSubstr("'RReLU'"));
}

// Wrappers of any name, and what torch.optim.swa_utils.AveragedModel counts.
TEST(ImportFamily, NamesAreStrippedOfWrappers) {
  Golden golden = load("usuyama");
  for (StoredTensor& tensor : golden.contents.tensors)
    tensor.name = "module.segmenter." + tensor.name;
  StoredTensor count;
  count.name = "n_averaged";
  count.type = StoredTensor::Type::kI64;
  static constexpr std::int64_t kAveraged = 3;
  count.bytes = std::as_bytes(std::span(&kAveraged, 1));
  golden.contents.tensors.push_back(count);
  const Imported imported = match_family(golden.contents, {});
  EXPECT_EQ(imported.family, golden.family);
  EXPECT_THAT(imported.notes, testing::Contains(HasSubstr("1 tensors beside the network")));

  // Of ema_pytorch's two networks the averaged one; metrics of Lightning's are no part of it.
  Golden averaged = load("usuyama");
  std::vector<StoredTensor> both;
  for (const StoredTensor& tensor : averaged.contents.tensors) {
    both.push_back(tensor);
    both.back().name = "ema_model." + tensor.name;
    both.push_back(tensor);
    both.back().name = "online_model." + tensor.name;
  }
  both.push_back(count);
  both.back().name = "val_metrics.total";
  const std::size_t beside = averaged.contents.tensors.size() + 1;
  averaged.contents.tensors = std::move(both);
  const Imported of_average = match_family(averaged.contents, {});
  EXPECT_EQ(of_average.family, golden.family);
  EXPECT_THAT(of_average.notes,
              testing::Contains(HasSubstr(fmt::format("{} tensors beside the network", beside))));
  for (StoredTensor& tensor : golden.contents.tensors)
    for (int i = 0; i < 20; ++i) tensor.name.insert(0, "deep.");
  EXPECT_THAT(error_of([&] { match_family(golden.contents, {}); }), HasSubstr("no known network"));
}

// A folder of Hugging Face's whose weights lie in two files: the same as in one.
TEST(ImportFolder, OfShardsIsReadByItsIndex) {
  const Golden golden = load("usuyama");
  const test::TempFolder folder;
  std::map<std::string, FloatTensor> tensors;
  std::array<std::map<std::string, TensorView>, 2> shards;
  json map = json::object();
  for (const StoredTensor& stored : golden.contents.tensors) {
    FloatTensor& tensor = tensors[stored.name] = read_floats(stored);
    const std::size_t shard = map.size() % 2;
    shards[shard][stored.name] = tensor.view();
    map[stored.name] = fmt::format("model-0000{}-of-00002.safetensors", shard + 1);
  }
  for (const std::size_t i : {0u, 1u})
    write_safetensors(folder.path() / fmt::format("model-0000{}-of-00002.safetensors", i + 1),
                      shards[i], {});
  const auto write_index = [&](const json& weights, const char* name) {
    std::ofstream(folder.path() / name)
        << json{{"metadata", {{"total_size", 1}}}, {"weight_map", weights}};
    return folder.path() / name;
  };
  write_index(map, "model.safetensors.index.json");
  const Imported imported = import_model(folder.path());
  EXPECT_EQ(imported.family, golden.family);
  EXPECT_LE(largest_difference(logits_of(imported, golden.input), golden.logits.values()), 1e-5f);

  const auto error = [&](const char* file, const char* tensor = "conv_last.weight") {
    json changed = map;
    changed[tensor] = file;
    const auto path = write_index(changed, "other.index.json");
    return error_of([&] { import_model(path); });
  };
  EXPECT_THAT(error("../model-00001-of-00002.safetensors"), HasSubstr("leads out of the folder"));
  EXPECT_THAT(error("pytorch_model-00001-of-00002.bin"), HasSubstr("safe_serialization=True"));
  EXPECT_THAT(error("model-00003-of-00003.safetensors"), HasSubstr("model-00003-of-00003"));
  EXPECT_THAT(error("model-00001-of-00002.safetensors", "none"), HasSubstr("has no tensor 'none'"));
}

// Image files have no such pixels; arrays do.
TEST(ImportFamily, ANetworkOfFourChannelsIsOneOfArrays) {
  Golden golden = load("usuyama");
  const auto first =
      std::ranges::find(golden.contents.tensors, "dconv_down1.0.weight", &StoredTensor::name);
  const FloatTensor three = read_floats(*first);
  std::vector<float> two;
  const auto taps = static_cast<std::size_t>(first->shape[2] * first->shape[3]);
  for (std::size_t i = 0; i < three.values.size(); ++i)
    if (i / taps % 3 < 2) two.push_back(three.values[i]);
  first->type = StoredTensor::Type::kF32;
  first->shape[1] = 2;
  first->strides.clear();
  first->bytes = std::as_bytes(std::span(two));
  const Imported imported = import_golden(golden);
  EXPECT_EQ(imported.config.graph->network.channels, std::vector{2});
  EXPECT_EQ(imported.config.graph->network.outputs[0].kind, NetworkOutput::Kind::kTensor);
  EXPECT_THAT(imported.notes, testing::Contains(HasSubstr("tessera run")));
}

TEST(ImportFamily, AnAliasWithOtherValuesIsNoAlias) {
  Golden golden = load("nnunet_plain");
  const auto alias = std::ranges::find(
      golden.contents.tensors, "decoder.encoder.stages.0.0.convs.0.conv.bias", &StoredTensor::name);
  alias->bytes = golden.contents.find("encoder.stages.0.0.convs.1.conv.bias")->bytes;
  std::string why;
  EXPECT_FALSE(match("nnU-Net v2", golden.contents, {}, why));
  EXPECT_THAT(why, HasSubstr("is not equal to"));
}

// ---- real weights, where they are
// ----------------------------------------------------------------

TEST(ImportShared, ThePapersUNetGivesItsReference) {
  const std::filesystem::path folder = test::shared_dir() / "models/unet_isbi";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const Imported imported = import_model(folder / "unet_isbi_base16.safetensors");
  const MappedFile file =
      MappedFile::open(folder / "unet_isbi_base16.reference.safetensors", "the reference");
  const Contents reference = read_safetensors(file, "reference");
  const auto nhwc = [&](const char* name) {
    constexpr std::array kAxes{0, 2, 3, 1};
    const FloatTensor values = read_floats(*reference.find(name), kAxes);
    return test::copy_of(values.view());
  };
  std::vector<float> values = logits_of(imported, nhwc("input_nchw"));
  for (std::size_t i = 0; i < values.size(); i += 2) {
    const float second = 1 / (1 + std::exp(values[i] - values[i + 1]));
    values[i] = 1 - second, values[i + 1] = second;
  }
  const float difference = largest_difference(values, nhwc("probabilities_nchw").values());
  EXPECT_TRUE(difference <= 1e-5f) << difference;
}

// The numbers of numpy's file of f32; its header says nothing that the caller does not know.
std::vector<float> read_npy(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(path, "an array");
  const auto bytes = file.bytes();
  constexpr std::size_t kLengthAt = 8, kTextAt = 10;
  const std::size_t begin = kTextAt + std::to_integer<std::size_t>(bytes[kLengthAt]) +
                            256 * std::to_integer<std::size_t>(bytes[kLengthAt + 1]);
  std::vector<float> values((bytes.size() - begin) / sizeof(float));
  std::memcpy(values.data(), bytes.data() + begin, values.size() * sizeof(float));
  return values;
}

// Of one channel and 256 x 256 or larger squares: their own test images through the whole program.
TEST(ImportShared, ModelsOfBioimageIoGiveTheirTestOutputs) {
  const std::filesystem::path folder = test::shared_dir() / "models/bioimageio";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
  const test::TempFolder scratch;
  for (const auto& [name, is_logit] :
       {std::pair{"unet2d_fixed_shape", true}, {"unet2d_nuclei_broad", false}}) {
    const Imported imported = import_model(folder / name / "weights.safetensors");
    const std::filesystem::path path = scratch.path() / "model.safetensors";
    save_model(path, imported.config, imported.tensors, std::nullopt);
    Session session = Session::open(path.string(), {.device = "cpu", .probabilities = true});
    const std::vector<float> pixels = read_npy(folder / name / "test_input.npy");
    std::vector<float> expected = read_npy(folder / name / "test_output.npy");
    const auto side = static_cast<std::int64_t>(std::lround(std::sqrt(pixels.size())));
    ASSERT_EQ(static_cast<std::size_t>(side * side), pixels.size());
    if (is_logit)
      for (float& value : expected) value = 1 / (1 + std::exp(-value));
    const Segmentation result =
        session.segment({pixels.data(), side, side, 1, ImageView::Type::kF32});
    const float difference = largest_difference(result.probabilities, expected);
    EXPECT_TRUE(difference <= 1e-5f) << name << ": " << difference;
  }
}

}  // namespace
}  // namespace tessera
