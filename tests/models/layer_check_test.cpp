// Layers held against what PyTorch's modules gave (tools/dump_torch.py), and what is found where
// one is wrong.
#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <tuple>

#include "engine/files/safetensors.h"
#include "models/import/import.h"
#include "models/layer_check.h"
#include "models/layer_names.h"
#include "tests/support/error.h"
#include "tests/support/graph_model.h"
#include "tests/support/paths.h"
#include "tests/support/temp_folder.h"

namespace tessera::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr double kTolerance = 1e-4;

fs::path golden(const std::string& name) {
  return source_dir() / "tests/golden/package" / name;
}

Node& node_of(ModelFile& model, const std::string& name) {
  auto& nodes = model.config.graph->network.graph.nodes;
  const auto found = std::ranges::find(nodes, name, &Node::name);
  EXPECT_NE(found, nodes.end()) << name;
  return *found;
}

LayerCheck checked(ModelFile& model) {
  return check_layers(model, read_activations(golden("milesial.npz")), kTolerance,
                      open_cpu_device(2));
}

TEST(LayerCheck, EveryModuleOfTheNetworkAgrees) {
  ModelFile model = open_model(golden("milesial.pth"));
  const LayerCheck check = checked(model);
  EXPECT_TRUE(check.agrees());
  EXPECT_THAT(check.layers, testing::SizeIs(testing::Ge(30U)));
  const auto partner = [&](const std::string& name) {
    for (const CheckedLayer& layer : check.layers)
      if (layer.other == name) return layer.name;
    return std::string();
  };
  EXPECT_EQ(partner("down1.maxpool_conv.1.double_conv.3"), "down1.maxpool_conv.1.double_conv.3");
  EXPECT_NE(partner("inc.double_conv.2"), "");  // a ReLU, which has another name here
  EXPECT_NE(partner("output"), "");
}

// The first layer that diverges, and the best reason for it.
struct Finding {
  std::string change;  // in the reason's text
  std::string first;
};

void expect_found(ModelFile& model, const Finding& finding) {
  const LayerCheck check = checked(model);
  ASSERT_FALSE(check.agrees());
  EXPECT_EQ(check.layers[check.first].name, finding.first);
  ASSERT_FALSE(check.reasons.empty());
  EXPECT_THAT(check.reasons[0].what, HasSubstr(finding.change));
  EXPECT_TRUE(check.reasons[0].explains) << check.reasons[0].largest;
}

TEST(LayerCheck, FindsTheOrderOfAConcatenation) {
  ModelFile model = open_model(golden("milesial.pth"));
  std::get<CropConcat>(node_of(model, "concat1").op).skip_first = false;
  expect_found(model, {"joins (skip, up)", "up1.conv.double_conv.0"});
}

TEST(LayerCheck, FindsAnEps) {
  ModelFile model = open_model(golden("milesial.pth"));
  std::get<BatchNorm>(node_of(model, "down1.maxpool_conv.1.double_conv.1").op).eps = 1e-3;
  expect_found(model, {"has the eps 1e-05", "down1.maxpool_conv.1.double_conv.1"});
}

TEST(LayerCheck, FindsAnActivation) {
  ModelFile model = open_model(golden("milesial.pth"));
  std::get<Activation>(node_of(model, "inc.double_conv.0/relu").op) = {
      .kind = Activation::Kind::kLeakyRelu, .slope = 0.2};
  expect_found(model, {"is relu", "inc.double_conv.0/relu"});
}

TEST(LayerCheck, FindsTheRangeOfTheInput) {
  ModelFile model = open_model(golden("milesial.pth"));
  Activations expected = read_activations(golden("milesial.npz"));
  FloatTensor image = read_floats(expected.inputs.at(0));
  for (float& value : image.values) value *= 255;
  expected.inputs[0].bytes = std::as_bytes(std::span(image.values));
  expected.inputs[0].strides.clear();
  const LayerCheck check = check_layers(model, expected, kTolerance, open_cpu_device(2));
  ASSERT_FALSE(check.reasons.empty());
  EXPECT_EQ(check.layers[check.first].name, "inc.double_conv.0");
  EXPECT_EQ(check.reasons[0].what, "the input is x / 255");
}

