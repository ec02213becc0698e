#include "kernels/ops/rnn/train/cuda.h"

#include <cuda_runtime_api.h>

#include <algorithm>

#include "kernels/cuda/check.h"
#include "kernels/cuda/step.h"
#include "kernels/ops/linear/cuda_weights.h"
#include "kernels/ops/rnn/recurrence.h"
#include "kernels/ops/rnn/train/backward.h"

namespace tessera {

RnnBackwardChoice choose_rnn_backward(const CudaTraits& traits, RnnCell cell, int units,
                                      std::int64_t sequences) {
  constexpr int kWarp = 32, kMostThreads = 512, kDirections = 2;
  const int gates = cell == RnnCell::kLstm ? 4 : 3;
  const int chunks = gates * rnn_chunks(RnnTechnique::kSimt, units);
  const auto bytes = [](std::int64_t floats) {
    return static_cast<std::size_t>(floats) * sizeof(float);
  };
  const auto state_bytes = [&](int per_block) {
    return bytes(std::int64_t{2} * per_block * (chunks * kRnnSimtChunk + units) +
                 std::int64_t{kRnnBiasGates} * units * kRnnSimtLanes);
  };
  require(state_bytes(1) <= traits.shared_per_block,
          "rnn: the gradients of one sequence of {} units take {} bytes of shared memory, but this "
          "GPU has {}: use fewer units, or train with --device cpu",
          units, state_bytes(1), traits.shared_per_block);
  RnnBackwardChoice choice;
  // More sequences share the reads of weight_hh once all multiprocessors have a block.
  for (const int per_block : {1, 2, 4}) {
    if (state_bytes(per_block) > traits.shared_per_block) break;
    choice.sequences = per_block;
    if (choice.blocks(sequences) * kDirections <= traits.multiprocessors) break;
  }
  choice.threads = std::min(kMostThreads, (units * kRnnSimtLanes + kWarp - 1) / kWarp * kWarp);
  choice.held = units <= kRnnHeldUnits;
  const int held = choice.held ? std::min(chunks, rnn_backward_held(cell, choice.sequences)) : 0;
  const std::size_t chunk_bytes = bytes(std::int64_t{units} * kRnnSimtChunk);
  const std::size_t state = state_bytes(choice.sequences);
  choice.shared_chunks = static_cast<int>(std::min<std::size_t>(
      static_cast<std::size_t>(chunks - held), (traits.shared_per_block - state) / chunk_bytes));
  choice.shared_bytes = state + static_cast<std::size_t>(choice.shared_chunks) * chunk_bytes;
  return choice;
}

namespace {

// What the largest buffer of one chunk of sequences may take of scratch memory, beyond one
// sequence.
constexpr std::int64_t kChunkBytes = std::int64_t{256} << 20;
constexpr int kDirections = 2;

// The weights of a direction, in `parameters` order.
enum : std::size_t { kWeightIh, kWeightHh, kBiasIh, kBiasHh, kWeightsOfDirection };

std::size_t weight_at(int direction, std::size_t weight) {
  return static_cast<std::size_t>(direction) * kWeightsOfDirection + weight;
}

RnnCell cell_of(const BiRnn& op) {
  if (op.cell == BiRnn::Cell::kLstm) return RnnCell::kLstm;
  return op.reset_after ? RnnCell::kGruResetAfter : RnnCell::kGruResetBefore;
}

// One weight of both directions in the order that a kernel reads it.
struct Packed {
  std::shared_ptr<const DeviceBuffer> order;
  std::size_t weight = kWeightIh;
  std::int64_t size = 0, count = 0;  // of one direction; packed
  Precision rounding = Precision::kFp32;

