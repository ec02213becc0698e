// Backward of BiRnn on the CPU; formulas in backward.h.
//
// Sequences, longest first, are taken in chunks of about kChunkSteps steps, which bounds the
// scratch and leaves it in the last-level cache. Per chunk: (1) time runs backwards, step by step,
// in groups of sequences; a group's direction is the unit of work of the threads: its cells turn dh
// into the gradients dz of the gates' sums, from the gates that the forward run kept, and one
// product with U gives the dh of the step before. dz goes to memory, (rows, t, 2 g units). (2) The
// gradients of the weights are products of dz with x and with y one step earlier, over all steps at
// once, and dx is one of dz with W. More than two thirds of the arithmetic are in (2).
//
// An element of a weight's gradient is one chain over the steps of a chunk, sequence by sequence;
// chunks follow from the lengths alone.
// Roofline: arithmetic; at LSTM of 150 units and 100 features, 1.2 MFLOP per step and 17 KB moved.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/rnn/train/cpu.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first
#include <hwy/highway.h>

#include "kernels/ops/rnn/cells-inl.h"
#include "kernels/ops/rnn/train/backward.h"

#ifndef TESSERA_KERNELS_RNN_BACKWARD_CPU_ONCE
#define TESSERA_KERNELS_RNN_BACKWARD_CPU_ONCE
namespace tessera {
namespace {

// Where the parts of dz lie in a step's row, in floats. Those that multiply x come first, of both
// directions, so that one product gives dx; those that multiply h' alone follow.
struct GateGradients {
  std::int64_t units, gates;
  bool apart;  // GRU with reset_after: dq differs from dn

  explicit GateGradients(const BiRnn& op)
      : units(op.units),
        gates(gate_count(op)),
        apart(op.cell == BiRnn::Cell::kGru && op.reset_after) {}

