#include "models/import/keras_image.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include "engine/files/safetensors.h"
#include "models/import/keras_settings.h"
#include "models/import/network_builder.h"

namespace tessera {
namespace {

using Kind = Activation::Kind;

// A value on its way through the network.
struct Map {
  ValueId value = 0;
  std::int64_t channels = 0;
  std::array<std::int64_t, 2> size{0, 0};  // of the size that the model was made for; 0: any
  // Pixels of the image for one of this map, along both axes, as a fraction.
  std::array<std::int64_t, 2> image_pixels{1, 1}, map_pixels{1, 1};
  // Rows and columns that the map lacks of that part of the image; below 0: that it has besides.
  std::array<std::int64_t, 2> lost{0, 0};
  bool is_vector = false;  // one pixel for the whole image
  bool is_flat = false;    // rows are joined: nothing but an activation may follow
  std::string pending;     // "sigmoid" or "softmax", which may be the network's last

  bool is_whole() const { return lost[0] == 0 && lost[1] == 0; }
};

class KerasImageReader {
 public:
  KerasImageReader(const KerasModel& model, const Contents& contents, const ImportOptions& options)
      : model_(model), contents_(contents), weights_(contents), net_(contents, options) {}

  Imported read() {
    refuse_unknown_layers();
    require(
        model_.inputs.size() == 1 && model_.outputs.size() == 1,
        "{}: the model has {} inputs and {} outputs, images have 1 of each; save a model of one "
        "of them",
        contents_.file, model_.inputs.size(), model_.outputs.size());
    for (const KerasCall& call : model_.calls) {
      for (const std::size_t input : call.inputs) ++readers_[input];
    }
    for (std::size_t i = 0; i < model_.calls.size(); ++i) {
      const KerasLayer& layer = model_.layers[model_.calls[i].layer];
      try {
        maps_.push_back(kHandlers.at(layer.type)(*this, layer, model_.calls[i].inputs));
      } catch (const OtherNetwork&) {
        throw;
      } catch (const Error& error) {
        fail("{}: the layer {} ({}): {}", contents_.file, in_quotes(layer.name), layer.type,
             error.what());
      }
    }
    return finish();
  }

 private:
  using Inputs = std::vector<std::size_t>;
  using Handler = Map (*)(KerasImageReader&, const KerasLayer&, const Inputs&);

  void refuse_unknown_layers() const {
    std::vector<std::string> refused;
    for (const KerasLayer& layer : model_.layers) {
      const bool is_model =
          layer.type == "Functional" || layer.type == "Model" || layer.type == "Sequential";
      if (!is_model && !kHandlers.contains(layer.type)) {
        refused.push_back(fmt::format("{} ({}{})", in_quotes(layer.name), layer.type,
                                      layer.type == "Lambda" ? ", which is code" : ""));
      } else if (keras_text(layer.config, "data_format", "channels_last") == "channels_first") {
        refused.push_back(fmt::format("{} (channels first)", in_quotes(layer.name)));
      }
    }
    require(refused.empty(),
            "{}: layers that Tessera does not read: {}. Export the model as ONNX (python -m "
            "tf2onnx.convert --keras {} --output model.onnx) and import that",
            contents_.file, fmt::join(refused, ", "), contents_.file);
  }

  Imported finish() {
    Map& end = maps_[model_.outputs[0]];
    require(!end.is_vector,
            "{}: the model gives one answer for the whole image, no map: Tessera "
            "segments images and classifies texts",
            contents_.file);
    NetworkEnd network{.logits = end.value, .output = end.pending};
    network.input = input_;
    network.input_said_by = input_said_by_;
    network.multiple = multiple_;
    const Map& image = maps_[model_.inputs[0]];
    if (image.size[0] > 0 && image.size[1] > 0)
      net_.note(fmt::format("the model was made for images of {} x {} pixels; others run, too",
                            image.size[0], image.size[1]));
    Imported imported;
    try {
      imported = net_.finish(network);
    } catch (const OtherNetwork& error) {
      fail("{}: {}", contents_.file, error.what());
    }
    imported.family = "Keras model";
    imported.unused = weights_.unused();
    return imported;
  }

