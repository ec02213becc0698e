#include "models/import/keras_han.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/han_words.h"
#include "models/import/keras_settings.h"
#include "models/import/word_networks.h"

namespace tessera {
namespace {

// A recurrent layer's settings.
struct Recurrence {
  BiRnn::Cell cell = BiRnn::Cell::kLstm;
  BiRnn::Gate gate = BiRnn::Gate::kSigmoid;
  bool reset_after = true;
  int units = 0;
  bool operator==(const Recurrence&) const = default;
};

// One of the two levels, as layers of the file.
struct KerasLevel {
  std::vector<KerasLayer> layers;  // in the order in which they run, dropouts left out
  std::int64_t length = 0;         // words of a sentence, sentences of a document
};

std::string type_inside(const KerasLayer& layer) {
  return keras_text(layer.config.value("layer", nlohmann::json::object()), "class_name", "");
}

// "Bidirectional LSTM"
std::string shown_type(const KerasLayer& layer) {
  const std::string inside = type_inside(layer);
  return inside.empty() ? layer.type : layer.type + " " + inside;
}

bool is_dropout(const std::string& type) {
  return type.find("Dropout") != std::string::npos || type == "GaussianNoise" || type == "Identity";
}

class KerasHanReader {
 public:
  KerasHanReader(const KerasModel& model, const Contents& contents, const ImportOptions& options)
      : model_(model), contents_(contents), options_(options), weights_(contents) {}

  Imported read() {
    refuse_one_level();
    KerasLayer embedding;
    try {
      embedding = read_network();
    } catch (const Error& error) {
      fail("a network of words, and no HAN that Tessera has: {}. {}", error.what(),
           kWordNetworkAdvice);
    }
    give_words(imported_, config_, weights_.get(embedding, {"embeddings"}, "embeddings", 2),
               options_);
    return finish();
  }

 private:
  // Everything but the words. Returns the layer that looks them up.
  KerasLayer read_network() {
    // The outer chain begins with the encoder, and ends with the classifier.
    KerasLevel sentences = chain(model_, 2);
    require(sentences.layers.size() >= 4 && sentences.layers[0].type == "TimeDistributed",
            "expected a TimeDistributed encoder, a recurrent layer, attention and a Dense layer");
    const KerasLayer outer = sentences.layers[0];
    sentences.layers.erase(sentences.layers.begin());
    const KerasModel encoder =
        read_keras_model(outer.config.at("layer"), outer, outer.path + "/layer", model_.version);
    KerasLevel words = chain(encoder, 1);
    require(!words.layers.empty() && words.layers[0].type == "Embedding",
            "the encoder {} does not begin with an Embedding", in_quotes(outer.name));
    const KerasLayer embedding = words.layers[0];
    words.layers.erase(words.layers.begin());
    std::optional<KerasLayer> softmax;
    if (sentences.layers.back().type == "Activation" || sentences.layers.back().type == "Softmax") {
      softmax = sentences.layers.back();
      sentences.layers.pop_back();
    }
    const KerasLayer output = sentences.layers.back();
    require(output.type == "Dense", "the last layer, {}, is {}, expected Dense",
            in_quotes(output.name), output.type);
    sentences.layers.pop_back();

    config_.masked = keras_flag(embedding.config, "mask_zero", false);
    config_.missing_sentences = config_.masked;
    config_.max_words = static_cast<int>(words.length);
    config_.max_sentences = static_cast<int>(sentences.length);
    read_level("word", words);
    read_level("sentence", sentences);
    read_output(output, softmax);
    return embedding;
  }

  // Classifiers of a document as one line of words are no HANs, whatever else they have.
  void refuse_one_level() const {
    if (std::ranges::find(model_.layers, "TimeDistributed", &KerasLayer::type) !=
        model_.layers.end())
      return;
    constexpr std::size_t kShown = 12;
    std::vector<std::string> types;
    for (const KerasCall& call : model_.calls) {
      const KerasLayer& layer = model_.layers[call.layer];
      if (types.size() < kShown && layer.type != "InputLayer" && layer.type != "NotEqual" &&
          !is_dropout(layer.type))
        types.push_back(shown_type(layer));
    }
    fail("a network of words in one level ({}), and no HAN. {}", fmt::join(types, ", "),
         kWordNetworkAdvice);
  }