  std::int64_t input() const { return 2 * gates * units; }  // floats that multiply x
  std::int64_t row() const { return input() + (apart ? 2 * units : 0); }
  std::int64_t of(int direction) const { return direction * gates * units; }
  std::int64_t q(int direction) const { return input() + direction * units; }
};

// One sequence of the tensors; `length` valid steps.
struct BackwardSequence {
  std::int64_t row;  // of the batch
  std::int64_t length;
  float* dz;  // (t, GateGradients::row)
};

// One direction of up to kRnnGroup sequences, longest first: a unit of work.
struct BackwardGroup {
  const BiRnn* op;
  int direction;
  std::int64_t t;
  const BackwardSequence* sequences;
  std::int64_t count;
  const float* u;              // packed by pack_recurrent
  const float *y, *kept, *dy;  // whole tensors
  float* state;                // backward_state_floats(op) per sequence
};

// Per sequence: dh, dc (dp of a GRU without reset_after), and dz of the gates that multiply h'.
std::int64_t backward_state_floats(const BiRnn& op) {
  return 2 * rnn_state_stride(op) + gate_count(op) * std::int64_t{op.units};
}

}  // namespace
}  // namespace tessera
#endif

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {
namespace {

// U (g units, units) as it is, for dz U. That of a GRU's n stands apart: without reset_after it is
// multiplied first.
std::size_t recurrent_packed_floats(const BiRnn& op) {
  const auto units = static_cast<std::size_t>(op.units);
  return gemm_packed_size(static_cast<std::size_t>(gate_count(op)) * units, units);
}

std::size_t first_rows(const BiRnn& op) {
  const auto units = static_cast<std::size_t>(op.units);
  const bool split = op.cell == BiRnn::Cell::kGru && !op.reset_after;
  return (split ? 2 : static_cast<std::size_t>(gate_count(op))) * units;
}

void pack_recurrent(const BiRnn& op, const float* u, float* packed) {
  const auto units = static_cast<std::size_t>(op.units);
  const std::size_t first = first_rows(op);
  const std::size_t all = static_cast<std::size_t>(gate_count(op)) * units;
  const auto at = [&](const float* from) {
    return [=](std::size_t k, std::size_t j) { return from[k * units + j]; };
  };
  gemm_pack(first, units, at(u), packed);
  gemm_pack(all - first, units, at(u + first * units), packed + gemm_packed_size(first, units));
}

std::size_t input_packed_floats(std::size_t gates, std::size_t features) {
  return gemm_packed_size(gates, features);
}

// W of both directions, one below the other, for dz W.
void pack_input(std::size_t gates, std::size_t features, const float* forward,
                const float* backward, float* packed) {
  gemm_pack(
      2 * gates, features,
      [&](std::size_t k, std::size_t j) {
        return k < gates ? forward[k * features + j] : backward[(k - gates) * features + j];
      },
      packed);
}

void multiply_input(const float* dz, std::size_t stride, const float* packed, std::size_t rows,
                    std::size_t gates, std::size_t features, float* dx) {
  gemm(dz, stride, packed, rows, gates, features, dx, features);
}

struct SigmoidSlope {
  static HWY_INLINE FloatVector of(FloatVector gate) { return hn::NegMulAdd(gate, gate, gate); }
};
struct HardSigmoidSlope {
  static HWY_INLINE FloatVector of(FloatVector gate) {
    const FloatTag d;
    const auto inside = hn::And(hn::Gt(gate, hn::Zero(d)), hn::Lt(gate, hn::Set(d, 1.0f)));
    return hn::IfThenElseZero(inside, hn::Set(d, 0.2f));
  }
};

// Memory of one step of one sequence. Rows of gates are `units` floats each.
struct CellGradient {
  std::size_t units;
  const float* kept;
  const float* h;  // of the step before; null at the first
  const float* c;  // likewise, LSTM
  const float* dy;
  float* dh;      // in: from the step after; GRU out: dh' of the cell alone
  float* other;   // LSTM dc, in and out; GRU without reset_after: dp, in of the second half
  float* dz;      // to memory: the gates that multiply x
  float* dq;      // to memory: GRU with reset_after
  float* hidden;  // the gates that multiply h', for the product
};

template <class Slice>
HWY_INLINE FloatVector get_or_zero(const Slice& slice, const float* p, std::size_t at) {
  return p != nullptr ? slice.get(p + at) : hn::Zero(FloatTag());
}

template <class Slope, class Slice>
HWY_INLINE void lstm_cell(const Slice& slice, const CellGradient& m, std::size_t at) {
  const FloatTag d;
  const FloatVector one = hn::Set(d, 1.0f);
  const std::size_t units = m.units;
  const FloatVector i = slice.get(m.kept + at), f = slice.get(m.kept + units + at);
  const FloatVector g = slice.get(m.kept + 2 * units + at);
  const FloatVector o = slice.get(m.kept + 3 * units + at);
  const FloatVector t = gate_tanh(slice.get(m.kept + 4 * units + at));
  const FloatVector dh = hn::Add(slice.get(m.dh + at), slice.get(m.dy + at));
  const FloatVector flat = hn::NegMulAdd(t, t, one);
  const FloatVector dc = hn::MulAdd(hn::Mul(dh, o), flat, slice.get(m.other + at));
  const FloatVector gates[4] = {hn::Mul(hn::Mul(dc, g), Slope::of(i)),
                                hn::Mul(hn::Mul(dc, get_or_zero(slice, m.c, at)), Slope::of(f)),
                                hn::Mul(hn::Mul(dc, i), hn::NegMulAdd(g, g, one)),
                                hn::Mul(hn::Mul(dh, t), Slope::of(o))};
  for (std::size_t gate = 0; gate < 4; ++gate) {
    slice.put(gates[gate], m.dz + gate * units + at);
    slice.put(gates[gate], m.hidden + gate * units + at);
  }
  slice.put(hn::Mul(dc, f), m.other + at);
}

// z and n, and with reset_after also r, which otherwise needs the product with n first.
template <class Slope, class Slice>
HWY_INLINE void gru_cell(const Slice& slice, const CellGradient& m, std::size_t at,
                         bool reset_after) {
  const FloatTag d;
  const FloatVector one = hn::Set(d, 1.0f);
  const std::size_t units = m.units;
  const FloatVector r = slice.get(m.kept + at), z = slice.get(m.kept + units + at);
  const FloatVector n = slice.get(m.kept + 2 * units + at);
  const FloatVector dh = hn::Add(slice.get(m.dh + at), slice.get(m.dy + at));
  const FloatVector dn = hn::Mul(hn::Mul(dh, hn::Sub(one, z)), hn::NegMulAdd(n, n, one));
  const FloatVector dz =
      hn::Mul(hn::Mul(dh, hn::Sub(get_or_zero(slice, m.h, at), n)), Slope::of(z));
  slice.put(dz, m.dz + units + at);
  slice.put(dz, m.hidden + units + at);
  slice.put(dn, m.dz + 2 * units + at);
  slice.put(hn::Mul(dh, z), m.dh + at);
  if (reset_after) {
    const FloatVector q = slice.get(m.kept + 3 * units + at);
    const FloatVector dr = hn::Mul(hn::Mul(dn, q), Slope::of(r)), dq = hn::Mul(dn, r);
    slice.put(dr, m.dz + at);
    slice.put(dr, m.hidden + at);
    slice.put(dq, m.dq + at);
    slice.put(dq, m.hidden + 2 * units + at);
  } else {
    slice.put(dn, m.hidden + 2 * units + at);
  }
}

// r of a GRU without reset_after, from dp.
template <class Slope, class Slice>
HWY_INLINE void gru_reset_cell(const Slice& slice, const CellGradient& m, std::size_t at) {
  const FloatVector r = slice.get(m.kept + at), dp = slice.get(m.other + at);
  const FloatVector dr = hn::Mul(hn::Mul(dp, get_or_zero(slice, m.h, at)), Slope::of(r));
  slice.put(dr, m.dz + at);
  slice.put(dr, m.hidden + at);
  slice.put(hn::MulAdd(dp, r, slice.get(m.dh + at)), m.dh + at);
}

// Calls cell(slice, at) for each vector of units.
template <class Cell>
HWY_INLINE void for_each_slice(std::size_t units, const Cell& cell) {
  std::size_t at = 0;
  for (; at + kFloatLanes <= units; at += kFloatLanes) cell(WholeSlice(), at);
  if (at < units) cell(PartSlice{units - at}, at);
}

template <class Slope>
void backward_group(const BackwardGroup& group) {
  const BiRnn& op = *group.op;
  const GateGradients layout(op);
  const bool lstm = op.cell == BiRnn::Cell::kLstm;
  const bool split = !lstm && !op.reset_after;
  const auto units = static_cast<std::size_t>(op.units);
  const auto stride = static_cast<std::size_t>(rnn_state_stride(op));
  const std::size_t gates = static_cast<std::size_t>(gate_count(op)) * units;
  const std::size_t kept_step = static_cast<std::size_t>(rnn_kept_values(op)) * units;
  const auto count = static_cast<std::size_t>(group.count);
  float *dh = group.state, *other = dh + count * stride, *hidden = other + count * stride;
  std::fill_n(dh, 2 * count * stride, 0.0f);

  CellGradient cells[kRnnGroup];
  std::size_t rows = 0;
  for (std::int64_t i = group.sequences[0].length - 1; i >= 0; --i) {
    while (rows < count && group.sequences[rows].length > i) ++rows;
    for (std::size_t row = 0; row < rows; ++row) {
      const BackwardSequence& sequence = group.sequences[row];
      const bool reverse = group.direction == 1;
      const std::int64_t time = reverse ? sequence.length - 1 - i : i;
      const std::int64_t before = reverse ? time + 1 : time - 1;
      const auto step_of = [&](std::int64_t at) {
        return static_cast<std::size_t>((sequence.row * group.t + at) * 2 + group.direction);
      };
      float* dz = sequence.dz + time * layout.row();
      cells[row] = {
          .units = units,
          .kept = group.kept + step_of(time) * kept_step,
          .h = i > 0 ? group.y + step_of(before) * units : nullptr,
          .c = i > 0 ? group.kept + step_of(before) * kept_step + (kept_step - units) : nullptr,
          .dy = group.dy + step_of(time) * units,
          .dh = dh + row * stride,
          .other = other + row * stride,
          .dz = dz + layout.of(group.direction),
          .dq = dz + layout.q(group.direction),
          .hidden = hidden + row * gates};
      for_each_slice(units, [&](const auto& slice, std::size_t at) HWY_ATTR {
        if (lstm) {
          lstm_cell<Slope>(slice, cells[row], at);
        } else {
          gru_cell<Slope>(slice, cells[row], at, op.reset_after);
        }
      });
    }
    const std::size_t first = first_rows(op);
    if (split) {
      gemm(hidden + first, gates, group.u + gemm_packed_size(first, units), rows, units, units,
           other, stride);
      for (std::size_t row = 0; row < rows; ++row)
        for_each_slice(units, [&](const auto& slice, std::size_t at)
                                  HWY_ATTR { gru_reset_cell<Slope>(slice, cells[row], at); });
    }
    if (i > 0)  // before the first step there is nothing
      gemm(hidden, gates, group.u, rows, first, units, dh, stride, {.accumulate = !lstm});
  }
}

void backward_run(const BackwardGroup& group) {
  if (group.op->gate == BiRnn::Gate::kSigmoid) {
    backward_group<SigmoidSlope>(group);
  } else {
    backward_group<HardSigmoidSlope>(group);
  }
}

}  // namespace
}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <numeric>

