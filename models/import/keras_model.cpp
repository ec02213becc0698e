#include "models/import/keras_model.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using Json = nlohmann::json;

constexpr std::size_t kMostLayers = 4096;
constexpr std::size_t kMostCalls = 1 << 14;
constexpr int kMostNested = 16;            // models in models
constexpr std::size_t kMostValues = 4096;  // that a layer reads, or a model gives
constexpr std::size_t kMostSettings = std::size_t{64} << 20;  // bytes, of each application again

// Members of descriptions, which may lack anything.
const Json& member(const Json& object, const char* key) {
  static const Json none;
  const auto found = object.is_object() ? object.find(key) : object.end();
  return object.is_object() && found != object.end() ? *found : none;
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : std::string();
}

// What a copy of a value costs, in bytes.
std::size_t price_of(const Json& value) {
  std::size_t price = sizeof value;
  if (value.is_string()) price += value.get_ref<const std::string&>().size();
  if (value.is_structured())
    for (const auto& item : value.items())
      price += price_of(item.value()) + (value.is_object() ? item.key().size() : 0);
  return price;
}

void append(std::vector<std::size_t>& values, std::size_t more) {
  require(values.size() < kMostValues, "a layer reads, or a model gives, more than {} values",
          kMostValues);
  values.push_back(more);
}

bool is_model(const std::string& type) {
  return type == "Functional" || type == "Model" || type == "Sequential";
}

// ("conv2d", node, tensor): what a layer's application gave.
struct KerasHistory {
  std::string layer;
  std::int64_t node = 0;
  std::size_t tensor = 0;  // of its results, of which a model may give several
};

std::optional<KerasHistory> history_of(const Json& list) {
  if (!list.is_array() || list.size() < 3 || !list[0].is_string() || !list[1].is_number_integer() ||
      !list[2].is_number_integer())
    return std::nullopt;
  const auto tensor = list[2].get<std::int64_t>();
  require(tensor >= 0 && std::cmp_less(tensor, kMostValues), "a layer reads result {} of {}",
          tensor, in_quotes(list[0].get<std::string>()));
  return KerasHistory{list[0].get<std::string>(), list[1].get<std::int64_t>(),
                      static_cast<std::size_t>(tensor)};
}

// All that a node of inbound_nodes reads, in order: lists [name, node, tensor, ..] however they are
// wrapped, or __keras_tensor__. Masks, which Keras 3 hands from layer to layer, are left out: the
// layer that makes them says that it does.
void collect_histories(const Json& value, std::vector<KerasHistory>& into) {
  if (const std::optional<KerasHistory> history = history_of(value)) {
    into.push_back(*history);
    if (value.size() > 3) collect_histories(value[3], into);  // tensors among the keyword arguments
    return;
  }
  if (value.is_object() && text_of(member(value, "class_name")) == "__keras_tensor__") {
    const std::optional<KerasHistory> history =
        history_of(member(member(value, "config"), "keras_history"));
    require(history.has_value(), "a __keras_tensor__ has no keras_history");
    into.push_back(*history);
    return;
  }
  if (!value.is_structured()) return;
  for (const auto& item : value.items()) {
    if (!value.is_object() || item.key() != "mask") collect_histories(item.value(), into);
  }
}

// inbound_nodes as one list of histories for each application.
std::vector<std::vector<KerasHistory>> nodes_of(const Json& layer) {
  std::vector<std::vector<KerasHistory>> nodes;
  const Json& inbound = member(layer, "inbound_nodes");
  if (!inbound.is_array()) return nodes;
  for (const Json& node : inbound) collect_histories(node, nodes.emplace_back());
  return nodes;
}

class Flattener {
 public:
  explicit Flattener(KerasModel& model) : model_(model) {}

  // The calls of the model `description`, applied to `given` (none: its own inputs), and which of
  // them are its results. `scope` is a layer that stands for the model.
  std::vector<std::size_t> model(const Json& description, const KerasLayer& scope,
                                 const std::vector<std::size_t>* given, int depth) {
    require(depth <= kMostNested, "models nest deeper than {}", kMostNested);
    const Json& config = member(description, "config");
    // A Sequential of Keras 2.2 has its list of layers alone.
    const Json& list = config.is_array() ? config : member(config, "layers");
    require(list.is_array() && !list.empty(), "the model {} has no layers", in_quotes(scope.name));
    require(list.size() <= kMostLayers, "the model {} has {} layers, at most {} are read",
            in_quotes(scope.name), list.size(), kMostLayers);
    std::vector<std::size_t> layers = add_layers(list, scope);
    if (text_of(member(description, "class_name")) == "Sequential")
      return sequential(list, layers, given, depth);
    return functional(config, list, layers, given, depth);
  }

