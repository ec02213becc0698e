// Graph, passes and executor: every rewritten network against the unfused one run on the
// references.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/passes/passes.h"
#include "models/networks/han.h"
#include "models/networks/unet.h"
#include "tests/support/network.h"

namespace tessera {
namespace {

using test::HanVariant;
using test::RandomWeights;
using test::Tensor;
using test::UNetVariant;
using testing::HasSubstr;

std::size_t count_kind(const Graph& graph, std::string_view kind) {
  return static_cast<std::size_t>(std::ranges::count_if(
      graph.nodes, [&](const Node& node) { return kind_of(node.op) == kind; }));
}

class UNetPasses : public testing::TestWithParam<UNetVariant> {};

INSTANTIATE_TEST_SUITE_P(Variants, UNetPasses, testing::ValuesIn(test::unet_variants()),
                         testing::PrintToStringParamName());

TEST_P(UNetPasses, OptimisedGraphGivesTheUnfusedAnswer) {
  const UNetVariant& one = GetParam();
  const std::vector<Tensor> input{test::random({2, one.height, one.width, one.config.channels}, 3)};
  const Graph plain = build_unet(one.config, true);
  RandomWeights weights;
  const std::vector<Tensor> expected = test::run_graph_reference(plain, weights.source(), input);
  for (const bool winograd : {false, true}) {
    SCOPED_TRACE(winograd ? "winograd" : "direct");
    const Graph graph = optimise_for_cpu(plain, test::types(input), DType::kF32, winograd);
    EXPECT_EQ(count_kind(graph, "activation"), 0u);
    EXPECT_EQ(count_kind(graph, "batch_norm"), 0u);
    EXPECT_EQ(count_kind(graph, "crop_concat"), 0u);
    Executor executor(graph, weights.source(), test::types(input), open_cpu_device(2));
    const std::vector<Tensor> result = test::run_executor(executor, input);
    test::expect_close(result[1], expected[1], test::kNetworkBound);
    // The mask may differ only where two classes are equal within the bound; with random weights
    // such ties do not occur.
    test::expect_close(result[0], expected[0], {});
    EXPECT_TRUE(result[0].same_bytes(test::run_executor(executor, input)[0]));
  }
}

TEST_P(UNetPasses, AnImageAloneGivesTheBytesOfItsRowInABatch) {
  const UNetVariant& one = GetParam();
  const Shape shape{3, one.height, one.width, one.config.channels};
  const std::vector<Tensor> batch{test::random(shape, 5)};
  RandomWeights weights;
  Executor executor(optimise_for_cpu(build_unet(one.config, true), test::types(batch), DType::kF32),
                    weights.source(), test::types(batch), open_cpu_device(2));
  const Tensor all = test::run_executor(executor, batch)[1];
  const auto row = static_cast<std::size_t>(shape.elements() / 3);
  const auto out_row = static_cast<std::size_t>(all.type().shape.elements() / 3);
  const std::vector<float> pixels = batch[0].values(), outputs = all.values();
  for (std::size_t i = 0; i < 3; ++i) {
    const std::vector<Tensor> alone{
        Tensor::of({1, shape[1], shape[2], shape[3]},
                   {pixels.begin() + static_cast<std::ptrdiff_t>(i * row),
                    pixels.begin() + static_cast<std::ptrdiff_t>((i + 1) * row)})};
    const std::vector<float> got = test::run_executor(executor, alone)[1].values();
    EXPECT_EQ(std::memcmp(got.data(), outputs.data() + i * out_row, out_row * sizeof(float)), 0);
  }
}

TEST_P(UNetPasses, Bf16StaysNearTheReference) {
  const UNetVariant& one = GetParam();
  const std::vector<Tensor> input{test::random({1, one.height, one.width, one.config.channels}, 4)};
  const Graph plain = build_unet(one.config, true);
  RandomWeights weights;
  const Tensor expected = test::run_graph_reference(plain, weights.source(), input)[1];
  Executor executor(optimise_for_cpu(plain, test::types(input), DType::kBF16), weights.source(),
                    test::types(input), open_cpu_device(2));
  // Each of up to 25 layers rounds its map and weights to 8 bits: 2^-9 relative each, partly
  // averaged out; probabilities have slope at most 1/4 in a logit of order one.
  test::expect_close(test::run_executor(executor, input)[1], expected, {0.08, 0});
}

TEST(Passes, WinogradAndPoolAreFusedWhereChannelsAreMany) {
  const UNetConfig config{.depth = 2, .base = 32};
  const std::vector<TensorType> input{{DType::kF32, {1, 60, 60, 1}}};
  const Graph graph = optimise_for_cpu(build_unet(config, false), input, DType::kF32);
  // down0/conv1 reads one channel: direct. The pools of both levels are epilogues.
  EXPECT_EQ(count_kind(graph, "conv"), 1u);
  EXPECT_EQ(count_kind(graph, "conv (Winograd)"), 9u);
  EXPECT_EQ(count_kind(graph, "max_pool"), 0u);
  EXPECT_EQ(count_kind(graph, "head"), 1u);
}

TEST(Passes, EveryPassLeavesUnrelatedGraphsAlone) {
  Graph graph;
  const ValueId x = graph.add_input("x");
  const ValueId relu = graph.add("relu", Activation{}, {x});
  graph.outputs = {graph.add("softmax", Softmax{}, {relu})};
  for (const auto pass : {remove_dropout, fuse_activation, fuse_concat, fuse_pool, fuse_head,
                          fuse_embedding, fuse_dense, remove_unused}) {
    const Graph result = pass(graph);
    ASSERT_EQ(result.nodes.size(), 2u);
    EXPECT_EQ(result.nodes[1].inputs, graph.nodes[1].inputs);
  }
}

TEST(Passes, AValueReadTwiceOrReturnedIsNotFused) {
  Graph graph;
  const ValueId x = graph.add_input("x");
  const ValueId conv = graph.add("conv", Conv{.c_out = 4}, {x});
  const ValueId relu = graph.add("relu", Activation{}, {conv});
  graph.outputs = {conv, relu};
  EXPECT_EQ(fuse_activation(graph).nodes.size(), 2u);
  graph.outputs = {relu};
  EXPECT_EQ(fuse_activation(graph).nodes.size(), 1u);
}

TEST(Passes, OnlyPoolsOf2x2AndStride2JoinAConvolution) {
  const auto nodes_with = [](const MaxPool& pool) {
    Graph graph;
    const ValueId conv = graph.add("conv", Conv{.c_out = 4}, {graph.add_input("x")});
    graph.outputs = {conv, graph.add("pool", pool, {conv})};
    return fuse_pool(graph).nodes.size();
  };
  EXPECT_EQ(nodes_with({}), 1u);
  EXPECT_EQ(nodes_with({square(3, 1, 2)}), 2u);
  EXPECT_EQ(nodes_with({square(2, 0, 2), true}), 2u);
}

TEST(Passes, ADenseLayerThatAttentionAloneReadsIsFolded) {
  const auto build = [](int dense, bool returned) {
    Graph graph;
    const ValueId x = graph.add_input("x");
    const ValueId mapped = graph.add("dense", Linear{.units = dense}, {x});
    graph.outputs = {graph.add("pool", Attention{.units = 8, .masked = false}, {mapped})};
    if (returned) graph.outputs.push_back(mapped);
    return graph;
  };
  const Graph graph = fuse_dense(build(8, false));
  ASSERT_EQ(graph.nodes.size(), 1u);
  EXPECT_EQ(graph.nodes[0].inputs, graph.inputs);
  EXPECT_EQ(weight_name(graph.nodes[0], "weight"), "pool/weight");
  EXPECT_EQ(weight_name(graph.nodes[0], "dense/weight"), "dense/weight");
  EXPECT_EQ(weight_name(graph.nodes[0], "dense/bias"), "dense/bias");
  EXPECT_EQ(fuse_dense(build(8, true)).nodes.size(), 2u);
  EXPECT_EQ(fuse_dense(build(7, false)).nodes.size(), 2u) << "a bottleneck is cheaper as it is";
}

TEST(Graph, ErrorsNameTheNode) {
  Graph graph;
  const ValueId x = graph.add_input("x");
  graph.outputs = {graph.add("down0/conv1", Conv{.c_out = 4}, {x})};
  const std::vector<TensorType> tiny{{DType::kF32, {1, 2, 2, 1}}};
  try {
    infer_types(graph, tiny);
    FAIL() << "a 3x3 convolution of 2x2 pixels must not run";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("down0/conv1"));
  }
}

class HanPasses : public testing::TestWithParam<HanVariant> {};

INSTANTIATE_TEST_SUITE_P(Variants, HanPasses, testing::ValuesIn(test::han_variants()),
                         testing::PrintToStringParamName());

TEST_P(HanPasses, OptimisedGraphGivesTheUnfusedAnswer) {
  const HanConfig& config = GetParam().config;
  const std::vector<Tensor> inputs = test::han_inputs(config);
  const Graph plain = build_han(config);
  RandomWeights weights;
  const std::vector<Tensor> expected = test::run_graph_reference(plain, weights.source(), inputs);
  const Graph graph = optimise_for_cpu(plain, test::types(inputs), DType::kF32);
  EXPECT_EQ(count_kind(graph, "embedding"), 0u);
  EXPECT_EQ(count_kind(graph, "dropout"), 0u);
  EXPECT_EQ(count_kind(graph, "linear"), 1u);  // the output's
  Executor executor(graph, weights.source(), test::types(inputs), open_cpu_device(2));
  const std::vector<Tensor> result = test::run_executor(executor, inputs);
  for (std::size_t i = 0; i < expected.size(); ++i) {
    SCOPED_TRACE(graph.values[graph.outputs[i]]);
    test::expect_close(result[i], expected[i], {1e-5, 0});
  }
}

TEST(Executor, RefusesWrongMemoryAndManyShapes) {
  const UNetConfig config{.depth = 1, .base = 4};
  const std::vector<TensorType> example{{DType::kF32, {1, 20, 20, 1}}};
  RandomWeights weights;
  Executor executor(optimise_for_cpu(build_unet(config, false), example, DType::kF32),
                    weights.source(), example, open_cpu_device(1));
  Tensor input = test::random({1, 20, 20, 1}, 1);
  Tensor wrong({DType::kU8, {1, 3, 3}});
  const std::vector<TensorView> in{input.view()}, out{wrong.view()};
  EXPECT_THROW(executor.run(in, out), Error);
  // More shapes than plans are kept: the first comes back and still gives its bytes.
  const std::vector<Tensor> first{input};
  const Tensor before = test::run_executor(executor, first)[0];
  for (std::int64_t side = 20; side < 64; side += 2)
    test::run_executor(executor, {test::random({1, side, side, 1}, 2)});
  EXPECT_TRUE(before.same_bytes(test::run_executor(executor, first)[0]));
}

TEST(Executor, RefusesWeightsThatAreNoFloats) {
  const std::vector<TensorType> example{{DType::kF32, {1, 20, 20, 1}}};
  std::vector<std::int32_t> memory(4 * 9);
  const WeightSource integers = [&](const std::string&, const Shape& shape) {
    return TensorView(memory.data(), {DType::kI32, shape});
  };
  EXPECT_THROW(
      Executor(build_unet({.depth = 1, .base = 4}, false), integers, example, open_cpu_device(1)),
      Error);
}

TEST(Executor, RefusesWeightsThatAreNotFinite) {
  const std::vector<TensorType> example{{DType::kF32, {1, 20, 20, 1}}};
  const Graph graph = build_unet({.depth = 1, .base = 4}, false);
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    RandomWeights weights;
    weights("bottom/conv2/weight", {8, 8, 3, 3}).as<float>()[37] = bad;
    EXPECT_THROW(Executor(graph, weights.source(), example, open_cpu_device(1)), Error);
  }
}

TEST(Executor, TimesEveryNode) {
  const UNetConfig config{.depth = 1, .base = 4};
  const std::vector<TensorType> example{{DType::kF32, {1, 20, 20, 1}}};
  RandomWeights weights;
  Executor executor(optimise_for_cpu(build_unet(config, false), example, DType::kF32),
                    weights.source(), example, open_cpu_device(1));
  const Tensor input = test::random({1, 20, 20, 1}, 1);
  Tensor mask(executor.output_types(example)[0]);
  std::vector<NodeTiming> timings;
  const std::vector<TensorView> in{input.view()}, out{mask.view()};
  executor.run(in, out, &timings);
  ASSERT_EQ(timings.size(), executor.graph().nodes.size());
  EXPECT_EQ(timings[0].name, "down0/conv1");
  // 18 x 18 pixels of 4 channels, 9 multiply-adds each.
  EXPECT_GE(timings[0].cost.flops, 18 * 18 * 4 * 9 * 2.0);
  for (const NodeTiming& timing : timings) EXPECT_GE(timing.seconds, 0);
}

}  // namespace
}  // namespace tessera