  std::size_t bytes() const {
    const bool half = rounding == Precision::kBf16 || rounding == Precision::kFp16;
    return in_whole_parts(static_cast<std::size_t>(count) * (half ? 2 : sizeof(float)));
  }
  void pack(std::span<const TensorView> weights, std::byte* to, CudaStream stream) const {
    rnn_pack_cuda({.weight = {weights[weight_at(0, weight)].as<float>(),
                              weights[weight_at(1, weight)].as<float>()},
                   .order = reinterpret_cast<const std::int32_t*>(order->get()),
                   .packed = to,
                   .size = size,
                   .count = count,
                   .rounding = rounding},
                  stream);
  }
};

Packed make_packed(const CudaSetup& setup, const std::string& name, std::size_t weight,
                   std::int64_t size, Precision rounding, const std::function<PackOrder()>& make) {
  Packed packed;
  packed.order = pack_order(
      setup, fmt::format("order of {}, rounding {}", name, static_cast<int>(rounding)), make);
  packed.weight = weight;
  packed.size = size;
  packed.count = static_cast<std::int64_t>(packed.order->size() / sizeof(std::int32_t));
  packed.rounding = rounding;
  return packed;
}

// What both runs know of the node and its shape.
struct Dims {
  RnnCell cell{};
  int units = 0, gates = 0, kept = 0, t = 0, features = 0;
  std::int64_t sequences = 0, chunk = 0;  // all; of one chunk
  bool hard_sigmoid = false, masked = false;
  int multiprocessors = 0;
  Precision rounding = Precision::kFp32;
  CudaStream stream = nullptr;

  Dims(const BiRnn& op, const CudaSetup& setup)
      : cell(cell_of(op)),
        units(op.units),
        gates(gate_count(op)),
        kept(rnn_kept_values(op)),
        hard_sigmoid(op.gate == BiRnn::Gate::kHardSigmoid),
        masked(op.masked),
        multiprocessors(setup.traits.multiprocessors),
        rounding(setup.math),
        stream(setup.stream) {
    saved_for_backward(op, setup.inputs);  // says what it cannot take
    const Shape& x = setup.inputs[0].shape;
    constexpr std::int64_t kMost = 0x7fffffff;
    require(x[-2] <= kMost && x[-1] <= kMost / 4 && columns() <= kMost / 4,
            "rnn on CUDA takes at most {} steps of {} features and {} units of all gates, but got "
            "{} and {} units: cut the sequences",
            kMost, kMost / 4, kMost / 4, setup.inputs[0], op.units);
    t = static_cast<int>(x[-2]);
    features = static_cast<int>(x[-1]);
    sequences = x.elements(0, x.rank() - 2);
    chunk = std::clamp<std::int64_t>(kChunkBytes / (columns() * t * std::int64_t{sizeof(float)}), 1,
                                     std::max<std::int64_t>(sequences, 1));
  }

  std::int64_t columns() const { return std::int64_t{kDirections} * gates * units; }
  std::int64_t matrix() const { return std::int64_t{gates} * units * units; }  // weight_hh
  std::int64_t rows_of_chunk() const { return chunk * t; }