#include "kernels/check.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/row_products.h"
#include "kernels/lengths.h"

namespace tessera {

HWY_EXPORT(recurrent_packed_floats);
HWY_EXPORT(pack_recurrent);
HWY_EXPORT(input_packed_floats);
HWY_EXPORT(pack_input);
HWY_EXPORT(multiply_input);
HWY_EXPORT(backward_run);

namespace {

constexpr std::int64_t kChunkSteps = 4096;  // dz of an LSTM of 150 units: 20 MB
constexpr std::int64_t kChunkRows = 32;     // at least, however long they are
constexpr std::int64_t kFewestRows = 6;     // of a group: a full tile of the product

struct BackwardDims {
  std::int64_t rows, t, features;
  std::int64_t chunk;  // sequences at a time
  int threads;
};

// What the scratch is cut into, in floats.
struct BackwardScratch {
  std::size_t u[2];   // packed
  std::size_t w;      // packed
  std::size_t state;  // (2, chunk, backward_state_floats)
  std::size_t dz;     // (chunk, t, GateGradients::row)
  std::size_t total = 0;

  BackwardScratch(const BiRnn& op, const BackwardDims& d) {
    const auto take = [this](std::size_t floats) {
      constexpr std::size_t kLine = 16;
      const std::size_t at = total;
      total += (floats + kLine - 1) / kLine * kLine;
      return at;
    };
    const GateGradients layout(op);
    for (std::size_t& at : u) at = take(HWY_DYNAMIC_DISPATCH(recurrent_packed_floats)(op));
    w = take(HWY_DYNAMIC_DISPATCH(input_packed_floats)(static_cast<std::size_t>(layout.input()),
                                                       static_cast<std::size_t>(d.features)));
    state = take(static_cast<std::size_t>(2 * d.chunk * backward_state_floats(op)));
    dz = take(static_cast<std::size_t>(d.chunk * d.t * layout.row()));
  }
};

// One backward run.
class BackwardRun {
 public:
  BackwardRun(const BiRnn& op, const BackwardDims& d, const BackwardOperands& operands,
              float* scratch)
      : op_(op), d_(d), layout_(op), at_(op, d), operands_(operands), scratch_(scratch) {
    const auto weights = [&](std::size_t i) { return operands.weights[i].as<float>(); };
    for (std::size_t direction : {0, 1}) {
      HWY_DYNAMIC_DISPATCH(pack_recurrent)
      (op, weights(4 * direction + 1), scratch + at_.u[direction]);
    }
    HWY_DYNAMIC_DISPATCH(pack_input)
    (static_cast<std::size_t>(layout_.gates * layout_.units), static_cast<std::size_t>(d.features),
     weights(0), weights(4), scratch + at_.w);

    std::vector<std::int64_t> order(static_cast<std::size_t>(d.rows));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return length(a) > length(b); });
    for (std::int64_t first = 0; first < d.rows; first += d.chunk) {
      const std::int64_t count = std::min(d.chunk, d.rows - first);
      sequences_.clear();
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t row = order[static_cast<std::size_t>(first + i)];
        sequences_.push_back({row, length(row), scratch + at_.dz + i * d.t * layout_.row()});
      }
      recur();
      add_weight_gradients();
      if (const TensorView* dx = wanted(operands.input_gradients, 0)) write_dx(dx->as<float>());
    }
  }

 private:
  std::int64_t length(std::int64_t row) const {
    return op_.masked ? operands_.inputs[1].as<std::int32_t>()[row] : d_.t;
  }

  // dz of the chunk. Sequences are dealt to groups in turn, so that all have the same work.
  void recur() {
    const auto count = static_cast<std::int64_t>(sequences_.size());
    const std::int64_t most = (count + kFewestRows - 1) / kFewestRows;
    const std::int64_t groups =
        std::max(std::min<std::int64_t>(d_.threads, most), (count + kRnnGroup - 1) / kRnnGroup);
    std::vector<BackwardSequence> dealt;
    std::vector<std::int64_t> begin;
    for (std::int64_t group = 0; group < groups; ++group) {
      begin.push_back(static_cast<std::int64_t>(dealt.size()));
      for (std::int64_t i = group; i < count; i += groups)
        dealt.push_back(sequences_[static_cast<std::size_t>(i)]);
    }
    begin.push_back(count);
    parallel_for(d_.threads, 2 * groups, [&](std::int64_t unit) {
      const auto group = static_cast<std::size_t>(unit / 2);
      const int direction = static_cast<int>(unit % 2);
      const std::int64_t first = begin[group];
      HWY_DYNAMIC_DISPATCH(backward_run)
      ({.op = &op_,
        .direction = direction,
        .t = d_.t,
        .sequences = &dealt[static_cast<std::size_t>(first)],
        .count = begin[group + 1] - first,
        .u = scratch_ + at_.u[direction],
        .y = operands_.outputs[0].as<float>(),
        .kept = operands_.saved[0].as<float>(),
        .dy = operands_.output_gradients[0].as<float>(),
        .state =
            scratch_ + at_.state + (direction * d_.chunk + first) * backward_state_floats(op_)});
    });
  }

  void add_weight_gradients() {
    const std::int64_t units = layout_.units, features = d_.features;
    const std::int64_t kept_step = 2 * rnn_kept_values(op_) * units;
    // All steps; and by direction those that have a step before them, with that step of y.
    std::vector<RowRun> steps, later[2];
    for (std::size_t i = 0; i < sequences_.size(); ++i) {
      const BackwardSequence& s = sequences_[i];
      const std::int64_t dz = static_cast<std::int64_t>(i) * d_.t, row = s.row * d_.t;
      if (s.length == 0) break;
      steps.push_back({dz, row, s.length});
      later[0].push_back({dz + 1, row, s.length - 1});
      later[1].push_back({dz, row + 1, s.length - 1});
    }
    const float* dz = scratch_ + at_.dz;
    std::vector<TransposedProduct> products;
    for (int direction : {0, 1}) {
      const auto gradient = [&](std::size_t i) {
        const TensorView* to =
            wanted(operands_.weight_gradients, 4 * static_cast<std::size_t>(direction) + i);
        return to != nullptr ? to->as<float>() : nullptr;
      };
      float *dw = gradient(0), *du = gradient(1), *db_w = gradient(2), *db_u = gradient(3);
      const auto rows_of = [](float* to, std::int64_t floats) {
        return to != nullptr ? to + floats : nullptr;
      };
      const Rows gates{dz + layout_.of(direction), layout_.row()};
      const Rows x{operands_.inputs[0].as<float>(), features};
      const Rows y{operands_.outputs[0].as<float>() + direction * units, 2 * units};
      const std::int64_t all = layout_.gates * units, n_row = 2 * units;
      products.push_back({steps, gates, x, all, features, dw, features, db_w});
      if (op_.cell == BiRnn::Cell::kLstm) {
        products.push_back({later[direction], gates, y, all, units, du, units});
        products.push_back({.runs = steps, .a = gates, .m = all, .sums = db_u});
        continue;
      }
      // The gates r and z, then n.
      products.push_back({later[direction], gates, y, n_row, units, du, units});
      products.push_back({.runs = steps, .a = gates, .m = n_row, .sums = db_u});
      if (op_.reset_after) {
        const Rows q{dz + layout_.q(direction), layout_.row()};
        products.push_back(
            {later[direction], q, y, units, units, rows_of(du, n_row * units), units});
        products.push_back({.runs = steps, .a = q, .m = units, .sums = rows_of(db_u, n_row)});
      } else {
        const Rows n{gates.first + n_row, gates.stride};
        const Rows reset_h{operands_.saved[0].as<float>() + direction * kept_step / 2 + 3 * units,
                           kept_step};
        products.push_back({steps, n, reset_h, units, units, rows_of(du, n_row * units), units,
                            rows_of(db_u, n_row)});
      }
    }
    add_transposed_products(products, d_.threads);
  }

  void write_dx(float* dx) {
    const std::int64_t row_floats = d_.t * d_.features;
    parallel_for(d_.threads, static_cast<std::int64_t>(sequences_.size()), [&](std::int64_t i) {
      const BackwardSequence& s = sequences_[static_cast<std::size_t>(i)];
      float* to = dx + s.row * row_floats;
      HWY_DYNAMIC_DISPATCH(multiply_input)
      (s.dz, static_cast<std::size_t>(layout_.row()), scratch_ + at_.w,
       static_cast<std::size_t>(s.length), static_cast<std::size_t>(layout_.input()),
       static_cast<std::size_t>(d_.features), to);
      std::fill(to + s.length * d_.features, to + row_floats, 0.0f);
    });
  }

  const BiRnn& op_;
  const BackwardDims& d_;
  const GateGradients layout_;
  const BackwardScratch at_;
  const BackwardOperands& operands_;
  float* const scratch_;
  std::vector<BackwardSequence> sequences_;  // of the chunk, longest first
};

}  // namespace

