// What a network of documents computes, in double and in plain loops: the oracle that a HAN out of
// an ONNX file is held against. https://onnx.ai/onnx/operators/
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kernels/error.h"
#include "models/import/onnx_fold.h"
#include "models/import/onnx_recurrence.h"

namespace tessera {
namespace {

using Extents = std::vector<std::int64_t>;
using Constants = std::vector<OnnxConstantPtr>;

// A call that also counts what it multiplies.
struct Computed : OnnxFold {
  std::int64_t& work;

  void add_work(std::initializer_list<std::int64_t> factors) const {
    std::int64_t product = 1;
    for (const std::int64_t factor : factors)
      require(!__builtin_mul_overflow(product, factor, &product), "it is too large");
    require(!__builtin_sub_overflow(work, product, &work) && work >= 0,
            "the network is too large to be tried out at import");
  }
};

// ---- matrices ----------------------------------------------------------------------------------

// (m, k) x (k, n) of a and b from these elements on.
void multiply(const std::vector<double>& a, std::size_t a_at, const std::vector<double>& b,
              std::size_t b_at, std::vector<double>& y, std::size_t y_at, std::size_t m,
              std::size_t k, std::size_t n) {
  for (std::size_t row = 0; row < m; ++row)
    for (std::size_t i = 0; i < k; ++i) {
      const double factor = a[a_at + row * k + i];
      for (std::size_t column = 0; column < n; ++column)
        y[y_at + row * n + column] += factor * b[b_at + i * n + column];
    }
}

Constants matmul(const Computed& call) {
  const OnnxConstant &a = call.input(0), &b = call.input(1);
  Extents left = a.shape, right = b.shape;
  require(!left.empty() && !right.empty(), "it multiplies {} and {}", shape_text(left),
          shape_text(right));
  const bool row = left.size() == 1, column = right.size() == 1;
  if (row) left.insert(left.begin(), 1);
  if (column) right.push_back(1);
  const std::int64_t m = left[left.size() - 2], k = left.back(), n = right.back();
  require(right[right.size() - 2] == k, "it multiplies {} and {}", shape_text(a.shape),
          shape_text(b.shape));
  const Extents left_batch(left.begin(), left.end() - 2),
      right_batch(right.begin(), right.end() - 2);
  const Extents batch = broadcast_shape(left_batch, right_batch);
  call.add_work({onnx_elements(batch), m, k, n});
  Extents shape = batch;
  shape.insert(shape.end(), {m, n});
  const auto y = onnx_blank(a.type, shape);
  const std::vector<double> x = a.values(), w = b.values();
  const auto size = [](std::int64_t extent) { return static_cast<std::size_t>(extent); };
  std::vector<std::size_t> places(size(onnx_elements(batch)));
  onnx_each(batch, onnx_broadcast_steps(left_batch, batch), 0,
            [&](std::size_t i, std::size_t from) { places[i] = from; });
  onnx_each(batch, onnx_broadcast_steps(right_batch, batch), 0,
            [&](std::size_t i, std::size_t from) {
              multiply(x, places[i] * size(m * k), w, from * size(k * n), y->made, i * size(m * n),
                       size(m), size(k), size(n));
            });
  if (column) shape.pop_back();
  if (row) shape.erase(shape.end() - (column ? 1 : 2));
  y->shape = shape;
  return {y};
}

OnnxConstantPtr turned(const OnnxConstant& matrix) {
  require(matrix.shape.size() == 2, "it multiplies {}, expected a matrix",
          shape_text(matrix.shape));
  return onnx_gathered(matrix, {matrix.shape[1], matrix.shape[0]}, {1, matrix.shape[1]});
}

Constants gemm(const Computed& call) {
  const auto operand = [&](std::size_t i, const char* transposed) {
    require(call.input(i).shape.size() == 2, "it multiplies {}, expected a matrix",
            shape_text(call.input(i).shape));
    return call.attributes.integer(transposed, 0) != 0 ? turned(call.input(i)) : call.inputs[i];
  };
  const Constants operands{operand(0, "transA"), operand(1, "transB")};
  const OnnxConstantPtr product =
      matmul({{call.node, call.opset, operands, call.attributes}, call.work})[0];
  const auto y = std::make_shared<OnnxConstant>(*product);
  const double alpha = call.attributes.number("alpha", 1), beta = call.attributes.number("beta", 1);
  for (double& value : y->made) value *= alpha;
  if (call.has(2)) {
    const OnnxConstant& bias = call.input(2);
    require(broadcast_shape(y->shape, bias.shape) == y->shape, "its bias is {}",
            shape_text(bias.shape));
    const std::vector<double> values = bias.values();
    onnx_each(y->shape, onnx_broadcast_steps(bias.shape, y->shape), 0,
              [&](std::size_t i, std::size_t from) { y->made[i] += beta * values.at(from); });
  }
  return {y};
}

// ---- along an axis -----------------------------------------------------------------------------

// Calls body(values) for each row of elements along `axis`; what it leaves there is kept.
OnnxConstantPtr by_rows(const OnnxConstant& x, std::size_t axis,
                        const std::function<void(std::vector<double>&)>& body) {
  const auto y = onnx_blank(x.type, x.shape);
  y->made = x.values();
  const auto step = static_cast<std::size_t>(onnx_strides(x.shape)[axis]);
  const auto extent = static_cast<std::size_t>(x.shape[axis]);
  std::vector<double> row(extent);
  for (std::size_t i = 0; i < y->made.size(); ++i) {
    if (i / step % extent != 0) continue;
    for (std::size_t k = 0; k < extent; ++k) row[k] = y->made[i + k * step];
    body(row);
    for (std::size_t k = 0; k < extent; ++k) y->made[i + k * step] = row[k];
  }
  return y;
}

Constants softmax_of(const Computed& call, bool logarithm) {
  const OnnxConstant& x = call.input(0);
  const bool older = call.opset < 13;  // takes all axes from `axis` on for one
  const std::size_t axis =
      call.axis(call.attributes.integer("axis", older ? 1 : -1), x.shape.size());
  for (std::size_t i = axis + 1; older && i < x.shape.size(); ++i)
    require(x.shape[i] == 1, "it takes several axes for one, as opsets before 13 do");
  return {by_rows(x, axis, [&](std::vector<double>& row) {
    const double most = *std::ranges::max_element(row);
    double sum = 0;
    for (const double value : row) sum += std::exp(value - most);
    for (double& value : row)
      value = logarithm ? value - most - std::log(sum) : std::exp(value - most) / sum;
  })};
}

Constants mean(const Computed& call) {
  const OnnxConstantPtr sum = onnx_reduced(call, 0, [](double a, double b) { return a + b; });
  const auto y = onnx_blank(sum->type, sum->shape);
  y->made = sum->values();
  const auto count = static_cast<double>(call.input(0).elements()) /
                     static_cast<double>(std::max<std::size_t>(y->made.size(), 1));
  for (double& value : y->made) value /= count;
  return {y};
}

Constants split(const Computed& call) {
  const OnnxConstant& x = call.input(0);
  const std::size_t axis = call.axis(call.attributes.integer("axis", 0), x.shape.size());
  const std::vector<int> sizes =
      split_sizes(x.shape[axis], call.node.outputs.size(), call.list(1, "split"));
  Constants results;
  const Extents steps = onnx_strides(x.shape);
  std::int64_t first = 0;
  for (const int size : sizes) {
    Extents shape = x.shape;
    shape[axis] = size;
    results.push_back(onnx_gathered(x, shape, steps, first * steps[axis]));
    first += size;
  }
  return results;
}

Constants top_k(const Computed& call) {
  const OnnxConstant& x = call.input(0);
  const std::size_t axis = call.axis(call.attributes.integer("axis", -1), x.shape.size());
  const bool largest = call.attributes.integer("largest", 1) != 0;
  const std::vector<int> k = call.list(1, "k", {static_cast<int>(call.attributes.integer("k", 0))});
  require(k.size() == 1 && k[0] >= 0 && k[0] <= x.shape[axis], "it takes {} of {}",
          k.empty() ? 0 : k[0], x.shape[axis]);
  const auto order_of = [&](const std::vector<double>& row) {
    std::vector<std::size_t> order(row.size());
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](std::size_t a, std::size_t b) {
      return largest ? row[a] > row[b] : row[a] < row[b];
    });
    return order;
  };
  const OnnxConstantPtr sorted = by_rows(x, axis, [&](std::vector<double>& row) {
    std::vector<double> result;
    for (const std::size_t i : order_of(row)) result.push_back(row[i]);
    row = result;
  });
  const OnnxConstantPtr places = by_rows(x, axis, [&](std::vector<double>& row) {
    const std::vector<std::size_t> order = order_of(row);
    std::ranges::copy(order, row.begin());
  });
  Extents shape = x.shape;
  shape[axis] = k[0];
  const Extents steps = onnx_strides(x.shape);
  const auto indices = std::make_shared<OnnxConstant>(*onnx_gathered(*places, shape, steps));
  indices->type = StoredTensor::Type::kI64;
  return {onnx_gathered(*sorted, shape, steps), indices};
}

