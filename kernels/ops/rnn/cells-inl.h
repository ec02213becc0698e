// The recurrence of one direction: packing of weights, one step, all steps of a group.
//
// Per-target header of Highway: included again for each instruction set by foreach_target.
//
// Units are cut in slices of one vector; the columns of a slice hold its gates one behind the
// other, so that one product gives all that the slice's cells need, and they take it from L1. The
// last slice is as narrow as its units: 6 units of an LSTM are 24 columns, not 4 vectors.
#if defined(TESSERA_KERNELS_RNN_CELLS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TESSERA_KERNELS_RNN_CELLS_INL_H_
#undef TESSERA_KERNELS_RNN_CELLS_INL_H_
#else
#define TESSERA_KERNELS_RNN_CELLS_INL_H_
#endif

#include <hwy/cache_control.h>

#include <algorithm>

#include "kernels/cpu/gates-inl.h"
#include "kernels/cpu/gemm-inl.h"
#include "kernels/cpu/vector-inl.h"
#include "kernels/ops/rnn/recurrence.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

// `count` gates of all units, from gate `first` on, in the order of slices.
struct GateColumns {
  std::size_t units, first, count;

  std::size_t width(std::size_t unit) const { return std::min(kFloatLanes, units - unit); }
  // Columns before the slice that begins with `unit`; slices before the last are whole vectors.
  std::size_t before(std::size_t unit) const { return unit * count; }
  // With the last slice rounded up to whole vectors.
  std::size_t padded() const {
    const std::size_t last = (units - 1) / kFloatLanes * kFloatLanes;
    return before(last) + gemm_columns(count * width(last));
  }
  // Row of PyTorch's weights that column `j` of the slice beginning with `unit` is.
  std::size_t row(std::size_t unit, std::size_t j) const {
    return (first + j / width(unit)) * units + unit + j % width(unit);
  }
};

// The products with h of one step. All gates come from one, except that a GRU without reset_after
// needs r before it can begin with n.
struct RnnPasses {
  GateColumns first, second;
};

inline RnnPasses rnn_passes(const BiRnn& op) {
  const auto units = static_cast<std::size_t>(op.units);
  const auto gates = static_cast<std::size_t>(gate_count(op));
  const bool split = op.cell == BiRnn::Cell::kGru && !op.reset_after;
  return {{units, 0, split ? 2 : gates}, {units, 2, split ? std::size_t{1} : 0}};
}

// Where things lie in the packed weights, in floats.
struct RnnLayout {
  std::size_t input_bias = 0;      // behind weight_ih of both directions
  std::size_t first[2], start[2];  // per direction: first pass, what its sums start with
  std::size_t second[2];           // second pass
  std::size_t total = 0;

  RnnLayout(const BiRnn& op, std::size_t features) {
    const RnnPasses passes = rnn_passes(op);
    const auto take = [this](std::size_t size) {
      total += size;
      return total - size;
    };
    const auto columns = static_cast<std::size_t>(2 * rnn_projected_columns(op));
    take(gemm_packed_size(features, columns));
    input_bias = take(gemm_columns(columns));
    for (int direction : {0, 1}) {
      first[direction] = take(passes.first.units * passes.first.padded());
      start[direction] = take(passes.first.padded());
      second[direction] = take(passes.second.units * passes.second.padded());
    }
  }
};

inline void rnn_pack_pass(const GateColumns& columns, const std::vector<float>& weight_hh,
                          float* packed) {
  if (columns.count == 0) return;
  for (std::size_t unit = 0; unit < columns.units; unit += kFloatLanes) {
    std::size_t rows[4 * kFloatLanes];  // of the slice's columns: a division each
    const std::size_t width = columns.count * columns.width(unit);
    for (std::size_t j = 0; j < width; ++j) rows[j] = columns.row(unit, j) * columns.units;
    gemm_pack(
        columns.units, width, [&](std::size_t k, std::size_t j) { return weight_hh[rows[j] + k]; },
        packed + columns.units * columns.before(unit));
  }
}

