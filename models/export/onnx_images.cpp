// Operators of images as ONNX; those of documents: onnx_documents.cpp.
// https://onnx.ai/onnx/operators/
#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/error.h"
#include "models/export/onnx_nodes.h"

namespace tessera {

namespace {

using Integers = OnnxWriter::Integers;
using Attributes = OnnxWriter::Attributes;
constexpr std::int64_t kRest = std::numeric_limits<std::int64_t>::max();

template <class Numbers>
Integers wide(const Numbers& numbers) {
  return {numbers.begin(), numbers.end()};
}

Attributes window_of(const Window& window, bool dilated = true) {
  const auto& p = window.pads;
  Attributes attributes{{"kernel_shape", wide(window.kernel)},
                        {"strides", wide(window.stride)},
                        {"pads", Integers{p[0], p[2], p[1], p[3]}}};
  if (dilated) attributes.push_back({"dilations", wide(window.dilation)});
  return attributes;
}

// The image without what negative pads leave out; `window` then has none.
std::string cropped_image(OnnxExport& to, std::size_t input, Window& window) {
  Integers pads(8, 0);
  for (std::size_t i = 0; i < 4; ++i) {
    const int out = std::min(window.pads[i], 0);
    pads[(i % 2 == 0 ? 2 : 6) + i / 2] = out;
    window.pads[i] -= out;
  }
  if (std::ranges::count(pads, 0) == 8) return to.image(input);
  return to.call("Pad", {to.image(input), to.out.integers(pads)});
}

void export_node(OnnxExport& to, const Conv& op) {
  require(!op.relu && op.norm == Conv::Norm::kNone && !op.concat && !op.pool, "it is fused");
  Window window = op.window;
  OnnxWriter::Texts inputs{cropped_image(to, 0, window), to.constant("weight")};
  if (op.bias) inputs.push_back(to.constant("bias"));
  Attributes attributes = window_of(window);
  attributes.push_back({"group", std::int64_t{op.groups}});
  to.set_image(to.call("Conv", inputs, attributes));
}

void export_node(OnnxExport& to, const ConvTranspose& op) {
  require(!op.relu, "it is fused");
  Window window = window_of(op);
  // Pixels that no tap reaches hold the bias, which is then added behind them.
  Integers added(8, 0);
  for (std::size_t i = 0; i < 4; ++i) {
    const int more = std::max(-window.pads[i], 0);
    added[(i % 2 == 0 ? 2 : 6) + i / 2] = more;
    window.pads[i] += more;
  }
  const bool grows = std::ranges::count(added, 0) != 8;
  OnnxWriter::Texts inputs{to.image(0), to.constant("weight")};
  if (op.bias && !grows) inputs.push_back(to.constant("bias"));
  Attributes attributes = window_of(window);
  attributes.push_back({"group", std::int64_t{op.groups}});
  std::string y = to.call("ConvTranspose", inputs, attributes);
  if (grows) {
    y = to.call("Pad", {y, to.out.integers(added)});
    if (op.bias) y = to.call("Add", {y, to.constant("bias", {op.c_out, 1, 1})});
  }
  to.set_image(y);
}

void export_node(OnnxExport& to, const MaxPool& op) {
  Window window = op.window;
  const std::string x = cropped_image(to, 0, window);
  Attributes attributes = window_of(window);
  attributes.push_back({"ceil_mode", std::int64_t{op.ceil_mode}});
  to.set_image(to.call("MaxPool", {x}, attributes));
}

void export_node(OnnxExport& to, const AvgPool& op) {
  require(op.window.dilation == std::array{1, 1},
          "opset {} averages neighbouring pixels alone, this window is dilated by {}x{}",
          OnnxWriter::kOpset, op.window.dilation[0], op.window.dilation[1]);
  Window window = op.window;
  const std::string x = cropped_image(to, 0, window);
  Attributes attributes = window_of(window, false);
  attributes.push_back({"ceil_mode", std::int64_t{op.ceil_mode}});
  attributes.push_back({"count_include_pad", std::int64_t{op.count_include_pad}});
  to.set_image(to.call("AveragePool", {x}, attributes));
}

// ---- element by element ------------------------------------------------------------------------

std::string gelu(OnnxExport& to, const std::string& x, bool by_tanh) {
  const auto scaled = [&](const std::string& value, double factor) {
    return to.call("Mul", {value, to.out.number(static_cast<float>(factor))});
  };
  std::string bent;
  if (by_tanh) {
    const std::string cube = to.call("Mul", {to.call("Mul", {x, x}), x});
    const std::string sum = to.call("Add", {x, scaled(cube, 0.044715)});
    bent = to.call("Tanh", {scaled(sum, std::numbers::sqrt2 * std::numbers::inv_sqrtpi)});
  } else {
    const auto root = static_cast<float>(std::numbers::sqrt2);
    bent = to.call("Erf", {to.call("Div", {x, to.out.number(root)})});
  }
  return scaled(to.call("Mul", {x, to.call("Add", {bent, to.out.number(1)})}), 0.5);
}

std::string activated(OnnxExport& to, const std::string& x, const Activation& op, Layout layout) {
  using Kind = Activation::Kind;
  const auto number = [&](double value) { return static_cast<float>(value); };
  switch (op.kind) {
    case Kind::kRelu:
      return to.call("Relu", {x});
    case Kind::kSigmoid:
      return to.call("Sigmoid", {x});
    case Kind::kLeakyRelu:
      return to.call("LeakyRelu", {x}, {{"alpha", number(op.slope)}});
    case Kind::kPrelu:
      if (op.per_channel && layout == Layout::kChannelsFirst)
        return to.call("PRelu", {x, to.constant("weight", {to.channels(0), 1, 1})});
      return to.call("PRelu", {x, to.constant("weight")});
    case Kind::kElu:
      return to.call("Elu", {x}, {{"alpha", number(op.alpha)}});
    case Kind::kSelu:
      return to.call("Selu", {x});
    case Kind::kSilu:
      return to.call("Mul", {x, to.call("Sigmoid", {x})});
    case Kind::kGelu:
      return gelu(to, x, false);
    case Kind::kGeluTanh:
      return gelu(to, x, true);
    case Kind::kTanh:
      return to.call("Tanh", {x});
    case Kind::kHardSigmoid:
      return to.call("HardSigmoid", {x}, {{"alpha", number(op.gain)}, {"beta", number(op.offset)}});
    case Kind::kHardSwish:
      return to.call("HardSwish", {x});
    case Kind::kSoftplus:
      return to.call("Softplus", {x});
    case Kind::kClip:
      return to.call("Clip", {x, to.out.number(number(op.min)), to.out.number(number(op.max))});
  }
  fail("it is of an unknown kind");
}

void export_node(OnnxExport& to, const Activation& op) {
  const Layout layout = to.layout(0);
  to.set(activated(to, to.input(0, layout), op, layout), layout);
}

void export_node(OnnxExport& to, const Binary& op) {
  constexpr std::array kNames{"Add", "Sub", "Mul", "Div", "Min", "Max"};
  const std::string name = kNames.at(static_cast<std::size_t>(op.kind));
  std::vector<std::string> operands;
  Layout layout = to.common_layout();
  if (op.constant.empty()) {
    // Broadcasting aligns the last axes, which are ours unless both have 4.
    if (to.rank(0) != to.rank(1)) layout = Layout::kOurs;
    operands = {to.input(0, layout), to.input(1, layout)};
  } else {
    FloatTensor value = to.weight("value");
    if (value.shape.rank() > to.rank(0)) layout = Layout::kOurs;
    if (layout == Layout::kChannelsFirst) {
      std::vector<std::int64_t> extents = wide(value.shape.dims());
      extents.insert(extents.begin(), 4 - extents.size(), 1);
      const std::int64_t n = extents[0], pixels = extents[1] * extents[2], c = extents[3];
      FloatTensor turned(Shape{n, c, extents[1], extents[2]});
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t p = 0; p < pixels; ++p)
          for (std::int64_t k = 0; k < c; ++k)
            turned.values[static_cast<std::size_t>((i * c + k) * pixels + p)] =
                value.values[static_cast<std::size_t>((i * pixels + p) * c + k)];
      value = std::move(turned);
    }
    operands = {to.input(0, layout), to.constant_of("value", value)};
    if (op.reversed) std::swap(operands[0], operands[1]);
  }
  to.set(to.call(name, operands), layout);
}

void export_node(OnnxExport& to, const Dropout&) {
  to.set(to.input(0, to.layout(0)), to.layout(0));
}

// ---- norms -------------------------------------------------------------------------------------

// Channels in the second axis, whatever the rank.
std::string channels_second(OnnxExport& to) {
  if (to.rank(0) == 4) return to.image(0);
  if (to.rank(0) == 2) return to.ours(0);
  Integers order{0, to.rank(0) - 1};
  for (int axis = 1; axis + 1 < to.rank(0); ++axis) order.push_back(axis);
  return to.call("Transpose", {to.ours(0)}, {{"perm", order}});
}

void set_channels_second(OnnxExport& to, const std::string& y) {
  if (to.rank(0) == 4) return to.set_image(y);
  if (to.rank(0) == 2) return to.set_ours(y);
  Integers order{0};
  for (int axis = 2; axis < to.rank(0); ++axis) order.push_back(axis);
  order.push_back(1);
  to.set_ours(to.call("Transpose", {y}, {{"perm", order}}));
}

void export_node(OnnxExport& to, const BatchNorm& op) {
  require(to.rank(0) >= 2, "it normalises {}", to.type(0));
  set_channels_second(to, to.call("BatchNormalization",
                                  {channels_second(to), to.constant("weight"), to.constant("bias"),
                                   to.constant("running_mean"), to.constant("running_var")},
                                  {{"epsilon", static_cast<float>(op.eps)}}));
}

void export_node(OnnxExport& to, const GroupNorm& op) {
  const std::int64_t c = to.channels(0), groups = op.groups == 0 ? c : op.groups;
  const Attributes eps{{"epsilon", static_cast<float>(op.eps)}};
  const std::string x = channels_second(to);
  if (groups == c && to.rank(0) >= 3) {
    return set_channels_second(to,
                               to.call("InstanceNormalization",
                                       {x, op.affine ? to.constant("weight") : to.repeated(c, 1),
                                        op.affine ? to.constant("bias") : to.repeated(c, 0)},
                                       eps));
  }
  // A group is a channel of an image of one row.
  const std::string rows = to.call("Reshape", {x, to.out.integers({0, groups, -1})});
  std::string y =
      to.call("InstanceNormalization", {rows, to.repeated(groups, 1), to.repeated(groups, 0)}, eps);
  y = to.call("Reshape", {y, to.extents(x, 0, kRest)});
  if (op.affine) {
    Integers shape{c};
    shape.resize(static_cast<std::size_t>(to.rank(0)) - 1, 1);
    y = to.call("Mul", {y, to.constant("weight", shape)});
    y = to.call("Add", {y, to.constant("bias", shape)});
  }
  set_channels_second(to, y);
}

void export_node(OnnxExport& to, const LayerNorm& op) {
  const std::int64_t c = to.channels(0);
  OnnxWriter::Texts inputs{to.ours(0), op.affine ? to.constant("weight") : to.repeated(c, 1)};
  if (op.affine) inputs.push_back(to.constant("bias"));
  to.set_ours(to.call("LayerNormalization", inputs,
                      {{"axis", std::int64_t{-1}}, {"epsilon", static_cast<float>(op.eps)}}));
}

// ---- sizes -------------------------------------------------------------------------------------

void export_node(OnnxExport& to, const Upsample& op) {
  require(!op.piece[0] && !op.piece[1], "it is a piece of a map");
  constexpr std::array<float, 4> kTwice{1, 1, 2, 2};
  const std::string scales = to.out.weight("twice", {4}, kTwice);
  const std::string place = op.align_corners ? "align_corners" : "half_pixel";
  to.set_image(
      to.call("Resize", {to.image(0), "", scales},
              {{"mode", std::string("linear")}, {"coordinate_transformation_mode", place}}));
}

void export_node(OnnxExport& to, const Resize& op) {
  const auto text = [](const auto& value) {
    return std::string(names_of(value)[static_cast<std::size_t>(value)]);
  };
  const Attributes attributes{{"mode", text(op.mode)},
                              {"coordinate_transformation_mode", text(op.coordinates)},
                              {"nearest_mode", text(op.nearest)}};
  const std::string& x = to.image(0);
  const bool sized = to.inputs() > 1 || op.sizes != std::array{0, 0};
  std::string sizes;  // (2)
  if (to.inputs() > 1)
    sizes = to.extents(to.image(1), 2, 4);
  else if (sized && op.sizes[0] > 0 && op.sizes[1] > 0)
    sizes = to.out.integers(wide(op.sizes));
  else
    require(!sized, "it has a size along one axis and a scale along the other");
  if (!sized || !op.stretch) {
    const std::array<float, 4> factors{1, 1, static_cast<float>(op.scale_h),
                                       static_cast<float>(op.scale_w)};
    const std::string scales = to.constant_of("scales", [&] {
      FloatTensor tensor(Shape{4});
      std::ranges::copy(factors, tensor.values.begin());
      return tensor;
    }());
    std::string y = to.call("Resize", {x, "", scales}, attributes);
    if (sized) {
      // With whole factors, what lies behind the last pixel's is its edge.
      require(op.coordinates != Resize::Coordinates::kAlignCorners &&
                  op.mode != Resize::Mode::kCubic && op.scale_h == std::floor(op.scale_h) &&
                  op.scale_w == std::floor(op.scale_w),
              "it cuts a map scaled by {} x {}, which ONNX does by whole factors alone", op.scale_h,
              op.scale_w);
      const std::string more = to.call("Sub", {sizes, to.extents(y, 2, 4)});
      const std::string none = to.out.integers({0, 0, 0, 0, 0, 0});
      y = to.call("Pad", {y, to.call("Concat", {none, more}, {{"axis", std::int64_t{0}}})},
                  {{"mode", std::string("edge")}});
    }
    return to.set_image(y);
  }
  const std::string all =
      to.call("Concat", {to.extents(x, 0, 2), sizes}, {{"axis", std::int64_t{0}}});
  to.set_image(to.call("Resize", {x, "", "", all}, attributes));
}

void export_node(OnnxExport& to, const CropConcat& op, const ConstantCrop& constant) {
  require(!op.piece[0] && !op.piece[1], "it is a piece of a map");
  const std::string &skip = to.image(0), &up = to.image(1);
  std::array<std::string, 2> sources{skip, up};
  if (op.align == CropConcat::Align::kCropSkip && constant) {
    Integers begin, end;
    for (const std::int64_t more : *constant) {
      begin.push_back(more / 2);
      end.push_back(more == 0 ? kRest : more / 2 - more);
    }
    sources[0] = to.call(
        "Slice", {skip, to.out.integers(begin), to.out.integers(end), to.out.integers({2, 3})});
  } else {
    const std::string skip_size = to.extents(skip, 2, 4), up_size = to.extents(up, 2, 4);
    const std::string more = to.call("Sub", {skip_size, up_size});
    const std::string before = to.call("Div", {more, to.out.integers({2})});
    if (op.align == CropConcat::Align::kCropSkip) {
      const std::string end = to.call("Add", {before, up_size});
      sources[0] = to.call("Slice", {skip, before, end, to.out.integers({2, 3})});
    } else {
      const std::string behind = to.call("Sub", {more, before}), none = to.out.integers({0, 0});
      const std::string pads =
          to.call("Concat", {none, before, none, behind}, {{"axis", std::int64_t{0}}});
      sources[1] = to.call("Pad", {up, pads});
    }
  }
  if (!op.skip_first) std::swap(sources[0], sources[1]);
  to.set_image(to.call("Concat", {sources[0], sources[1]}, {{"axis", std::int64_t{1}}}));
}

void export_node(OnnxExport& to, const Pad& op) {
  const Layout layout = to.layout(0);
  const int rank = to.rank(0);
  Integers pads(op.pads.size());
  for (int axis = 0; axis < rank; ++axis) {
    const auto from = static_cast<std::size_t>(axis), ends = static_cast<std::size_t>(rank);
    const auto place = static_cast<std::size_t>(placed_axis(axis, rank, layout));
    pads[place] = op.pads[from];
    pads[ends + place] = op.pads[ends + from];
  }
  const auto mode = std::string(names_of(op.mode)[static_cast<std::size_t>(op.mode)]);
  to.set(to.call("Pad",
                 {to.input(0, layout), to.out.integers(pads),
                  to.out.number(static_cast<float>(op.value))},
                 {{"mode", mode}}),
         layout);
}

void export_node(OnnxExport& to, const Slice& op) {
  const Layout layout = to.layout(0);
  Integers axes;
  for (std::size_t i = 0; i < op.starts.size(); ++i)
    axes.push_back(
        placed_axis(op.axes.empty() ? static_cast<int>(i) : op.axes[i], to.rank(0), layout));
  const Integers steps = op.steps.empty() ? Integers(axes.size(), 1) : wide(op.steps);
  to.set(to.call("Slice",
                 {to.input(0, layout), to.out.integers(wide(op.starts)),
                  to.out.integers(wide(op.ends)), to.out.integers(axes), to.out.integers(steps)}),
         layout);
}

void export_node(OnnxExport& to, const Concat& op) {
  const Layout layout = to.common_layout();
  OnnxWriter::Texts inputs;
  for (std::size_t i = 0; i < to.inputs(); ++i) inputs.push_back(to.input(i, layout));
  const std::int64_t axis = placed_axis(op.axis, to.rank(0), layout);
  to.set(to.call("Concat", inputs, {{"axis", axis}}), layout);
}

void export_node(OnnxExport& to, const Reshape& op) {
  to.set_ours(to.call("Reshape", {to.ours(0), to.out.integers(wide(op.shape))}));
}

void export_node(OnnxExport& to, const Transpose& op) {
  to.set_ours(to.call("Transpose", {to.ours(0)}, {{"perm", wide(order_of(op, to.type(0)))}}));
}

void export_node(OnnxExport& to, const Reduce& op) {
  constexpr std::array kNames{"ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"};
  const Layout layout = op.keepdims ? to.layout(0) : Layout::kOurs;
  Integers axes;
  for (const int axis : op.axes) axes.push_back(placed_axis(axis, to.rank(0), layout));
  OnnxWriter::Texts inputs{to.input(0, layout)};
  Attributes attributes{{"keepdims", std::int64_t{op.keepdims}}};
  if (op.kind == Reduce::Kind::kSum && !axes.empty()) inputs.push_back(to.out.integers(axes));
  if (op.kind != Reduce::Kind::kSum && !axes.empty()) attributes.push_back({"axes", axes});
  to.set(to.call(kNames.at(static_cast<std::size_t>(op.kind)), inputs, attributes), layout);
}

// ---- classes -----------------------------------------------------------------------------------

// Of the channels of x, which lie in `axis`; without that axis, u8.
std::string class_ids(OnnxExport& to, const std::string& x, std::int64_t axis,
                      std::int64_t classes) {
  constexpr std::int64_t kByte = 2;
  if (classes > 1) {
    const std::string ids = to.call("ArgMax", {x}, {{"axis", axis}, {"keepdims", std::int64_t{0}}});
    return to.call("Cast", {ids}, {{"to", kByte}});
  }
  const std::string is_one = to.call("Greater", {x, to.out.number(0.5F)});
  const std::string id = to.call("Cast", {is_one}, {{"to", kByte}});
  return to.call("Squeeze", {id, to.out.integers({axis})});
}

void export_node(OnnxExport& to, const Argmax&) {
  const Layout layout = to.layout(0);
  const int axis = placed_axis(-1, to.rank(0), layout);
  to.set_ours(class_ids(to, to.input(0, layout), axis, to.channels(0)));
}

void export_node(OnnxExport& to, const Softmax&) {
  const Layout layout = to.layout(0);
  const std::int64_t axis = placed_axis(-1, to.rank(0), layout);
  to.set(to.call("Softmax", {to.input(0, layout)}, {{"axis", axis}}), layout);
}

void export_node(OnnxExport& to, const Head& op) {
  OnnxWriter::Texts inputs{to.image(0), to.constant("weight")};
  if (op.bias) inputs.push_back(to.constant("bias"));
  std::string y = to.call("Conv", inputs, window_of(square(1)));
  if (op.relu) y = to.call("Relu", {y});
  y = op.output == Head::Output::kSoftmax ? to.call("Softmax", {y}, {{"axis", std::int64_t{1}}})
                                          : to.call("Sigmoid", {y});
  to.set_ours(class_ids(to, y, 1, op.classes));
  if (op.probabilities) to.set(y, Layout::kChannelsFirst, 1);
}

void export_node(OnnxExport& to, const Embedding&) {
  to.set_ours(to.call("Gather", {to.constant("weight"), to.ours(0)}));
}

void export_node(OnnxExport& to, const Linear& op) {
  if (to.rank(0) == 2) {
    OnnxWriter::Texts inputs{to.ours(0), to.constant("weight")};
    if (op.bias) inputs.push_back(to.constant("bias"));
    return to.set_ours(to.call("Gemm", inputs, {{"transB", std::int64_t{1}}}));
  }
  const std::string matrix = to.constant_of("weight/transposed", transposed(to.weight("weight")));
  to.set_ours(to.plus_bias(to.call("MatMul", {to.ours(0), matrix}), op.bias));
}

}  // namespace

void export_operator(OnnxExport& to, const Op& op, const ConstantCrop& crop) {
  std::visit(
      [&](const auto& one) {
        if constexpr (std::is_same_v<std::decay_t<decltype(one)>, CropConcat>)
          export_node(to, one, crop);
        else
          export_node(to, one);
      },
      op);
}

}  // namespace tessera