TEST(LayerCheck, FindsTheChannelsOfTheInput) {
  ModelFile model = open_model(golden("milesial.pth"));
  Activations expected = read_activations(golden("milesial.npz"));
  FloatTensor image = read_floats(expected.inputs.at(0));  // (n, c, h, w)
  const auto plane = static_cast<std::ptrdiff_t>(image.values.size() / 3);
  std::swap_ranges(image.values.begin(), image.values.begin() + plane,
                   image.values.begin() + 2 * plane);
  expected.inputs[0].bytes = std::as_bytes(std::span(image.values));
  const LayerCheck check = check_layers(model, expected, kTolerance, open_cpu_device(2));
  ASSERT_FALSE(check.reasons.empty());
  EXPECT_EQ(check.reasons[0].what, "the input's channels are BGR");
}

// What is found of a network with `theirs` planted where another program has it right, and `ours`
// in the model that is held against it.
using Fault = std::function<void(ModelFile&)>;
LayerCheck check_planted(const Fault& theirs, const Fault& ours) {
  const TempFolder folder;
  const fs::path path = folder.path() / "net.safetensors";
  RandomWeights weights;
  save_network(path, config_of(resnet_like(), 8, {"a", "b", "c"}), weights);
  const auto device = open_cpu_device(2);
  ModelFile right = ModelFile::open(path), wrong = ModelFile::open(path);
  theirs(right);
  theirs(wrong);
  const Activations expected = activations_of(right, {}, device);
  EXPECT_TRUE(check_layers(wrong, expected, kTolerance, device).agrees());
  ours(wrong);
  return check_layers(wrong, expected, kTolerance, device);
}

TEST(LayerCheck, FindsTheSideThatIsPadded) {
  const auto padded = [](std::array<int, 4> pads) {
    return [pads](ModelFile& file) {
      std::get<Conv>(node_of(file, "stage1/conv1").op).window.pads = pads;
    };
  };
  // TensorFlow's "same" of an even size pads the end alone, PyTorch's padding=1 both sides.
  constexpr std::array kSame{0, 1, 0, 1}, kBoth{1, 1, 1, 1};
  const std::tuple<std::array<int, 4>, std::array<int, 4>, const char*> cases[] = {
      {kBoth, kSame, "'stage1/conv1' pads the other side more"},
      {kSame, kBoth, "'stage1/conv1' pads the end alone"}};
  for (const auto& [theirs, ours, expected] : cases) {
    const LayerCheck check = check_planted(padded(theirs), padded(ours));
    ASSERT_FALSE(check.agrees());
    EXPECT_EQ(check.layers[check.first].name, "stage1/conv1");
    ASSERT_FALSE(check.reasons.empty());
    EXPECT_THAT(check.reasons[0].what, HasSubstr(expected));
    EXPECT_TRUE(check.reasons[0].explains) << check.reasons[0].largest;
  }
}

TEST(LayerCheck, FindsTheCornersOfAnEnlargement) {
  const LayerCheck check = check_planted([](ModelFile&) {},
                                         [](ModelFile& wrong) {
                                           Upsample& up =
                                               std::get<Upsample>(node_of(wrong, "up0/up").op);
                                           up.align_corners = !up.align_corners;
                                         });
  ASSERT_FALSE(check.agrees());
  EXPECT_EQ(check.layers[check.first].name, "up0/up");
  ASSERT_FALSE(check.reasons.empty());
  EXPECT_THAT(check.reasons[0].what, HasSubstr("'up0/up' has align_corners"));
  EXPECT_TRUE(check.reasons[0].explains) << check.reasons[0].largest;
}

