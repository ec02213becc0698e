// ONNX's recurrent layers, as bidirectional ones: the half that a file of one direction lacks has
// weights of 0, and is cut off again.
#include <algorithm>
#include <limits>

#include "kernels/error.h"
#include "models/import/onnx_converter.h"
#include "models/import/onnx_recurrence.h"

namespace tessera {
namespace {

using Extents = std::vector<std::int64_t>;

std::map<std::string, OnnxWeight> weights_of(const OnnxCall& call, const OnnxRecurrence& layer) {
  std::map<std::string, OnnxWeight> weights;
  const auto add = [&](const std::string& name, const FloatTensor& tensor) {
    const auto dims = tensor.shape.dims();
    auto constant = std::make_shared<OnnxConstant>();
    constant->type = StoredTensor::Type::kF32;
    constant->shape.assign(dims.begin(), dims.end());
    constant->made.assign(tensor.values.begin(), tensor.values.end());
    weights[name] = {constant, tensor.shape, {}};
  };
  const OnnxConstant* const bias = call.has(3) ? &call.constant(3) : nullptr;
  for (const bool reverse : {false, true}) {
    const auto found = std::ranges::find(layer.reverse, reverse);
    const bool there = found != layer.reverse.end();
    const auto given = recurrence_weights(
        layer, there ? static_cast<std::size_t>(found - layer.reverse.begin()) : 0,
        reverse ? "_reverse" : "", call.constant(1), call.constant(2), bias);
    for (const auto& [name, tensor] : given) add(name, there ? tensor : FloatTensor(tensor.shape));
  }
  return weights;
}

void require_zeros(const OnnxCall& call, std::size_t input, const char* what) {
  if (!call.has(input)) return;
  const std::vector<double> values = call.constant(input).values();
  require(std::ranges::count(values, 0.0) == static_cast<std::ptrdiff_t>(values.size()),
          "its {} is not 0", what);
}

void recurrent(const OnnxCall& call) {
  const OnnxRecurrence layer = describe_recurrence(call.node, call.constant(1), call.constant(2));
  const bool batch_first = layer.batch_first;
  const OnnxValue& given = call.map(0);
  const Extents shape = call.shape(given);
  require(shape.size() == 3 && shape[2] == layer.features, "it reads {}, expected {} features",
          shape_text(shape), layer.features);
  if (call.has(4))
    for (const int length : call.constant(4).integers("sequence_lens"))
      require(length == shape[batch_first ? 1 : 0],
              "its sequences are of several lengths; export the model without them");
  require_zeros(call, 5, "initial state");
  if (layer.op.cell == BiRnn::Cell::kLstm) {
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
  static const std::map<std::string_view, OnnxOperator> table{{"GRU", recurrent},
                                                              {"LSTM", recurrent}};
  return table;
}

}  // namespace tessera
