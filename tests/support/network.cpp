#include "tests/support/network.h"

#include <cmath>

namespace tessera::test {

TensorView RandomWeights::operator()(const std::string& name, const Shape& shape) {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) {
    EXPECT_EQ(found->second.type().shape, shape) << name;
    return found->second.view();
  }
  unsigned seed = 1;
  for (const char c : name) seed = seed * 31 + static_cast<unsigned char>(c);
  // Fan-in of PyTorch's layouts: all axes but the first (transposed: 4 or 9 taps, one per output).
  const double fan_in = static_cast<double>(shape.elements()) / static_cast<double>(shape[0]);
  const bool vector = shape.rank() == 1;
  Tensor tensor = random(shape, seed, static_cast<float>(vector ? 0.1 : std::sqrt(1.5 / fan_in)));
  if (name.ends_with("running_var") || name.ends_with("norm/weight")) {
    for (std::int64_t i = 0; i < shape.elements(); ++i)
      tensor.view().as<float>()[i] = 0.75f + std::abs(tensor.view().as<float>()[i]);
  }
  return tensors_.emplace(name, tensor).first->second.view();
}

namespace {

UNetConfig same_config(int base) {
  return {.depth = 3,
          .base = base,
          .channels = 3,
          .classes = 3,
          .padding = UNetConfig::Padding::kSame,
          .norm = Conv::Norm::kBeforeRelu,
          .conv_bias = false};
}

}  // namespace

std::vector<UNetVariant> unet_variants() {
  const UNetConfig tutorial{.depth = 3,
                            .base = 8,
                            .norm = Conv::Norm::kAfterRelu,
                            .up = UNetConfig::Up::kTransposed3,
                            .skip_first = false,
                            .head = UNetConfig::HeadKind::kConv3};
  const UNetConfig tf_unet{
      .depth = 2, .base = 16, .channels = 3, .classes = 3, .up_relu = true, .head_relu = true};
  const UNetConfig bilinear{.depth = 3,
                            .base = 16,
                            .classes = 1,
                            .padding = UNetConfig::Padding::kSame,
                            .norm = Conv::Norm::kBeforeRelu,
                            .up = UNetConfig::Up::kBilinear,
                            .output = Head::Output::kSigmoid};
  return {{"paper", {.depth = 2, .base = 16}, 60, 76},
          {"tutorial", tutorial, 100, 92},
          {"tf_unet", tf_unet, 52, 44},
          {"same_odd", same_config(16), 37, 45},
          {"same_minimal", same_config(8), 8, 9},
          {"bilinear", bilinear, 33, 40}};
}

void PrintTo(const UNetVariant& variant, std::ostream* out) {
  *out << variant.name;
}

std::vector<HanVariant> han_variants() {
  const HanConfig paper{.words = 50, .features = 20, .units = 17, .attention = 34};
  const HanConfig keras{
      .words = 50, .features = 20, .units = 8, .reset_after = false, .attention = 16};
  const HanConfig tutorial{.words = 50,
                           .features = 20,
                           .cell = BiRnn::Cell::kLstm,
                           .units = 18,
                           .gate = BiRnn::Gate::kHardSigmoid,
                           .dense = 24,
                           .attention = 24,
                           .masked = false};
  HanConfig masked_lstm = tutorial;
  masked_lstm.masked = true;
  HanConfig unmasked_gru = paper;
  unmasked_gru.masked = false;
  return {{"paper", paper},
          {"paper_keras", keras},
          {"tutorial", tutorial},
          {"masked_lstm", masked_lstm},
          {"unmasked_gru", unmasked_gru}};
}

void PrintTo(const HanVariant& variant, std::ostream* out) {
  *out << variant.name;
}

std::vector<Tensor> han_inputs(const HanConfig& config) {
  constexpr std::int64_t kDocuments = 3, kSentences = 4, kWords = 9;
  std::vector<std::int32_t> ids, words, sentences{4, 1, 2};
  for (std::int64_t row = 0; row < kDocuments * kSentences; ++row) {
    const bool exists = row % kSentences < sentences[static_cast<std::size_t>(row / kSentences)];
    words.push_back(exists ? static_cast<std::int32_t>(1 + (row * 5) % kWords) : 0);
    for (std::int64_t i = 0; i < kWords; ++i) {
      const bool padding = i >= words.back();
      ids.push_back(padding ? 0 : static_cast<std::int32_t>((row * 7 + i * 3) % config.words));
    }
  }
  std::vector<Tensor> inputs{Tensor::of_ids({kDocuments, kSentences, kWords}, ids)};
  if (config.masked) {
    inputs.push_back(Tensor::of_ids({kDocuments, kSentences}, words));
    inputs.push_back(Tensor::of_ids({kDocuments}, sentences));
  }
  return inputs;
}

std::vector<Tensor> run_graph_reference(const Graph& graph, const WeightSource& weights,
                                        const std::vector<Tensor>& inputs) {
  const std::vector<TensorType> value_types = infer_types(graph, types(inputs));
  std::vector<Tensor> values(graph.values.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) values[graph.inputs[i]] = inputs[i];
  for (const Node& node : graph.nodes) {
    std::vector<TensorView> read, taken, written;
    for (const ValueId value : node.inputs) read.push_back(values[value].view());
    for (const Parameter& parameter : parameters_of(node, input_types(node, value_types)))
      taken.push_back(weights(weight_name(node, parameter.name), parameter.shape));
    for (const ValueId value : node.outputs) {
      values[value] = Tensor(value_types[value]);
      written.push_back(values[value].view());
    }
    std::visit([&](const auto& op) { reference(op, {read, taken, written}); }, node.op);
  }
  std::vector<Tensor> outputs;
  for (const ValueId value : graph.outputs) outputs.push_back(values[value]);
  return outputs;
}

std::vector<Tensor> run_executor(Executor& executor, const std::vector<Tensor>& inputs) {
  std::vector<Tensor> outputs;
  for (const TensorType& type : executor.output_types(types(inputs))) outputs.emplace_back(type);
  executor.run(views(inputs), views(outputs));
  for (const Tensor& output : outputs) EXPECT_TRUE(output.guards_intact());
  return outputs;
}

}  // namespace tessera::test