 private:
  std::vector<std::size_t> add_layers(const Json& list, const KerasLayer& scope) {
    std::vector<std::size_t> places;
    std::map<std::string, int> counts;
    for (const Json& one : list) {
      KerasLayer layer;
      layer.type = text_of(member(one, "class_name"));
      const Json& config = member(one, "config");
      std::string name = text_of(member(config, "name"));
      if (!is_model(layer.type)) {  // whose layers are taken by themselves
        settings_ += price_of(config);
        require(settings_ <= kMostSettings,
                "the layers of models that are applied many times are described by more than {} MB",
                kMostSettings >> 20);
        layer.config = config;
      }
      if (name.empty()) name = text_of(member(one, "name"));
      require(!layer.type.empty() && !name.empty(), "a layer of {} has no class or no name",
              in_quotes(scope.name));
      const std::string key = snake_case(layer.type);
      const int count = counts[key]++;
      layer.path = fmt::format("{}{}{}{}", scope.path.empty() ? "" : scope.path + "/", "layers/",
                               key, count == 0 ? "" : fmt::format("_{}", count));
      layer.group = scope.group.empty() ? name : scope.group;
      layer.name = scope.name.empty() ? name : scope.name + "/" + name;
      places.push_back(model_.layers.size());
      model_.layers.push_back(std::move(layer));
    }
    require(model_.layers.size() <= kMostLayers, "the model has more than {} layers", kMostLayers);
    return places;
  }

  // What a layer makes of `inputs`.
  std::vector<std::size_t> apply(std::size_t layer, const Json& description,
                                 const std::vector<std::size_t>& inputs, int depth) {
    const KerasLayer scope = model_.layers[layer];
    if (is_model(scope.type)) return model(description, scope, &inputs, depth + 1);
    require(model_.calls.size() < kMostCalls, "the model applies layers more than {} times",
            kMostCalls);
    model_.calls.push_back({layer, inputs});
    return {model_.calls.size() - 1};
  }

  std::vector<std::size_t> input(std::size_t layer) {
    const std::vector<std::size_t> call = apply(layer, {}, {}, 0);
    model_.inputs.push_back(call[0]);
    return call;
  }

