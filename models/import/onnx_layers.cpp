// ONNX's operators with windows, norms and sizes.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/error.h"
#include "models/import/onnx_converter.h"

namespace tessera {
namespace {

using ActivationKind = Activation::Kind;

int positive_int(std::int64_t value, std::string_view what) {
  require(value > 0 && value <= 1 << 20, "its {} is {}, expected 1 to {}", what, value, 1 << 20);
  return static_cast<int>(value);
}

std::array<int, 2> pair(const OnnxCall& call, const std::string& name, int otherwise) {
  const std::vector<int> given = call.attributes.integers(name, {otherwise, otherwise});
  require(given.size() == 2, "its {} have {} numbers, expected 2: it is no operator of images",
          name, given.size());
  return {given[0], given[1]};
}

void check_reach(const Window& window) {
  constexpr std::int64_t kMost = 1 << 20;
  for (const std::size_t axis : {0u, 1u}) {
    const std::int64_t reach = (window.kernel[axis] - 1) * std::int64_t{window.dilation[axis]} + 1;
    require(reach <= kMost, "its window spans {} pixels, expected at most {}", reach, kMost);
  }
}

// Strides, dilations and pads of a window that slides over `x`, an image in our order.
Window window_of(const OnnxCall& call, const OnnxValue& x, std::array<int, 2> kernel) {
  Window window;
  window.kernel = kernel;
  window.stride = pair(call, "strides", 1);
  window.dilation = pair(call, "dilations", 1);
  for (const auto& list : {window.kernel, window.stride, window.dilation})
    for (const int value : list) positive_int(value, "window");
  check_reach(window);
  const std::string automatic = call.attributes.text("auto_pad", "NOTSET");
  if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
    for (const std::size_t axis : {0u, 1u}) {
      const std::int64_t size = call.type(x).shape[static_cast<int>(axis) + 1];
      const std::int64_t stride = window.stride[axis];
      const std::int64_t outputs = (size + stride - 1) / stride;
      const std::int64_t total =
          std::max<std::int64_t>(0, (outputs - 1) * stride + window.reach(axis) - size);
      const auto less = static_cast<int>(total / 2), more = static_cast<int>(total - total / 2);
      window.pads[2 * axis] = automatic == "SAME_UPPER" ? less : more;
      window.pads[2 * axis + 1] = automatic == "SAME_UPPER" ? more : less;
    }
    return window;
  }
  require(automatic == "NOTSET" || automatic == "VALID", "its auto_pad is {}", automatic);
  if (automatic == "NOTSET") {
    const std::vector<int> pads = call.attributes.integers("pads", {0, 0, 0, 0});
    require(pads.size() == 4, "its pads are {} numbers, expected 4", pads.size());
    for (const int pad : pads)
      require(pad >= 0 && pad <= 1 << 20, "its pads have {}, expected 0 to {}", pad, 1 << 20);
    window.pads = {pads[0], pads[2], pads[1], pads[3]};
  }
  return window;
}

std::array<int, 2> kernel_of(const OnnxCall& call, const OnnxConstant& weight) {
  require(weight.shape.size() == 4,
          "its weight is {}, expected 4 axes: it is no operator of images",
          shape_text(weight.shape));
  const std::array kernel{positive_int(weight.shape[2], "kernel"),
                          positive_int(weight.shape[3], "kernel")};
  require(!call.attributes.has("kernel_shape") || pair(call, "kernel_shape", 0) == kernel,
          "its kernel_shape is not that of its weight, {}", shape_text(weight.shape));
  return kernel;
}

OnnxWeight as_stored(const OnnxConstantPtr& constant) {
  require(constant->shape.size() <= static_cast<std::size_t>(Shape::kMaxRank), "a weight of {}",
          shape_text(constant->shape));
  return {constant, Shape(constant->shape), {}};
}

// A weight of one number a channel, of any shape.
OnnxWeight flat(const OnnxConstantPtr& constant) {
  return {constant, {constant->elements()}, {}};
}

void conv(const OnnxCall& call) {
  const OnnxConstantPtr weight = call.constant_ptr(1);
  const std::array<int, 2> kernel = kernel_of(call, *weight);
  OnnxValue x = call.map(0);
  // Zeros that an operator of their own puts around the map.
  const auto origin = x.origin;
  const bool padded = origin && origin->kind == OnnxValue::Origin::Kind::kZeroPad &&
                      call.attributes.text("auto_pad", "NOTSET") == "NOTSET";
  x = call.image(padded ? *origin->from : x);
  Conv op;
  op.window = window_of(call, x, kernel);
  for (std::size_t i = 0; padded && i < 4; ++i) op.window.pads[i] += origin->pads[i];
  op.c_out = positive_int(weight->shape[0], "weight");
  op.groups = positive_int(call.attributes.integer("group", 1), "group");
  op.bias = call.has(2);
  std::map<std::string, OnnxWeight> weights{{"weight", as_stored(weight)}};
  if (op.bias) weights["bias"] = flat(call.constant_ptr(2));
  call.set(call.add(op, {x}, x, std::move(weights)));
}

void conv_transpose(const OnnxCall& call) {
  const OnnxConstantPtr weight = call.constant_ptr(1);
  const std::array<int, 2> kernel = kernel_of(call, *weight);
  const OnnxValue x = call.image(call.map(0));
  const std::array<int, 2> more = pair(call, "output_padding", 0);
  for (const int pixels : more)
    require(pixels >= 0 && pixels <= 1 << 20, "its output_padding is {}", pixels);
  const int groups = positive_int(call.attributes.integer("group", 1), "group");
  const std::string automatic = call.attributes.text("auto_pad", "NOTSET");
  Window window;
  window.kernel = kernel;
  window.stride = pair(call, "strides", 1);
  window.dilation = pair(call, "dilations", 1);
  for (const auto& list : {window.stride, window.dilation})
    for (const int value : list) positive_int(value, "window");
  check_reach(window);
  const std::vector<int> sizes = call.attributes.integers("output_shape");
  const bool same = automatic == "SAME_UPPER" || automatic == "SAME_LOWER";
  if (same || !sizes.empty()) {
    require(sizes.empty() || sizes.size() == 2, "its output_shape has {} numbers", sizes.size());
    for (const std::size_t axis : {0u, 1u}) {
      const std::int64_t size = call.type(x).shape[static_cast<int>(axis) + 1];
      const std::int64_t stride = window.stride[axis];
      const std::int64_t wanted = sizes.empty() ? size * stride : sizes[axis];
      const std::int64_t full = (size - 1) * stride + window.reach(axis) + more[axis];
      const std::int64_t total = std::max<std::int64_t>(0, full - wanted);
      require(full - total == wanted, "its output_shape {} is larger than what it makes, {}",
              wanted, full);
      const auto less = static_cast<int>(total / 2), rest = static_cast<int>(total - total / 2);
      // ONNX puts the larger half behind for SAME_UPPER alone.
      window.pads[2 * axis] = automatic == "SAME_UPPER" ? less : rest;
      window.pads[2 * axis + 1] = (automatic == "SAME_UPPER" ? rest : less) - more[axis];
    }
  } else {
    window = window_of(call, x, kernel);
    window.pads[1] -= more[0];
    window.pads[3] -= more[1];
  }
  const int c_out = positive_int(weight->shape[1] * groups, "weight");
  std::map<std::string, OnnxWeight> weights{{"weight", as_stored(weight)}};
  if (call.has(2)) weights["bias"] = flat(call.constant_ptr(2));
  call.set(
      call.add(conv_transpose_of(c_out, window, groups, call.has(2)), {x}, x, std::move(weights)));
}

void max_pool(const OnnxCall& call) {
  call.refuse_outputs_from(1);
  const OnnxValue x = call.image(call.map(0));
  MaxPool op;
  op.window = window_of(call, x, pair(call, "kernel_shape", 1));
  op.ceil_mode = call.attributes.integer("ceil_mode", 0) != 0;
  call.set(call.add(op, {x}, x));
}

void average_pool(const OnnxCall& call) {
  const OnnxValue x = call.image(call.map(0));
  AvgPool op;
  op.window = window_of(call, x, pair(call, "kernel_shape", 1));
  op.ceil_mode = call.attributes.integer("ceil_mode", 0) != 0;
  op.count_include_pad = call.attributes.integer("count_include_pad", 0) != 0;
  call.set(call.add(op, {x}, x));
}

void global_pool(const OnnxCall& call, Reduce::Kind kind) {
  const OnnxValue& x = call.map(0);
  Reduce op{kind, {}, true};
  for (std::size_t i = 0; i < x.order.size(); ++i)
    if (x.order[i] > 1) op.axes.push_back(static_cast<int>(i));
  require(!op.axes.empty(), "it pools {}, which has no pixels", shape_text(call.shape(x)));
  call.set(call.add(op, {x}, x));
}

void batch_normalization(const OnnxCall& call) {
  require(call.attributes.integer("training_mode", 0) == 0 &&
              call.attributes.integer("spatial", 1) == 1,
          "it is of training, or not by channel; export the model for inference");
  call.refuse_outputs_from(1);
  const OnnxValue& map = call.map(0);
  const OnnxValue x = call.with_last(map, call.axis(map, 1));
  call.set(call.add(BatchNorm{.eps = call.attributes.number("epsilon", 1e-5)}, {x}, x,
                    {{"weight", flat(call.constant_ptr(1))},
                     {"bias", flat(call.constant_ptr(2))},
                     {"running_mean", flat(call.constant_ptr(3))},
                     {"running_var", flat(call.constant_ptr(4))}}));
}

// Images first, channels last: what the norms of a whole image take.
OnnxValue channels_last(const OnnxCall& call, const OnnxValue& value) {
  std::vector<int> order{0};
  for (int axis = 2; axis < static_cast<int>(value.order.size()); ++axis) order.push_back(axis);
  order.push_back(1);
  return call.in_order(value, order);
}

bool all_are(const OnnxConstant& constant, double value) {
  const std::vector<double> values = constant.values();
  return std::ranges::count(values, value) == static_cast<std::ptrdiff_t>(values.size());
}

void instance_normalization(const OnnxCall& call) {
  const OnnxValue& map = call.map(0);
  const double eps = call.attributes.number("epsilon", 1e-5);
  require(map.order.size() >= 3, "it takes (n, c, ...), not {}", shape_text(call.shape(map)));
  // A group norm as older exporters write it: (n, groups, rest) of an image, and back.
  const auto origin = map.origin;
  if (origin && origin->kind == OnnxValue::Origin::Kind::kReshape && map.order.size() == 3 &&
      all_are(call.constant(1), 1) && all_are(call.constant(2), 0)) {
    const OnnxValue& image = *origin->from;
    const std::vector<std::int64_t> shape = call.shape(image), grouped = call.shape(map);
    if (shape.size() >= 3 && shape[0] == grouped[0] && shape[1] % grouped[1] == 0) {
      const OnnxValue x = channels_last(call, image);
      const GroupNorm op{positive_int(grouped[1], "groups"), eps, false};
      const OnnxValue whole = call.add(op, {x}, x);
      OnnxValue result = call.reshape(whole, grouped);
      result.origin = std::make_shared<OnnxValue::Origin>(OnnxValue::Origin{
          OnnxValue::Origin::Kind::kGroups, std::make_shared<OnnxValue>(whole), {}});
      return call.set(result);
    }
  }
  const OnnxValue x = channels_last(call, map);
  call.set(
      call.add(GroupNorm{0, eps, true}, {x}, x,
               {{"weight", flat(call.constant_ptr(1))}, {"bias", flat(call.constant_ptr(2))}}));
}

void group_normalization(const OnnxCall& call) {
  const OnnxValue& map = call.map(0);
  require(map.order.size() >= 3, "it takes (n, c, ...), not {}", shape_text(call.shape(map)));
  const OnnxValue x = channels_last(call, map);
  const int groups = positive_int(call.attributes.integer("num_groups", 0), "num_groups");
  const std::int64_t channels = call.shape(map)[1];
  const auto by_channel = [&](std::size_t i) {
    const OnnxConstantPtr given = call.constant_ptr(i);
    if (given->elements() == channels) return given;
    require(given->elements() == groups && channels % groups == 0, "its scale or bias is {}",
            shape_text(given->shape));  // until opset 20, one for each group
    auto spread = std::make_shared<OnnxConstant>();
    spread->type = StoredTensor::Type::kF32;
    spread->shape = {channels};
    for (const double value : given->values())
      spread->made.insert(spread->made.end(), static_cast<std::size_t>(channels / groups), value);
    return OnnxConstantPtr(spread);
  };
  call.set(call.add(GroupNorm{groups, call.attributes.number("epsilon", 1e-5), true}, {x}, x,
                    {{"weight", flat(by_channel(1))}, {"bias", flat(by_channel(2))}}));
}

void layer_normalization(const OnnxCall& call) {
  call.refuse_outputs_from(1);
  const OnnxValue& map = call.map(0);
  const std::vector<std::int64_t> shape = call.shape(map);
  const int first = call.axis(map, call.attributes.integer("axis", -1));
  const auto axis = static_cast<std::size_t>(first);
  std::vector<std::int64_t> rows(shape.begin(), shape.begin() + first);
  rows.push_back(1);
  for (std::size_t i = axis; i < shape.size(); ++i) rows.back() *= shape[i];
  const auto row_of = [&](std::size_t i) {  // an operand of a whole row
    const OnnxConstantPtr given = call.constant_ptr(i);
    require(given->elements() == rows.back(), "its scale or bias is {}, expected {} numbers",
            shape_text(given->shape), rows.back());
    return flat(given);
  };
  const OnnxValue x =
      axis + 1 == shape.size() ? call.with_last(map, first) : call.reshape(map, rows);
  const bool scaled = call.has(1);
  std::map<std::string, OnnxWeight> weights;
  if (scaled) {
    weights["weight"] = row_of(1);
    auto zeros = std::make_shared<OnnxConstant>();
    zeros->type = StoredTensor::Type::kF32;
    zeros->shape = {rows.back()};
    require(rows.back() <= 1 << 20, "it takes rows of {} numbers", rows.back());
    zeros->made.assign(static_cast<std::size_t>(rows.back()), 0);
    weights["bias"] = call.has(2) ? row_of(2) : flat(zeros);
  }
  const OnnxValue y = call.add(LayerNorm{call.attributes.number("epsilon", 1e-5), scaled}, {x}, x,
                               std::move(weights));
  call.set(call.reshape(y, shape));
}

// ---- sizes -------------------------------------------------------------------------------------

Resize::Nearest nearest_of(const std::string& mode) {
  constexpr auto kNames = names_of(Resize::Nearest());
  const auto found = std::ranges::find(kNames, mode);
  require(found != kNames.end(), "its nearest_mode is {}", mode);
  return static_cast<Resize::Nearest>(found - kNames.begin());
}

// The axes of an image that `numbers`, one for each of `axes` (none: of all), change: rows and
// columns alone.
template <class Number>
std::array<Number, 2> rows_and_columns(const std::vector<Number>& numbers,
                                       const std::vector<int>& axes,
                                       const std::vector<Number>& unchanged) {
  std::vector<Number> all = unchanged;
  require(numbers.size() == (axes.empty() ? all.size() : axes.size()),
          "its scales or sizes are {} numbers", numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i)
    all[static_cast<std::size_t>(axes.empty() ? static_cast<int>(i)
                                              : onnx_axis(axes[i], all.size()))] = numbers[i];
  require(all[0] == unchanged[0] && all[1] == unchanged[1],
          "it resizes images or channels, expected rows and columns alone");
  return {all[2], all[3]};
}

void resize_to(const OnnxCall& call, Resize op, std::span<const double> scales,
               std::span<const int> sizes, const std::vector<int>& axes) {
  const OnnxValue x = call.image(call.map(0));
  const std::vector<std::int64_t> shape = call.shape(x);
  std::array<double, 2> scale{1, 1};
  if (!sizes.empty()) {
    const std::vector<int> same(shape.begin(), shape.end());
    const std::array<int, 2> size = rows_and_columns<int>({sizes.begin(), sizes.end()}, axes, same);
    // Whole factors hold for other sizes of the image, too.
    for (const std::size_t i : {0u, 1u}) {
      require(size[i] > 0 && size[i] <= 1 << 24, "it asks for a size of {}", size[i]);
      const std::int64_t from = shape[i + 2], to = size[i];
      const auto exact = [&](double factor) {
        return std::floor(static_cast<double>(from) * factor) == static_cast<double>(to) &&
               factor * static_cast<double>(from) == static_cast<double>(to);
      };
      scale[i] = static_cast<double>(to) / static_cast<double>(from);
      if ((to % from != 0 && from % to != 0) || !exact(scale[i])) op.sizes = {size[0], size[1]};
    }
  } else {
    scale = rows_and_columns<double>({scales.begin(), scales.end()}, axes, {1, 1, 1, 1});
  }
  for (const double factor : scale)
    require(factor > 0 && factor <= 1 << 12, "it scales by {}", factor);
  if (op.sizes == std::array{0, 0}) op.scale_h = scale[0], op.scale_w = scale[1];
  if (scale == std::array{1.0, 1.0}) return call.set(x);
  call.set(call.add(op, {x}, x));
}

Resize::Mode resize_mode(const std::string& mode) {
  if (mode == "nearest") return Resize::Mode::kNearest;
  if (mode == "linear" || mode == "bilinear") return Resize::Mode::kLinear;
  require(mode == "cubic", "its mode is {}", mode);
  return Resize::Mode::kCubic;
}

void resize(const OnnxCall& call) {
  Resize op;
  op.mode = resize_mode(call.attributes.text("mode", "nearest"));
  const std::vector<int> axes = call.attributes.integers("axes");
  if (call.opset() < 11) {  // (x, scales)
    op.coordinates = Resize::Coordinates::kAsymmetric;
    op.nearest = Resize::Nearest::kFloor;
    return resize_to(call, op, call.constant(1).values(), {}, axes);
  }
  const std::string place = call.attributes.text("coordinate_transformation_mode", "half_pixel");
  op.nearest = nearest_of(call.attributes.text("nearest_mode", "round_prefer_floor"));
  if (place == "tf_half_pixel_for_nn") {
    require(op.mode == Resize::Mode::kNearest && op.nearest == Resize::Nearest::kFloor,
            "tf_half_pixel_for_nn goes with nearest and floor alone");
    op.nearest = Resize::Nearest::kRoundPreferCeil;  // floor((i + 1/2) / scale) of half_pixel
  } else if (place != "half_pixel" && place != "half_pixel_symmetric") {
    constexpr auto kNames = names_of(Resize::Coordinates());
    const auto found = std::ranges::find(kNames, place);
    require(found != kNames.end(), "its coordinate_transformation_mode is {}", place);
    op.coordinates = static_cast<Resize::Coordinates>(found - kNames.begin());
  }
  require(call.attributes.text("keep_aspect_ratio_policy", "stretch") == "stretch",
          "it keeps an aspect ratio, which is not supported");
  require(op.mode != Resize::Mode::kCubic ||
              (std::abs(call.attributes.number("cubic_coeff_a", -0.75) + 0.75) < 1e-6 &&
               call.attributes.integer("exclude_outside", 0) == 0),
          "its cubic has a coefficient other than -0.75, or excludes what is outside");
  std::vector<double> scales;
  std::vector<int> sizes;
  if (call.has(3) && call.constant(3).elements() > 0) {
    sizes = call.constant(3).integers("sizes");
  } else {
    scales = call.constant(2).values();
  }
  // Where it grows, there is nothing that anti-aliasing would smooth.
  const bool grows =
      std::ranges::all_of(scales, [](double scale) { return scale >= 1; }) && sizes.empty();
  require(
      call.attributes.integer("antialias", 0) == 0 || grows || op.mode == Resize::Mode::kNearest,
      "its antialias is not supported");
  if (place == "half_pixel_symmetric") {
    const std::vector<std::int64_t> shape = call.shape(call.map(0));
    for (std::size_t i = 0; i < scales.size() && scales.size() == shape.size(); ++i) {
      const double size = static_cast<double>(shape[i]) * scales[i];
      require(size == std::floor(size), "half_pixel_symmetric goes with whole sizes alone");
    }
  }
  resize_to(call, op, scales, sizes, axes);
}

void upsample(const OnnxCall& call) {
  Resize op;
  op.mode = resize_mode(call.attributes.text("mode", "nearest"));
  op.coordinates = Resize::Coordinates::kAsymmetric;
  op.nearest = Resize::Nearest::kFloor;
  std::vector<double> scales;
  if (call.has(1)) {
    scales = call.constant(1).values();
  } else if (const OnnxAttribute* given = call.attributes.find("scales")) {  // opset 7
    scales = given->floats;
  }
  resize_to(call, op, scales, {}, {});
}

}  // namespace

const std::map<std::string_view, OnnxOperator>& onnx_layers() {
  static const std::map<std::string_view, OnnxOperator> table{
      {"AveragePool", average_pool},
      {"BatchNormalization", batch_normalization},
      {"Conv", conv},
      {"ConvTranspose", conv_transpose},
      {"GlobalAveragePool", [](const OnnxCall& c) { global_pool(c, Reduce::Kind::kMean); }},
      {"GlobalMaxPool", [](const OnnxCall& c) { global_pool(c, Reduce::Kind::kMax); }},
      {"GroupNormalization", group_normalization},
      {"InstanceNormalization", instance_normalization},
      {"LayerNormalization", layer_normalization},
      {"MaxPool", max_pool},
      {"Resize", resize},
      {"Upsample", upsample}};
  return table;
}

}  // namespace tessera