  // ---- values

  // The values for a layer to read.
  Map& resolved(std::size_t input) {
    Map& map = maps_[input];
    if (!map.pending.empty()) {
      const Op op = map.pending == "softmax" ? Op(Softmax()) : Op(Activation{Kind::kSigmoid});
      map.value = net_.add(map.pending, op, {map.value});
      map.pending.clear();
    }
    return map;
  }
  Map& take(std::size_t input) {
    require(!maps_[input].is_flat, "it reads rows joined by a Reshape; leave the Reshape out");
    return resolved(input);
  }
  static std::size_t one_of(const Inputs& inputs) {
    require(inputs.size() == 1, "it reads {} values, expected 1", inputs.size());
    return inputs[0];
  }
  Map only(const Inputs& inputs) { return take(one_of(inputs)); }

  // Sizes that need no pads of their own: multiples of `stride` of this map.
  void require_multiple(const Map& map, std::size_t axis, std::int64_t stride) {
    const std::int64_t pixels = stride * map.image_pixels[axis];
    const std::int64_t needed = pixels / std::gcd(pixels, map.map_pixels[axis]);
    multiple_ = std::lcm(multiple_, needed);
    constexpr std::int64_t kMostMultiple = 4096;
    require(multiple_ <= kMostMultiple,
            "only images of multiples of {} pixels would run, at most {}", multiple_,
            kMostMultiple);
  }
  static void scale(Map& map, std::size_t axis, std::int64_t larger, std::int64_t smaller) {
    map.size[axis] = map.size[axis] * larger / smaller;
    map.map_pixels[axis] *= larger;
    map.image_pixels[axis] *= smaller;
    const std::int64_t common = std::gcd(map.map_pixels[axis], map.image_pixels[axis]);
    map.map_pixels[axis] /= common;
    map.image_pixels[axis] /= common;
    require(std::max(map.map_pixels[axis], map.image_pixels[axis]) <= (1 << 20),
            "its map is {} times another size than the image's", 1 << 20);
  }

  // The window of a convolution or pool, padded as TensorFlow does: "same" pads
  // max((ceil(size / stride) - 1) stride + reach - size, 0), the odd one behind. That depends on
  // the size; for multiples of the stride it is max(reach - stride, 0).
  Window window_of(const KerasLayer& layer, Map& map, const char* kernel_key) {
    Window window;
    window.kernel = keras_pair(layer.config, kernel_key, {1, 1});
    window.dilation = keras_pair(layer.config, "dilation_rate", {1, 1});
    const bool is_pool = std::string_view(kernel_key) == "pool_size";
    window.stride = keras_pair(layer.config, "strides", is_pool ? window.kernel : std::array{1, 1});
    const std::string padding = keras_text(layer.config, "padding", "valid");
    require(padding == "same" || padding == "valid", "padding {}, expected \"same\" or \"valid\"",
            in_quotes(padding));
    for (const std::size_t axis : {0u, 1u}) {
      const int stride = window.stride[axis];
      if (padding == "same") {
        if (stride > 1) {
          require(map.lost[axis] == 0,
                  "padding \"same\" with the stride {} behind a layer that cuts borders "
                  "off depends on the image's size",
                  stride);
          require_multiple(map, axis, stride);
        }
        const int pads = std::max(window.reach(axis) - stride, 0);
        window.pads[2 * axis] = pads / 2;
        window.pads[2 * axis + 1] = pads - pads / 2;
        scale(map, axis, 1, stride);
      } else {
        // Of a multiple of the stride the last window may begin where a border of 0 to stride - 1
        // pixels is too much: the map is whole all the same.
        const std::int64_t lost = map.lost[axis] + window.reach(axis) - stride;
        map.lost[axis] = lost > -stride && lost <= 0 ? 0 : lost;
        const std::int64_t size = map.size[axis];
        scale(map, axis, 1, stride);
        if (size > 0) map.size[axis] = window.outputs(axis, size);
      }
    }
    return window;
  }

  // ---- weights

