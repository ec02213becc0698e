// Operators of documents as ONNX. What ONNX has no mask for is masked by comparing each step's
// number with the length, so that documents of any lengths share a batch.
#include <algorithm>
#include <limits>

#include "kernels/error.h"
#include "models/export/onnx_nodes.h"

namespace tessera {
namespace {

using Integers = OnnxWriter::Integers;
using Texts = OnnxWriter::Texts;
constexpr std::int64_t kToFloat = 1, kToInt32 = 6;

// (..., t), bool: whether the step is one of the sequence, of `x` (..., t, features).
std::string steps_within(OnnxExport& to, const std::string& x, const std::string& lengths) {
  const std::string steps =
      to.call("Range",
              {to.out.integer(0), to.call("Squeeze", {to.extents(x, -2, -1), to.out.integers({0})}),
               to.out.integer(1)});
  return to.call("Less", {steps, to.call("Unsqueeze", {lengths, to.out.integers({-1})})});
}

// Blocks of rows, one for each gate, in ONNX's order.
std::vector<float> gates_of(const std::vector<float>& values, const BiRnn& op) {
  const bool lstm = op.cell == BiRnn::Cell::kLstm;
  // Ours are i, f, g, o and r, z, n; ONNX's are i, o, f, c and z, r, h.
  const std::vector<std::size_t> order =
      lstm ? std::vector<std::size_t>{0, 3, 1, 2} : std::vector<std::size_t>{1, 0, 2};
  const std::size_t block = values.size() / order.size();
  std::vector<float> result;
  for (const std::size_t gate : order)
    result.insert(result.end(), values.begin() + static_cast<std::ptrdiff_t>(gate * block),
                  values.begin() + static_cast<std::ptrdiff_t>((gate + 1) * block));
  return result;
}

// W, R and B of the directions with these suffixes.
Texts weights_of(OnnxExport& to, const BiRnn& op, const std::vector<std::string>& suffixes) {
  Texts names;
  const std::vector<Texts> parts{{"weight_ih"}, {"weight_hh"}, {"bias_ih", "bias_hh"}};
  for (const Texts& parameters : parts) {
    std::vector<float> values;
    Shape shape;
    for (const std::string& suffix : suffixes) {
      for (const std::string& parameter : parameters) {
        const FloatTensor weight = to.weight(parameter + suffix);
        shape = weight.shape;
        const std::vector<float> gates = gates_of(weight.values, op);
        values.insert(values.end(), gates.begin(), gates.end());
      }
    }
    const auto directions = static_cast<std::int64_t>(suffixes.size());
    FloatTensor tensor;
    tensor.shape =
        shape.rank() == 2 ? Shape{directions, shape[0], shape[1]} : Shape{directions, 2 * shape[0]};
    tensor.values = std::move(values);
    names.push_back(to.constant_of(parameters[0] + suffixes[0] + "/gates", tensor));
  }
  return names;
}

// The layer over x (t, n, features): y (t, directions, n, units).
std::string recurrence(OnnxExport& to, const BiRnn& op, const std::string& x,
                       const std::vector<std::string>& suffixes, const std::string& lengths) {
  const bool lstm = op.cell == BiRnn::Cell::kLstm;
  Texts inputs{x};
  for (const std::string& weight : weights_of(to, op, suffixes)) inputs.push_back(weight);
  if (!lengths.empty()) inputs.push_back(lengths);
  OnnxWriter::Attributes attributes{
      {"hidden_size", std::int64_t{op.units}},
      {"direction", std::string(suffixes.size() == 2 ? "bidirectional" : "forward")}};
  if (op.gate == BiRnn::Gate::kHardSigmoid) {  // ONNX's is that of Keras: 0.2 x + 0.5
    Texts functions;
    for (std::size_t i = 0; i < suffixes.size(); ++i) {
      functions.insert(functions.end(), {"HardSigmoid", "Tanh"});
      if (lstm) functions.push_back("Tanh");
    }
    attributes.push_back({"activations", functions});
  }
  if (!lstm) attributes.push_back({"linear_before_reset", std::int64_t{op.reset_after}});
  return to.call(lstm ? "LSTM" : "GRU", inputs, attributes);
}

// All sequences of a document behind each other: in one direction the state simply goes on, in the
// other the steps of each sequence are turned around before and after.
void export_carried(OnnxExport& to, const BiRnn& op) {
  require(to.rank(0) == 4, "its state goes from sequence to sequence of {}", to.type(0));
  const std::string& x = to.ours(0);  // (documents, sequences, t, features)
  const std::int64_t features = to.channels(0);
  const auto turned = [&](const std::string& value) {
    const std::string end = to.out.integers({std::numeric_limits<std::int64_t>::min()});
    return to.call(
        "Slice", {value, to.out.integers({-1}), end, to.out.integers({2}), to.out.integers({-1})});
  };
  const std::string shape = to.call("Concat", {to.extents(x, 0, 3), to.out.integers({op.units})},
                                    {{"axis", std::int64_t{0}}});
  Texts directions;
  for (const std::string suffix : {"", "_reverse"}) {
    const bool reverse = !suffix.empty();
    const std::string steps =
        to.call("Reshape", {reverse ? turned(x) : x, to.out.integers({0, -1, features})});
    const std::string first =
        to.call("Transpose", {steps}, {{"perm", Integers{1, 0, 2}}});  // (steps, n, f)
    const std::string y = recurrence(to, op, first, {suffix}, "");
    const std::string last = to.call("Transpose", {y}, {{"perm", Integers{2, 0, 1, 3}}});
    const std::string whole = to.call("Reshape", {last, shape});
    directions.push_back(reverse ? turned(whole) : whole);
  }
  to.set_ours(to.call("Concat", directions, {{"axis", std::int64_t{3}}}));
}

}  // namespace

void export_node(OnnxExport& to, const BiRnn& op) {
  require(!op.embedding, "it is fused");
  if (op.carried) return export_carried(to, op);
  const std::string& x = to.ours(0);  // (..., t, features)
  const std::int64_t features = to.channels(0), width = 2 * std::int64_t{op.units};
  require(to.rank(0) >= 3, "it takes (..., t, features), not {}", to.type(0));
  const auto extents_with = [&](std::int64_t last) {
    return to.call("Concat", {to.extents(x, 0, -1), to.out.integers({last})},
                   {{"axis", std::int64_t{0}}});
  };
  std::string sequences = x, lengths;
  if (to.rank(0) > 3) {
    const std::string shape = to.call(
        "Concat", {to.out.integers({-1}), to.extents(x, -2, -1), to.out.integers({features})},
        {{"axis", std::int64_t{0}}});
    sequences = to.call("Reshape", {x, shape});
  }
  if (op.masked) {
    // An empty sequence runs one step, which is then masked: runtimes need not know lengths of 0.
    const std::string flat = to.call("Reshape", {to.ours(1), to.out.integers({-1})});
    lengths = to.call("Cast", {to.call("Max", {flat, to.out.integer(1)})}, {{"to", kToInt32}});
  }
  const std::string first = to.call("Transpose", {sequences}, {{"perm", Integers{1, 0, 2}}});
  std::string y = recurrence(to, op, first, {"", "_reverse"}, lengths);
  y = to.call("Transpose", {y}, {{"perm", Integers{2, 0, 1, 3}}});  // (n, t, 2, units)
  y = to.call("Reshape",
              {y, to.rank(0) > 3 ? extents_with(width) : to.out.integers({0, 0, width})});
  if (op.masked) {
    const std::string within =
        to.call("Cast", {steps_within(to, x, to.ours(1))}, {{"to", kToFloat}});
    y = to.call("Mul", {y, to.call("Unsqueeze", {within, to.out.integers({-1})})});
  }
  to.set_ours(y);
}

void export_node(OnnxExport& to, const Attention& op) {
  require(!op.dense, "it is fused");
  const std::string& x = to.ours(0);  // (..., t, d)
  const std::string matrix = to.constant_of("weight/transposed", transposed(to.weight("weight")));
  const std::string hidden = to.call("Tanh", {to.plus_bias(to.call("MatMul", {x, matrix}), true)});
  const std::string scores = to.call("MatMul", {hidden, to.constant("context", {op.units, 1})});
  std::string e = to.call("Squeeze", {scores, to.out.integers({-1})});  // (..., t)
  if (op.tanh_score) e = to.call("Tanh", {e});

  const OnnxWriter::Attributes last{{"axes", Integers{-1}}, {"keepdims", std::int64_t{1}}};
  const std::string zero = to.out.number(0);
  std::string attention;
  if (!op.masked && op.eps == 0) {
    attention = to.call("Softmax", {e}, {{"axis", std::int64_t{-1}}});
  } else {
    std::string within, any, most;
    if (op.masked) {
      within = steps_within(to, x, to.ours(1));
      const std::string lengths = to.call("Unsqueeze", {to.ours(1), to.out.integers({-1})});
      any = to.call("Greater", {lengths, to.out.integer(0)});
      const std::string least = to.out.number(std::numeric_limits<float>::lowest());
      most = to.call("ReduceMax", {to.call("Where", {within, e, least})}, last);
      most = to.call("Where", {any, most, zero});
    } else {
      most = to.call("ReduceMax", {e}, last);
    }
    std::string power = to.call("Exp", {to.call("Sub", {e, most})});
    if (op.masked) power = to.call("Where", {within, power, zero});
    std::string sum =
        to.call("ReduceSum", {power, to.out.integers({-1})}, {{"keepdims", std::int64_t{1}}});
    if (op.eps > 0) {
      const std::string eps = to.out.number(static_cast<float>(op.eps));
      sum = to.call("Add", {sum, to.call("Mul", {to.call("Exp", {to.call("Neg", {most})}), eps})});
    }
    if (op.masked) sum = to.call("Where", {any, sum, to.out.number(1)});
    attention = to.call("Div", {power, sum});
  }
  const std::string row = to.call("Unsqueeze", {attention, to.out.integers({-2})});
  const std::string pooled = to.call("MatMul", {row, x});  // (..., 1, d)
  to.set_ours(to.call("Squeeze", {pooled, to.out.integers({-2})}));
  to.set_ours(attention, 1);
}

}  // namespace tessera
