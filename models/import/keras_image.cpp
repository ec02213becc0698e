#include "models/import/keras_image.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "engine/files/safetensors.h"
#include "models/import/keras_image_reader.h"
#include "models/import/word_networks.h"

namespace tessera {

Imported KerasImageReader::read() {
  require(
      model_.inputs.size() == 1,
      "{}: the model has {} inputs, images have 1; export it as ONNX (python -m tf2onnx.convert "
      "--keras {} --output model.onnx), which `tessera run` computes on arrays",
      contents_.file, model_.inputs.size(), contents_.file);
  choose_answer();
  refuse_unknown_layers();
  for (std::size_t i = 0; i < model_.calls.size(); ++i) {
    for (const std::size_t input : model_.calls[i].inputs) readers_[input] += needed_[i] ? 1 : 0;
  }
  for (std::size_t i = 0; i < model_.calls.size(); ++i) {
    const KerasLayer& layer = model_.layers[model_.calls[i].layer];
    if (!needed_[i]) {
      maps_.emplace_back();
      continue;
    }
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

void KerasImageReader::choose_answer() {
  std::vector<std::string> names;
  for (const std::size_t output : model_.outputs)
    names.push_back(model_.layers[model_.calls[output].layer].name);
  answer_ = model_.outputs.at(0);
  if (names.size() > 1) {
    const std::string chosen = net_.choose(
        "answer", names[0], names,
        fmt::format("the first of {} answers: {}", names.size(), fmt::join(names, ", ")));
    answer_ =
        model_.outputs[static_cast<std::size_t>(std::ranges::find(names, chosen) - names.begin())];
  }
  // Calls stand behind what they read.
  needed_.assign(model_.calls.size(), false);
  needed_[answer_] = needed_[model_.inputs[0]] = true;
  for (std::size_t i = model_.calls.size(); i-- > 0;) {
    if (!needed_[i]) continue;
    for (const std::size_t input : model_.calls[i].inputs) needed_[input] = true;
  }
}

void KerasImageReader::refuse_unknown_layers() const {
  std::vector<std::string> refused;
  std::set<std::size_t> seen;
  for (std::size_t i = 0; i < model_.calls.size(); ++i) {
    if (!needed_[i] || !seen.insert(model_.calls[i].layer).second) continue;
    const KerasLayer& layer = model_.layers[model_.calls[i].layer];
    if (!kHandlers.contains(layer.type)) {
      refused.push_back(fmt::format("{} ({}{})", in_quotes(layer.name), layer.type,
                                    layer.type == "Lambda" ? ", which is code" : ""));
    } else if (keras_text(layer.config, "data_format", "channels_last") == "channels_first") {
      refused.push_back(fmt::format("{} (channels first)", in_quotes(layer.name)));
    }
  }
  if (refused.empty()) return;
  const nlohmann::json& shape =
      keras_input_shape(model_.layers[model_.calls[model_.inputs[0]].layer].config);
  constexpr std::size_t kImageAxes = 4;
  if (shape.is_array() && shape.size() < kImageAxes)
    fail("{}: a network of sequences, not of images, and no HAN ({}). {}", contents_.file,
         fmt::join(refused, ", "), kWordNetworkAdvice);
  fail(
      "{}: layers that Tessera does not read: {}. Export the model as ONNX (python -m "
      "tf2onnx.convert --keras {} --output model.onnx) and import that",
      contents_.file, fmt::join(refused, ", "), contents_.file);
}

Imported KerasImageReader::finish() {
  KerasMap& end = maps_[answer_];
  require(!end.is_vector,
          "{}: the model gives one answer for the whole image, no map: Tessera "
          "segments images and classifies texts{}",
          contents_.file,
          model_.outputs.size() > 1 ? "; --set answer=NAME takes another answer" : "");
  NetworkEnd network{.logits = end.value, .output = end.pending};
  network.is_activated = !end.pending.empty();
  network.input = input_;
  network.input_said_by = input_said_by_;
  network.multiple = multiple_;
  const KerasMap& image = maps_[model_.inputs[0]];
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

KerasMap& KerasImageReader::resolved(std::size_t input) {
  KerasMap& map = maps_[input];
  if (!map.pending.empty()) {
    const Op op =
        map.pending == "softmax" ? Op(Softmax()) : Op(Activation{Activation::Kind::kSigmoid});
    map.value = net_.add(map.pending, op, {map.value});
    map.pending.clear();
  }
  return map;
}

KerasMap& KerasImageReader::take(std::size_t input) {
  require(!maps_[input].is_flat, "it reads rows joined by a Reshape; leave the Reshape out");
  return resolved(input);
}

std::size_t KerasImageReader::one_of(const Inputs& inputs) {
  require(inputs.size() == 1, "it reads {} values, expected 1", inputs.size());
  return inputs[0];
}

void KerasImageReader::require_multiple(const KerasMap& map, std::size_t axis,
                                        std::int64_t stride) {
  const std::int64_t pixels = stride * map.image_pixels[axis];
  const std::int64_t needed = pixels / std::gcd(pixels, map.map_pixels[axis]);
  multiple_ = std::lcm(multiple_, needed);
  constexpr std::int64_t kMostMultiple = 4096;
  require(multiple_ <= kMostMultiple, "only images of multiples of {} pixels would run, at most {}",
          multiple_, kMostMultiple);
}

void KerasImageReader::scale(KerasMap& map, std::size_t axis, std::int64_t larger,
                             std::int64_t smaller) {
  map.size[axis] = map.size[axis] * larger / smaller;
  map.map_pixels[axis] *= larger;
  map.image_pixels[axis] *= smaller;
  const std::int64_t common = std::gcd(map.map_pixels[axis], map.image_pixels[axis]);
  map.map_pixels[axis] /= common;
  map.image_pixels[axis] /= common;
  constexpr std::int64_t kMostPixels = 1 << 30;
  require(std::max(map.map_pixels[axis], map.image_pixels[axis]) <= (1 << 20) &&
              std::abs(map.size[axis]) <= kMostPixels,
          "its map is {} times another size than the image's, or larger than any memory", 1 << 20);
}

Window KerasImageReader::window_of(const KerasLayer& layer, KerasMap& map, const char* kernel_key) {
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

KerasMap KerasImageReader::activated(const KerasLayer& layer, KerasMap map) {
  return apply_activation(layer, map, keras_activation(layer.config, model_.version));
}

KerasMap KerasImageReader::apply_activation(const KerasLayer& layer, KerasMap map,
                                            const KerasActivation& activation) {
  if (activation.is_linear) return map;
  if (activation.is_softmax) {
    map.pending = "softmax";
  } else if (activation.op.kind == Activation::Kind::kSigmoid) {
    map.pending = "sigmoid";
  } else {
    map.value = net_.add(layer.name + "/" + std::string(kind_of(Op(activation.op))), activation.op,
                         {map.value});
  }
  return map;
}

void KerasImageReader::give_bias(const KerasLayer& layer, const std::vector<std::string>& order,
                                 bool has_bias) {
  if (has_bias) net_.give("bias", read_floats(weights_.get(layer, order, "bias", 1)));
}

ValueId KerasImageReader::affine(const std::string& name, ValueId x, std::vector<float> factor,
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

std::int64_t KerasImageReader::channels_of(const KerasMap& map) {
  require(map.channels >= 1 && map.channels <= (1 << 20), "it makes {} channels, expected 1 to {}",
          map.channels, 1 << 20);
  return map.channels;
}

Imported read_keras_image(const KerasModel& model, const Contents& contents,
                          const ImportOptions& options) {
  return KerasImageReader(model, contents, options).read();
}

}  // namespace tessera