  Map activated(const KerasLayer& layer, Map map) {
    return apply_activation(layer, map, keras_activation(layer.config, model_.version));
  }
  Map apply_activation(const KerasLayer& layer, Map map, const KerasActivation& activation) {
    if (activation.is_linear) return map;
    if (activation.is_softmax) {
      map.pending = "softmax";
    } else if (activation.op.kind == Kind::kSigmoid) {
      map.pending = "sigmoid";
    } else {
      map.value = net_.add(layer.name + "/" + std::string(kind_of(Op(activation.op))),
                           activation.op, {map.value});
    }
    return map;
  }

  void give_bias(const KerasLayer& layer, const std::vector<std::string>& order, bool has_bias) {
    if (has_bias) net_.give("bias", read_floats(weights_.get(layer, order, "bias", 1)));
  }

  // An affine map of each channel, as a batch norm of known statistics.
  ValueId affine(const std::string& name, ValueId x, std::vector<float> factor,
                 std::vector<float> shift) {
    const auto channels = static_cast<std::int64_t>(factor.size());
    const ValueId y = net_.add(name, BatchNorm{.eps = kNoEps}, {x});
    const auto vector = [&](std::vector<float> values) {
      FloatTensor tensor{Shape{channels}};
      tensor.values = std::move(values);
      return tensor;
    };
    net_.give("weight", vector(std::move(factor)));
    net_.give("bias", vector(std::move(shift)));
    net_.give("running_mean", vector(std::vector<float>(static_cast<std::size_t>(channels), 0)));
    net_.give("running_var", vector(std::vector<float>(static_cast<std::size_t>(channels), 1)));
    return y;
  }
  // Vanishes beside 1 in double.
  static constexpr double kNoEps = 1e-300;

  static std::int64_t channels_of(const Map& map) {
    require(map.channels >= 1 && map.channels <= (1 << 20),
            "it makes {} channels, expected 1 to {}", map.channels, 1 << 20);
    return map.channels;
  }

  // ---- layers, one function each