Saved saved_for_backward(const BiRnn& op, Types inputs) {
  require(!op.embedding,
          "rnn: in training the embedding is a node of its own; build the graph without the pass "
          "that folds it in");
  infer(op, inputs);
  require(!op.carried, "rnn: a network that carries its state on cannot be trained");
  const auto leading = inputs[0].shape.dims().first(inputs[0].shape.dims().size() - 1);
  std::vector<std::int64_t> dims(leading.begin(), leading.end());
  dims.push_back(2 * std::int64_t{rnn_kept_values(op)} * op.units);
  return {.inputs = std::vector<bool>(inputs.size(), true),
          .outputs = {true},
          .extra = {{DType::kF32, Shape(dims)}}};
}

BackwardStep cpu_backward(const BiRnn& op, const CpuSetup& setup) {
  saved_for_backward(op, setup.inputs);
  const Shape& x = setup.inputs[0].shape;
  BackwardDims d{.rows = x.elements(0, x.rank() - 2),
                 .t = x[-2],
                 .features = x[-1],
                 .chunk = 0,
                 .threads = setup.threads};
  d.chunk = std::min(d.rows, std::max(kChunkRows, kChunkSteps / d.t));
  const auto run = [op, d](const BackwardOperands& operands, std::byte* scratch) {
    if (op.masked) require_lengths("rnn", operands.inputs[1], d.t);
    BackwardRun(op, d, operands, reinterpret_cast<float*>(scratch));
  };
  return {BackwardScratch(op, d).total * sizeof(float), run};
}

}  // namespace tessera
#endif  // HWY_ONCE
