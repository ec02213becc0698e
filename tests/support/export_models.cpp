#include "tests/support/export_models.h"

namespace tessera::test {
namespace {

using Kind = Activation::Kind;
using Build = std::function<ValueId(Graph&, ValueId)>;

// One node behind another.
Build chain(std::vector<Op> ops) {
  return [ops = std::move(ops)](Graph& graph, ValueId x) {
    int i = 0;
    for (const Op& op : ops) x = graph.add(fmt::format("op{}", i++), op, {x});
    return x;
  };
}

// `op` of x and of another map of its size.
Build of_two(Op op) {
  return [op = std::move(op)](Graph& graph, ValueId x) {
    const ValueId other = graph.add("other", Conv{.c_out = 8, .window = same(3)}, {x});
    return graph.add("op", op, {x, other});
  };
}

// x weighed by what `op` makes of it, which broadcasts to x.
Build weighing(Op op) {
  return [op = std::move(op)](Graph& graph, ValueId x) {
    const ValueId weight =
        graph.add("weight", Activation{Kind::kSigmoid}, {graph.add("op", op, {x})});
    return graph.add("weighed", Binary{Binary::Kind::kMul}, {x, weight});
  };
}

Window window(std::array<int, 2> kernel, std::array<int, 2> stride, std::array<int, 4> pads,
              std::array<int, 2> dilation = {1, 1}) {
  return {.kernel = kernel, .stride = stride, .dilation = dilation, .pads = pads};
}

Resize resized(Resize::Mode mode, Resize::Coordinates coordinates, Resize::Nearest nearest) {
  return {.mode = mode, .coordinates = coordinates, .nearest = nearest, .scale_h = 2, .scale_w = 2};
}

// At half the size, `up` makes it whole again; with `skip` it sees the map that tells the size.
Build back_up(Op up, bool skip) {
  return [up = std::move(up), skip](Graph& graph, ValueId x) {
    const ValueId half = graph.add("half", Conv{.c_out = 8, .window = square(3, 1, 2)}, {x});
    return graph.add("op", up, skip ? std::vector{half, x} : std::vector{half});
  };
}

}  // namespace

std::vector<OperatorNetwork> operator_networks() {
  std::vector<OperatorNetwork> all;
  const auto add = [&](std::string name, Build build) {
    all.push_back({std::move(name), std::move(build)});
  };
  const auto activation = [&](const std::string& name, Activation op) {
    add("activation_" + name, chain({op}));
  };
  activation("relu", {});
  activation("sigmoid", {Kind::kSigmoid});
  activation("leaky_relu", {.kind = Kind::kLeakyRelu, .slope = 0.2});
  activation("prelu", {Kind::kPrelu});
  activation("prelu_one", {.kind = Kind::kPrelu, .per_channel = false});
  activation("elu", {.kind = Kind::kElu, .alpha = 0.7});
  activation("selu", {Kind::kSelu});
  activation("silu", {Kind::kSilu});
  activation("gelu", {Kind::kGelu});
  activation("gelu_tanh", {Kind::kGeluTanh});
  activation("tanh", {Kind::kTanh});
  activation("hard_sigmoid", {.kind = Kind::kHardSigmoid, .gain = 0.3});
  activation("hard_swish", {Kind::kHardSwish});
  activation("softplus", {Kind::kSoftplus});
  activation("clip", {.kind = Kind::kClip, .min = -0.2, .max = 0.3});

  add("conv_dilated",
      chain({Conv{.c_out = 8, .window = window({3, 3}, {1, 1}, {2, 2, 2, 2}, {2, 2})}}));
  add("conv_grouped", chain({Conv{.c_out = 8, .window = same(3), .groups = 4, .bias = false}}));
  add("conv_uneven", chain({Conv{.c_out = 8, .window = window({2, 3}, {1, 1}, {1, 0, 0, 2})}}));
  add("conv_cropped", chain({Conv{.c_out = 8, .window = window({1, 1}, {1, 1}, {-1, -1, -1, -1})},
                             Pad{Pad::Mode::kEdge, {0, 1, 1, 0, 0, 1, 1, 0}, 0}}));
  add("conv_transpose_2", back_up(ConvTranspose{.c_out = 8}, false));
  add("conv_transpose_3", back_up(ConvTranspose{.c_out = 8, .kernel = 3, .bias = false}, false));
  add("conv_transpose_4",
      back_up(conv_transpose_of(8, window({4, 4}, {2, 2}, {1, 1, 1, 1}), 2), false));
  // Its pixels behind the last are those that no tap reaches: the bias.
  add("conv_transpose_1",
      back_up(conv_transpose_of(8, window({1, 1}, {2, 2}, {0, -1, 0, -1})), false));
  add("conv_transpose_border",
      chain({Conv{.c_out = 8, .window = square(3)},
             conv_transpose_of(8, window({1, 1}, {1, 1}, {-1, -1, -1, -1}))}));
  add("max_pool", chain({MaxPool{.window = square(3, 1, 1)}}));
  add("max_pool_uneven", chain({MaxPool{.window = window({2, 2}, {1, 1}, {1, 0, 0, 1})}}));
  add("avg_pool", chain({AvgPool{.window = square(3, 1, 1)}}));
  add("avg_pool_inside", chain({AvgPool{.window = square(3, 1, 1), .count_include_pad = false}}));
  add("avg_pool_uneven",
      chain({AvgPool{.window = window({2, 2}, {1, 1}, {1, 0, 0, 1}), .count_include_pad = false}}));

  add("residual", of_two(Binary{}));
  add("multiplied", of_two(Binary{Binary::Kind::kMul}));
  add("larger", of_two(Binary{Binary::Kind::kMax}));
  add("smaller", of_two(Binary{Binary::Kind::kMin}));
  add("constant_by_channel", chain({Binary{Binary::Kind::kAdd, {8}}}));
  add("constant_from", chain({Binary{Binary::Kind::kSub, {1}, true}}));
  add("constant_divides", chain({Binary{Binary::Kind::kDiv, {1, 1, 1, 8}}}));
  add("concat", of_two(Concat{}));
  add("crop_concat", of_two(CropConcat{CropConcat::Align::kCropSkip, false}));
  add("pad_concat", of_two(CropConcat{CropConcat::Align::kPadUp}));

  add("batch_norm", chain({BatchNorm{.eps = 1e-3}}));
  add("instance_norm", chain({GroupNorm{.groups = 0}}));
  add("instance_norm_plain", chain({GroupNorm{.groups = 0, .affine = false}}));
  add("group_norm", chain({GroupNorm{.groups = 2}}));
  add("group_norm_plain", chain({GroupNorm{.groups = 4, .affine = false}}));
  add("layer_norm", chain({LayerNorm{}}));
  add("layer_norm_plain", chain({LayerNorm{.affine = false}}));

  add("linear",
      chain({Linear{.units = 8}, Activation{Kind::kTanh}, Linear{.units = 8, .bias = false}}));
  add("squeezed", weighing(Reduce{Reduce::Kind::kMean, {1, 2}}));
  add("reduce_max", weighing(Reduce{Reduce::Kind::kMax, {-1}}));
  add("reduce_min", weighing(Reduce{Reduce::Kind::kMin, {3}}));
  add("reduce_sum", weighing(Reduce{Reduce::Kind::kSum, {-1}}));
  add("softmax", chain({Softmax{}}));
  add("dropout", chain({Dropout{}}));
  add("pad_reflect", chain({Pad{Pad::Mode::kReflect, {0, 1, 1, 0, 0, 1, 1, 0}, 0},
                            Conv{.c_out = 8, .window = square(3)}}));
  add("pad_constant", chain({Pad{Pad::Mode::kConstant, {0, 0, 2, 0, 0, 2, 0, 0}, 0.5},
                             Conv{.c_out = 8, .window = square(3)}}));
  add("slice", [](Graph& graph, ValueId x) {
    const ValueId few = graph.add("few", Slice{{2}, {6}, {3}, {1}}, {x});
    const ValueId turned = graph.add("turned", Slice{{-1}, {-1 - (1 << 24)}, {2}, {-1}}, {few});
    return graph.add("both", Concat{-1}, {few, turned});
  });
  add("shuffle",
      chain({Reshape{{0, 0, 0, 2, 4}}, Transpose{{0, 1, 2, 4, 3}}, Reshape{{0, 0, 0, 8}}}));
  add("upsample", back_up(Upsample{}, false));
  add("upsample_aligned", back_up(Upsample{true}, false));
  using Mode = Resize::Mode;
  using Coordinates = Resize::Coordinates;
  using Nearest = Resize::Nearest;
  add("resize_nearest",
      back_up(resized(Mode::kNearest, Coordinates::kAsymmetric, Nearest::kFloor), false));
  add("resize_nearest_exact",
      back_up(resized(Mode::kNearest, Coordinates::kHalfPixel, Nearest::kRoundPreferCeil), false));
  add("resize_linear_to",
      back_up(resized(Mode::kLinear, Coordinates::kHalfPixel, Nearest::kFloor), true));
  add("resize_aligned_to",
      back_up(resized(Mode::kLinear, Coordinates::kAlignCorners, Nearest::kFloor), true));
  add("resize_cubic",
      back_up(resized(Mode::kCubic, Coordinates::kHalfPixel, Nearest::kFloor), false));
  Resize cut = resized(Mode::kNearest, Coordinates::kAsymmetric, Nearest::kFloor);
  cut.stretch = false;
  add("resize_cut_to", back_up(cut, true));
  return all;
}

ModelConfig config_of(const OperatorNetwork& network) {
  NetworkGraph of;
  Graph& graph = of.graph;
  ValueId x = graph.add_input("image");
  x = graph.add("first", Conv{.c_out = 8, .window = same(3)}, {x});
  x = network.build(graph, x);
  graph.outputs = {graph.add("last", Conv{.c_out = 2, .window = same(3)}, {x})};
  of.channels = {3};
  of.outputs = {{"logits", NetworkOutput::Kind::kLogits, Head::Output::kSoftmax}};
  ModelConfig config;
  config.preprocessing.channels = 3;
  config.graph = ImageNetwork{std::move(of), 4};
  config.classes = {{"ground", {}}, {"cell", {1, 2, 3}}};
  return config;
}

ModelFile model_of(const ModelConfig& config, RandomWeights& weights) {
  const Graph graph = build_network(config);
  const std::vector<TensorType> types = infer_types(graph, example_inputs(config));
  TensorViews views;
  for (const Node& node : graph.nodes)
    for (const Parameter& p : parameters_of(node, input_types(node, types)))
      views[weight_name(node, p.name)] = weights(weight_name(node, p.name), p.shape);
  return {config, Weights::from_views(views, "test"), std::nullopt};
}

}  // namespace tessera::test