inline void rnn_pack(const BiRnn& op, std::size_t features, const RnnWeights* weights,
                     float* packed) {
  const RnnLayout layout(op, features);
  const RnnPasses passes = rnn_passes(op);
  const std::size_t units = passes.first.units;
  const auto gates = static_cast<std::size_t>(gate_count(op));
  const auto columns = static_cast<std::size_t>(rnn_projected_columns(op));
  std::fill_n(packed, layout.total, 0.0f);

  const GateColumns all{units, 0, gates};
  const auto row_of = [&](std::size_t column) {
    const std::size_t unit = column / (gates * kFloatLanes) * kFloatLanes;
    return all.row(unit, column - all.before(unit));
  };
  std::vector<const float*> rows(2 * columns);
  for (std::size_t j = 0; j < rows.size(); ++j)
    rows[j] = &weights[j / columns].weight_ih[row_of(j % columns) * features];
  gemm_pack(
      features, 2 * columns, [&](std::size_t k, std::size_t j) { return rows[j][k]; }, packed);

  // n of a GRU with reset_after keeps its bias_hh apart: r multiplies it.
  const std::size_t apart = op.cell == BiRnn::Cell::kGru && op.reset_after ? 2 * units : columns;
  for (std::size_t direction : {0, 1}) {
    const RnnWeights& w = weights[direction];
    float* bias = packed + layout.input_bias + direction * columns;
    for (std::size_t column = 0; column < columns; ++column) {
      const std::size_t row = row_of(column);
      bias[column] = w.bias_ih[row] + (row < apart ? w.bias_hh[row] : 0.0f);
    }
    rnn_pack_pass(passes.first, w.weight_hh, packed + layout.first[direction]);
    rnn_pack_pass(passes.second, w.weight_hh, packed + layout.second[direction]);
    float* start = packed + layout.start[direction];
    for (std::size_t unit = 0; unit < units; unit += kFloatLanes) {
      for (std::size_t j = 0; j < passes.first.count * passes.first.width(unit); ++j) {
        const std::size_t row = passes.first.row(unit, j);
        start[passes.first.before(unit) + j] = row < apart ? 0.0f : w.bias_hh[row];
      }
    }
  }
}

// Memory of one slice of one sequence: whole vectors, or the first lanes of them.
struct WholeSlice {
  static constexpr std::size_t width() { return kFloatLanes; }
  static FloatVector get(const float* p) { return load(p); }
  static void put(FloatVector v, float* p) { store(v, p); }
};
struct PartSlice {
  std::size_t lanes;
  std::size_t width() const { return lanes; }
  FloatVector get(const float* p) const { return load_first(p, lanes); }
  void put(FloatVector v, float* p) const { store_first(v, p, lanes); }
};

struct Sigmoid {
  static HWY_INLINE FloatVector of(FloatVector x) { return gate_sigmoid(x); }
};
struct HardSigmoid {
  static HWY_INLINE FloatVector of(FloatVector x) { return gate_hard_sigmoid(x); }
};

// One step of the active sequences.
struct RnnStep {
  std::size_t rows;  // active sequences
  std::size_t gates;
  std::size_t stride;     // of the states
  const float* const* x;  // per sequence: W x + b, in the order of slices
  float* const* y;        // per sequence: (units)
  float* const* kept;     // per sequence: (rnn_kept_values, units), or null outside of training
  float* h;               // (rows, stride)
  float* next;            // (rows, stride): the successor of h, or r h
  float* other;           // (rows, stride): c, or z
};

// Rows whose sums wait in L1 for their cells. With four times as many, their prefetches come at
// once and wait for each other: 6 % slower where x is spread over 36 MB.
constexpr std::size_t kRnnTile = kGemmRows;

// Asks for what the cells of one slice will read and write outside L2, while its product runs:
// a tenth of the layer's time at 64 x 150 steps of an LSTM of 150 units (Zen 4).
HWY_INLINE void rnn_prefetch(const RnnStep& step, std::size_t row, std::size_t unit,
                             std::size_t lanes) {
  const float* x = step.x[row] + step.gates * unit;
  for (std::size_t j = 0; j < step.gates * lanes; j += kFloatLanes) hwy::Prefetch(x + j);
  hwy::Prefetch(step.y[row] + unit);
}

