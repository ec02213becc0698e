#include "models/import/onnx_han.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>
#include <utility>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/han_words.h"
#include "models/import/onnx_network.h"
#include "models/import/onnx_recurrence.h"
#include "models/import/onnx_trace.h"
#include "models/network_run.h"

namespace tessera {
namespace {

using StoredType = StoredTensor::Type;
using Extents = std::vector<std::int64_t>;

constexpr int kMostHanUnits = 1 << 14;  // HanConfig's
constexpr double kClose = 5e-6;         // of a probability

// ---- made-up documents -------------------------------------------------------------------------

// What the inputs of the file are: word ids (documents, sentences, words), or (sentences, words) of
// one document; numbers of words, one axis fewer; numbers of sentences, two fewer.
struct HanInputs {
  const OnnxValueInfo *ids = nullptr, *words = nullptr, *sentences = nullptr;
  Extents extents;  // of the ids, -1: any
  std::int64_t documents = 1, most_sentences = 3, most_words = 4;
};

HanInputs describe_inputs(const OnnxModel& model) {
  HanInputs inputs;
  std::size_t rank = 0;
  for (const OnnxValueInfo& info : model.inputs) {
    require(info.has_type && info.has_shape, "the input {} has no type or shape",
            in_quotes(info.name));
    rank = std::max(rank, info.dims.size());
  }
  require(rank == 2 || rank == 3,
          "its inputs have up to {} axes, expected word ids (documents, "
          "sentences, words)",
          rank);
  for (const OnnxValueInfo& info : model.inputs) {
    const OnnxValueInfo*& place = info.dims.size() == rank       ? inputs.ids
                                  : info.dims.size() + 1 == rank ? inputs.words
                                                                 : inputs.sentences;
    require(place == nullptr, "the inputs {} and {} are both of {} axes",
            in_quotes(place == nullptr ? "" : place->name), in_quotes(info.name), info.dims.size());
    place = &info;
  }
  inputs.extents = inputs.ids->dims;
  const auto given = [&](std::size_t from_end, std::int64_t otherwise) {
    if (from_end > rank) return std::int64_t{1};
    const std::int64_t extent = inputs.extents[rank - from_end];
    return extent < 0 ? otherwise : extent;
  };
  inputs.documents = given(3, 1);
  inputs.most_sentences = given(2, inputs.most_sentences);
  inputs.most_words = given(1, inputs.most_words);
  constexpr double kMostTried = 1 << 20;
  require(static_cast<double>(inputs.documents) * static_cast<double>(inputs.most_sentences) *
                  static_cast<double>(inputs.most_words) <=
              kMostTried,
          "its input of {} words is too large to be tried out", shape_text(inputs.extents));
  return inputs;
}

// Full documents, or shorter ones with padding behind; ids from 1 to below `rows`.
HanBatch make_documents(const HanInputs& inputs, bool full, std::int64_t rows) {
  HanBatch batch;
  batch.documents = inputs.documents;
  batch.sentences = inputs.most_sentences;
  batch.words = inputs.most_words;
  std::uint32_t random = 12345;
  for (std::int64_t d = 0; d < batch.documents; ++d) {
    const std::int64_t sentences =
        full ? batch.sentences : std::max<std::int64_t>(1, batch.sentences - 1 - d % 2);
    batch.sentence_counts.push_back(static_cast<std::int32_t>(sentences));
    for (std::int64_t s = 0; s < batch.sentences; ++s) {
      const std::int64_t words = s >= sentences ? 0
                                 : full         ? batch.words
                                        : std::max<std::int64_t>(1, batch.words - 1 - s % 3);
      batch.word_counts.push_back(static_cast<std::int32_t>(words));
      for (std::int64_t w = 0; w < batch.words; ++w) {
        random = random * 1664525 + 1013904223;
        batch.ids.push_back(w < words ? static_cast<std::int32_t>(1 + (random >> 8) % (rows - 1))
                                      : 0);
      }
    }
  }
  return batch;
}

OnnxConstantPtr values_as(const OnnxValueInfo& info, const Extents& shape,
                          const std::vector<std::int32_t>& values) {
  auto constant = std::make_shared<OnnxConstant>();
  constant->type = info.type;
  constant->shape = shape;
  constant->made.assign(values.begin(), values.end());
  return constant;
}

std::map<std::string, OnnxConstantPtr> inputs_of(const HanInputs& inputs, const HanBatch& batch) {
  Extents shape{batch.documents, batch.sentences, batch.words};
  if (inputs.extents.size() == 2) shape.erase(shape.begin());
  std::map<std::string, OnnxConstantPtr> given;
  given[inputs.ids->name] = values_as(*inputs.ids, shape, batch.ids);
  shape.pop_back();
  if (inputs.words != nullptr)
    given[inputs.words->name] = values_as(*inputs.words, shape, batch.word_counts);
  shape.pop_back();
  if (inputs.sentences != nullptr)
    given[inputs.sentences->name] = values_as(*inputs.sentences, shape, batch.sentence_counts);
  return given;
}

// ---- what the weights are ----------------------------------------------------------------------

bool equal(const OnnxConstantPtr& a, const OnnxConstantPtr& b) {
  return a == b || (a && b && a->shape == b->shape && a->values() == b->values());
}

struct HanRecurrence {
  OnnxRecurrence layer;
  OnnxConstantPtr w, r, b;  // b may be null
};

// x W + b.
struct HanProduct {
  OnnxConstantPtr weight;  // (inputs, units)
  std::vector<double> bias{};
  bool is_bent = false;  // a tanh follows

