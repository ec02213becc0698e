#include "models/import/onnx_han_structure.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/onnx_trace.h"

namespace tessera {
namespace {

using Extents = std::vector<std::int64_t>;

constexpr int kMostHanUnits = 1 << 14;  // HanConfig's

// ---- what the weights are ----------------------------------------------------------------------

bool equal(const OnnxConstantPtr& a, const OnnxConstantPtr& b) {
  return a == b || (a && b && a->shape == b->shape && a->values() == b->values());
}

// Follows the nodes in the order in which they run.
class HanSearch {
 public:
  void see(const OnnxTrace& trace, const OnnxNode& node) {
    trace_ = &trace;
    if (node.outputs.empty() || (!is_open(node, 0) && !is_open(node, 1))) return;
    const std::string& op = node.op;
    if (is_onnx_recurrence(node)) return see_recurrence(node);
    if (op == "Gather") return see_table(node);
    if (op == "MatMul" || op == "Gemm") return see_product(node);
    if (op == "Tanh") return see_tanh(node);
    if (op == "Add" || op == "Mul") return see_constant(node);
    constexpr std::array<std::string_view, 9> kMoves{"Cast",    "Dropout",   "Expand",
                                                     "Flatten", "Identity",  "Reshape",
                                                     "Squeeze", "Transpose", "Unsqueeze"};
    if (std::ranges::count(kMoves, op) > 0 && products_.contains(node.inputs[0]))
      products_[node.outputs[0]] = products_.at(node.inputs[0]);
  }

  HanStructure found;

 private:
  // A product of levels[level], and whether its tanh has been taken.
  struct Place {
    std::size_t level, product;
    bool bent;
  };

  const OnnxTraced& value(const std::string& name) const { return *trace_->find(name); }
  // Whether an input depends on the documents.
  bool is_open(const OnnxNode& node, std::size_t i) const {
    return i < node.inputs.size() && !node.inputs[i].empty() && !value(node.inputs[i]).is_fixed();
  }

  void see_table(const OnnxNode& node) {
    const OnnxTraced& data = value(node.inputs[0]);
    if (!data.is_fixed() || !data.constant->is_float() || data.constant->shape.size() != 2 ||
        value(node.inputs[1]).level != 0)
      return;
    require(found.table == nullptr || equal(found.table, data.constant),
            "words are looked up in two tables");
    found.table = data.constant;
  }

  void see_recurrence(const OnnxNode& node) {
    const OnnxTraced& x = value(node.inputs[0]);
    require(!x.is_fixed() && x.level < 2, "it has three recurrent layers behind each other");
    const auto given = [&](std::size_t i) -> OnnxConstantPtr {
      return i < node.inputs.size() && !node.inputs[i].empty() ? value(node.inputs[i]).constant
                                                               : nullptr;
    };
    HanRecurrence layer{describe_recurrence(node, *given(1), *given(2)), given(1), given(2),
                        given(3)};
    found.carried |= x.level == 0 && is_open(node, 5);
    auto& all = found.levels[static_cast<std::size_t>(x.level)].recurrences;
    // Loops over sentences are unrolled: the same layer, many times.
    if (std::ranges::none_of(all, [&](const HanRecurrence& other) {
          return equal(other.w, layer.w) && equal(other.r, layer.r) &&
                 other.layer.reverse == layer.layer.reverse;
        }))
      all.push_back(std::move(layer));
  }

  void see_product(const OnnxNode& node) {
    const OnnxTraced& x = value(node.inputs[0]);
    if (x.level < 1 || !value(node.inputs[1]).is_fixed()) return;
    const OnnxAttributes attributes(node);
    OnnxConstantPtr weight = value(node.inputs[1]).constant;
    if (weight->shape.size() > 2 &&
        weight->elements() == weight->shape.back() * weight->shape[weight->shape.size() - 2])
      weight =
          reshaped_to(*weight, {weight->shape[weight->shape.size() - 2], weight->shape.back()});
    if (weight->shape.size() == 1) weight = reshaped_to(*weight, {weight->shape[0], 1});
    if (weight->shape.size() != 2) return;
    if (attributes.integer("transB", 0) != 0) weight = transposed_of(*weight);
    const Place place = add(static_cast<std::size_t>(x.level) - 1, weight);
    products_[node.outputs[0]] = place;
    if (node.op == "Gemm" && node.inputs.size() > 2 && !node.inputs[2].empty())
      give_bias(place, value(node.inputs[2]));
  }

  void see_tanh(const OnnxNode& node) {
    const auto known = products_.find(node.inputs[0]);
    if (known == products_.end()) return;
    Place place = known->second;
    found.levels[place.level].products[place.product].is_bent = true;
    place.bent = true;
    products_[node.outputs[0]] = place;
  }