// A HAN of ours with the weights of `memory`, which are made up where there are none.
ModelFile small_han(std::map<std::string, std::vector<float>>& memory) {
  HanConfig han;
  han.words = 30, han.features = 6, han.units = 5, han.attention = 4;
  han.max_sentences = 3, han.max_words = 6;
  han.cell = BiRnn::Cell::kLstm;
  ModelConfig config;
  config.han = han;
  TensorViews views;
  const Graph graph = build_han(han);
  const std::vector<TensorType> types = infer_types(graph, example_inputs(config));
  std::uint32_t state = 9;
  for (const Node& node : graph.nodes) {
    for (const Parameter& parameter : parameters_of(node, input_types(node, types))) {
      std::vector<float>& values = memory[weight_name(node, parameter.name)];
      const bool missing = values.empty();
      values.resize(static_cast<std::size_t>(parameter.shape.elements()));
      for (float& value : values) {
        if (!missing) break;
        state = state * 1664525 + 1013904223;
        value = static_cast<float>(state >> 8) / static_cast<float>(1 << 24) - 0.5f;
      }
      views[weight_name(node, parameter.name)] = {values.data(), {DType::kF32, parameter.shape}};
    }
  }
  return {config, Weights::from_views(views, "han"), std::nullopt};
}

TEST(LayerCheck, FindsTheOrderOfGates) {
  std::map<std::string, std::vector<float>> memory;
  ModelFile model = small_han(memory);
  const auto device = open_cpu_device(2);
  const Activations expected = activations_of(model, {}, device);
  EXPECT_TRUE(check_layers(model, expected, kTolerance, device).agrees());
  // As a file that has the gates in the order i, o, f, g would be, were it read as ours.
  for (auto& [name, values] : memory) {
    if (!name.starts_with("word/rnn")) continue;
    const std::vector<float> from = values;
    const auto block = static_cast<std::ptrdiff_t>(values.size() / 4);
    const std::ptrdiff_t order[] = {0, 3, 1, 2};  // of i, f, g, o
    for (std::ptrdiff_t i = 0; i < 4; ++i)
      std::copy_n(from.begin() + order[i] * block, block, values.begin() + i * block);
  }
  ModelFile changed = small_han(memory);
  const LayerCheck check = check_layers(changed, expected, kTolerance, device);
  ASSERT_FALSE(check.reasons.empty());
  EXPECT_THAT(check.reasons[0].what, HasSubstr("in the order iofg"));
  EXPECT_TRUE(check.reasons[0].explains);
}

TEST(LayerNames, AreTheSameHoweverTheyAreWritten) {
  for (const char* name :
       {"/inc/double_conv/double_conv.0/Conv_output_0", "inc.double_conv.0",
        "module.inc.double_conv.0", "model/inc/double_conv/0", "_orig_mod.inc/double_conv.0"})
    EXPECT_EQ(layer_key(name), "inc.double_conv.0") << name;
}

TEST(Activations, AreRefusedWhereTheyAreNone) {
  const TempFolder folder;
  ModelFile model = open_model(golden("milesial.pth"));
  const auto written = [&](const std::string& name,
                           const std::map<std::string, TensorView>& tensors) {
    write_safetensors(folder.path() / name, tensors, {});
    return folder.path() / name;
  };
  std::vector<float> values(12 * 12 * 3);
  std::string about = "{\"axes\": \"NWHC\"}";
  const TensorView image(values.data(), {DType::kF32, {1, 3, 12, 12}});
  const TensorView odd(values.data(), {DType::kF32, {5}});
  const TensorView text(about.data(), {DType::kU8, {static_cast<std::int64_t>(about.size())}});
  EXPECT_THAT(error_of([&] {
                read_activations(written("a", {{"input", image}}));
              }),
              HasSubstr("no tensor besides 1 input"));
  EXPECT_THAT(error_of([&] {
                read_activations(written("b", {{"inc", image}, {"__tessera__", text}}));
              }),
              HasSubstr("expected NCHW or NHWC"));
  EXPECT_THAT(error_of([&] {
                check_layers(model,
                             read_activations(written("c", {{"input", image}, {"inc", odd}})),
                             kTolerance, open_cpu_device(1));
              }),
              HasSubstr("none of its 1 layers has a partner"));
  EXPECT_THAT(error_of([&] {
                check_layers(model, read_activations(written("d", {{"inc", odd}})), kTolerance,
                             open_cpu_device(1));
              }),
              HasSubstr("it has 0 inputs"));
}

}  // namespace
}  // namespace tessera::test