// Calls cell(slice, row, unit, sums) for each slice and row with the sums of the pass's gates.
template <class Cell>
HWY_INLINE void rnn_pass(const GateColumns& columns, const float* packed, const float* start,
                         const RnnStep& step, const float* h, const Cell& cell) {
  HWY_ALIGN float sums[kRnnTile * 4 * kFloatLanes];
  for (std::size_t unit = 0; unit < columns.units; unit += kFloatLanes) {
    const std::size_t lanes = columns.width(unit), width = columns.count * lanes;
    const std::size_t before = columns.before(unit);
    for (std::size_t tile = 0; tile < step.rows; tile += kRnnTile) {
      const std::size_t rows = std::min(kRnnTile, step.rows - tile);
      for (std::size_t i = tile; i < tile + rows; ++i) rnn_prefetch(step, i, unit, lanes);
      gemm(h + tile * step.stride, step.stride, packed + before * columns.units, rows,
           columns.units, width, sums, width, {.row = start != nullptr ? start + before : nullptr});
      if (lanes == kFloatLanes) {
        for (std::size_t i = 0; i < rows; ++i) cell(WholeSlice(), tile + i, unit, sums + i * width);
      } else {
        for (std::size_t i = 0; i < rows; ++i)
          cell(PartSlice{lanes}, tile + i, unit, sums + i * width);
      }
    }
  }
}

// A cell's view of its sums: gate g, with W x + b added.
template <class Slice>
HWY_INLINE FloatVector gate_sum(const Slice& slice, const float* sums, const float* x,
                                std::size_t gate) {
  return hn::Add(slice.get(sums + gate * slice.width()), slice.get(x + gate * slice.width()));
}

// Writes what a training run keeps of one step's slice: values `units` floats apart.
template <class Slice, class... Values>
HWY_INLINE void keep(const Slice& slice, float* to, std::size_t units, const Values&... values) {
  (..., (slice.put(values, to), to += units));
}

template <class Gate>
void lstm_step(const RnnPasses& passes, const float* packed, const RnnLayout& layout, int direction,
               const RnnStep& step) {
  const std::size_t units = passes.first.units;
  const auto cell = [&](const auto& slice, std::size_t row, std::size_t unit, const float* sums) {
    const float* x = step.x[row] + 4 * unit;
    const std::size_t at = row * step.stride + unit;
    const FloatVector i = Gate::of(gate_sum(slice, sums, x, 0));
    const FloatVector f = Gate::of(gate_sum(slice, sums, x, 1));
    const FloatVector g = gate_tanh(gate_sum(slice, sums, x, 2));
    const FloatVector o = Gate::of(gate_sum(slice, sums, x, 3));
    const FloatVector c = hn::MulAdd(f, slice.get(step.other + at), hn::Mul(i, g));
    const FloatVector h = hn::Mul(o, gate_tanh(c));
    slice.put(c, step.other + at);
    slice.put(h, step.next + at);
    slice.put(h, step.y[row] + unit);
    if (step.kept != nullptr) keep(slice, step.kept[row] + unit, units, i, f, g, o, c);
  };
  rnn_pass(passes.first, packed + layout.first[direction], nullptr, step, step.h, cell);
}

template <class Gate>
void gru_reset_after_step(const RnnPasses& passes, const float* packed, const RnnLayout& layout,
                          int direction, const RnnStep& step) {
  const std::size_t units = passes.first.units;
  const auto cell = [&](const auto& slice, std::size_t row, std::size_t unit, const float* sums) {
    const float* x = step.x[row] + 3 * unit;
    const std::size_t at = row * step.stride + unit, n_at = 2 * slice.width();
    const FloatVector r = Gate::of(gate_sum(slice, sums, x, 0));
    const FloatVector z = Gate::of(gate_sum(slice, sums, x, 1));
    const FloatVector hidden = slice.get(sums + n_at);
    const FloatVector n = gate_tanh(hn::MulAdd(r, hidden, slice.get(x + n_at)));
    const FloatVector h = hn::MulAdd(z, hn::Sub(slice.get(step.h + at), n), n);
    slice.put(h, step.next + at);
    slice.put(h, step.y[row] + unit);
    if (step.kept != nullptr) keep(slice, step.kept[row] + unit, units, r, z, n, hidden);
  };
  rnn_pass(passes.first, packed + layout.first[direction], packed + layout.start[direction], step,
           step.h, cell);
}

