#include "models/layer_names.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>

namespace tessera {
namespace {

constexpr std::string_view kOnnxOutput = "_output_0";
constexpr std::array<std::string_view, 5> kAround{"module.", "_orig_mod.", "model.", "net.",
                                                  "network."};

bool is_index(std::string_view text) {
  return !text.empty() && text.find_first_not_of("0123456789") == text.npos;
}

std::vector<std::string> segments_of(std::string_view key) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin <= key.size();) {
    const std::size_t end = std::min(key.find('.', begin), key.size());
    if (end > begin) parts.emplace_back(key.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// Whether `key` is `end`, or ends in it behind a dot.
bool ends_in(std::string_view key, std::string_view end) {
  return key.ends_with(end) &&
         (key.size() == end.size() || key[key.size() - end.size() - 1] == '.');
}

class Pairing {
 public:
  Pairing(const Graph& graph, Types types, const std::vector<StoredTensor>& layers)
      : graph_(graph), types_(types), layers_(layers), readers_(graph), taken_(types.size()) {
    for (const StoredTensor& layer : layers) keys_.push_back(layer_key(layer.name));
    for (const Node& node : graph.nodes)
      for (const ValueId value : node.outputs)
        values_.push_back({layer_key(graph.values[value]), value});
    partner_.resize(layers.size());
    repeats_.resize(layers.size());
  }

  LayerPairs run(const Activations& theirs) {
    if (theirs.answer && !graph_.outputs.empty()) take(*theirs.answer, graph_.outputs[0]);
    if (theirs.whole_layers) each([&](std::size_t i) { as_container(i); });
    each(
        [&](std::size_t i) { by_key(i, [&](const std::string& key) { return key == keys_[i]; }); });
    each([&](std::size_t i) {
      by_key(i, [&](const std::string& key) {
        return ends_in(key, keys_[i]) || ends_in(keys_[i], key);
      });
    });
    each([&](std::size_t i) { behind_the_one_before(i); });
    each([&](std::size_t i) { as_container(i); });
    LayerPairs result;
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      if (partner_[i]) {
        result.pairs.push_back({*partner_[i], i});
      } else if (!repeats_[i]) {
        result.without_partner.push_back(i);
      }
    }
    std::ranges::sort(result.pairs, {}, &LayerPair::value);
    return result;
  }

 private:
  struct Named {
    std::string key;
    ValueId value;
  };

  template <class Visit>
  void each(const Visit& visit) {
    for (std::size_t i = 0; i < layers_.size(); ++i)
      if (!partner_[i] && !keys_[i].empty()) visit(i);
  }
  bool fits(std::size_t i, ValueId value) const {
    return !taken_[value] && types_[value].shape.elements() == layers_[i].elements();
  }
  void take(std::size_t i, ValueId value) {
    if (taken_[value]) repeats_[i] = true;
    if (!fits(i, value)) return;
    taken_[value] = true;
    partner_[i] = value;
  }
  // The only value whose key fits.
  template <class Fits>
  void by_key(std::size_t i, const Fits& key_fits) {
    std::optional<ValueId> found;
    for (const Named& named : values_) {
      if (!key_fits(named.key)) continue;
      if (taken_[named.value]) repeats_[i] = true;
      if (!fits(i, named.value)) continue;
      if (found) return;
      found = named.value;
    }
    if (found) take(i, *found);
  }
  void behind_the_one_before(std::size_t i) {
    if (i == 0 || !partner_[i - 1]) return;
    std::optional<ValueId> found;
    for (const std::size_t reader : readers_[*partner_[i - 1]]) {
      const Node& node = graph_.nodes[reader];
      if (!parameters_of(node, input_types(node, types_)).empty() || !fits(i, node.outputs[0]))
        continue;
      if (found) return;
      found = node.outputs[0];
    }
    if (found) take(i, *found);
  }
  void as_container(std::size_t i) {
    std::optional<ValueId> last;
    for (const Named& named : values_)
      if (named.key.starts_with(keys_[i] + ".")) last = named.value;
    if (last) take(i, *last);
  }

  const Graph& graph_;
  Types types_;
  const std::vector<StoredTensor>& layers_;
  Readers readers_;
  std::vector<bool> taken_;  // by value
  std::vector<std::string> keys_;
  std::vector<Named> values_;
  std::vector<std::optional<ValueId>> partner_;  // by layer
  std::vector<bool> repeats_;                    // by layer: what has a pair already
};

}  // namespace

std::string layer_key(std::string_view name) {
  std::string text(name);
  std::ranges::replace(text, '/', '.');
  std::ranges::replace(text, ':', '.');
  std::vector<std::string> parts = segments_of(text);
  // Of torch.onnx: the operator behind the module's path, in which a Sequential's child is
  // "double_conv/double_conv.0".
  if (text.ends_with(kOnnxOutput) && parts.size() > 1) parts.pop_back();
  std::string key;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const bool repeated =
        i + 2 < parts.size() && parts[i] == parts[i + 1] && is_index(parts[i + 2]);
    if (!repeated) key += (key.empty() ? "" : ".") + parts[i];
  }
  for (bool stripped = true; stripped;) {
    stripped = false;
    for (const std::string_view around : kAround)
      if (key.starts_with(around)) key.erase(0, around.size()), stripped = true;
  }
  return key;
}

LayerPairs pair_layers(const Graph& graph, Types types, const Activations& theirs) {
  return Pairing(graph, types, theirs.layers).run(theirs);
}

}  // namespace tessera