// Index `at` of `extent`, counted from the end where it is negative.
std::size_t index_of(double at, std::int64_t extent) {
  const auto count = static_cast<double>(extent);
  require(at >= -count && at < count, "index {} is none of {}", at, extent);
  return static_cast<std::size_t>(at < 0 ? at + count : at);
}

Constants scatter_elements(const Computed& call) {
  const OnnxConstant &x = call.input(0), &indices = call.input(1), &updates = call.input(2);
  const std::size_t axis = call.axis(call.attributes.integer("axis", 0), x.shape.size());
  require(call.attributes.text("reduction", "none") == "none", "it combines what it scatters");
  require(indices.shape == updates.shape && indices.shape.size() == x.shape.size(),
          "it scatters {} to {}", shape_text(updates.shape), shape_text(indices.shape));
  for (std::size_t i = 0; i < x.shape.size(); ++i)
    require(i == axis || indices.shape[i] <= x.shape[i], "it scatters {} into {}",
            shape_text(updates.shape), shape_text(x.shape));
  const auto y = onnx_blank(x.type, x.shape);
  y->made = x.values();
  const Extents steps = onnx_strides(x.shape);
  Extents moves = steps;
  moves[axis] = 0;
  const std::vector<double> at = indices.values(), values = updates.values();
  onnx_each(indices.shape, moves, 0, [&](std::size_t i, std::size_t to) {
    to += index_of(at[i], x.shape[axis]) * static_cast<std::size_t>(steps[axis]);
    y->made.at(to) = values[i];
  });
  return {y};
}