  // The layers of a model that run one after another.
  KerasLevel chain(const KerasModel& model, std::size_t axes) {
    require(model.inputs.size() == 1 && model.outputs.size() == 1,
            "a model of {} inputs and {} outputs, expected one of each", model.inputs.size(),
            model.outputs.size());
    KerasLevel level;
    std::size_t last = 0;
    for (std::size_t i = 0; i < model.calls.size(); ++i) {
      const KerasCall& call = model.calls[i];
      const KerasLayer& layer = model.layers[call.layer];
      if (layer.type == "NotEqual") continue;  // makes an Embedding's mask (Keras 3)
      if (layer.type == "InputLayer") {
        const nlohmann::json& shape = keras_input_shape(layer.config);
        require(shape.is_array() && shape.size() == axes + 1,
                "the input {} has {} axes, expected (documents, sentences, words)",
                in_quotes(layer.name), shape.is_array() ? shape.size() : 0);
        const nlohmann::json& length = shape[1];
        constexpr int kDefaultSentences = 15, kDefaultWords = 100;
        if (!length.is_number_integer()) {
          level.length = axes == 1 ? kDefaultWords : kDefaultSentences;
          imported_.notes.push_back(
              fmt::format("the file does not say how many {} there are; {} are "
                          "read",
                          axes == 1 ? "words" : "sentences", level.length));
        } else {
          level.length = length.get<std::int64_t>();
        }
        constexpr std::int64_t kMostLength = 1 << 20;
        require(level.length >= 1 && level.length <= kMostLength, "the input {} has {} entries",
                in_quotes(layer.name), level.length);
        last = i;
        continue;
      }
      require(call.inputs == std::vector{last},
              "the layer {} ({}) does not read the layer before it alone; networks of words run in "
              "one line",
              in_quotes(layer.name), layer.type);
      last = i;
      if (!is_dropout(layer.type)) level.layers.push_back(layer);
    }
    return level;
  }

  void read_level(const std::string& name, const KerasLevel& level) {
    const auto shown = [](const KerasLayer& layer) {
      return fmt::format("{} ({})", in_quotes(layer.name), layer.type);
    };
    std::vector<KerasLayer> layers = level.layers;
    require(layers.size() == 2 || layers.size() == 3,
            "the {} level has {} layers, expected a Bidirectional one, perhaps a Dense one, and "
            "attention",
            name, layers.size());
    require(layers[0].type == "Bidirectional",
            "the layer {} is none that Tessera's HANs have here, a Bidirectional LSTM or GRU",
            shown(layers[0]));
    std::int64_t features = read_recurrence(name, layers[0]);
    const bool has_dense = layers.size() == 3;
    require(name == "word" || has_dense == (config_.dense > 0),
            "one level has a Dense layer before its attention and the other has none");
    if (has_dense) features = read_dense(name, layers[1], shown(layers[1]));
    read_attention(name, layers.back(), features, shown(layers.back()));
  }

  // ---- recurrent layers

  std::int64_t read_recurrence(const std::string& name, const KerasLayer& layer) {
    const std::string type = type_inside(layer);
    const bool cudnn = type.starts_with("CuDNN");
    require(type == "LSTM" || type == "GRU" || type == "CuDNNLSTM" || type == "CuDNNGRU",
            "the layer {} is a Bidirectional {}, expected LSTM or GRU", in_quotes(layer.name),
            type);
    require(keras_text(layer.config, "merge_mode", "concat") == "concat",
            "the layer {} joins its directions by {}, expected \"concat\"", in_quotes(layer.name),
            in_quotes(keras_text(layer.config, "merge_mode", "concat")));
    const nlohmann::json& config = layer.config.at("layer").at("config");
    require(keras_flag(config, "return_sequences", false),
            "the layer {} gives its last state alone (return_sequences is false)",
            in_quotes(layer.name));
    Recurrence recurrence;
    recurrence.cell = type.ends_with("GRU") ? BiRnn::Cell::kGru : BiRnn::Cell::kLstm;
    if (!cudnn) recurrence.gate = gate_of(layer, config);
    const std::string backward =
        layer.config.contains("backward_layer")
            ? keras_text(layer.config.at("backward_layer"), "class_name", "")
            : type;
    require(backward == type, "the directions of {} are a {} and a {}", in_quotes(layer.name), type,
            backward);
    std::int64_t width = 0;
    for (const auto& [part, suffix] : {std::pair{"forward", ""}, {"backward", "_reverse"}})
      width = read_direction(name, layer, part, suffix, cudnn, recurrence);
    const Recurrence known{config_.cell, config_.gate, config_.reset_after, config_.units};
    require(name == "word" || recurrence == known,
            "the recurrent layers of words and of sentences differ, in cell, units or activations");
    config_.cell = recurrence.cell;
    config_.gate = recurrence.gate;
    config_.reset_after = recurrence.reset_after;
    config_.units = recurrence.units;
    return width;
  }