template <class Gate>
void gru_reset_before_step(const RnnPasses& passes, const float* packed, const RnnLayout& layout,
                           int direction, const RnnStep& step) {
  const std::size_t units = passes.first.units;
  const auto reset = [&](const auto& slice, std::size_t row, std::size_t unit, const float* sums) {
    const float* x = step.x[row] + 3 * unit;
    const std::size_t at = row * step.stride + unit;
    const FloatVector r = Gate::of(gate_sum(slice, sums, x, 0));
    const FloatVector z = Gate::of(gate_sum(slice, sums, x, 1));
    const FloatVector reset_h = hn::Mul(r, slice.get(step.h + at));
    slice.put(z, step.other + at);
    slice.put(reset_h, step.next + at);
    // n follows in the second pass, in the place that r h takes until then.
    if (step.kept != nullptr) keep(slice, step.kept[row] + unit, units, r, z, reset_h, reset_h);
  };
  rnn_pass(passes.first, packed + layout.first[direction], nullptr, step, step.h, reset);

  const auto cell = [&](const auto& slice, std::size_t row, std::size_t unit, const float* sums) {
    const float* x = step.x[row] + 3 * unit + 2 * slice.width();
    const std::size_t at = row * step.stride + unit;
    const FloatVector n = gate_tanh(gate_sum(slice, sums, x, 0));
    const FloatVector z = slice.get(step.other + at);
    const FloatVector h = hn::MulAdd(z, hn::Sub(slice.get(step.h + at), n), n);
    slice.put(h, step.h + at);
    slice.put(h, step.y[row] + unit);
    if (step.kept != nullptr) slice.put(n, step.kept[row] + 2 * units + unit);
  };
  rnn_pass(passes.second, packed + layout.second[direction], nullptr, step, step.next, cell);
}

template <class Gate>
void rnn_group(const RnnGroup& group) {
  const BiRnn& op = *group.op;
  const RnnPasses passes = rnn_passes(op);
  const RnnLayout layout(op, group.features);
  const int direction = group.backward ? 1 : 0;
  const auto units = static_cast<std::size_t>(op.units);
  const auto columns = static_cast<std::size_t>(rnn_projected_columns(op));
  const auto stride = static_cast<std::size_t>(rnn_state_stride(op));
  const std::size_t size = static_cast<std::size_t>(group.count) * stride;
  const bool in_place = op.cell == BiRnn::Cell::kGru && !op.reset_after;
  std::fill_n(group.state, static_cast<std::size_t>(kRnnStates) * size, 0.0f);

  const float* x[kRnnGroup];
  float* y[kRnnGroup];
  float* kept[kRnnGroup];
  const bool training = group.sequences[0].kept != nullptr;
  const std::size_t kept_values = static_cast<std::size_t>(rnn_kept_values(op)) * units;
  RnnStep step{.rows = static_cast<std::size_t>(group.count),
               .gates = static_cast<std::size_t>(gate_count(op)),
               .stride = stride,
               .x = x,
               .y = y,
               .kept = training ? kept : nullptr,
               .h = group.state,
               .next = group.state + size,
               .other = group.state + 2 * size};
  for (std::int64_t i = 0; i < group.sequences[0].length; ++i) {
    while (group.sequences[step.rows - 1].length <= i) --step.rows;
    for (std::size_t row = 0; row < step.rows; ++row) {
      const RnnSequence& sequence = group.sequences[row];
      const std::int64_t block = group.block > 0 ? group.block : sequence.length;
      const auto time =
          static_cast<std::size_t>(group.backward ? i - 2 * (i % block) + block - 1 : i);
      const auto slot = static_cast<std::size_t>(sequence.slots[time]);
      x[row] = group.projected + slot * 2 * columns + (group.backward ? columns : 0);
      y[row] = sequence.y + time * 2 * units + (group.backward ? units : 0);
      if (training) kept[row] = sequence.kept + (2 * time + (group.backward ? 1 : 0)) * kept_values;
    }
    if (op.cell == BiRnn::Cell::kLstm) {
      lstm_step<Gate>(passes, group.packed, layout, direction, step);
    } else if (op.reset_after) {
      gru_reset_after_step<Gate>(passes, group.packed, layout, direction, step);
    } else {
      gru_reset_before_step<Gate>(passes, group.packed, layout, direction, step);
    }
    if (!in_place) std::swap(step.h, step.next);
  }
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
