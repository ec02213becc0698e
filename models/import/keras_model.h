// A Keras model as its file describes it: calls of layers, and where the weights of each lie. Both
// dialects are read: inbound_nodes as lists (Keras 2) and as __keras_tensor__ (Keras 3).
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "models/import/contents.h"

namespace tessera {

struct KerasLayer {
  std::string type;  // its class: "Conv2D"
  std::string name;  // "conv2d_38"; in a nested model "stem/conv2d_37"
  nlohmann::json config;
  std::string group;  // of its weights in the older layout: the outermost layer's name
  std::string path;   // in the newer one: "layers/sequential/layers/conv2d"

  // The name alone, without those of the models around it.
  std::string own_name() const { return name.substr(name.rfind('/') + 1); }
};

// A layer's application; its result has the call's place in KerasModel::calls.
struct KerasCall {
  std::size_t layer = 0;
  std::vector<std::size_t> inputs;  // calls
};

// Models in the model are taken apart, so that all of its layers stand in one list.
struct KerasModel {
  std::vector<KerasLayer> layers;
  std::vector<KerasCall> calls;  // in an order in which they can run
  std::vector<std::size_t> inputs, outputs;
  int version = 2;  // of Keras, the first number
};

// Whether a description is that of a model of layers.
bool is_keras_model(const nlohmann::json& config);

// The model of Contents::said. Throws Error for descriptions that are none, that go in a cycle or
// name what is not there.
KerasModel read_keras_model(const Contents& contents);
// Of a model inside of a layer that is applied many times (TimeDistributed): its layers' weights
// lie with those of `outer`, and in the newer layout below `path`.
KerasModel read_keras_model(const nlohmann::json& config, const KerasLayer& outer,
                            const std::string& path, int version);

// "MaxPooling2D" -> "max_pooling2d", as Keras makes names.
std::string snake_case(std::string_view type);

// The weights of layers.
class KerasWeights {
 public:
  explicit KerasWeights(const Contents& contents);

  // The weight called `name` of a layer, which has those of `order`, in the order in which the
  // layer makes them. Null where there is none.
  const StoredTensor* find(const KerasLayer& layer, const std::vector<std::string>& order,
                           std::string_view name);
  // The same, which must be there with `rank` axes. Throws Error.
  const StoredTensor& get(const KerasLayer& layer, const std::vector<std::string>& order,
                          std::string_view name, std::size_t rank);
  // All weights of a layer, in the file's order.
  std::vector<const StoredTensor*> all(const KerasLayer& layer);

  // The tensors that nobody asked for.
  std::vector<std::string> unused() const;

 private:
  const StoredTensor* take(const std::string& name);
  std::string newer_path(const KerasLayer& layer) const;

  const Contents& contents_;
  bool newer_ = false;  // the layout
  std::map<std::string_view, const StoredTensor*> by_name_;
  std::map<std::string, std::string> path_of_name_;  // newer layout: paths of layers by their names
  std::set<std::string> used_;
};

}  // namespace tessera
