// Attributes and graphs as JSON, the sizes that a graph takes, and what graphs of the largest kind
// cost.
#include "engine/graph/graph_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "engine/files/json_text.h"
#include "engine/graph/fields.h"
#include "engine/graph/image_sizes.h"
#include "engine/passes/passes.h"
#include "tests/support/error.h"
#include "tests/support/graph_model.h"

namespace tessera {
namespace {

using nlohmann::json;
using test::error_of;
using testing::AllOf;
using testing::HasSubstr;

Op read(const json& attributes, const char* name) {
  JsonFields members(attributes, "node");
  Op op = read_op(name, members);
  members.refuse_unknown();
  return op;
}

// ---- attributes --------------------------------------------------------------------------------

TEST(Fields, DefaultsStayOutOfTheFile) {
  EXPECT_EQ(attributes_of(Conv{.c_out = 64, .window = same(3)}),
            json({{"c_out", 64}, {"pads", {1, 1, 1, 1}}}));
  EXPECT_EQ(attributes_of(MaxPool()), json::object());
  EXPECT_EQ(attributes_of(Activation{Activation::Kind::kSigmoid}), json({{"kind", "sigmoid"}}));
  EXPECT_EQ(attributes_of(BatchNorm{.eps = 1e-3}), json({{"eps", 1e-3}}));
}

TEST(Fields, TextTellsWhatAReaderWants) {
  EXPECT_EQ(attributes_text(Conv{.c_out = 64, .window = same(3)}), "c_out 64, kernel 3x3, pads 1");
  Conv odd{.c_out = 8, .window = square(7, 3, 2), .groups = 4, .bias = false};
  odd.window.pads = {3, 2, 3, 2};
  EXPECT_EQ(attributes_text(odd),
            "c_out 8, kernel 7x7, stride 2x2, pads 3 2 3 2, groups 4, bias no");
  EXPECT_EQ(attributes_text(Activation()), "kind relu");
  EXPECT_EQ(attributes_text(Softmax()), "");
}

TEST(Fields, EveryOperatorOfBothNetworksComesBack) {
  std::vector<Graph> graphs;
  for (const test::UNetVariant& one : test::unet_variants())
    graphs.push_back(build_unet(one.config, true));
  for (const test::HanVariant& one : test::han_variants()) graphs.push_back(build_han(one.config));
  for (const Graph& graph : graphs) {
    for (const Node& node : graph.nodes) {
      const json attributes = attributes_of(node.op);
      const Op again =
          read(attributes,
               std::string(std::visit([](const auto& op) { return op.kName; }, node.op)).c_str());
      EXPECT_EQ(again.index(), node.op.index()) << node.name;
      EXPECT_EQ(attributes_of(again), attributes) << node.name;
      EXPECT_EQ(attributes_text(again), attributes_text(node.op)) << node.name;
      EXPECT_NO_THROW(check_attributes(again)) << node.name;
    }
  }
}

TEST(Fields, WrongAttributesAreNamed) {
  const auto error = [](const json& attributes, const char* name = "conv") {
    return error_of([&] { read(attributes, name); });
  };
  EXPECT_THAT(
      error({{"c_out", 4}, {"groups", 0}}),
      AllOf(HasSubstr("node.groups"), HasSubstr("from 1 to 1048576"), HasSubstr("found 0")));
  EXPECT_THAT(error(json::object()), HasSubstr("\"c_out\" is missing"));
  EXPECT_THAT(error({{"c_out", "4"}}), AllOf(HasSubstr("node.c_out"), HasSubstr("found \"4\"")));
  EXPECT_THAT(error({{"c_out", 4.5}}), HasSubstr("expected a whole number, found 4.5"));
  EXPECT_THAT(error({{"c_out", std::int64_t{1} << 40}}), HasSubstr("found 1099511627776"));
  EXPECT_THAT(error({{"c_out", 4}, {"kernel", {3}}}), HasSubstr("a list of 2 whole numbers"));
  EXPECT_THAT(error({{"c_out", 4}, {"kernel", {3, 3.5}}}), HasSubstr("found 3.5"));
  EXPECT_THAT(error({{"c_out", 4}, {"stride", {1, 0}}}), HasSubstr("found 0"));
  EXPECT_THAT(error({{"c_out", 4}, {"bias", 1}}), HasSubstr("expected true or false, found 1"));
  EXPECT_THAT(error({{"c_out", 4}, {"relu", true}}), HasSubstr("unknown key \"relu\""));
  EXPECT_THAT(error({{"kind", "mish"}}, "activation"),
              AllOf(HasSubstr("\"relu\", \"sigmoid\""), HasSubstr("found \"mish\"")));
  EXPECT_THAT(error({{"eps", 0}}, "batch_norm"), HasSubstr("expected above 0 to 1, found 0"));
  EXPECT_THAT(error(json::object(), "convolve"),
              AllOf(HasSubstr("unknown operator \"convolve\""), HasSubstr("conv, conv_transpose")));
  EXPECT_THAT(error_of([] { check_attributes(Dropout{.rate = 1.5}); }), HasSubstr("rate"));
  EXPECT_THAT(error_of([] { check_attributes(Conv{.c_out = 1, .window = square(3, 0, -1)}); }),
              HasSubstr("stride: expected a number from 1 to 4096, found -1"));
}

// ---- graphs ------------------------------------------------------------------------------------

void expect_same(const Graph& a, const Graph& b) {
  EXPECT_EQ(a.values, b.values);
  EXPECT_EQ(a.inputs, b.inputs);
  EXPECT_EQ(a.outputs, b.outputs);
  ASSERT_EQ(a.nodes.size(), b.nodes.size());
  for (std::size_t i = 0; i < a.nodes.size(); ++i) {
    EXPECT_EQ(a.nodes[i].name, b.nodes[i].name);
    EXPECT_EQ(kind_of(a.nodes[i].op), kind_of(b.nodes[i].op));
    EXPECT_EQ(a.nodes[i].inputs, b.nodes[i].inputs);
    EXPECT_EQ(a.nodes[i].outputs, b.nodes[i].outputs);
    EXPECT_EQ(a.nodes[i].weight_names, b.nodes[i].weight_names);
  }
}

TEST(GraphFile, ComesBackAsItWas) {
  const NetworkGraph network = test::resnet_like();
  const json object = to_json(network);
  const NetworkGraph again = network_from_json(parse_json(object.dump()));
  expect_same(network.graph, again.graph);
  EXPECT_EQ(again.channels, network.channels);
  EXPECT_EQ(again.outputs[0].name, "tissue");
  EXPECT_EQ(to_json(again), object);
  // Attention makes two values, and a later node may read the second.
  NetworkGraph two;
  const ValueId x = two.graph.add_input("x");
  const ValueId sum = two.graph.add("pool", Attention{.units = 3, .masked = false}, {x});
  two.graph.outputs = {two.graph.add("softmax", Softmax(), {sum + 1})};
  two.channels = {4};
  two.outputs = {{"answer", NetworkOutput::Kind::kProbabilities}};
  EXPECT_EQ(to_json(two)["nodes"][1]["in"], json({"pool:1"}));
  expect_same(network_from_json(to_json(two)).graph, two.graph);
}

TEST(GraphFile, AFusedGraphIsNotWritten) {
  NetworkGraph network = test::resnet_like();
  network.graph = fuse_activation(network.graph);
  EXPECT_THAT(error_of([&] { to_json(network); }),
              AllOf(HasSubstr("\"stem\""), HasSubstr("before it is optimised")));
}

TEST(GraphFile, WhatIsWrongIsNamed) {
  const json good = to_json(test::resnet_like());
  const auto error = [&](const std::function<void(json&)>& change) {
    json bad = good;
    change(bad);
    return error_of([&] { network_from_json(bad); });
  };
  EXPECT_THAT(error([](json& g) { g.erase("version"); }), HasSubstr("\"version\" is missing"));
  EXPECT_THAT(error([](json& g) { g["version"] = 2; }), HasSubstr("found 2"));
  EXPECT_THAT(error([](json& g) { g["more"] = 1; }), HasSubstr("unknown key \"more\""));
  EXPECT_THAT(error([](json& g) { g["nodes"] = 1; }), HasSubstr("expected a list"));
  EXPECT_THAT(error([](json& g) { g["nodes"][0] = 1; }), HasSubstr("graph.nodes[0]"));
  EXPECT_THAT(error([](json& g) { g["nodes"][1]["name"] = "stem"; }),
              AllOf(HasSubstr("two values are called \"stem\""), HasSubstr("a name of its own")));
  EXPECT_THAT(error([](json& g) { g["nodes"][0]["name"] = std::string(257, 'x'); }),
              HasSubstr("1 to 256 bytes, this one 257"));
  EXPECT_THAT(error([](json& g) { g["nodes"][0].erase("name"); }), HasSubstr("graph.nodes[0]"));
  EXPECT_THAT(
      error([](json& g) { g["nodes"][0]["in"] = {"stem/relu"}; }),
      AllOf(HasSubstr("node \"stem\" reads \"stem/relu\""), HasSubstr("put what makes it")));
  EXPECT_THAT(error([](json& g) { g["nodes"][0]["in"] = {"stem"}; }), HasSubstr("reads \"stem\""));
  EXPECT_THAT(error([](json& g) { g["nodes"][0]["op"] = "magic"; }),
              AllOf(HasSubstr("node \"stem\""), HasSubstr("unknown operator \"magic\"")));
  EXPECT_THAT(error([](json& g) { g["nodes"][0]["pad"] = 1; }),
              AllOf(HasSubstr("node \"stem\""), HasSubstr("unknown key \"pad\"")));
  EXPECT_THAT(error([](json& g) {
                g["nodes"][0]["stride"] = {0, 1};
              }),
              AllOf(HasSubstr("node \"stem\".stride"), HasSubstr("from 1 to 4096")));
  EXPECT_THAT(error([](json& g) {
                g["nodes"][0]["weights"] = {{"weight", 1}};
              }),
              HasSubstr("node \"stem\".weights.weight"));
  EXPECT_THAT(error([](json& g) { g["outputs"] = json::array(); }), HasSubstr("there are none"));
  EXPECT_THAT(error([](json& g) { g["outputs"][0]["value"] = "nothing"; }),
              HasSubstr("gives \"nothing\""));
  EXPECT_THAT(error([](json& g) { g["outputs"][0]["kind"] = "depth"; }),
              HasSubstr("\"mask\", \"probabilities\", \"logits\""));
  EXPECT_THAT(error([](json& g) { g["outputs"].push_back(g["outputs"][0]); }),
              HasSubstr("two outputs are called \"tissue\""));
  EXPECT_THAT(error([](json& g) { g["inputs"][0]["channels"] = 0; }),
              HasSubstr("graph.inputs[0].channels"));
}

// A chain of `nodes` convolutions and activations.
json chain(std::size_t nodes) {
  json object = to_json(test::resnet_like());
  object["nodes"] = json::array();
  std::string last = "image";
  for (std::size_t i = 0; i < nodes; ++i) {
    const std::string name = fmt::format("n{}", i);
    json node = {{"name", name}, {"op", i % 2 == 0 ? "conv" : "activation"}, {"in", {last}}};
    if (i % 2 == 0) node.update({{"c_out", 3}, {"pads", {1, 1, 1, 1}}});
    object["nodes"].push_back(std::move(node));
    last = name;
  }
  object["outputs"][0]["value"] = last;
  return object;
}

TEST(GraphFile, LimitsHoldBeforeThereIsATree) {
  const json most = {{"graph", chain(kMaxNodes)}};
  EXPECT_NO_THROW(check_json_limits(most.dump(), 16));
  json more = most;
  more["graph"]["nodes"].push_back(1);
  EXPECT_THAT(error_of([&] { check_json_limits(more.dump(), 16); }), HasSubstr("more than 16384"));
  EXPECT_THAT(error_of([&] { network_from_json(more["graph"]); }), HasSubstr("16385 nodes"));
  // Another list of that name is no graph's.
  EXPECT_NO_THROW(check_json_limits(json({{"provenance", more["graph"]}}).dump(), 16));
  const std::string deep = std::string(20, '[') + std::string(20, ']');
  EXPECT_NO_THROW(check_json_limits(deep, 20));
  EXPECT_THAT(error_of([&] { check_json_limits(deep, 19); }), HasSubstr("deeper than 19"));
  EXPECT_NO_THROW(check_json_limits("{\"graph\": [", 16));  // no JSON: the parser says so
}

// Seconds to open a chain and make it ready to run, the least of three.
double seconds_to_open(std::size_t nodes) {
  const std::string text = json({{"graph", chain(nodes)}}).dump();
  double least = 1e9;
  for (int i = 0; i < 3; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    check_json_limits(text, 16);
    const NetworkGraph network = network_from_json(parse_json(text)["graph"]);
    const TensorType image{DType::kF32, {1, 8, 8, 3}};
    const Graph graph = optimise_for_cpu(network.graph, {&image, 1}, DType::kF32);
    EXPECT_EQ(graph.nodes.size(), nodes / 2);
    least = std::min(
        least, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return least;
}

TEST(GraphFile, TimeGrowsAsTheGraphDoes) {
  const double small = seconds_to_open(kMaxNodes / 8), large = seconds_to_open(kMaxNodes);
  RecordProperty("milliseconds", static_cast<int>(1000 * large));
  // 8 times the nodes: 64 times the time, if a pass looked through all nodes for each.
  EXPECT_TRUE(large <= 24 * small) << small << " s, " << large << " s";
}

TEST(GraphFile, SizesBeyondAllMemoryAreRefused) {
  // Each doubles both sides, so that the thirtieth has 2^60 pixels.
  NetworkGraph network;
  ValueId x = network.graph.add_input("image");
  for (int i = 0; i < 40; ++i) x = network.graph.add(fmt::format("up{}", i), Upsample(), {x});
  network.graph.outputs = {x};
  const TensorType image{DType::kF32, {1, 1, 1, 1}};
  EXPECT_THAT(error_of([&] {
                infer_types(network.graph, {&image, 1});
              }),
              AllOf(HasSubstr("'up28'"), HasSubstr("2^56 elements")));
}

// ---- sizes -------------------------------------------------------------------------------------

TEST(ImageSizes, AreThoseOfTheUNetsArithmetic) {
  std::vector<UNetConfig> configs{{.depth = 4},
                                  {.depth = 4, .padding = UNetConfig::Padding::kSame}};
  for (const test::UNetVariant& one : test::unet_variants()) configs.push_back(one.config);
  for (const UNetConfig& config : configs) {
    SCOPED_TRACE(to_json(config).dump());
    const ImageSizes sizes(build_unet(config, false), config.channels);
    for (const int axis : {0, 1}) {
      EXPECT_EQ(sizes.margin(axis), unet_margin(config));
      for (std::int64_t size = 1; size < 400; ++size) {
        EXPECT_EQ(sizes.output(axis, size), unet_output_size(config, size)) << size;
        if (size % 7 == 0) {
          EXPECT_EQ(sizes.input(axis, size), unet_input_size(config, size)) << size;
        }
      }
    }
    EXPECT_EQ(sizes.least().shape[1], unet_input_size(config, 1));
  }
}

TEST(ImageSizes, EachAxisHasItsOwn) {
  Graph graph;
  const ValueId x = graph.add_input("image");
  Window wide = square(1);
  wide.kernel = {1, 5};
  graph.outputs = {graph.add("conv", Conv{.c_out = 2, .window = wide}, {x})};
  const ImageSizes sizes(graph, 1, 4);
  EXPECT_EQ(sizes.least(), (TensorType{DType::kF32, {1, 8, 8, 1}}));
  EXPECT_EQ(sizes.margin(0), 0);
  EXPECT_EQ(sizes.margin(1), 2);
  EXPECT_EQ(sizes.input(0, 9), 12);
  EXPECT_EQ(sizes.input(1, 9), 16);
  EXPECT_EQ(sizes.output(1, 13), std::nullopt);
  EXPECT_EQ(sizes.next(1, 13), 16);
}

TEST(ImageSizes, NoSizeAndAnotherResolutionAreRefused) {
  Graph halves;
  halves.outputs = {halves.add("pool", MaxPool(), {halves.add_input("image")})};
  EXPECT_THAT(error_of([&] { ImageSizes(halves, 1); }), HasSubstr("at the image's resolution"));
  Graph wrong;
  wrong.outputs = {wrong.add("conv", Conv{.c_out = 4, .groups = 2}, {wrong.add_input("image")})};
  EXPECT_THAT(error_of([&] { ImageSizes(wrong, 3); }),
              AllOf(HasSubstr("runs at no size"), HasSubstr("'conv'"), HasSubstr("2 groups")));
}

}  // namespace
}  // namespace tessera