  BiRnn::Gate gate_of(const KerasLayer& layer, const nlohmann::json& config) const {
    const std::string gates = keras_text(config, "recurrent_activation", "sigmoid");
    const std::string activation = keras_text(config, "activation", "tanh");
    require(activation == "tanh", "the layer {} has the activation {}, expected tanh",
            in_quotes(layer.name), in_quotes(activation));
    require(gates == "sigmoid" || (gates == "hard_sigmoid" && model_.version < 3),
            "the layer {} has the recurrent activation {}{}, expected sigmoid or Keras 2's "
            "hard_sigmoid",
            in_quotes(layer.name), in_quotes(gates), model_.version >= 3 ? " of Keras 3" : "");
    return gates == "sigmoid" ? BiRnn::Gate::kSigmoid : BiRnn::Gate::kHardSigmoid;
  }

  // kernel (features, gates units), recurrent_kernel (units, gates units), bias.
  std::int64_t read_direction(const std::string& name, const KerasLayer& layer,
                              const std::string& part, const std::string& suffix, bool cudnn,
                              Recurrence& recurrence) {
    KerasLayer direction = layer;
    direction.path += "/" + part + "_layer/cell";
    std::array<const StoredTensor*, 3> found{};
    constexpr std::array<std::string_view, 3> kNames{"kernel", "recurrent_kernel", "bias"};
    for (const StoredTensor* weight : weights_.all(is_newer() ? direction : layer)) {
      const std::string_view path = weight->name;
      const bool is_part = is_newer() || path.find("/" + part + "_") != std::string_view::npos;
      const std::string_view last = path.substr(path.rfind('/') + 1);
      for (std::size_t i = 0; i < kNames.size() && is_part; ++i) {
        const bool is_it =
            is_newer() ? last == std::to_string(i) : last.substr(0, last.find(':')) == kNames[i];
        if (is_it) found[i] = weight;
      }
    }
    const auto shape = [&](std::size_t i) { return found[i]->shape; };
    require(found[0] != nullptr && found[1] != nullptr && shape(0).size() == 2 &&
                shape(1).size() == 2 && shape(1)[0] > 0 && shape(1)[0] <= (1 << 14),
            "the layer {} has no kernel and recurrent_kernel of its {} direction",
            in_quotes(layer.name), part);
    const std::int64_t units = shape(1)[0], features = shape(0)[0];
    const std::int64_t gates = recurrence.cell == BiRnn::Cell::kLstm ? 4 : 3;
    require(shape(0)[1] == gates * units && shape(1)[1] == gates * units,
            "the layer {} has kernels {} and {}, expected {} gates of {} units",
            in_quotes(layer.name), shape_text(shape(0)), shape_text(shape(1)), gates, units);
    recurrence.units = static_cast<int>(units);

    // Of the bias, what the inputs and what the state bring: (gates units), (2, gates units), or
    // CuDNN's flat (2 gates units).
    const std::int64_t width = gates * units;
    FloatTensor input_bias{Shape{width}}, state_bias{Shape{width}};
    bool both = false;
    if (found[2] != nullptr) {
      const FloatTensor bias = read_floats(*found[2]);
      const auto size = static_cast<std::int64_t>(bias.values.size());
      both = size == 2 * width;
      require(size == width || both, "the bias of {} has the shape {}, expected ({}) or (2, {})",
              in_quotes(layer.name), shape_text(found[2]->shape), width, width);
      std::copy_n(bias.values.begin(), width, input_bias.values.begin());
      if (both) std::copy_n(bias.values.begin() + width, width, state_bias.values.begin());
    }
    if (recurrence.cell == BiRnn::Cell::kGru) recurrence.reset_after = cudnn || both;

    const FloatTensor kernel = read_floats(*found[0]), state = read_floats(*found[1]);
    const std::string base = name + "/rnn/";
    imported_.add(base + "weight_ih" + suffix, gate_matrix(kernel, features, units, gates, cudnn));
    imported_.add(base + "weight_hh" + suffix, gate_matrix(state, units, units, gates, cudnn));
    imported_.add(base + "bias_ih" + suffix, gate_vector(input_bias, units, gates));
    imported_.add(base + "bias_hh" + suffix, gate_vector(state_bias, units, gates));
    return 2 * units;
  }

