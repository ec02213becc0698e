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
#include "models/import/onnx_han_structure.h"
#include "models/import/onnx_network.h"
#include "models/import/onnx_trace.h"
#include "models/import/word_networks.h"
#include "models/network_run.h"

namespace tessera {
namespace {

using StoredType = StoredTensor::Type;
using Extents = std::vector<std::int64_t>;

constexpr double kClose = 5e-6;  // of a probability

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
double han_difference(const HanConfig& config, const TensorViews& tensors,
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
  // A first run finds the structure, on ids that every table has.
  constexpr std::int64_t kFewWords = 3, kTriedWords = 64;
  const HanStructure found =
      find_han_structure(model, inputs_of(inputs, make_documents(inputs, true, kFewWords)));
  config = give_han_network(found, imported);

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
    const double error = han_difference(guess, tensors, tried, device);
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
        "words, without loops. {}",
        error.what(), kWordNetworkAdvice);
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

// Nodes that networks of words consist of.
struct WordNodes {
  std::size_t looked_up = 0, recurrent = 0, convolutions = 0, norms = 0;
};

WordNodes count_word_nodes(const OnnxModel& model) {
  WordNodes nodes;
  std::set<std::string_view> tables, constants;
  for (const StoredTensor& tensor : model.initializers) {
    constants.insert(tensor.name);
    if (tensor.is_float() && tensor.shape.size() == 2) tables.insert(tensor.name);
  }
  for (const OnnxNode& node : model.nodes) {
    if (node.op == "Constant" && !node.outputs.empty()) constants.insert(node.outputs[0]);
    if (node.inputs.empty()) continue;
    if (node.op == "Identity" && !node.outputs.empty() && tables.contains(node.inputs[0]))
      tables.insert(node.outputs[0]);
    const bool looks_up = node.op == "Gather" && node.inputs.size() == 2 &&
                          tables.contains(node.inputs[0]) && !constants.contains(node.inputs[1]);
    nodes.looked_up += looks_up ? 1 : 0;
    nodes.recurrent += is_onnx_recurrence(node) || node.op == "Loop" || node.op == "Scan" ? 1 : 0;
    nodes.convolutions += node.op == "Conv" ? 1 : 0;
    nodes.norms += node.op == "LayerNormalization" ? 1 : 0;
  }
  return nodes;
}

}  // namespace

bool may_be_onnx_han(const OnnxModel& model) {
  const WordNodes nodes = count_word_nodes(model);
  return nodes.looked_up > 0 && nodes.recurrent >= 2;
}

std::string onnx_word_network(const OnnxModel& model) {
  const bool reads_images = std::ranges::any_of(
      model.inputs, [](const OnnxValueInfo& input) { return input.dims.size() > 3; });
  const WordNodes nodes = count_word_nodes(model);
  if (nodes.looked_up == 0 || reads_images) return "";
  if (nodes.recurrent > 0) return "a recurrent network of words in one level";
  if (nodes.convolutions > 0) return "a convolutional network of words";
  return nodes.norms > 0 ? "a transformer of words (BERT and its like)"
                         : "a network of words without recurrent layers";
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