  // A bias, a context that each step is multiplied with and then summed, or an eps.
  void see_constant(const OnnxNode& node) {
    const std::size_t at = is_open(node, 0) ? 0 : 1;
    const OnnxTraced &open = value(node.inputs[at]), &fixed = value(node.inputs[1 - at]);
    if (!fixed.is_fixed()) return;
    constexpr double kMostEps = 0.01;
    if (open.level >= 1 && fixed.constant->elements() == 1) {
      const double number = fixed.constant->values()[0];
      if (number > 0 && number <= kMostEps) found.small_numbers.insert(number);
    }
    const auto known = products_.find(node.inputs[at]);
    if (known == products_.end()) return;
    const Place place = known->second;
    const HanProduct& product = found.levels[place.level].products[place.product];
    if (fixed.constant->elements() != product.units()) return;
    if (node.op == "Add" && !place.bent) {
      give_bias(place, fixed);
      products_[node.outputs[0]] = place;
    } else if (node.op == "Mul" && place.bent && product.units() > 1) {
      products_[node.outputs[0]] =
          add(place.level, reshaped_to(*fixed.constant, {product.units(), 1}));
    }
  }

  Place add(std::size_t level, const OnnxConstantPtr& weight) {
    std::vector<HanProduct>& all = found.levels.at(level).products;
    const auto known = std::ranges::find_if(
        all, [&](const HanProduct& other) { return equal(other.weight, weight); });
    if (known != all.end()) return {level, static_cast<std::size_t>(known - all.begin()), false};
    all.push_back({weight});
    return {level, all.size() - 1, false};
  }

  void give_bias(const Place& place, const OnnxTraced& bias) {
    HanProduct& product = found.levels[place.level].products[place.product];
    if (bias.is_fixed() && bias.constant->elements() == product.units())
      product.bias = bias.constant->values();
  }

  static OnnxConstantPtr reshaped_to(const OnnxConstant& from, const Extents& shape) {
    auto constant = std::make_shared<OnnxConstant>(from);
    constant->shape = shape;
    if (constant->stored) constant->stored->shape = shape;
    return constant;
  }

  static OnnxConstantPtr transposed_of(const OnnxConstant& from) {
    auto constant = std::make_shared<OnnxConstant>(
        OnnxConstant{from.type, {from.shape[1], from.shape[0]}, {}, {}});
    const std::vector<double> values = from.values();
    const auto rows = static_cast<std::size_t>(from.shape[0]);
    const auto columns = static_cast<std::size_t>(from.shape[1]);
    constant->made.resize(values.size());
    for (std::size_t i = 0; i < values.size(); ++i)
      constant->made[i % columns * rows + i / columns] = values[i];
    return constant;
  }