  std::int64_t units() const { return weight->shape[1]; }
};

// By how many recurrent layers lie before: words, sentences.
struct HanLevel {
  std::vector<HanRecurrence> recurrences;
  std::vector<HanProduct> products;
};

class HanStructure {
 public:
  void see(const OnnxTrace& trace, const OnnxNode& node) {
    trace_ = &trace;
    if (node.outputs.empty() || node.inputs.empty() || !is_open(node.inputs, 0, true)) return;
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

  OnnxConstantPtr table;
  std::array<HanLevel, 2> levels;
  std::set<double> small_numbers;  // which may be an attention's eps
  bool carried = false;            // a state goes from sentence to sentence

 private:
  // A product of levels[level], and whether its tanh has been taken.
  struct Place {
    std::size_t level, product;
    bool bent;
  };

  const OnnxTraced& value(const std::string& name) const { return *trace_->find(name); }
  // Whether an input depends on the documents; the first, or any.
  bool is_open(const std::vector<std::string>& names, std::size_t i, bool any = false) const {
    if (any)
      return std::ranges::any_of(
          names, [&](const std::string& name) { return !name.empty() && !value(name).is_fixed(); });
    return i < names.size() && !names[i].empty() && !value(names[i]).is_fixed();
  }

  void see_table(const OnnxNode& node) {
    const OnnxTraced& data = value(node.inputs[0]);
    if (!data.is_fixed() || !data.constant->is_float() || data.constant->shape.size() != 2 ||
        value(node.inputs[1]).level != 0)
      return;
    require(table == nullptr || table == data.constant || equal(table, data.constant),
            "words are looked up in two tables");
    table = data.constant;
  }

  void see_recurrence(const OnnxNode& node) {
    const OnnxTraced& x = value(node.inputs[0]);
    require(!x.is_fixed() && x.level < 2, "it has three recurrent layers behind each other");
    const auto given = [&](std::size_t i) -> OnnxConstantPtr {
      return i < node.inputs.size() && !node.inputs[i].empty() ? value(node.inputs[i]).constant
                                                               : nullptr;
    };
    HanRecurrence found{describe_recurrence(node, *given(1), *given(2)), given(1), given(2),
                        given(3)};
    carried |= x.level == 0 && is_open(node.inputs, 5);
    auto& all = levels[static_cast<std::size_t>(x.level)].recurrences;
    // Loops over sentences are unrolled: the same layer, many times.
    if (std::ranges::none_of(all, [&](const HanRecurrence& other) {
          return equal(other.w, found.w) && equal(other.r, found.r) &&
                 other.layer.reverse == found.layer.reverse;
        }))
      all.push_back(std::move(found));
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
    const auto found = products_.find(node.inputs[0]);
    if (found == products_.end()) return;
    Place place = found->second;
    levels[place.level].products[place.product].is_bent = true;
    place.bent = true;
    products_[node.outputs[0]] = place;
  }

  // A bias, a context that each step is multiplied with and then summed, or an eps.
  void see_constant(const OnnxNode& node) {
    const std::size_t at = is_open(node.inputs, 0) ? 0 : 1;
    const OnnxTraced &open = value(node.inputs[at]), &fixed = value(node.inputs[1 - at]);
    if (!fixed.is_fixed()) return;
    constexpr double kMostEps = 0.01;
    if (open.level >= 1 && fixed.constant->elements() == 1) {
      const double number = fixed.constant->values()[0];
      if (number > 0 && number <= kMostEps) small_numbers.insert(number);
    }
    const auto found = products_.find(node.inputs[at]);
    if (found == products_.end()) return;
    const Place place = found->second;
    const HanProduct& product = levels[place.level].products[place.product];
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
    std::vector<HanProduct>& all = levels.at(level).products;
    const auto known = std::ranges::find_if(
        all, [&](const HanProduct& other) { return equal(other.weight, weight); });
    if (known != all.end()) return {level, static_cast<std::size_t>(known - all.begin()), false};
    all.push_back({weight});
    return {level, all.size() - 1, false};
  }

  void give_bias(const Place& place, const OnnxTraced& bias) {
    HanProduct& product = levels[place.level].products[place.product];
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

// All but the embedding.
HanConfig give_network(const HanStructure& found, Imported& imported) {
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
              output[0].weight->shape[0] == width && output[0].units() <= kMostHanUnits,
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

// ---- the trial ---------------------------------------------------------------------------------

// Probabilities (documents, classes) that an output of the file stands for: as it is, or of logits.
std::vector<std::vector<double>> probabilities_of(const OnnxConstant& output,
                                                  std::int64_t documents, std::int64_t classes) {
  const std::int64_t elements = output.elements();
  const bool one = classes == 2 && elements == documents;
  if (!output.is_float() || (elements != documents * classes && !one)) return {};
  const std::vector<double> values = output.values();
  if (one) {
    std::vector<double> sigmoid, as_is;
    for (const double value : values) {
      const double second = 1 / (1 + std::exp(-value));
      sigmoid.insert(sigmoid.end(), {1 - second, second});
      as_is.insert(as_is.end(), {1 - value, value});
    }
    return {as_is, sigmoid};
  }
  std::vector<double> softmax = values;
  const auto width = static_cast<std::size_t>(classes);
  for (std::size_t row = 0; row < softmax.size(); row += width) {
    const std::span<double> some(softmax.data() + row, width);
    const double most = *std::ranges::max_element(some);
    double sum = 0;
    for (double& value : some) sum += value = std::exp(value - most);
    for (double& value : some) value /= sum;
  }
  return {values, softmax};
}

struct Tried {
  HanBatch batch;
  std::vector<std::vector<double>> answers;  // of the file, by output and reading of it
};

std::vector<float> our_probabilities(const HanConfig& config, const TensorViews& tensors,
                                     HanBatch batch, const std::shared_ptr<Device>& device) {
  if (config.missing_sentences)
    std::ranges::fill(batch.sentence_counts, static_cast<std::int32_t>(batch.sentences));
  std::vector<NetworkAnswer> inputs;
  for (const TensorView& view : batch.inputs(config)) {
    const std::byte* bytes = reinterpret_cast<const std::byte*>(view.as<std::int32_t>());
    inputs.push_back({view.type, {bytes, bytes + view.type.bytes()}});
  }
  Weights weights = Weights::from_views(tensors, "the ONNX file");
  return floats_of(run_graph(build_han(config), source_of(weights), inputs, device)[0]);
}

// What the weights do not say: masks, and the attention's eps.
std::vector<HanConfig> guesses_of(const HanConfig& config, const HanStructure& found) {
  constexpr std::size_t kMostNumbers = 4;
  std::vector<double> numbers(found.small_numbers.begin(), found.small_numbers.end());
  numbers.resize(std::min(numbers.size(), kMostNumbers));
  numbers.push_back(0);
  std::vector<HanConfig> guesses;
  for (const double eps : numbers) {
    HanConfig guess = config;
    guess.eps = eps;
    guess.carried = found.carried;
    guess.masked = !found.carried;
    guesses.push_back(guess);
    if (found.carried) continue;
    guess.missing_sentences = true;
    guesses.push_back(guess);
    guess.masked = guess.missing_sentences = false;
    guesses.push_back(guess);
  }
  return guesses;
}

// The largest difference of a probability of `config` from the file's, by the output of the file
// that comes nearest.
double difference_of(const HanConfig& config, const TensorViews& tensors,
                     const std::vector<Tried>& tried, const std::shared_ptr<Device>& device) {
  std::vector<double> apart(tried[0].answers.size(), 0);
  for (const Tried& one : tried) {
    const std::vector<float> ours = our_probabilities(config, tensors, one.batch, device);
    for (std::size_t a = 0; a < apart.size(); ++a) {
      for (std::size_t i = 0; i < ours.size(); ++i) {
        const double error = std::abs(ours[i] - one.answers.at(a).at(i));
        if (!(error <= apart[a])) apart[a] = std::isnan(error) ? INFINITY : error;
      }
    }
  }
  return *std::ranges::min_element(apart);
}

// ---- lengths and words -------------------------------------------------------------------------

// How many sentences or words are read: as many as the file has room for, else the user's number.
int limit_of(const std::string& name, std::int64_t given, int otherwise,
             const ImportOptions& options, Imported& imported) {
  if (given > 0) return static_cast<int>(given);
  int value = otherwise;
  if (const auto chosen = options.choices.find(name); chosen != options.choices.end()) {
    const std::string& text = chosen->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    require(error == std::errc() && end == text.data() + text.size() && value >= 1,
            "{}: expected a whole number of at least 1, found {}", name, in_quotes(text));
  } else {
    imported.guesses.push_back({name, std::to_string(value), "the file takes any number"});
  }
  return value;
}

StoredTensor stored_table(const OnnxConstantPtr& table, Imported& imported) {
  if (table->stored) {
    StoredTensor stored = *table->stored;
    stored.shape = table->shape;
    return stored;
  }
  auto floats = std::make_shared<std::vector<float>>(table->made.begin(), table->made.end());
  imported.owners.push_back(floats);
  return {"embedding", StoredType::kF32, table->shape, {}, std::as_bytes(std::span(*floats))};
}

// Fills in all but the embedding, which it returns by the file's ids. `said`: what the model file
// said that it was exported from.
StoredTensor find_network(const OnnxModel& model, const HanInputs& inputs,
                          const std::optional<HanConfig>& said, HanConfig& config,
                          Imported& imported) {
  HanStructure found;
  // A first run finds the structure, on ids that every table has.
  constexpr std::int64_t kFewWords = 3, kTriedWords = 64;
  const OnnxTrace first(model, inputs_of(inputs, make_documents(inputs, true, kFewWords)),
                        [&](const OnnxTrace& at, const OnnxNode& node) { found.see(at, node); });
  require(first.errors().empty(), "{} of its nodes cannot be computed:\n  {}",
          first.errors().size(), fmt::join(first.errors(), "\n  "));
  config = give_network(found, imported);

  const std::int64_t rows = std::min<std::int64_t>(config.words, kTriedWords);
  std::vector<Tried> tried;
  for (const bool full : {true, false}) {
    Tried one{make_documents(inputs, full, rows), {}};
    const OnnxTrace computed(model, inputs_of(inputs, one.batch));
    require(computed.errors().empty(), "{}", fmt::join(computed.errors(), "\n  "));
    for (const OnnxValueInfo& output : model.outputs)
      for (std::vector<double>& reading : probabilities_of(*computed.find(output.name)->constant,
                                                           inputs.documents, config.classes))
        one.answers.push_back(std::move(reading));
    tried.push_back(std::move(one));
  }
  require(tried[0].answers.size() == tried[1].answers.size() && !tried[0].answers.empty(),
          "no output of it has {} numbers for each document", config.classes);
  const StoredTensor table = stored_table(found.table, imported);
  TensorViews tensors = imported.tensors;
  StoredTensor part = table;
  part.shape[0] = rows;
  part.bytes = table.bytes.first(table.bytes.size() / static_cast<std::size_t>(table.shape[0]) *
                                 static_cast<std::size_t>(rows));
  const FloatTensor few = read_floats(part);
  tensors.insert_or_assign("embedding/weight", few.view());
  const std::shared_ptr<Device> device = open_cpu_device(1, Precision::kFp32);
  double apart = INFINITY;
  for (HanConfig guess : said ? std::vector{*said} : guesses_of(config, found)) {
    guess.words = static_cast<int>(rows);
    const double error = difference_of(guess, tensors, tried, device);
    if (!(error < apart)) continue;
    apart = error;
    config = guess;
  }
  require(apart <= kClose,
          "a HAN of its weights gives other answers: probabilities of made-up documents differ by "
          "{:.2g}",
          apart);
  config.words = static_cast<int>(table.shape[0]);
  imported.notes.push_back(
      fmt::format("held against the file itself on made-up documents: probabilities differ by at "
                  "most {:.2g}",
                  apart));

  return table;
}

Imported read_han(const OnnxModel& model, const ImportOptions& options) {
  Imported imported;
  imported.family = "ONNX HAN";
  const std::optional<ModelConfig> said = exported_config(model, imported);
  const bool ours = said && said->han;
  const HanInputs inputs = describe_inputs(model);
  HanConfig config;
  StoredTensor table;
  try {
    table = find_network(model, inputs, ours ? said->han : std::nullopt, config, imported);
  } catch (const Error& error) {
    fail(
        "a network of words, and none of Tessera's HANs: {}\nWhere it is a HAN, give the file of "
        "its own framework (.pt, .h5, .keras), or export it with fixed numbers of sentences and "
        "words, without loops",
        error.what());
  }
  const std::size_t rank = inputs.extents.size();
  constexpr int kSentences = 15, kWords = 100;
  config.max_sentences =
      limit_of("max_sentences", ours ? config.max_sentences : inputs.extents[rank - 2], kSentences,
               options, imported);
  config.max_words = limit_of("max_words", ours ? config.max_words : inputs.extents[rank - 1],
                              kWords, options, imported);
  for (const auto& [name, value] : options.choices)
    require(name.starts_with("shape") || name == "max_sentences" || name == "max_words",
            "--set {}={}: nothing of this network asks for it", name, value);
  if (ours) {
    require(said->han->words == config.words, "its table has {} rows, its metadata says {}",
            config.words, said->han->words);
    imported.config = *said;
    imported.add("embedding/weight", table);
    imported.vocabulary = exported_words(model.file, options);
    return imported;
  }
  give_words(imported, config, table, options);
  imported.config.han = config;
  for (const Rgb& colour : default_colours(config.classes))
    imported.config.classes.push_back(
        {fmt::format("class {}", imported.config.classes.size()), colour});
  return imported;
}

}  // namespace

bool may_be_onnx_han(const OnnxModel& model) {
  std::set<std::string_view> tables;
  for (const StoredTensor& tensor : model.initializers)
    if (tensor.is_float() && tensor.shape.size() == 2) tables.insert(tensor.name);
  std::size_t looked_up = 0, recurrent = 0;
  for (const OnnxNode& node : model.nodes) {
    if (node.inputs.empty()) continue;
    if (node.op == "Identity" && !node.outputs.empty() && tables.contains(node.inputs[0]))
      tables.insert(node.outputs[0]);
    looked_up += node.op == "Gather" && tables.contains(node.inputs[0]) ? 1 : 0;
    recurrent += is_onnx_recurrence(node) || node.op == "Loop" || node.op == "Scan" ? 1 : 0;
  }
  return looked_up > 0 && recurrent >= 2;
}

Imported import_onnx_han(const OnnxModel& model, const ImportOptions& options) {
  try {
    Imported imported = read_han(model, options);
    nlohmann::json& origin = imported.config.provenance["onnx"];
    origin = {{"opset", model.opset}};
    if (!model.producer.empty()) origin["producer"] = model.producer;
    imported.notes.insert(imported.notes.end(), model.notes.begin(), model.notes.end());
    imported.owners.insert(imported.owners.end(), model.owners.begin(), model.owners.end());
    return imported;
  } catch (const Error& error) {
    const std::string_view text = error.what();
    if (text.starts_with(model.file)) throw;
    fail("{}: {}", model.file, text);
  }
}

}  // namespace tessera