  Map input(const KerasLayer& layer, const Inputs&) {
    const nlohmann::json& shape = keras_input_shape(layer.config);
    require(shape.is_array() && shape.size() == 4,
            "its shape has {} axes, an image (batch, height, width, channels) has 4",
            shape.is_array() ? shape.size() : 0);
    Map map;
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

  Map conv(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
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

  // A filter (or `multiplier` of them) for each channel.
  Map depthwise(const std::string& name, const Window& window, Map map, const StoredTensor& kernel,
                bool bias) {
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

  Map depthwise_conv(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
    const Window window = window_of(layer, map, "kernel_size");
    const bool bias = keras_flag(layer.config, "use_bias", true);
    map = depthwise(layer.name, window, map, weights_.get(layer, {"kernel", "bias"}, "kernel", 4),
                    bias);
    give_bias(layer, {"kernel", "bias"}, bias);
    return activated(layer, map);
  }

  Map separable_conv(const KerasLayer& layer, const Inputs& inputs) {
    const std::vector<std::string> order{"depthwise_kernel", "pointwise_kernel", "bias"};
    Map map = only(inputs);
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

  // "same" keeps size x stride pixels of the whole map, which has kernel - stride more; the odd one
  // is cropped at the end. Where the kernel is smaller than the stride, pixels are missing instead.
  Map conv_transpose(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
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

  Map dense(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
    const bool bias = keras_flag(layer.config, "use_bias", true);
    const StoredTensor& kernel = weights_.get(layer, {"kernel", "bias"}, "kernel", 2);
    map.channels = kernel.shape[1];
    map.value = net_.add(
        layer.name, Linear{.units = static_cast<int>(channels_of(map)), .bias = bias}, {map.value});
    net_.give("weight", read_floats(kernel, std::array{1, 0}));
    give_bias(layer, {"kernel", "bias"}, bias);
    return activated(layer, map);
  }

  Map batch_norm(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
    require_last_axis(layer);
    expect_raw_pixels(inputs);
    std::vector<std::string> order{"gamma", "beta", "moving_mean", "moving_variance"};
    const bool gamma = keras_flag(layer.config, "scale", true);
    const bool beta = keras_flag(layer.config, "center", true);
    if (!beta) order.erase(order.begin() + 1);
    if (!gamma) order.erase(order.begin());
    constexpr double kKerasEps = 1e-3;
    map.value =
        net_.add(layer.name, BatchNorm{.eps = keras_number(layer.config, "epsilon", kKerasEps)},
                 {map.value});
    const auto give = [&](const char* parameter, const char* name, bool there, float value) {
      if (there) return net_.give(parameter, weights_.get(layer, order, name, 1));
      FloatTensor tensor{Shape{map.channels}};
      std::ranges::fill(tensor.values, value);
      net_.give(parameter, std::move(tensor));
    };
    give("weight", "gamma", gamma, 1);
    give("bias", "beta", beta, 0);
    give("running_mean", "moving_mean", true, 0);
    give("running_var", "moving_variance", true, 0);
    return map;
  }

  Map rescaling(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
    const auto channels = static_cast<std::size_t>(map.channels);
    const std::vector<float> factor = keras_numbers(layer.config, "scale", 1, channels);
    const std::vector<float> shift = keras_numbers(layer.config, "offset", 0, channels);
    if (inputs[0] == model_.inputs[0] && readers_[inputs[0]] == 1) {
      const auto are = [](const std::vector<float>& values, double value) {
        return std::ranges::all_of(values,
                                   [&](float one) { return std::abs(one - value) <= 1e-7; });
      };
      input_said_by_ = "its layer " + layer.name;
      input_ = are(factor, 1 / 255.0) && are(shift, 0)    ? "unit"
               : are(factor, 2 / 255.0) && are(shift, -1) ? "symmetric"
                                                          : "none";
      if (input_ != "none") return map;
    }
    map.value = affine(layer.name, map.value, factor, shift);
    return map;
  }

  // (x - mean) / max(sqrt(variance), 1e-7)
  Map normalization(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
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

  // A model that normalises first is given pixels as they are.
  void expect_raw_pixels(const Inputs& inputs) {
    if (inputs[0] == model_.inputs[0]) input_ = "none";
  }

  static void require_last_axis(const KerasLayer& layer) {
    const auto axis = layer.config.find("axis");
    if (axis == layer.config.end() || axis->is_null()) return;
    const nlohmann::json& one = axis->is_array() && axis->size() == 1 ? (*axis)[0] : *axis;
    require(one.is_number_integer() && (one == -1 || one == 3),
            "its axis is {}, expected the channels, -1 or 3", axis->dump());
  }

  Map activation(const KerasLayer& layer, const Inputs& inputs) {
    const bool softmax = layer.type == "Softmax";
    const Map map = resolved(one_of(inputs));
    if (softmax && !map.is_flat) require_last_axis(layer);
    return apply_activation(layer, map,
                            layer.type == "Activation"
                                ? keras_activation(layer.config, model_.version)
                                : keras_activation_layer(layer.type, layer.config));
  }

  Map prelu(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
    const StoredTensor& alpha = weights_.get(layer, {"alpha"}, "alpha", 3);
    require(
        alpha.shape[0] == 1 && alpha.shape[1] == 1 &&
            (alpha.shape[2] == 1 || alpha.shape[2] == map.channels),
        "its slopes have the shape {}, expected one for each channel (shared_axes [1, 2]) or one "
        "for all",
        shape_text(alpha.shape));
    FloatTensor slopes = read_floats(alpha);
    slopes.shape = Shape{alpha.shape[2]};
    map.value =
        net_.add(layer.name, Activation{.kind = Kind::kPrelu, .per_channel = alpha.shape[2] > 1},
                 {map.value});
    net_.give("weight", std::move(slopes));
    return map;
  }

  Map pool(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
    const Window window = window_of(layer, map, "pool_size");
    // TensorFlow's mean is that of the pixels, not of the pads.
    const Op op = layer.type == "MaxPooling2D"
                      ? Op(MaxPool{.window = window})
                      : Op(AvgPool{.window = window, .count_include_pad = false});
    map.value = net_.add(layer.name, op, {map.value});
    return map;
  }

  Map global_pool(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
    const auto kind =
        layer.type.find("Max") == std::string::npos ? Reduce::Kind::kMean : Reduce::Kind::kMax;
    map.value =
        net_.add(layer.name, Reduce{.kind = kind, .axes = {1, 2}, .keepdims = true}, {map.value});
    map.size = {1, 1};
    map.is_vector = true;
    return map;
  }

  Map upsample(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
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

  Map borders(const KerasLayer& layer, const Inputs& inputs) {
    Map map = only(inputs);
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

  Map concatenate(const KerasLayer& layer, const Inputs& inputs) {
    require(!inputs.empty(), "it joins nothing");
    Map map = take(inputs[0]);
    require_last_axis(layer);
    std::vector<ValueId> values{map.value};
    for (std::size_t i = 1; i < inputs.size(); ++i) {
      const Map& other = take(inputs[i]);
      values.push_back(other.value);
      map.channels += other.channels;
      if (map.is_whole()) map.lost = other.lost;
    }
    // Of two maps that have one size it is what convolutions read in place.
    const bool is_skip = inputs.size() == 2 && map.is_whole() && !map.is_vector;
    if (is_skip) require_whole_maps();
    map.value =
        net_.add(layer.name,
                 is_skip ? Op(CropConcat{CropConcat::Align::kPadUp, true}) : Op(Concat{}), values);
    return map;
  }

  // Pools drop a last odd row, and Keras then refuses to join the maps: images of other sizes than
  // multiples are refused here.
  void require_whole_maps() {
    for (const std::size_t axis : {0u, 1u}) {
      for (const Map& map : maps_) require_multiple({}, axis, map.image_pixels[axis]);
    }
  }

  Map merge(const KerasLayer& layer, const Inputs& inputs) {
    static const std::map<std::string_view, Binary::Kind> kKinds{
        {"Add", Binary::Kind::kAdd},      {"Subtract", Binary::Kind::kSub},
        {"Multiply", Binary::Kind::kMul}, {"Maximum", Binary::Kind::kMax},
        {"Minimum", Binary::Kind::kMin},  {"Average", Binary::Kind::kAdd}};
    require(inputs.size() >= 2, "it reads {} values, expected 2 or more", inputs.size());
    Map map = take(inputs[0]);
    for (std::size_t i = 1; i < inputs.size(); ++i) {
      const Map& other = take(inputs[i]);
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

  // What leaves every number in its place: of a vector (1, 1, c); of a map its own size, or rows
  // joined, at the network's end.
  Map reshape(const KerasLayer& layer, const Inputs& inputs) {
    Map map = maps_[one_of(inputs)];
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

  Map pass(const KerasLayer&, const Inputs& inputs) { return only(inputs); }

  template <Map (KerasImageReader::*Function)(const KerasLayer&, const Inputs&)>
  static Map call(KerasImageReader& reader, const KerasLayer& layer, const Inputs& inputs) {
    return (reader.*Function)(layer, inputs);
  }
  static const std::map<std::string, Handler, std::less<>> kHandlers;

  const KerasModel& model_;
  const Contents& contents_;
  KerasWeights weights_;
  NetworkBuilder net_;
  std::vector<Map> maps_;  // of each call
  std::map<std::size_t, int> readers_;
  std::int64_t multiple_ = 1;
  std::string input_ = "unit", input_said_by_;
};

const std::map<std::string, KerasImageReader::Handler, std::less<>> KerasImageReader::kHandlers{
    {"InputLayer", &call<&KerasImageReader::input>},
    {"Conv2D", &call<&KerasImageReader::conv>},
    {"Convolution2D", &call<&KerasImageReader::conv>},
    {"DepthwiseConv2D", &call<&KerasImageReader::depthwise_conv>},
    {"SeparableConv2D", &call<&KerasImageReader::separable_conv>},
    {"Conv2DTranspose", &call<&KerasImageReader::conv_transpose>},
    {"Dense", &call<&KerasImageReader::dense>},
    {"BatchNormalization", &call<&KerasImageReader::batch_norm>},
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
    {"Identity", &call<&KerasImageReader::pass>},
};

}  // namespace

Imported read_keras_image(const KerasModel& model, const Contents& contents,
                          const ImportOptions& options) {
  return KerasImageReader(model, contents, options).read();
}

}  // namespace tessera
