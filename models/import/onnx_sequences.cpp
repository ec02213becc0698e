// ONNX's recurrent layers, as bidirectional ones: the half that a file of one direction lacks has
// weights of 0, and is cut off again.
#include <algorithm>
#include <limits>

#include "kernels/error.h"
#include "models/import/onnx_converter.h"

namespace tessera {
namespace {

using Extents = std::vector<std::int64_t>;

OnnxConstantPtr made_constant(Extents shape, std::vector<double> values) {
  auto constant = std::make_shared<OnnxConstant>();
  constant->type = StoredTensor::Type::kF32;
  constant->shape = std::move(shape);
  constant->made = std::move(values);
  return constant;
}

// What the layer's weights are, and where each direction of the file goes.
struct OnnxRecurrence {
  BiRnn op;
  std::int64_t gates = 0, units = 0, features = 0;
  std::vector<bool> reverse;  // by direction of the file
};

OnnxRecurrence describe(const OnnxCall& call, BiRnn::Cell cell) {
  const bool lstm = cell == BiRnn::Cell::kLstm;
  OnnxRecurrence result;
  result.gates = lstm ? 4 : 3;
  const Extents w = call.constant(1).shape, r = call.constant(2).shape;
  require(w.size() == 3 && r.size() == 3 && r[2] > 0 && r[2] <= 1 << 14 && w[0] == r[0] &&
              w[1] == result.gates * r[2] && r[1] == w[1],
          "its weights are {} and {}", shape_text(w), shape_text(r));
  result.units = r[2];
  result.features = w[2];
  const std::string direction = call.attributes.text("direction", "forward");
  require(direction == "forward" || direction == "reverse" || direction == "bidirectional",
          "its direction is {}", direction);
  if (direction == "bidirectional")
    result.reverse = {false, true};
  else
    result.reverse = {direction == "reverse"};
  require(w[0] == static_cast<std::int64_t>(result.reverse.size()), "its weights are {}",
          shape_text(w));
  result.op.cell = cell;
  result.op.units = static_cast<int>(result.units);
  result.op.masked = false;
  result.op.reset_after = lstm || call.attributes.integer("linear_before_reset", 0) != 0;
  require(!call.attributes.has("clip") && call.attributes.integer("input_forget", 0) == 0,
          "it clips, or couples its gates");
  if (const OnnxAttribute* given = call.attributes.find("activations")) {
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
    require(!call.attributes.has("activation_alpha") && !call.attributes.has("activation_beta"),
            "its activations have numbers of their own");
  }
  return result;
}

// Blocks of a direction's rows in our order of gates: i, f, g, o of i, o, f, c; r, z, n of z, r, h.
std::vector<double> in_our_order(const std::vector<double>& values, std::size_t begin,
                                 std::size_t count, bool lstm) {
  const std::vector<std::size_t> order =
      lstm ? std::vector<std::size_t>{0, 2, 3, 1} : std::vector<std::size_t>{1, 0, 2};
  const std::size_t block = count / order.size();
  std::vector<double> result;
  for (const std::size_t gate : order) {
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(begin + gate * block);
    result.insert(result.end(), first, first + static_cast<std::ptrdiff_t>(block));
  }
  return result;
}

std::map<std::string, OnnxWeight> weights_of(const OnnxCall& call, const OnnxRecurrence& layer) {
  const bool lstm = layer.op.cell == BiRnn::Cell::kLstm;
  const std::int64_t rows = layer.gates * layer.units;
  const auto count = static_cast<std::size_t>(rows);
  const std::vector<double> w = call.constant(1).values(), r = call.constant(2).values();
  std::vector<double> b(2 * count * layer.reverse.size(), 0);
  if (call.has(3)) {
    b = call.constant(3).values();
    require(b.size() == 2 * count * layer.reverse.size(), "its bias has {} numbers", b.size());
  }
  std::map<std::string, OnnxWeight> weights;
  const auto give = [&](const std::string& name, const Extents& shape, std::vector<double> values) {
    weights[name] = {made_constant(shape, std::move(values)), Shape(shape), {}};
  };
  for (const bool reverse : {false, true}) {
    const std::string suffix = reverse ? "_reverse" : "";
    const auto found = std::ranges::find(layer.reverse, reverse);
    const bool there = found != layer.reverse.end();
    const auto at = static_cast<std::size_t>(found - layer.reverse.begin());
    const auto part = [&](const std::vector<double>& values, std::size_t begin, std::size_t size) {
      return there ? in_our_order(values, begin, size, lstm) : std::vector<double>(size, 0);
    };
    const std::size_t wide = count * static_cast<std::size_t>(layer.features);
    const std::size_t square = count * static_cast<std::size_t>(layer.units);
    give("weight_ih" + suffix, {rows, layer.features}, part(w, at * wide, wide));
    give("weight_hh" + suffix, {rows, layer.units}, part(r, at * square, square));
    give("bias_ih" + suffix, {rows}, part(b, at * 2 * count, count));
    give("bias_hh" + suffix, {rows}, part(b, at * 2 * count + count, count));
  }
  return weights;
}

void require_zeros(const OnnxCall& call, std::size_t input, const char* what) {
  if (!call.has(input)) return;
  const std::vector<double> values = call.constant(input).values();
  require(std::ranges::count(values, 0.0) == static_cast<std::ptrdiff_t>(values.size()),
          "its {} is not 0", what);
}

template <BiRnn::Cell cell>
void recurrent(const OnnxCall& call) {
  const OnnxRecurrence layer = describe(call, cell);
  const bool batch_first = call.attributes.integer("layout", 0) != 0;
  const OnnxValue& given = call.map(0);
  const Extents shape = call.shape(given);
  require(shape.size() == 3 && shape[2] == layer.features, "it reads {}, expected {} features",
          shape_text(shape), layer.features);
  if (call.has(4))
    for (const int length : call.constant(4).integers("sequence_lens"))
      require(length == shape[batch_first ? 1 : 0],
              "its sequences are of several lengths; export the model without them");
  require_zeros(call, 5, "initial state");
  if (cell == BiRnn::Cell::kLstm) {
    require_zeros(call, 6, "initial cell state");
    require_zeros(call, 7, "peephole");
    call.refuse_outputs_from(2);
  }
  const OnnxValue x =
      call.in_order(given, batch_first ? std::vector{0, 1, 2} : std::vector{1, 0, 2});  // (n, t, f)
  const auto units = static_cast<int>(layer.units);
  const auto directions = static_cast<int>(layer.reverse.size());
  OnnxValue y = call.add(layer.op, {x}, x, weights_of(call, layer));  // (n, t, 2 units)
  if (directions == 1) {
    const int begin = layer.reverse[0] ? units : 0;
    y = call.add(Slice{{begin}, {begin + units}, {2}, {1}}, {y}, y, {}, "/direction");
  }
  OnnxValue all = y;  // (n, t, directions, units)
  all.order = batch_first ? std::vector{0, 1, 2, 3} : std::vector{2, 0, 1, 3};
  all = call.add(Reshape{{0, 0, directions, units}}, {y}, all, {}, "/directions");
  call.set(0, all);
  if (call.node.outputs.size() < 2 || call.node.outputs[1].empty()) return;
  // The last state of each direction: at the last step, or at the first.
  std::vector<OnnxValue> ends;
  for (int i = 0; i < directions; ++i) {
    const bool reverse = layer.reverse[static_cast<std::size_t>(i)];
    constexpr int kEnd = std::numeric_limits<int>::max();
    ends.push_back(
        call.add(Slice{{reverse ? 0 : -1, i}, {reverse ? 1 : kEnd, i + 1}, {1, 2}, {1, 1}}, {all},
                 all, {}, "/end"));
  }
  const OnnxValue both = directions == 1 ? ends[0] : call.add(Concat{2}, ends, all, {}, "/ends");
  OnnxValue state = both;
  state.order = batch_first ? std::vector{0, 1, 2} : std::vector{1, 0, 2};
  call.set(1, call.add(Reshape{{0, directions, units}}, {both}, state, {}, "/state"));
}

}  // namespace

const std::map<std::string_view, OnnxOperator>& onnx_sequences() {
  static const std::map<std::string_view, OnnxOperator> table{
      {"GRU", recurrent<BiRnn::Cell::kGru>}, {"LSTM", recurrent<BiRnn::Cell::kLstm>}};
  return table;
}

}  // namespace tessera