  const OnnxTrace* trace_ = nullptr;       // of the node that is seen
  std::map<std::string, Place> products_;  // values that are one, or its tanh
};

// ---- the network of those weights --------------------------------------------------------------

FloatTensor units_by_inputs(const HanProduct& product) {
  const std::int64_t inputs = product.weight->shape[0], units = product.units();
  FloatTensor result(Shape{units, inputs});
  const std::vector<double> values = product.weight->values();
  for (std::int64_t i = 0; i < inputs; ++i)
    for (std::int64_t unit = 0; unit < units; ++unit)
      result.values[static_cast<std::size_t>(unit * inputs + i)] =
          static_cast<float>(values[static_cast<std::size_t>(i * units + unit)]);
  return result;
}

FloatTensor bias_of(const HanProduct& product) {
  FloatTensor result(Shape{product.units()});
  std::ranges::transform(product.bias, result.values.begin(),
                         [](double value) { return static_cast<float>(value); });
  return result;
}

// Takes over `value`, or throws where an earlier level had another one.
template <class T>
void agree(bool first, T& ours, T value, const char* what) {
  if (first) ours = value;
  require(ours == value, "the levels of words and of sentences differ in {}", what);
}

void give_recurrence(const std::string& name, const HanLevel& level, HanConfig& config,
                     Imported& imported) {
  std::size_t directions = 0;
  for (const HanRecurrence& one : level.recurrences) directions += one.layer.reverse.size();
  require(directions == 2,
          "its {} level has {} recurrent directions, expected one forward and one backward", name,
          directions);
  const bool first = name == "word";
  std::size_t direction = 0;
  for (const HanRecurrence& one : level.recurrences) {
    const OnnxRecurrence& layer = one.layer;
    agree(first && direction == 0, config.cell, layer.op.cell, "their cells");
    agree(first && direction == 0, config.units, layer.op.units, "recurrent units");
    agree(first && direction == 0, config.gate, layer.op.gate, "the activation of gates");
    agree(first && direction == 0, config.reset_after, layer.op.reset_after, "their reset gates");
    for (std::size_t i = 0; i < layer.reverse.size(); ++i, ++direction) {
      // One that turns its steps around by itself is forward, and stands second.
      const bool reverse =
          layer.reverse[i] ||
          (direction == 1 && !imported.tensors.contains(name + "/rnn/weight_ih_reverse"));
      for (auto& [weight, tensor] :
           recurrence_weights(layer, i, reverse ? "_reverse" : "", *one.w, *one.r, one.b.get()))
        imported.add(fmt::format("{}/rnn/{}", name, weight), std::move(tensor));
    }
  }
}

// [dense,] attention, context; what stands behind them is returned.
std::span<const HanProduct> give_attention(const std::string& name, const HanLevel& level,
                                           HanConfig& config, Imported& imported) {
  const std::span<const HanProduct> all = level.products;
  const auto bent = std::ranges::find_if(all, &HanProduct::is_bent);
  const auto before = static_cast<std::size_t>(bent - all.begin());
  require(before <= 1 && before + 1 < all.size() && all[before + 1].units() == 1,
          "its {} level has {} products with constants, expected tanh(W h + b) and a product with "
          "a context behind the recurrent layer, and at most one layer between",
          name, all.size());
  const bool first = name == "word";
  const HanProduct &hidden = all[before], &context = all[before + 1];
  const std::int64_t width = before == 1 ? all[0].units() : 2 * config.units;
  require(hidden.units() <= kMostHanUnits && width <= kMostHanUnits && hidden.units() >= 1 &&
              hidden.weight->shape[0] == width &&
              (before == 0 || all[0].weight->shape[0] == 2 * config.units) &&
              context.weight->shape[0] == hidden.units(),
          "the matrices of its {} level's attention are {} and {}", name,
          shape_text(hidden.weight->shape), shape_text(context.weight->shape));
  agree(first, config.dense, before == 1 ? static_cast<int>(width) : 0,
        "the layer before attention");
  agree(first, config.attention, static_cast<int>(hidden.units()), "units of attention");
  (first ? config.tanh_word_score : config.tanh_sentence_score) = context.is_bent;
  if (before == 1) {
    imported.add(name + "/dense/weight", units_by_inputs(all[0]));
    imported.add(name + "/dense/bias", bias_of(all[0]));
  }
  imported.add(name + "/attention/weight", units_by_inputs(hidden));
  imported.add(name + "/attention/bias", bias_of(hidden));
  FloatTensor vector = units_by_inputs(context);
  vector.shape = Shape{hidden.units()};
  imported.add(name + "/attention/context", std::move(vector));
  return all.subspan(before + 2);
}

}  // namespace

HanStructure find_han_structure(const OnnxModel& model,
                                const std::map<std::string, OnnxConstantPtr>& inputs) {
  HanSearch search;
  const OnnxTrace trace(model, inputs,
                        [&](const OnnxTrace& at, const OnnxNode& node) { search.see(at, node); });
  const std::vector<std::string>& errors = trace.errors();
  constexpr std::size_t kShown = 40;
  const std::vector<std::string> shown(
      errors.begin(),
      errors.begin() + static_cast<std::ptrdiff_t>(std::min(errors.size(), kShown)));
  require(errors.empty(), "{} of its nodes cannot be computed:\n  {}{}", errors.size(),
          fmt::join(shown, "\n  "), errors.size() > kShown ? "\n  ..." : "");
  return std::move(search.found);
}

HanConfig give_han_network(const HanStructure& found, Imported& imported) {
  HanConfig config;
  require(found.table != nullptr && found.table->shape[0] >= 3 &&
              found.table->shape[0] <= std::int64_t{1} << 30 && found.table->shape[1] >= 1 &&
              found.table->shape[1] <= kMostHanUnits,
          "nothing looks its word ids up in a table of vectors");
  config.words = static_cast<int>(found.table->shape[0]);
  config.features = static_cast<int>(found.table->shape[1]);
  give_recurrence("word", found.levels[0], config, imported);
  give_recurrence("sentence", found.levels[1], config, imported);
  require(found.levels[0].recurrences[0].layer.features == config.features,
          "the recurrent layer of words reads {} features, the table has {}",
          found.levels[0].recurrences[0].layer.features, config.features);
  const auto none = give_attention("word", found.levels[0], config, imported);
  const auto output = give_attention("sentence", found.levels[1], config, imported);
  const std::int64_t width = config.dense > 0 ? config.dense : 2 * config.units;
  require(found.levels[1].recurrences[0].layer.features == width,
          "the recurrent layer of sentences reads {} features, expected {}",
          found.levels[1].recurrences[0].layer.features, width);
  require(none.empty() && output.size() == 1 && !output[0].is_bent &&
              output[0].weight->shape[0] == width && output[0].units() >= 1 &&
              output[0].units() <= kMostHanUnits,
          "behind the attention there are {} products with constants in a sentence and {} in a "
          "document, expected none and the one that gives the classes",
          none.size(), output.size());
  FloatTensor weight = units_by_inputs(output[0]), bias = bias_of(output[0]);
  config.classes = static_cast<int>(output[0].units());
  if (config.classes == 1) {  // sigmoid(z) is the second of softmax(0, z)
    config.classes = 2;
    weight.shape = Shape{2, width};
    bias.shape = Shape{2};
    weight.values.insert(weight.values.begin(), static_cast<std::size_t>(width), 0.0F);
    bias.values.insert(bias.values.begin(), 0.0F);
  }
  imported.add("output/weight", std::move(weight));
  imported.add("output/bias", std::move(bias));
  return config;
}

}  // namespace tessera
