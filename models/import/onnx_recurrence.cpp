#include "models/import/onnx_recurrence.h"

#include <algorithm>

#include "kernels/error.h"

namespace tessera {
namespace {

// A direction's blocks of rows in our order of gates: i, f, g, o of i, o, f, c; r, z, n of z, r, h.
FloatTensor gates_in_our_order(const OnnxRecurrence& layer, const std::vector<double>& values,
                               std::size_t begin, const Shape& shape) {
  const std::vector<std::size_t> order =
      layer.gates == 4 ? std::vector<std::size_t>{0, 2, 3, 1} : std::vector<std::size_t>{1, 0, 2};
  FloatTensor result(shape);
  const std::size_t block = result.values.size() / order.size();
  auto to = result.values.begin();
  for (const std::size_t gate : order) {
    const auto from = values.begin() + static_cast<std::ptrdiff_t>(begin + gate * block);
    to = std::transform(from, from + static_cast<std::ptrdiff_t>(block), to,
                        [](double value) { return static_cast<float>(value); });
  }
  return result;
}

}  // namespace

OnnxRecurrence describe_recurrence(const OnnxNode& node, const OnnxConstant& w_given,
                                   const OnnxConstant& r_given) {
  const OnnxAttributes attributes(node);
  const bool lstm = node.op == "LSTM";
  OnnxRecurrence result;
  result.gates = lstm ? 4 : 3;
  const std::vector<std::int64_t>&w = w_given.shape, &r = r_given.shape;
  require(w.size() == 3 && r.size() == 3 && r[2] > 0 && r[2] <= 1 << 14 && w[0] == r[0] &&
              w[1] == result.gates * r[2] && r[1] == w[1],
          "its weights are {} and {}", shape_text(w), shape_text(r));
  result.units = r[2];
  result.features = w[2];
  const std::string direction = attributes.text("direction", "forward");
  require(direction == "forward" || direction == "reverse" || direction == "bidirectional",
          "its direction is {}", direction);
  if (direction == "bidirectional")
    result.reverse = {false, true};
  else
    result.reverse = {direction == "reverse"};
  require(w[0] == static_cast<std::int64_t>(result.reverse.size()), "its weights are {}",
          shape_text(w));
  result.batch_first = attributes.integer("layout", 0) != 0;
  result.op.cell = lstm ? BiRnn::Cell::kLstm : BiRnn::Cell::kGru;
  result.op.units = static_cast<int>(result.units);
  result.op.masked = false;
  result.op.reset_after = lstm || attributes.integer("linear_before_reset", 0) != 0;
  require(!attributes.has("clip") && attributes.integer("input_forget", 0) == 0,
          "it clips, or couples its gates");
  if (const OnnxAttribute* given = attributes.find("activations")) {
    const std::size_t each = lstm ? 3 : 2;
    const std::vector<std::string>& names = given->texts;
    require(names.size() == each * result.reverse.size(), "its activations are {}", names.size());
    const bool hard = names[0] == "HardSigmoid";
    result.op.gate = hard ? BiRnn::Gate::kHardSigmoid : BiRnn::Gate::kSigmoid;
    for (std::size_t i = 0; i < names.size(); ++i)
      require(names[i] == (i % each != 0 ? "Tanh"
                           : hard        ? "HardSigmoid"
                                         : "Sigmoid"),
              "its activation {} is {}", i, names[i]);
    require(!attributes.has("activation_alpha") && !attributes.has("activation_beta"),
            "its activations have numbers of their own");
  }
  return result;
}

std::map<std::string, FloatTensor> recurrence_weights(const OnnxRecurrence& layer,
                                                      std::size_t direction,
                                                      const std::string& suffix,
                                                      const OnnxConstant& w, const OnnxConstant& r,
                                                      const OnnxConstant* b) {
  const std::int64_t rows = layer.rows();
  const auto count = static_cast<std::size_t>(rows);
  std::vector<double> bias(2 * count * layer.reverse.size(), 0);
  if (b != nullptr) {
    const std::vector<double> given = b->values();
    require(given.size() == bias.size(), "its bias has {} numbers", given.size());
    bias = given;
  }
  std::map<std::string, FloatTensor> weights;
  const auto give = [&](const char* name, const std::vector<double>& values, std::size_t begin,
                        const Shape& shape) {
    weights.emplace(name + suffix, gates_in_our_order(layer, values, begin, shape));
  };
  give("weight_ih", w.values(), direction * count * static_cast<std::size_t>(layer.features),
       {rows, layer.features});
  give("weight_hh", r.values(), direction * count * static_cast<std::size_t>(layer.units),
       {rows, layer.units});
  give("bias_ih", bias, direction * 2 * count, {rows});
  give("bias_hh", bias, direction * 2 * count + count, {rows});
  return weights;
}

}  // namespace tessera