  const std::int32_t* lengths(std::span<const TensorView> inputs, std::int64_t first) const {
    return masked ? inputs[1].as<std::int32_t>() + first : nullptr;
  }
};

// Scratch as it is laid out: part after part.
class Layout {
 public:
  std::size_t add(std::int64_t elements, std::size_t of_one = sizeof(float)) {
    const std::size_t at = bytes_;
    bytes_ += in_whole_parts(static_cast<std::size_t>(elements) * of_one);
    return at;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

float* floats(std::byte* scratch, std::size_t at) {
  return reinterpret_cast<float*>(scratch + at);
}

// An order of the chunk's sequences, where lengths differ and a block takes several.
std::int32_t* make_order(const Dims& d, int per_block, const std::int32_t* lengths,
                         std::int64_t count, std::byte* to) {
  if (lengths == nullptr || per_block == 1) return nullptr;
  auto* order = reinterpret_cast<std::int32_t*>(to);
  rnn_order_cuda(lengths, count, order, d.stream);
  return order;
}

// ---- Forward

struct Train {
  Dims d;
  GemmLayout layout{};  // of the projection
  Packed projection, recurrent;
  RnnChoice choice;
  std::size_t at_projection = 0, at_recurrent = 0, at_bias = 0, at_bias_n = 0, at_projected = 0,
              at_order = 0, bytes = 0;

  Train(const BiRnn& op, const CudaSetup& setup) : d(op, setup) {
    layout = {d.rounding, d.features, static_cast<int>(d.columns())};
    const int units = d.units, gates = d.gates;
    choice = choose_rnn(setup.traits, Precision::kFp32, d.cell, units, d.chunk);
    const std::int64_t size = std::int64_t{gates} * units * d.features;
    projection = make_packed(setup, "W", kWeightIh, size, d.rounding, [&] {
      return gemm_order(layout, [&](int column, int feature) {  // (direction, unit, gate)
        const int gate = column % gates, unit = column / gates % units;
        return column / gates / units * size + std::int64_t{gate * units + unit} * d.features +
               feature;
      });
    });
    recurrent = make_packed(setup, "U", kWeightHh, d.matrix(), Precision::kFp32, [&] {
      const int chunks = rnn_chunks(RnnTechnique::kSimt, units);
      PackOrder order(static_cast<std::size_t>(std::int64_t{kDirections} * gates * units * chunks *
                                               kRnnSimtChunk),
                      kPackZero);
      for (std::int64_t i = 0; i < kDirections * d.matrix(); ++i) {
        const auto [direction, gate, unit, k] = place(i);
        order[rnn_fma_at(units, gates, direction, gate, unit, k)] = static_cast<std::int32_t>(i);
      }
      return order;
    });
    Layout scratch;
    at_projection = scratch.add(static_cast<std::int64_t>(projection.bytes()), 1);
    at_recurrent = scratch.add(static_cast<std::int64_t>(recurrent.bytes()), 1);
    at_bias = scratch.add(d.columns());
    at_bias_n = scratch.add(kDirections * std::int64_t{units});
    at_projected = scratch.add(d.rows_of_chunk() * d.columns());
    at_order = scratch.add(d.chunk, sizeof(std::int32_t));
    bytes = scratch.bytes();
  }

  struct Place {
    int direction, gate, unit, k;
  };
  // Of an element of weight_hh (gates, units, units) of both directions.
  Place place(std::int64_t i) const {
    const std::int64_t row = i / d.units;
    return {static_cast<int>(row / d.units / d.gates), static_cast<int>(row / d.units % d.gates),
            static_cast<int>(row % d.units), static_cast<int>(i % d.units)};
  }

  void run(const TrainOperands& operands, std::byte* scratch) const {
    if (d.sequences == 0) return;
    const std::span<const TensorView> w = operands.weights;
    projection.pack(w, scratch + at_projection, d.stream);
    recurrent.pack(w, scratch + at_recurrent, d.stream);
    const bool gru = d.cell != RnnCell::kLstm;
    float* bias_n = gru ? floats(scratch, at_bias_n) : nullptr;
    rnn_pack_bias_cuda(
        {.input = {w[weight_at(0, kBiasIh)].as<float>(), w[weight_at(1, kBiasIh)].as<float>()},
         .hidden = {w[weight_at(0, kBiasHh)].as<float>(), w[weight_at(1, kBiasHh)].as<float>()},
         .bias = floats(scratch, at_bias),
         .bias_n = bias_n,
         .units = d.units,
         .gates = d.gates},
        d.stream);
    for (std::int64_t first = 0; first < d.sequences; first += d.chunk) {
      const std::int64_t count = std::min(d.chunk, d.sequences - first), rows = count * d.t;
      const std::int32_t* lengths = d.lengths(operands.inputs, first);
      gemm_cuda({.x = operands.inputs[0].as<float>() + first * d.t * d.features,
                 .map = {.lengths = lengths, .t = d.t},
                 .w = scratch + at_projection,
                 .bias = floats(scratch, at_bias),
                 .y = floats(scratch, at_projected),
                 .rows = rows,
                 .features = d.features,
                 .units = layout.units},
                d.rounding, choose_gemm_rows(rows, layout.units, d.multiprocessors), d.stream);
      rnn_cuda(
          {.projected = floats(scratch, at_projected),
           .ids = nullptr,
           .projected_rows = 0,
           .lengths = lengths,
           .order = make_order(d, choice.sequences, lengths, count, scratch + at_order),
           .recurrent = scratch + at_recurrent,
           .bias_n = bias_n,
           .y = operands.outputs[0].as<float>() + first * d.t * kDirections * d.units,
           .sequences = count,
           .t = d.t,
           .units = d.units,
           .chunks = rnn_chunks(choice.technique, d.units),
           .cell = d.cell,
           .hard_sigmoid = d.hard_sigmoid,
           .kept = operands.saved[0].as<float>() + first * d.t * kDirections * d.kept * d.units},
          choice, d.stream);
    }
  }
};

// ---- Backward

struct Backward {
  Dims d;
  GemmLayout layout{};  // of dx = dz W: W's features are its units
  Packed input, recurrent;
  RnnBackwardChoice choice;
  std::size_t at_input = 0, at_recurrent = 0, at_dz = 0, at_dq = 0, at_bias = 0, at_sums = 0,
              at_order = 0, bytes = 0;

  Backward(const BiRnn& op, const CudaSetup& setup) : d(op, setup) {
    layout = {d.rounding, static_cast<int>(d.columns()), d.features};
    const int units = d.units, gates = d.gates;
    choice = choose_rnn_backward(setup.traits, d.cell, units, d.chunk);
    input = make_packed(setup, "W^T", kWeightIh, std::int64_t{gates} * units * d.features,
                        d.rounding, [&] {
                          return gemm_order(layout, [&](int feature, int row) {
                            return std::int64_t{row} * d.features + feature;
                          });
                        });
    recurrent = make_packed(setup, "U^T", kWeightHh, d.matrix(), Precision::kFp32, [&] {
      const int chunks = rnn_chunks(RnnTechnique::kSimt, units);
      PackOrder order(static_cast<std::size_t>(std::int64_t{kDirections} * gates * units * chunks *
                                               kRnnSimtChunk),
                      kPackZero);
      std::int32_t from = 0;
      for (int direction = 0; direction < kDirections; ++direction) {
        for (int gate = 0; gate < gates; ++gate) {
          for (int unit = 0; unit < units; ++unit) {
            for (int k = 0; k < units; ++k)
              order[rnn_transposed_at(units, gates, direction, gate, unit, k)] = from++;
          }
        }
      }
      return order;
    });
    Layout scratch;
    const std::int64_t rows = d.rows_of_chunk();
    at_input = scratch.add(static_cast<std::int64_t>(input.bytes()), 1);
    at_recurrent = scratch.add(static_cast<std::int64_t>(recurrent.bytes()), 1);
    at_dz = scratch.add(rows * d.columns());
    at_dq = scratch.add(d.cell == RnnCell::kGruResetAfter ? rows * kDirections * units : 0);
    at_bias = scratch.add(kDirections * choice.blocks(d.chunk) * kRnnBiasGates * units);
    at_order = scratch.add(d.chunk, sizeof(std::int32_t));
    // The last chunk may be smaller, which may cut its rows into more slices.
    std::size_t sums = 0;
    for (const std::int64_t count : {d.chunk, d.sequences % d.chunk}) {
      for (const auto& [m, n] : {std::pair{gates * units, d.features},
                                 {gates * units, units},
                                 {2 * units, units},
                                 {units, units}})
        sums = std::max(sums, gemm_sum_scratch(count * d.t, m, n));
    }
    at_sums = scratch.add(static_cast<std::int64_t>(sums), 1);
    bytes = scratch.bytes();
  }

  // The operands of one chunk.
  struct Chunk {
    std::int64_t rows;
    const std::int32_t* lengths;
    const float *x, *y, *kept, *dz, *dq;
    std::byte* sums;
  };

  // sum (m, n) += a^T b over all steps of a chunk.
  void add_products(const Chunk& c, const float* a, std::int64_t a_pitch, int m, const float* b,
                    std::int64_t b_pitch, int n, int b_delay, float* sum) const {
    gemm_sum_cuda({.a = a,
                   .b = b,
                   .sum = sum,
                   .scratch = c.sums,
                   .rows = c.rows,
                   .a_pitch = a_pitch,
                   .b_pitch = b_pitch,
                   .sum_pitch = n,
                   .m = m,
                   .n = n,
                   .lengths = c.lengths,
                   .t = d.t,
                   .b_delay = b_delay},
                  d.rounding, d.stream);
  }

  void add_weight_gradients(const Chunk& c, const BackwardOperands& operands) const {
    const int units = d.units, gates = d.gates;
    for (int direction = 0; direction < kDirections; ++direction) {
      const float* dz = c.dz + std::int64_t{direction} * gates * units;
      const float* h = c.y + std::int64_t{direction} * units;
      const int h_delay = direction == 0 ? 1 : -1;
      if (const TensorView* dw = wanted(operands.weight_gradients, weight_at(direction, kWeightIh)))
        add_products(c, dz, d.columns(), gates * units, c.x, d.features, d.features, 0,
                     dw->as<float>());
      const TensorView* du = wanted(operands.weight_gradients, weight_at(direction, kWeightHh));
      if (du == nullptr) continue;
      const int of_h = d.cell == RnnCell::kLstm ? gates : 2;  // gates that multiply h'
      add_products(c, dz, d.columns(), of_h * units, h, kDirections * std::int64_t{units}, units,
                   h_delay, du->as<float>());
      float* du_n = du->as<float>() + std::int64_t{2} * units * units;
      if (d.cell == RnnCell::kGruResetAfter) {
        add_products(c, c.dq + std::int64_t{direction} * units, kDirections * std::int64_t{units},
                     units, h, kDirections * std::int64_t{units}, units, h_delay, du_n);
      } else if (d.cell == RnnCell::kGruResetBefore) {
        const std::int64_t step = std::int64_t{d.kept} * units;
        const float* reset = c.kept + direction * step + std::int64_t{3} * units;  // r h'
        add_products(c, dz + std::int64_t{2} * units, d.columns(), units, reset, kDirections * step,
                     units, 0, du_n);
      }
    }
  }

  void run(const BackwardOperands& operands, std::byte* scratch) const {
    if (d.sequences == 0) return;
    const int units = d.units;
    const TensorView* dx = wanted(operands.input_gradients, 0);
    recurrent.pack(operands.weights, scratch + at_recurrent, d.stream);
    if (dx != nullptr) input.pack(operands.weights, scratch + at_input, d.stream);
    const auto bias_of = [&](int direction, std::size_t weight) {
      const TensorView* to = wanted(operands.weight_gradients, weight_at(direction, weight));
      return to != nullptr ? to->as<float>() : nullptr;
    };
    for (std::int64_t first = 0; first < d.sequences; first += d.chunk) {
      const std::int64_t count = std::min(d.chunk, d.sequences - first), row = first * d.t;
      Chunk c{.rows = count * d.t,
              .lengths = d.lengths(operands.inputs, first),
              .x = operands.inputs[0].as<float>() + row * d.features,
              .y = operands.outputs[0].as<float>() + row * kDirections * units,
              .kept = operands.saved[0].as<float>() + row * kDirections * d.kept * units,
              .dz = floats(scratch, at_dz),
              .dq = floats(scratch, at_dq),
              .sums = scratch + at_sums};
      rnn_backward_cuda(
          {.lengths = c.lengths,
           .order = make_order(d, choice.sequences, c.lengths, count, scratch + at_order),
           .recurrent = floats(scratch, at_recurrent),
           .y = c.y,
           .kept = c.kept,
           .dy = operands.output_gradients[0].as<float>() + row * kDirections * units,
           .dz = floats(scratch, at_dz),
           .dq = floats(scratch, at_dq),
           .bias_sums = floats(scratch, at_bias),
           .sequences = count,
           .t = d.t,
           .units = units,
           .chunks = rnn_chunks(RnnTechnique::kSimt, units),
           .cell = d.cell,
           .hard_sigmoid = d.hard_sigmoid},
          choice, d.stream);
      rnn_bias_gradient_cuda({.bias_sums = floats(scratch, at_bias),
                              .input = {bias_of(0, kBiasIh), bias_of(1, kBiasIh)},
                              .hidden = {bias_of(0, kBiasHh), bias_of(1, kBiasHh)},
                              .blocks = choice.blocks(count),
                              .units = units,
                              .cell = d.cell},
                             d.stream);
      add_weight_gradients(c, operands);
      if (dx == nullptr) continue;
      float* to = dx->as<float>() + row * d.features;
      if (c.lengths != nullptr)  // the product leaves steps behind the end as they are
        cuda_check(
            cudaMemsetAsync(to, 0, static_cast<std::size_t>(c.rows * d.features) * sizeof(float),
                            static_cast<cudaStream_t>(d.stream)),
            "clearing of a gradient");
      gemm_cuda({.x = c.dz,
                 .map = {.lengths = c.lengths, .t = d.t},
                 .w = scratch + at_input,
                 .bias = nullptr,
                 .y = to,
                 .rows = c.rows,
                 .features = layout.features,
                 .units = layout.units},
                d.rounding, choose_gemm_rows(c.rows, layout.units, d.multiprocessors), d.stream);
    }
  }
};

}  // namespace

TrainStep cuda_train(const BiRnn& op, const CudaSetup& setup) {
  const Train train(op, setup);
  return {train.bytes, [train](const TrainOperands& operands, std::byte* scratch) {
            train.run(operands, scratch);
          }};
}

BackwardStep cuda_backward(const BiRnn& op, const CudaSetup& setup) {
  const Backward backward(op, setup);
  return {backward.bytes, [backward](const BackwardOperands& operands, std::byte* scratch) {
            backward.run(operands, scratch);
          }};
}

}  // namespace tessera
