#include "kernels/ops/rnn/rnn.h"

#include <algorithm>

#include "kernels/lengths.h"
#include "kernels/ops/rnn/recurrence.h"

namespace tessera {

std::vector<TensorType> infer(const BiRnn& op, Types inputs) {
  require(op.units > 0, "rnn: units must be positive, not {}", op.units);
  const std::size_t expected = op.masked ? 2 : 1;
  require(inputs.size() == expected, "rnn: expected {} inputs ({}{}), found {}", expected,
          op.embedding ? "ids" : "x", op.masked ? ", lengths" : "", inputs.size());
  const TensorType& x = inputs[0];
  if (op.embedding) {
    infer(*op.embedding, inputs.first(1));
    require(x.shape.rank() >= 1 && x.shape[-1] > 0,
            "rnn: ids must be i32 (..., t) with t > 0, not {}", x);
  } else {
    require(x.dtype == DType::kF32 && x.shape.rank() >= 2 && x.shape[-1] > 0 && x.shape[-2] > 0,
            "rnn: x must be f32 (..., t, features) with t > 0 and features > 0, not {}", x);
  }
  if (op.masked) require_lengths_type("rnn", inputs, op.embedding ? -1 : -2);
  if (op.carried) {
    require(!op.masked, "rnn: a state that is carried goes through padding; masked must be false");
    require(x.shape.rank() >= (op.embedding ? 2 : 3),
            "rnn: a state is carried along the axis before the steps, which {} does not have", x);
  }
  const auto leading = x.shape.dims().first(x.shape.dims().size() - (op.embedding ? 0 : 1));
  std::vector<std::int64_t> dims(leading.begin(), leading.end());
  dims.push_back(2 * std::int64_t{op.units});
  return {{DType::kF32, Shape(dims)}};
}

std::vector<Parameter> parameters(const BiRnn& op, Types inputs) {
  const std::int64_t rows = static_cast<std::int64_t>(gate_count(op)) * op.units;
  const std::int64_t features = op.embedding ? op.embedding->features : inputs[0].shape[-1];
  std::vector<Parameter> list;
  if (op.embedding)
    list.push_back({"embedding", {op.embedding->words, features}, Role::kTable, kEmbeddingStart});
  // A forget gate (the second of i, f, g, o) starts open: Jozefowicz et al. 2015.
  Start gates = constant(0);
  if (op.cell == BiRnn::Cell::kLstm) gates.ones_begin = op.units, gates.ones_end = 2 * op.units;
  for (const char* suffix : {"", "_reverse"}) {
    const auto add = [&](const char* name, Shape shape, Role role, Start start) {
      list.push_back({std::string(name) + suffix, shape, role, start});
    };
    add("weight_ih", {rows, features}, Role::kWeight, glorot(features, rows));
    add("weight_hh", {rows, op.units}, Role::kWeight, orthogonal());
    add("bias_ih", {rows}, Role::kBias, gates);
    add("bias_hh", {rows}, Role::kBias, constant(0));
  }
  return list;
}

Cost cost(const BiRnn& op, Types inputs) {
  // Every step as if all were valid and every word distinct: what the contents save is not known.
  const double gate_units = static_cast<double>(gate_count(op)) * op.units;
  const Shape& shape = inputs[0].shape;
  const std::int64_t features = op.embedding ? op.embedding->features : shape[-1];
  const std::int64_t steps = op.embedding ? shape.elements() : shape.elements() / features;
  const double multiplications = gate_units * static_cast<double>(features + op.units);
  double bytes = bytes_moved(op, inputs);
  if (op.embedding) {  // of the table, only the rows that are looked up move
    const auto unused = static_cast<double>(op.embedding->words) - static_cast<double>(steps);
    bytes -= 4.0 * static_cast<double>(features) * std::max(0.0, unused);
  }
  return {2 * 2 * multiplications * static_cast<double>(steps), bytes};
}

Extent extent(const BiRnn&, const Along& along, std::span<const Interval>) {
  return global_extent(along);
}

BiRnn part(const BiRnn& op, const Along&, Extent&) {
  return op;
}

}  // namespace tessera