  std::vector<std::size_t> sequential(const Json& list, const std::vector<std::size_t>& layers,
                                      const std::vector<std::size_t>* given, int depth) {
    std::vector<std::size_t> last;
    if (given != nullptr) last = *given;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const bool is_input = model_.layers[layers[i]].type == "InputLayer";
      if (is_input && i == 0 && given != nullptr) continue;
      if (is_input) {
        last = input(layers[i]);
        continue;
      }
      // Without an InputLayer the first layer has its shape.
      if (last.empty()) {
        KerasLayer first = model_.layers[layers[i]];
        first.type = "InputLayer";
        first.name += "/input";
        model_.layers.push_back(std::move(first));
        last = input(model_.layers.size() - 1);
      }
      last = apply(layers[i], list[i], last, depth);
    }
    return last;
  }

  static std::vector<KerasHistory> ends_of(const Json& config, const char* key) {
    std::vector<KerasHistory> ends;
    collect_histories(member(config, key), ends);
    require(!ends.empty(), "the model's description has no {}", key);
    return ends;
  }

  std::vector<std::size_t> functional(const Json& config, const Json& list,
                                      const std::vector<std::size_t>& layers,
                                      const std::vector<std::size_t>* given, int depth) {
    struct Pending {
      std::size_t layer, node;
      std::vector<KerasHistory> inputs;
    };
    using Key = std::pair<std::string, std::size_t>;
    std::map<std::string, std::size_t> places;
    std::vector<std::size_t> counts(layers.size());
    std::map<Key, std::vector<std::size_t>> made;
    std::vector<Pending> pending;
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::string name = model_.layers[layers[i]].own_name();
      require(places.emplace(name, i).second, "two layers are called {}", in_quotes(name));
      std::vector<std::vector<KerasHistory>> nodes = nodes_of(list[i]);
      const bool is_input = model_.layers[layers[i]].type == "InputLayer";
      counts[i] = is_input ? 1 : nodes.size();
      for (std::size_t node = 0; node < nodes.size() && !is_input; ++node)
        pending.push_back({i, node, std::move(nodes[node])});
    }
    const std::vector<KerasHistory> inputs = ends_of(config, "input_layers");
    require(given == nullptr || given->size() == inputs.size(),
            "a model of {} inputs is given {} values", inputs.size(),
            given == nullptr ? 0 : given->size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const auto place = places.find(inputs[i].layer);
      require(place != places.end(), "the input {} is no layer", in_quotes(inputs[i].layer));
      made[{inputs[i].layer, 0}] =
          given != nullptr ? std::vector{(*given)[i]} : input(layers[place->second]);
    }
    const auto find = [&](const KerasHistory& history) -> std::optional<std::size_t> {
      const auto place = places.find(history.layer);
      require(place != places.end(), "a layer reads {}, which does not exist",
              in_quotes(history.layer));
      // A model is applied once when it is made, which tf.keras counts.
      const std::size_t count = counts[place->second];
      std::size_t node = static_cast<std::size_t>(std::max<std::int64_t>(history.node, 0));
      if (count == 1) node = 0;
      const bool counts_itself = is_model(model_.layers[layers[place->second]].type);
      if (counts_itself && node > 0 && model_.version < 3 && count > 1) --node;
      require(node < count, "a layer reads application {} of {}, which does not exist",
              history.node, in_quotes(history.layer));
      const auto found = made.find({history.layer, node});
      if (found == made.end()) return std::nullopt;
      require(history.tensor < found->second.size(),
              "a layer reads result {} of {}, which has {}; export the model as ONNX",
              history.tensor, in_quotes(history.layer), found->second.size());
      return found->second[history.tensor];
    };
    // Descriptions list layers almost in the order in which they run.
    while (!pending.empty()) {
      std::vector<Pending> later;
      for (Pending& one : pending) {
        std::vector<std::size_t> from;
        const bool ready = std::ranges::all_of(one.inputs, [&](const KerasHistory& history) {
          const std::optional<std::size_t> value = find(history);
          if (value) append(from, *value);
          return value.has_value();
        });
        if (!ready) {
          later.push_back(std::move(one));
          continue;
        }
        const std::size_t layer = layers[one.layer];
        made[{model_.layers[layer].own_name(), one.node}] =
            apply(layer, list[one.layer], from, depth);
      }
      require(later.size() < pending.size(),
              "the layers read one another in a cycle, {} among them",
              in_quotes(model_.layers[layers[pending[0].layer]].name));
      pending = std::move(later);
    }
    std::vector<std::size_t> results;
    for (const KerasHistory& history : ends_of(config, "output_layers")) {
      const std::optional<std::size_t> value = find(history);
      require(value.has_value(), "the output {} is never made", in_quotes(history.layer));
      append(results, *value);
    }
    return results;
  }

  KerasModel& model_;
  std::size_t settings_ = 0;
};

int first_number(const Json& version) {
  const std::string text = text_of(version);
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) != 0 ? text[0] - '0'
                                                                                 : 2;
}

KerasModel flatten(const Json& config, const KerasLayer& scope, int version) {
  require(is_keras_model(config),
          "the description is that of {}, expected a Functional or Sequential model; rebuild it as "
          "one, or export it as ONNX (tf2onnx)",
          in_quotes(text_of(member(config, "class_name"))));
  KerasModel model;
  model.version = version;
  model.outputs = Flattener(model).model(config, scope, nullptr, 0);
  return model;
}

// The last part of "model/conv2d/kernel:0" without its number: "kernel".
std::string_view weight_of(std::string_view path) {
  path = path.substr(path.rfind('/') + 1);
  return path.substr(0, path.find(':'));
}

// Whether a part of the path is `name`.
bool has_part(std::string_view path, std::string_view name) {
  for (std::size_t at = path.find(name); at != std::string_view::npos;
       at = path.find(name, at + 1)) {
    const bool begins = at == 0 || path[at - 1] == '/';
    const std::size_t end = at + name.size();
    if (begins && (end == path.size() || path[end] == '/')) return true;
  }
  return false;
}

}  // namespace

std::string snake_case(std::string_view type) {
  const auto is = [&](std::size_t i, int (*what)(int)) {
    return i < type.size() && what(static_cast<unsigned char>(type[i])) != 0;
  };
  std::string name;
  for (std::size_t i = 0; i < type.size(); ++i) {
    // Keras' two patterns: (.)([A-Z][a-z]+) and ([a-z])([A-Z]).
    const bool starts_word =
        i > 0 && is(i, std::isupper) && (is(i + 1, std::islower) || is(i - 1, std::islower));
    if (starts_word && !name.ends_with('_')) name += '_';
    name += static_cast<char>(std::tolower(static_cast<unsigned char>(type[i])));
  }
  return name;
}