Constants gather_elements(const Computed& call) {
  const OnnxConstant &x = call.input(0), &indices = call.input(1);
  const std::size_t axis = call.axis(call.attributes.integer("axis", 0), x.shape.size());
  require(indices.shape.size() == x.shape.size(), "it gathers {} of {}", shape_text(indices.shape),
          shape_text(x.shape));
  for (std::size_t i = 0; i < x.shape.size(); ++i)
    require(i == axis || indices.shape[i] <= x.shape[i], "it gathers {} of {}",
            shape_text(indices.shape), shape_text(x.shape));
  const auto y = onnx_blank(x.type, indices.shape);
  const Extents steps = onnx_strides(x.shape);
  Extents moves = steps;
  moves[axis] = 0;
  const std::vector<double> at = indices.values(), values = x.values();
  onnx_each(indices.shape, moves, 0, [&](std::size_t i, std::size_t from) {
    from += index_of(at[i], x.shape[axis]) * static_cast<std::size_t>(steps[axis]);
    y->made[i] = values.at(from);
  });
  return {y};
}

Constants tile(const Computed& call) {
  const OnnxConstant& x = call.input(0);
  const std::vector<int> times = call.list(1, "repeats");
  require(times.size() == x.shape.size(), "it repeats {} of {} axes", times.size(), x.shape.size());
  // Each axis becomes two, of which the first repeats.
  Extents shape, steps, result;
  const Extents dense = onnx_strides(x.shape);
  for (std::size_t i = 0; i < times.size(); ++i) {
    require(times[i] >= 0, "it repeats {} times", times[i]);
    shape.insert(shape.end(), {times[i], x.shape[i]});
    steps.insert(steps.end(), {0, dense[i]});
    result.push_back(times[i] * x.shape[i]);
  }
  return {onnx_reshaped(*onnx_gathered(x, shape, steps), result)};
}

// ---- recurrent layers --------------------------------------------------------------------------

double gate_of(const BiRnn& op, double x) {
  return op.gate == BiRnn::Gate::kHardSigmoid ? std::clamp(0.2 * x + 0.5, 0.0, 1.0)
                                              : 1 / (1 + std::exp(-x));
}

// One step of one sequence: `gates` are W x + b of it, `state` (and of an LSTM `cell`) move on.
class Cell {
 public:
  Cell(const OnnxRecurrence& layer, std::map<std::string, FloatTensor> weights)
      : layer_(layer), weights_(std::move(weights)) {}

