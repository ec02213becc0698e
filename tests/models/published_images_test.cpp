// ResNet-UNets and nnU-Nets, small: the fused graph against the references node by node.
#include "models/networks/published_images.h"

#include <gtest/gtest.h>

#include "engine/passes/passes.h"
#include "engine/run/compiled.h"
#include "tests/support/network.h"

namespace tessera {
namespace {

using test::RandomWeights;
using test::Tensor;

std::size_t count_of(const Graph& graph, const auto& is) {
  return static_cast<std::size_t>(std::ranges::count_if(graph.nodes, is));
}
template <class T>
std::size_t count(const Graph& graph) {
  return count_of(graph, [](const Node& n) { return std::holds_alternative<T>(n.op); });
}

// The fused graph, once its answers are those of the plain one's references.
Graph check(const Graph& plain, const Shape& image, test::Bound bound, DType precision) {
  const std::vector<Tensor> inputs{test::random(image, 1)};
  const std::vector<TensorType> types = test::types(inputs);
  RandomWeights weights;
  const std::vector<Tensor> expected = test::run_graph_reference(plain, weights.source(), inputs);
  const Graph graph = optimise_for_cpu(plain, types, precision);
  std::vector<Tensor> first;
  for (const int threads : {1, 2}) {
    Executor executor(graph, weights.source(), types, open_cpu_device(threads));
    const std::vector<Tensor> answer = test::run_executor(executor, inputs);
    if (first.empty()) first = answer;
    EXPECT_TRUE(answer[0].same_bytes(first[0])) << threads << " threads";
  }
  test::expect_close(first, expected, bound, "output");
  return graph;
}

// Logits are of order one.
constexpr test::Bound kBound{1e-4, 1e-4}, kBf16Bound{0.15, 0.05};

TEST(PublishedImages, AResNetUNetIsConvolutionsAndResizes) {
  const Graph plain = resnet_unet({1, 2, 1, 1}, 16, 3).network.graph;
  const Graph graph = check(plain, {1, 64, 96, 3}, kBound, DType::kF32);
  EXPECT_EQ(count<Conv>(plain), count<Conv>(graph));
  EXPECT_EQ(count<Resize>(plain), count<Resize>(graph));
  const std::size_t fused = count_of(graph, [](const Node& node) {
    const auto* conv = std::get_if<Conv>(&node.op);
    return conv != nullptr && conv->epilogue.residual;
  });
  EXPECT_EQ(fused, 3u) << "those of the short cuts; the others' convolutions are Winograd's";
  EXPECT_EQ(count<Binary>(graph), count<Binary>(plain) - fused);
  EXPECT_EQ(count<Activation>(graph), count<Binary>(graph));
  EXPECT_EQ(count<BatchNorm>(graph) + count<CropConcat>(graph), 0u);
  check(plain, {1, 64, 32, 3}, kBf16Bound, DType::kBF16);
}

TEST(PublishedImages, AnNnunetIsConvolutionsAndNorms) {
  const Graph plain = plain_nnunet(1, {16, 20, 32}, 2).network.graph;
  const Graph graph = check(plain, {2, 36, 28, 1}, kBound, DType::kF32);
  EXPECT_EQ(graph.nodes.size(),
            count<Conv>(plain) + count<ConvTranspose>(plain) + count<GroupNorm>(plain));
  check(plain, {1, 36, 28, 1}, kBf16Bound, DType::kBF16);
}

// conv -> norm -> sum -> activation, as residual nnU-Nets have it, and a sum of two convolutions.
TEST(PublishedImages, SumsAreFusedIntoTheLaterOfTheirMakers) {
  Graph graph;
  const ValueId image = graph.add_input("image");
  const ValueId a = graph.add("a", Conv{.c_out = 3, .window = same(3)}, {image});
  const ValueId b = graph.add("b", Conv{.c_out = 3, .window = same(3)}, {a});
  const ValueId norm = graph.add("norm", GroupNorm{}, {b});
  const ValueId sum = graph.add("sum", Binary{}, {a, norm});
  const ValueId prelu = graph.add("prelu", Activation{.kind = Activation::Kind::kPrelu}, {sum});
  const ValueId c = graph.add("c", Conv{.c_out = 4, .window = same(3)}, {prelu});
  const ValueId d = graph.add("d", Conv{.c_out = 4, .window = square(1)}, {prelu});
  const ValueId both = graph.add("both", Binary{}, {c, d});
  graph.outputs = {graph.add("silu", Activation{.kind = Activation::Kind::kSilu}, {both})};
  const Graph fused = check(graph, {2, 6, 7, 2}, kBound, DType::kF32);
  ASSERT_EQ(fused.nodes.size(), 5u);
  EXPECT_TRUE(std::get<GroupNorm>(fused.nodes[2].op).epilogue.residual);
  EXPECT_FALSE(std::get<Conv>(fused.nodes[3].op).epilogue.residual);
  EXPECT_TRUE(std::get<Conv>(fused.nodes[4].op).epilogue.residual);
}

// What is read twice, is a sum with itself, broadcast or made too late, stays as it is.
TEST(PublishedImages, OtherSumsStay) {
  Graph graph;
  const ValueId image = graph.add_input("image");
  const auto conv = [&](const std::string& name, ValueId x, int c_out = 2) {
    return graph.add(name, Conv{.c_out = c_out, .window = same(3)}, {x});
  };
  const ValueId twice = conv("twice", image), self = conv("self", twice);
  const ValueId doubled = graph.add("doubled", Binary{}, {self, self});
  const ValueId wide = graph.add("wide", Binary{}, {conv("channel", doubled, 1), twice});
  const ValueId early = conv("early", wide);
  const ValueId late = graph.add("late", MaxPool{.window = square(3, 1)}, {wide});
  graph.outputs = {graph.add("sum", Binary{}, {early, late})};
  EXPECT_EQ(check(graph, {1, 5, 6, 2}, kBound, DType::kF32).nodes.size(), graph.nodes.size());
}

}  // namespace
}  // namespace tessera