bool is_keras_model(const nlohmann::json& config) {
  return is_model(text_of(member(config, "class_name")));
}

KerasModel read_keras_model(const Contents& contents) {
  try {
    return flatten(contents.said.at("config"), {},
                   first_number(member(member(contents.said, "keras"), "version")));
  } catch (const Error& error) {
    fail("{}: {}", contents.file, error.what());
  }
}

KerasModel read_keras_model(const nlohmann::json& config, const KerasLayer& outer,
                            const std::string& path, int version) {
  KerasLayer scope = outer;
  scope.path = path;
  return flatten(config, scope, version);
}

KerasWeights::KerasWeights(const Contents& contents) : contents_(contents) {
  for (const StoredTensor& tensor : contents.tensors) by_name_.emplace(tensor.name, &tensor);
  const Json& keras = member(contents.said, "keras");
  newer_ = !keras.contains("layers");
  if (const Json& names = member(keras, "names"); names.is_object()) {
    for (const auto& name : names.items()) path_of_name_[text_of(name.value())] = name.key();
  }
}

const StoredTensor* KerasWeights::take(const std::string& name) {
  const auto found = by_name_.find(name);
  if (found == by_name_.end()) return nullptr;
  used_.insert(name);
  return found->second;
}

// Layers have their own names in Keras 3's files, which win over what counting gives.
std::string KerasWeights::newer_path(const KerasLayer& layer) const {
  const std::string base = layer.path.substr(0, layer.path.rfind('/') + 1);
  const Json& names = member(member(contents_.said, "keras"), "names");
  const auto counted = names.find(layer.path);
  if (counted == names.end() || text_of(*counted) == layer.own_name()) return layer.path;
  const auto named = path_of_name_.find(layer.own_name());
  return named != path_of_name_.end() && named->second.starts_with(base) ? named->second
                                                                         : layer.path;
}

std::vector<const StoredTensor*> KerasWeights::all(const KerasLayer& layer) {
  std::vector<const StoredTensor*> weights;
  if (newer_) {
    const std::string path = newer_path(layer);
    for (int i = 0;; ++i) {
      const StoredTensor* found = take(fmt::format("{}/vars/{}", path, i));
      if (found == nullptr) return weights;
      weights.push_back(found);
    }
  }
  const Json& names =
      member(member(member(contents_.said, "keras"), "layers"), layer.group.c_str());
  if (!names.is_array()) return weights;
  const bool nested = layer.name != layer.group;
  for (const Json& name : names) {
    const std::string path = text_of(name);
    constexpr std::string_view kWeights = "model_weights/";
    std::string_view own = path;
    if (own.starts_with(kWeights)) own.remove_prefix(kWeights.size());
    own.remove_prefix(std::min(own.size(), layer.group.size() + 1));
    const bool is_own = !nested || has_part(own, layer.own_name());
    if (!is_own) continue;
    if (const StoredTensor* found = take(path)) weights.push_back(found);
  }
  return weights;
}

const StoredTensor* KerasWeights::find(const KerasLayer& layer,
                                       const std::vector<std::string>& order,
                                       std::string_view name) {
  if (newer_) {
    const auto place = std::ranges::find(order, name) - order.begin();
    return take(fmt::format("{}/vars/{}", newer_path(layer), place));
  }
  for (const StoredTensor* weight : all(layer)) {
    const std::string_view given = weight_of(weight->name);
    // Keras 2 calls the kernel of DepthwiseConv2D by another name.
    if (given == name || (name == "kernel" && given == "depthwise_kernel")) return weight;
  }
  return nullptr;
}

const StoredTensor& KerasWeights::get(const KerasLayer& layer,
                                      const std::vector<std::string>& order, std::string_view name,
                                      std::size_t rank) {
  const StoredTensor* found = find(layer, order, name);
  require(found != nullptr,
          "{}: the layer {} ({}) has no weight {}; save the model with its weights", contents_.file,
          in_quotes(layer.name), layer.type, in_quotes(name));
  require(found->shape.size() == rank && found->is_float(),
          "{}: the weight {} is {} {}, expected floats with {} axes", contents_.file,
          in_quotes(found->name), name_of(found->type), shape_text(found->shape), rank);
  return *found;
}

std::vector<std::string> KerasWeights::unused() const {
  std::vector<std::string> names;
  for (const StoredTensor& tensor : contents_.tensors) {
    if (!used_.contains(tensor.name)) names.push_back(tensor.name);
  }
  return names;
}

}  // namespace tessera