  void step(const double* x, std::vector<double>& state, std::vector<double>& cell) const {
    const std::vector<double> in = product("weight_ih", "bias_ih", x, layer_.features);
    const std::vector<double> back = product("weight_hh", "bias_hh", state.data(), layer_.units);
    const auto units = static_cast<std::size_t>(layer_.units);
    const auto at = [&](const std::vector<double>& values, std::size_t gate, std::size_t i) {
      return values[gate * units + i];
    };
    if (layer_.op.cell == BiRnn::Cell::kLstm) {
      for (std::size_t i = 0; i < units; ++i) {
        const auto gate = [&](std::size_t g) { return at(in, g, i) + at(back, g, i); };
        cell[i] = gate_of(layer_.op, gate(1)) * cell[i] +
                  gate_of(layer_.op, gate(0)) * std::tanh(gate(2));
        state[i] = gate_of(layer_.op, gate(3)) * std::tanh(cell[i]);
      }
      return;
    }
    std::vector<double> reset(units), kept(units), held = state;
    for (std::size_t i = 0; i < units; ++i) {
      reset[i] = gate_of(layer_.op, at(in, 0, i) + at(back, 0, i));
      kept[i] = gate_of(layer_.op, at(in, 1, i) + at(back, 1, i));
      held[i] *= reset[i];
    }
    const std::vector<double> before =
        layer_.op.reset_after ? back : product("weight_hh", "bias_hh", held.data(), layer_.units);
    for (std::size_t i = 0; i < units; ++i) {
      const double more = at(before, 2, i) * (layer_.op.reset_after ? reset[i] : 1);
      state[i] = (1 - kept[i]) * std::tanh(at(in, 2, i) + more) + kept[i] * state[i];
    }
  }

 private:
  std::vector<double> product(const char* weight, const char* bias, const double* x,
                              std::int64_t width) const {
    const std::vector<float>&w = weights_.at(weight).values, &b = weights_.at(bias).values;
    std::vector<double> y(b.begin(), b.end());
    const auto columns = static_cast<std::size_t>(width);
    for (std::size_t row = 0; row < y.size(); ++row)
      for (std::size_t i = 0; i < columns; ++i) y[row] += w[row * columns + i] * x[i];
    return y;
  }

  const OnnxRecurrence& layer_;
  const std::map<std::string, FloatTensor> weights_;
};

Constants recurrence(const Computed& call) {
  const OnnxConstant &x = call.input(0), &w = call.input(1), &r = call.input(2);
  const OnnxRecurrence layer = describe_recurrence(call.node, w, r);
  require(x.shape.size() == 3 && x.shape[2] == layer.features && !layer.batch_first,
          "it reads {}, expected {} features behind steps and sequences", shape_text(x.shape),
          layer.features);
  const std::int64_t steps = x.shape[0], sequences = x.shape[1];
  const auto directions = static_cast<std::int64_t>(layer.reverse.size());
  call.add_work({steps, sequences, directions, layer.rows(), layer.features + layer.units});
  std::vector<int> lengths(static_cast<std::size_t>(sequences), static_cast<int>(steps));
  if (call.has(4)) {
    lengths = call.input(4).integers("sequence_lens");
    require(static_cast<std::int64_t>(lengths.size()) == sequences &&
                std::ranges::all_of(lengths, [&](int n) { return n >= 0 && n <= steps; }),
            "its sequence_lens are {} of {} sequences", lengths.size(), sequences);
  }
  const Extents ends{directions, sequences, layer.units};
  const auto start_of = [&](std::size_t input) {
    if (!call.has(input)) return std::vector<double>(static_cast<std::size_t>(onnx_elements(ends)));
    require(call.input(input).shape == ends, "its initial state is {}, expected {}",
            shape_text(call.input(input).shape), shape_text(ends));
    return call.input(input).values();
  };
  const bool lstm = layer.op.cell == BiRnn::Cell::kLstm;
  require(!call.has(7), "it has peepholes");
  const auto y = onnx_blank(x.type, {steps, directions, sequences, layer.units});
  const auto last = onnx_blank(x.type, ends), cells = onnx_blank(x.type, ends);
  last->made = start_of(5);
  if (lstm) cells->made = start_of(6);
  const std::vector<double> values = x.values();
  const auto units = static_cast<std::size_t>(layer.units);
  for (std::int64_t d = 0; d < directions; ++d) {
    const Cell cell(layer, recurrence_weights(layer, static_cast<std::size_t>(d), "", w, r,
                                              call.has(3) ? &call.input(3) : nullptr));
    for (std::int64_t n = 0; n < sequences; ++n) {
      const auto end = static_cast<std::size_t>(d * sequences + n) * units;
      const auto part = [&](std::vector<double>& all) {
        const auto first = all.begin() + static_cast<std::ptrdiff_t>(end);
        return std::vector<double>(first, first + layer.units);
      };
      std::vector<double> state = part(last->made), memory = part(cells->made);
      const int length = lengths[static_cast<std::size_t>(n)];
      for (int i = 0; i < length; ++i) {
        const std::int64_t t = layer.reverse[static_cast<std::size_t>(d)] ? length - 1 - i : i;
        cell.step(&values[static_cast<std::size_t>((t * sequences + n) * layer.features)], state,
                  memory);
        std::ranges::copy(
            state,
            &y->made[static_cast<std::size_t>((t * directions + d) * sequences + n) * units]);
      }
      std::ranges::copy(state, &last->made[end]);
      std::ranges::copy(memory, &cells->made[end]);
    }
  }
  if (!lstm) return {y, last};
  return {y, last, cells};
}

