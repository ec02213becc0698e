// Keras' layers of images, one function each.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <optional>

#include "engine/files/safetensors.h"
#include "models/import/keras_image_reader.h"

namespace tessera {

KerasMap KerasImageReader::input(const KerasLayer& layer, const Inputs&) {
  const nlohmann::json& shape = keras_input_shape(layer.config);
  require(shape.is_array() && shape.size() == 4,
          "its shape has {} axes, an image (batch, height, width, channels) has 4",
          shape.is_array() ? shape.size() : 0);
  KerasMap map;
  for (const std::size_t axis : {0u, 1u}) {
    const nlohmann::json& extent = shape[axis + 1];
    constexpr int kMostPixels = 1 << 20;
    if (extent.is_number_integer() && extent.get<std::int64_t>() > 0 &&
        extent.get<std::int64_t>() <= kMostPixels)
      map.size[axis] = extent.get<std::int64_t>();
  }
  require(shape[3].is_number_integer(), "it does not say how many channels an image has");
  map.channels = shape[3].get<std::int64_t>();
  map.value = net_.image(static_cast<int>(channels_of(map)));
  return map;
}

KerasMap KerasImageReader::conv(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const Window window = window_of(layer, map, "kernel_size");
  const int groups = keras_int(layer.config, "groups", 1, 1, 1 << 20);
  const bool bias = keras_flag(layer.config, "use_bias", true);
  const StoredTensor& kernel = weights_.get(layer, {"kernel", "bias"}, "kernel", 4);
  map.channels = kernel.shape[3];
  map.value = net_.add(layer.name,
                       Conv{.c_out = static_cast<int>(channels_of(map)),
                            .window = window,
                            .groups = groups,
                            .bias = bias},
                       {map.value});
  net_.give("weight", read_floats(kernel, std::array{3, 2, 0, 1}));
  give_bias(layer, {"kernel", "bias"}, bias);
  return activated(layer, map);
}

KerasMap KerasImageReader::depthwise(const std::string& name, const Window& window, KerasMap map,
                                     const StoredTensor& kernel, bool bias) {
  const std::int64_t groups = channels_of(map);
  FloatTensor weight = read_floats(kernel, std::array{2, 3, 0, 1});
  map.channels = kernel.shape[2] * kernel.shape[3];
  weight.shape = Shape{channels_of(map), 1, kernel.shape[0], kernel.shape[1]};
  map.value = net_.add(name,
                       Conv{.c_out = static_cast<int>(map.channels),
                            .window = window,
                            .groups = static_cast<int>(groups),
                            .bias = bias},
                       {map.value});
  net_.give("weight", std::move(weight));
  return map;
}

KerasMap KerasImageReader::depthwise_conv(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const Window window = window_of(layer, map, "kernel_size");
  const bool bias = keras_flag(layer.config, "use_bias", true);
  map = depthwise(layer.name, window, map, weights_.get(layer, {"kernel", "bias"}, "kernel", 4),
                  bias);
  give_bias(layer, {"kernel", "bias"}, bias);
  return activated(layer, map);
}

KerasMap KerasImageReader::separable_conv(const KerasLayer& layer, const Inputs& inputs) {
  const std::vector<std::string> order{"depthwise_kernel", "pointwise_kernel", "bias"};
  KerasMap map = only(inputs);
  const Window window = window_of(layer, map, "kernel_size");
  const bool bias = keras_flag(layer.config, "use_bias", true);
  map = depthwise(layer.name + "/depthwise", window, map,
                  weights_.get(layer, order, "depthwise_kernel", 4), false);
  const StoredTensor& pointwise = weights_.get(layer, order, "pointwise_kernel", 4);
  map.channels = pointwise.shape[3];
  map.value = net_.add(
      layer.name, Conv{.c_out = static_cast<int>(channels_of(map)), .window = {}, .bias = bias},
      {map.value});
  net_.give("weight", read_floats(pointwise, std::array{3, 2, 0, 1}));
  give_bias(layer, order, bias);
  return activated(layer, map);
}

KerasMap KerasImageReader::conv_transpose(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  Window window;
  window.kernel = keras_pair(layer.config, "kernel_size", {1, 1});
  window.stride = keras_pair(layer.config, "strides", {1, 1});
  require(keras_pair(layer.config, "dilation_rate", {1, 1}) == std::array{1, 1},
          "its dilation_rate is not 1; export the model as ONNX");
  const auto output_padding = layer.config.find("output_padding");
  require(output_padding == layer.config.end() || output_padding->is_null(),
          "it has an output_padding; export the model as ONNX");
  const bool same = keras_text(layer.config, "padding", "valid") == "same";
  for (const std::size_t axis : {0u, 1u}) {
    const int more = window.kernel[axis] - window.stride[axis];
    window.pads[2 * axis] = same ? std::max(more, 0) / 2 : 0;
    window.pads[2 * axis + 1] = more < 0 ? more : same ? more - more / 2 : 0;
    scale(map, axis, window.stride[axis], 1);
    if (!same && more > 0) {
      map.lost[axis] -= more;
      if (map.size[axis] > 0) map.size[axis] += more;
    }
  }
  const bool bias = keras_flag(layer.config, "use_bias", true);
  const StoredTensor& kernel = weights_.get(layer, {"kernel", "bias"}, "kernel", 4);
  require(keras_int(layer.config, "groups", 1, 1, 1 << 20) == 1,
          "it has groups; export the model as ONNX");
  map.channels = kernel.shape[2];
  map.value =
      net_.add(layer.name, conv_transpose_of(static_cast<int>(channels_of(map)), window, 1, bias),
               {map.value});
  net_.give("weight", read_floats(kernel, std::array{3, 2, 0, 1}));
  give_bias(layer, {"kernel", "bias"}, bias);
  return activated(layer, map);
}

KerasMap KerasImageReader::dense(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const bool bias = keras_flag(layer.config, "use_bias", true);
  const StoredTensor& kernel = weights_.get(layer, {"kernel", "bias"}, "kernel", 2);
  map.channels = kernel.shape[1];
  map.value = net_.add(
      layer.name, Linear{.units = static_cast<int>(channels_of(map)), .bias = bias}, {map.value});
  net_.give("weight", read_floats(kernel, std::array{1, 0}));
  give_bias(layer, {"kernel", "bias"}, bias);
  return activated(layer, map);
}

void KerasImageReader::give_or_fill(const char* parameter, const KerasLayer& layer,
                                    const std::vector<std::string>& order, const char* name,
                                    std::int64_t channels, float value) {
  if (std::ranges::count(order, name) > 0)
    return net_.give(parameter, weights_.get(layer, order, name, 1));
  FloatTensor tensor{Shape{channels}};
  std::ranges::fill(tensor.values, value);
  net_.give(parameter, std::move(tensor));
}

KerasMap KerasImageReader::batch_norm(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  require_last_axis(layer);
  expect_raw_pixels(inputs);
  std::vector<std::string> order{"gamma", "beta", "moving_mean", "moving_variance"};
  const bool gamma = keras_flag(layer.config, "scale", true);
  const bool beta = keras_flag(layer.config, "center", true);
  if (!beta) order.erase(order.begin() + 1);
  if (!gamma) order.erase(order.begin());
  constexpr double kKerasEps = 1e-3;
  map.value = net_.add(
      layer.name, BatchNorm{.eps = keras_number(layer.config, "epsilon", kKerasEps)}, {map.value});
  give_or_fill("weight", layer, order, "gamma", map.channels, 1);
  give_or_fill("bias", layer, order, "beta", map.channels, 0);
  give_or_fill("running_mean", layer, order, "moving_mean", map.channels, 0);
  give_or_fill("running_var", layer, order, "moving_variance", map.channels, 0);
  return map;
}

KerasMap KerasImageReader::group_norm(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  require_last_axis(layer);
  require(!keras_flag(layer.config, "rms_scaling", false),
          "it divides by the root mean square; export the model as ONNX");
  const bool gamma = keras_flag(layer.config, "scale", true);
  const bool beta = keras_flag(layer.config, "center", true);
  constexpr double kKerasEps = 1e-3;
  const double eps = keras_number(layer.config, "epsilon", kKerasEps);
  constexpr int kKerasGroups = 32;
  const int channels = static_cast<int>(channels_of(map));
  const int groups = keras_int(layer.config, "groups", kKerasGroups, -1, channels);
  const Op op = layer.type == "LayerNormalization"
                    ? Op(LayerNorm{.eps = eps})
                    : Op(GroupNorm{.groups = groups == -1 ? channels : groups, .eps = eps});
  map.value = net_.add(layer.name, op, {map.value});
  std::vector<std::string> order;
  if (gamma) order.push_back("gamma");
  if (beta) order.push_back("beta");
  give_or_fill("weight", layer, order, "gamma", map.channels, 1);
  give_or_fill("bias", layer, order, "beta", map.channels, 0);
  return map;
}

KerasMap KerasImageReader::rescaling(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const auto channels = static_cast<std::size_t>(map.channels);
  const std::vector<float> factor = keras_numbers(layer.config, "scale", 1, channels);
  const std::vector<float> shift = keras_numbers(layer.config, "offset", 0, channels);
  if (inputs[0] == model_.inputs[0] && readers_[inputs[0]] == 1) {
    const auto are = [](const std::vector<float>& values, double value) {
      return std::ranges::all_of(values, [&](float one) { return std::abs(one - value) <= 1e-7; });
    };
    // Made for bytes, which 16 bits are brought to as well.
    input_said_by_ = "its layer " + layer.name;
    const bool for_bytes = are(factor, 1 / 255.0) || are(factor, 2 / 255.0);
    input_ = for_bytes ? "bytes" : "none";
  }
  map.value = affine(layer.name, map.value, factor, shift);
  return map;
}

KerasMap KerasImageReader::normalization(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  require_last_axis(layer);
  expect_raw_pixels(inputs);
  const std::vector<std::string> order{"mean", "variance", "count"};
  const auto channels = static_cast<std::size_t>(map.channels);
  const auto statistic = [&](const char* name) {
    const auto given = layer.config.find(name);
    if (given != layer.config.end() && !given->is_null())
      return keras_numbers(layer.config, name, 0, channels);
    const StoredTensor* tensor = weights_.find(layer, order, name);
    require(tensor != nullptr && tensor->is_float() && tensor->elements() == map.channels,
            "its {} is missing, or not of {} numbers", name, channels);
    return read_floats(*tensor).values;
  };
  const std::vector<float> mean = statistic("mean"), variance = statistic("variance");
  std::vector<float> factor, shift;
  for (std::size_t i = 0; i < channels; ++i) {
    constexpr double kLeastDeviation = 1e-7;
    const double scale = 1 / std::max(std::sqrt(double{variance[i]}), kLeastDeviation);
    factor.push_back(static_cast<float>(scale));
    shift.push_back(static_cast<float>(-mean[i] * scale));
  }
  map.value = affine(layer.name, map.value, factor, shift);
  return map;
}

void KerasImageReader::expect_raw_pixels(const Inputs& inputs) {
  if (inputs[0] == model_.inputs[0]) input_ = "none";
}

void KerasImageReader::require_last_axis(const KerasLayer& layer) {
  const auto axis = layer.config.find("axis");
  if (axis == layer.config.end() || axis->is_null()) return;
  const nlohmann::json& one = axis->is_array() && axis->size() == 1 ? (*axis)[0] : *axis;
  require(one.is_number_integer() && (one == -1 || one == 3),
          "its axis is {}, expected the channels, -1 or 3", axis->dump());
}

KerasMap KerasImageReader::activation(const KerasLayer& layer, const Inputs& inputs) {
  const bool softmax = layer.type == "Softmax";
  const KerasMap map = resolved(one_of(inputs));
  if (softmax && !map.is_flat) require_last_axis(layer);
  return apply_activation(layer, map,
                          layer.type == "Activation"
                              ? keras_activation(layer.config, model_.version)
                              : keras_activation_layer(layer.type, layer.config));
}

KerasMap KerasImageReader::prelu(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const StoredTensor& alpha = weights_.get(layer, {"alpha"}, "alpha", 3);
  require(alpha.shape[0] == 1 && alpha.shape[1] == 1 &&
              (alpha.shape[2] == 1 || alpha.shape[2] == map.channels),
          "its slopes have the shape {}, expected one for each channel (shared_axes [1, 2]) or one "
          "for all",
          shape_text(alpha.shape));
  FloatTensor slopes = read_floats(alpha);
  slopes.shape = Shape{alpha.shape[2]};
  map.value = net_.add(
      layer.name, Activation{.kind = Activation::Kind::kPrelu, .per_channel = alpha.shape[2] > 1},
      {map.value});
  net_.give("weight", std::move(slopes));
  return map;
}

KerasMap KerasImageReader::pool(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const Window window = window_of(layer, map, "pool_size");
  // TensorFlow's mean is that of the pixels, not of the pads.
  const Op op = layer.type == "MaxPooling2D"
                    ? Op(MaxPool{.window = window})
                    : Op(AvgPool{.window = window, .count_include_pad = false});
  map.value = net_.add(layer.name, op, {map.value});
  return map;
}

KerasMap KerasImageReader::global_pool(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const auto kind =
      layer.type.find("Max") == std::string::npos ? Reduce::Kind::kMean : Reduce::Kind::kMax;
  map.value =
      net_.add(layer.name, Reduce{.kind = kind, .axes = {1, 2}, .keepdims = true}, {map.value});
  map.size = {1, 1};
  map.is_vector = true;
  return map;
}

KerasMap KerasImageReader::upsample(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const std::array<int, 2> size = keras_pair(layer.config, "size", {2, 2});
  const std::string mode = keras_text(layer.config, "interpolation", "nearest");
  require(mode == "nearest" || mode == "bilinear",
          "its interpolation is {}, expected \"nearest\" or \"bilinear\"", in_quotes(mode));
  for (const std::size_t axis : {0u, 1u}) scale(map, axis, size[axis], 1);
  Op op = Resize{.coordinates = Resize::Coordinates::kAsymmetric,
                 .nearest = Resize::Nearest::kFloor,
                 .scale_h = static_cast<double>(size[0]),
                 .scale_w = static_cast<double>(size[1])};
  if (mode == "bilinear") {
    op = size == std::array{2, 2} ? Op(Upsample{})
                                  : Op(Resize{.mode = Resize::Mode::kLinear,
                                              .scale_h = static_cast<double>(size[0]),
                                              .scale_w = static_cast<double>(size[1])});
  }
  map.value = net_.add(layer.name, op, {map.value});
  return map;
}

KerasMap KerasImageReader::resizing(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const std::string mode = keras_text(layer.config, "interpolation", "bilinear");
  require(mode == "nearest" || mode == "bilinear",
          "its interpolation is {}, expected \"nearest\" or \"bilinear\"", in_quotes(mode));
  for (const char* other : {"crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"})
    require(!keras_flag(layer.config, other, false), "{} is true; export the model as ONNX", other);
  constexpr int kMostSize = 1 << 16;
  const std::array<std::int64_t, 2> wanted{keras_int(layer.config, "height", 0, 1, kMostSize),
                                           keras_int(layer.config, "width", 0, 1, kMostSize)};
  require(wanted[0] > 0 && wanted[1] > 0, "it names no height or no width");
  std::array<double, 2> scales{};
  for (const std::size_t axis : {0u, 1u}) {
    require(map.size[axis] > 0 && map.lost[axis] == 0,
            "it makes {} x {} pixels of any image, and an answer is as large as its image: leave "
            "the layer out, or save the model with an input of a fixed size",
            wanted[0], wanted[1]);
    const std::int64_t common = std::gcd(wanted[axis], map.size[axis]);
    const std::int64_t larger = wanted[axis] / common, smaller = map.size[axis] / common;
    require_multiple(map, axis, smaller);
    scale(map, axis, larger, smaller);
    // Never below the quotient, so that its product with a multiple of `smaller` is no smaller
    // whole number.
    scales[axis] = std::nextafter(static_cast<double>(larger) / static_cast<double>(smaller),
                                  std::numeric_limits<double>::max());
    if (smaller == 1) scales[axis] = static_cast<double>(larger);
  }
  if (scales == std::array{1.0, 1.0}) return map;
  Op op = Upsample{};
  if (mode == "nearest" || scales != std::array{2.0, 2.0})
    op = Resize{.mode = mode == "nearest" ? Resize::Mode::kNearest : Resize::Mode::kLinear,
                .nearest = Resize::Nearest::kRoundPreferCeil,
                .scale_h = scales[0],
                .scale_w = scales[1]};
  map.value = net_.add(layer.name, op, {map.value});
  return map;
}

KerasMap KerasImageReader::borders(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = only(inputs);
  const bool crops = layer.type == "Cropping2D";
  std::array<int, 4> pads = keras_borders(layer.config, crops ? "cropping" : "padding");
  if (crops) std::ranges::transform(pads, pads.begin(), std::negate<>());
  for (const std::size_t axis : {0u, 1u}) {
    const int both = pads[2 * axis] + pads[2 * axis + 1];
    if (map.size[axis] > 0) map.size[axis] += both;
    map.lost[axis] -= both;
  }
  map.value = net_.add(layer.name, Pad{.pads = {0, pads[0], pads[2], 0, 0, pads[1], pads[3], 0}},
                       {map.value});
  return map;
}

KerasMap KerasImageReader::concatenate(const KerasLayer& layer, const Inputs& inputs) {
  require(!inputs.empty(), "it joins nothing");
  KerasMap map = take(inputs[0]);
  require_last_axis(layer);
  std::vector<ValueId> values{map.value};
  for (std::size_t i = 1; i < inputs.size(); ++i) {
    const KerasMap& other = take(inputs[i]);
    values.push_back(other.value);
    map.channels += other.channels;
    if (map.is_whole()) map.lost = other.lost;
  }
  channels_of(map);
  // Of two maps that have one size it is what convolutions read in place.
  const bool is_skip = inputs.size() == 2 && map.is_whole() && !map.is_vector;
  if (is_skip) require_whole_maps();
  map.value = net_.add(
      layer.name, is_skip ? Op(CropConcat{CropConcat::Align::kPadUp, true}) : Op(Concat{}), values);
  return map;
}

void KerasImageReader::require_whole_maps() {
  for (const std::size_t axis : {0u, 1u}) {
    for (const KerasMap& map : maps_) require_multiple({}, axis, map.image_pixels[axis]);
  }
}

KerasMap KerasImageReader::merge(const KerasLayer& layer, const Inputs& inputs) {
  static const std::map<std::string_view, Binary::Kind> kKinds{
      {"Add", Binary::Kind::kAdd},      {"Subtract", Binary::Kind::kSub},
      {"Multiply", Binary::Kind::kMul}, {"Maximum", Binary::Kind::kMax},
      {"Minimum", Binary::Kind::kMin},  {"Average", Binary::Kind::kAdd}};
  require(inputs.size() >= 2, "it reads {} values, expected 2 or more", inputs.size());
  KerasMap map = take(inputs[0]);
  for (std::size_t i = 1; i < inputs.size(); ++i) {
    const KerasMap& other = take(inputs[i]);
    const ValueId value =
        net_.add(layer.name, Binary{kKinds.at(layer.type)}, {map.value, other.value});
    const std::int64_t channels = std::max(map.channels, other.channels);
    const std::array<std::int64_t, 2> lost = map.is_whole() ? other.lost : map.lost;
    if (map.is_vector) map = other;
    map.value = value;
    map.channels = channels;
    map.lost = lost;
  }
  if (layer.type == "Average") {
    const auto channels = static_cast<std::size_t>(channels_of(map));
    const float part = 1 / static_cast<float>(inputs.size());
    map.value = affine(layer.name + "/mean", map.value, std::vector<float>(channels, part),
                       std::vector<float>(channels, 0));
  }
  return map;
}

KerasMap KerasImageReader::reshape(const KerasLayer& layer, const Inputs& inputs) {
  KerasMap map = maps_[one_of(inputs)];
  std::vector<std::int64_t> target;
  for (const nlohmann::json& extent : layer.config.value("target_shape", nlohmann::json::array()))
    target.push_back(extent.is_number_integer() ? extent.get<std::int64_t>() : 0);
  const bool keeps_channels = !target.empty() && target.back() == map.channels;
  const auto is = [](std::int64_t extent, std::int64_t expected) {
    return extent == -1 || (expected > 0 && extent == expected);
  };
  const bool to_vector = map.is_vector && keeps_channels &&
                         std::ranges::all_of(target.begin(), target.end() - 1,
                                             [](auto extent) { return extent == 1; });
  const bool to_map = keeps_channels && target.size() == 3 && is(target[0], map.size[0]) &&
                      is(target[1], map.size[1]);
  const bool to_rows =
      keeps_channels && target.size() == 2 && is(target[0], map.size[0] * map.size[1]);
  require(to_vector || to_map || to_rows,
          "it moves pixels, from {} x {} of {} channels to ({}); export the model as ONNX",
          map.size[0], map.size[1], map.channels, fmt::join(target, ", "));
  map.is_flat = to_rows && !map.is_vector;
  return map;
}

const std::map<std::string, KerasImageReader::Handler, std::less<>> KerasImageReader::kHandlers{
    {"InputLayer", &call<&KerasImageReader::input>},
    {"Conv2D", &call<&KerasImageReader::conv>},
    {"Convolution2D", &call<&KerasImageReader::conv>},
    {"DepthwiseConv2D", &call<&KerasImageReader::depthwise_conv>},
    {"SeparableConv2D", &call<&KerasImageReader::separable_conv>},
    {"Conv2DTranspose", &call<&KerasImageReader::conv_transpose>},
    {"Dense", &call<&KerasImageReader::dense>},
    {"BatchNormalization", &call<&KerasImageReader::batch_norm>},
    {"GroupNormalization", &call<&KerasImageReader::group_norm>},
    {"LayerNormalization", &call<&KerasImageReader::group_norm>},
    {"Rescaling", &call<&KerasImageReader::rescaling>},
    {"Normalization", &call<&KerasImageReader::normalization>},
    {"Activation", &call<&KerasImageReader::activation>},
    {"ReLU", &call<&KerasImageReader::activation>},
    {"LeakyReLU", &call<&KerasImageReader::activation>},
    {"ELU", &call<&KerasImageReader::activation>},
    {"Softmax", &call<&KerasImageReader::activation>},
    {"PReLU", &call<&KerasImageReader::prelu>},
    {"MaxPooling2D", &call<&KerasImageReader::pool>},
    {"AveragePooling2D", &call<&KerasImageReader::pool>},
    {"GlobalAveragePooling2D", &call<&KerasImageReader::global_pool>},
    {"GlobalMaxPooling2D", &call<&KerasImageReader::global_pool>},
    {"UpSampling2D", &call<&KerasImageReader::upsample>},
    {"Resizing", &call<&KerasImageReader::resizing>},
    {"Cropping2D", &call<&KerasImageReader::borders>},
    {"ZeroPadding2D", &call<&KerasImageReader::borders>},
    {"Concatenate", &call<&KerasImageReader::concatenate>},
    {"Add", &call<&KerasImageReader::merge>},
    {"Subtract", &call<&KerasImageReader::merge>},
    {"Multiply", &call<&KerasImageReader::merge>},
    {"Average", &call<&KerasImageReader::merge>},
    {"Maximum", &call<&KerasImageReader::merge>},
    {"Minimum", &call<&KerasImageReader::merge>},
    {"Reshape", &call<&KerasImageReader::reshape>},
    // What does nothing once training is over.
    {"Dropout", &call<&KerasImageReader::pass>},
    {"SpatialDropout2D", &call<&KerasImageReader::pass>},
    {"AlphaDropout", &call<&KerasImageReader::pass>},
    {"GaussianDropout", &call<&KerasImageReader::pass>},
    {"GaussianNoise", &call<&KerasImageReader::pass>},
    {"ActivityRegularization", &call<&KerasImageReader::pass>},
    {"RandomFlip", &call<&KerasImageReader::pass>},
    {"RandomRotation", &call<&KerasImageReader::pass>},
    {"RandomZoom", &call<&KerasImageReader::pass>},
    {"RandomTranslation", &call<&KerasImageReader::pass>},
    {"RandomContrast", &call<&KerasImageReader::pass>},
    {"RandomBrightness", &call<&KerasImageReader::pass>},
    {"Identity", &call<&KerasImageReader::pass>},
};

}  // namespace tessera