  // Keras' gates are i, f, c, o and z, r, h; ours i, f, g, o and r, z, n.
  static std::int64_t gate_of_ours(std::int64_t gate, std::int64_t gates) {
    return gates == 3 && gate < 2 ? 1 - gate : gate;
  }

  // (inputs, gates units) -> (gates units, inputs). CuDNN's blocks are ours as they are stored.
  static FloatTensor gate_matrix(const FloatTensor& from, std::int64_t inputs, std::int64_t units,
                                 std::int64_t gates, bool cudnn) {
    FloatTensor to{Shape{gates * units, inputs}};
    for (std::int64_t gate = 0; gate < gates; ++gate) {
      const std::int64_t source = gate_of_ours(gate, gates) * units;
      for (std::int64_t unit = 0; unit < units; ++unit) {
        for (std::int64_t i = 0; i < inputs; ++i) {
          // Row and column in the gate's block (inputs, units).
          const std::int64_t flat = unit * inputs + i;
          const std::int64_t row = cudnn ? flat / units : i;
          const std::int64_t column = cudnn ? flat % units : unit;
          to.values[static_cast<std::size_t>((gate * units + unit) * inputs + i)] =
              from.values[static_cast<std::size_t>(row * gates * units + source + column)];
        }
      }
    }
    return to;
  }

  static FloatTensor gate_vector(const FloatTensor& from, std::int64_t units, std::int64_t gates) {
    FloatTensor to{Shape{gates * units}};
    for (std::int64_t gate = 0; gate < gates; ++gate)
      std::copy_n(from.values.begin() + gate_of_ours(gate, gates) * units, units,
                  to.values.begin() + gate * units);
    return to;
  }

  // ---- layers of one step

  std::int64_t read_dense(const std::string& name, const KerasLayer& layer,
                          const std::string& shown) {
    const bool wrapped = layer.type == "TimeDistributed";
    require((wrapped && type_inside(layer) == "Dense") || layer.type == "Dense",
            "the layer {} is none that Tessera's HANs have before their attention, a Dense one",
            shown);
    KerasLayer dense = layer;
    if (wrapped) {
      dense.config = layer.config.at("layer").at("config");
      dense.path += "/layer";
    }
    const std::string activation = keras_text(dense.config, "activation", "linear");
    require(activation == "linear", "the layer {} has the activation {}, expected none", shown,
            in_quotes(activation));
    const int units = give_linear(name + "/dense", dense, 1);
    require(name == "word" || config_.dense == units,
            "the Dense layers of words and of sentences have {} and {} units", config_.dense,
            units);
    config_.dense = units;
    return units;
  }

  // Returns the units. `least`: fewer are an error.
  int give_linear(const std::string& name, const KerasLayer& layer, std::int64_t least) {
    const StoredTensor& kernel = weights_.get(layer, {"kernel", "bias"}, "kernel", 2);
    const std::int64_t units = kernel.shape[1];
    require(units >= least && units <= (1 << 14), "the layer {} has {} units",
            in_quotes(layer.name), units);
    FloatTensor bias{Shape{units}};
    if (keras_flag(layer.config, "use_bias", true))
      bias = read_floats(weights_.get(layer, {"kernel", "bias"}, "bias", 1));
    imported_.add(name + "/weight", read_floats(kernel, std::array{1, 0}));
    imported_.add(name + "/bias", std::move(bias));
    return static_cast<int>(units);
  }