// ---- the table ---------------------------------------------------------------------------------

template <double (*function)(double)>
Constants mapped(const Computed& call) {
  return {onnx_mapped(call, function)};
}
template <double (*function)(double, double)>
Constants compared(const Computed& call) {
  return {onnx_compared(call, function)};
}
double sigmoid_of(double x) {
  return 1 / (1 + std::exp(-x));
}
double relu_of(double x) {
  return std::max(x, 0.0);
}
double is_both(double a, double b) {
  return a != 0 && b != 0 ? 1 : 0;
}
double is_either(double a, double b) {
  return a != 0 || b != 0 ? 1 : 0;
}
double is_at_least(double a, double b) {
  return a >= b ? 1 : 0;
}
double is_at_most(double a, double b) {
  return a <= b ? 1 : 0;
}

using OnnxNumbers = Constants (*)(const Computed&);

const std::map<std::string_view, OnnxNumbers>& numbers() {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static const std::map<std::string_view, OnnxNumbers> table{
      {"And", compared<is_both>},
      {"Dropout",
       [](const Computed& c) { return Constants{onnx_reshaped(c.input(0), c.input(0).shape)}; }},
      {"Flatten",
       [](const Computed& c) {
         return Constants{onnx_reshaped(
             c.input(0), flattened(c.input(0).shape, c.attributes.integer("axis", 1)))};
       }},
      {"GRU", recurrence},
      {"GatherElements", gather_elements},
      {"Gemm", gemm},
      {"GreaterOrEqual", compared<is_at_least>},
      {"LSTM", recurrence},
      {"LessOrEqual", compared<is_at_most>},
      {"Log", mapped<std::log>},
      {"LogSoftmax", [](const Computed& c) { return softmax_of(c, true); }},
      {"MatMul", matmul},
      {"Or", compared<is_either>},
      {"ReduceMax",
       [](const Computed& c) {
         return Constants{
             onnx_reduced(c, -kInfinity, [](double a, double b) { return std::max(a, b); })};
       }},
      {"ReduceMean", mean},
      {"Relu", mapped<relu_of>},
      {"ScatterElements", scatter_elements},
      {"Shape",
       [](const Computed& c) { return Constants{onnx_shape(c.input(0).shape, c.attributes)}; }},
      {"Sigmoid", mapped<sigmoid_of>},
      {"Softmax", [](const Computed& c) { return softmax_of(c, false); }},
      {"Split", split},
      {"Tanh", mapped<std::tanh>},
      {"Tile", tile},
      {"TopK", top_k}};
  return table;
}

}  // namespace

std::vector<OnnxConstantPtr> compute(const OnnxNode& node, std::int64_t opset,
                                     std::span<const OnnxConstantPtr> inputs, std::int64_t& work) {
  const auto found = numbers().find(node.op);
  if (found != numbers().end())
    return found->second({{node, opset, inputs, OnnxAttributes(node)}, work});
  auto made = evaluate(node, opset, inputs);
  require(made.has_value(), "this operator is not supported");
  return *std::move(made);
}

}  // namespace tessera