  // By shapes: W (D, A), b (A), u (A) or (A, 1); or W and u alone, with a plain softmax.
  void read_attention(const std::string& name, const KerasLayer& layer, std::int64_t features,
                      const std::string& shown) {
    const std::vector<const StoredTensor*> weights = weights_.all(layer);
    std::string shapes;
    for (const StoredTensor* weight : weights)
      shapes += fmt::format(" {}", shape_text(weight->shape));
    const auto elements = [&](std::size_t i) { return weights[i]->elements(); };
    const bool has_bias = weights.size() == 3;
    bool fits = (has_bias || weights.size() == 2) && weights[0]->shape.size() == 2 &&
                weights[0]->shape[0] == features;
    const std::int64_t units = fits ? weights[0]->shape[1] : 0;
    fits = fits && units >= 1 && units <= (1 << 14);
    for (std::size_t i = 1; i < weights.size() && fits; ++i)
      fits = elements(i) == units && weights[i]->is_float();
    require(
        fits,
        "the layer {} has weights of the shapes{}, expected attention with W ({}, A), b (A) and "
        "u (A): its formula is another one, which Tessera's HANs do not have",
        shown, shapes.empty() ? " of none" : shapes, features);
    require(name == "word" || config_.attention == units,
            "the attention of words and of sentences has {} and {} units", config_.attention,
            units);
    config_.attention = static_cast<int>(units);
    constexpr double kKerasEpsilon = 1e-7;
    const double eps = has_bias ? kKerasEpsilon : 0;
    require(name == "word" || config_.eps == eps, "the two attentions are of different formulas");
    config_.eps = eps;
    const auto vector = [&](const StoredTensor& tensor) {
      FloatTensor values = read_floats(tensor);
      values.shape = Shape{units};
      return values;
    };
    imported_.add(name + "/attention/weight", read_floats(*weights[0], std::array{1, 0}));
    imported_.add(name + "/attention/bias",
                  has_bias ? vector(*weights[1]) : FloatTensor{Shape{units}});
    imported_.add(name + "/attention/context", vector(*weights.back()));
  }

  void read_output(const KerasLayer& layer, const std::optional<KerasLayer>& behind) {
    std::string activation = keras_text(layer.config, "activation", "linear");
    if (behind)
      activation =
          behind->type == "Softmax" ? "softmax" : keras_text(behind->config, "activation", "");
    const int units = give_linear("output", layer, 1);
    require(
        activation == "softmax" || activation == "linear" ||
            (activation == "sigmoid" && units == 1),
        "the last layer {} has {} units and the activation {}; Tessera's HANs choose one class, "
        "by softmax",
        in_quotes(layer.name), units, in_quotes(activation));
    if (activation == "linear")
      imported_.notes.push_back(
          "the last layer has no activation; Tessera gives the softmax of it");
    if (units > 1) {
      config_.classes = units;
      return;
    }
    // sigmoid(z) is the second of softmax(0, z).
    config_.classes = 2;
    for (const char* name : {"output/weight", "output/bias"}) {
      const TensorView one = imported_.tensors.at(name);
      const std::int64_t width = one.shape().elements();
      FloatTensor two{std::string_view(name) == "output/bias" ? Shape{2} : Shape{2, width}};
      std::copy_n(one.as<float>(), width, two.values.begin() + width);
      imported_.add(name, std::move(two));
    }
  }

  bool is_newer() const { return !contents_.said.at("keras").contains("layers"); }

  Imported finish() {
    imported_.family = "Keras HAN";
    imported_.config.han = config_;
    for (const Rgb& colour : default_colours(config_.classes))
      imported_.config.classes.push_back(
          {fmt::format("class {}", imported_.config.classes.size()), colour});
    imported_.unused = weights_.unused();
    imported_.owners.insert(imported_.owners.end(), contents_.owners.begin(),
                            contents_.owners.end());
    return std::move(imported_);
  }

  const KerasModel& model_;
  const Contents& contents_;
  const ImportOptions& options_;
  KerasWeights weights_;
  HanConfig config_;
  Imported imported_;
};

}  // namespace

bool is_keras_han(const KerasModel& model) {
  return std::ranges::any_of(model.layers, [](const KerasLayer& layer) {
    return layer.type == "TimeDistributed" || layer.type == "Embedding";
  });
}

Imported read_keras_han(const KerasModel& model, const Contents& contents,
                        const ImportOptions& options) {
  try {
    return KerasHanReader(model, contents, options).read();
  } catch (const nlohmann::json::exception& error) {
    fail("{}: {}", contents.file, error.what());
  } catch (const Error& error) {
    fail("{}: {}", contents.file, error.what());
  }
}

}  // namespace tessera
