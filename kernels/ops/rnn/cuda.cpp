#include "kernels/ops/rnn/cuda.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/convert.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/pack.h"
#include "kernels/cuda/paths.h"
#include "kernels/ops/linear/cuda_weights.h"
#include "kernels/ops/rnn/recurrence.h"

namespace tessera {

namespace {

// What W x + b of one chunk of sequences may take of scratch memory, beyond one sequence.
constexpr std::int64_t kProjectedBytes = std::int64_t{256} << 20;

RnnCell cell_of(const BiRnn& op) {
  if (op.cell == BiRnn::Cell::kLstm) return RnnCell::kLstm;
  return op.reset_after ? RnnCell::kGruResetAfter : RnnCell::kGruResetBefore;
}

// The four weights of a direction, as f32.
RnnWeights weights_of(const BiRnn& op, std::span<const TensorView> weights, int direction) {
  const auto w =
      weights.subspan(static_cast<std::size_t>((op.embedding ? 1 : 0) + 4 * direction), 4);
  return {to_f32(w[0]), to_f32(w[1]), to_f32(w[2]), to_f32(w[3])};
}

// weight_ih of both directions as one matrix, rows in the order (direction, unit, gate), and the
// biases that are added before the gates: all but a GRU's b_hh of n.
void fill_projection(const BiRnn& op, std::span<const TensorView> weights, std::size_t features,
                     std::vector<float>& matrix, std::vector<float>& bias) {
  const auto units = static_cast<std::size_t>(op.units);
  const auto gates = static_cast<std::size_t>(gate_count(op));
  matrix.resize(2 * units * gates * features);
  bias.resize(2 * units * gates);
  for (std::size_t direction : {0, 1}) {
    const RnnWeights w = weights_of(op, weights, static_cast<int>(direction));
    for (std::size_t unit = 0; unit < units; ++unit) {
      for (std::size_t gate = 0; gate < gates; ++gate) {
        const std::size_t from = gate * units + unit;
        const std::size_t to = (direction * units + unit) * gates + gate;
        std::copy_n(&w.weight_ih[from * features], features, &matrix[to * features]);
        const bool n_of_gru = op.cell == BiRnn::Cell::kGru && gate == 2;
        bias[to] = w.bias_ih[from] + (n_of_gru ? 0.0f : w.bias_hh[from]);
      }
    }
  }
}

std::shared_ptr<const DeviceBuffer> pack_recurrent(const BiRnn& op, const CudaSetup& setup,
                                                   const RnnChoice& choice) {
  const bool mma = choice.technique == RnnTechnique::kMma;
  const int units = op.units, gates = gate_count(op);
  const auto at = [&](int direction, int gate, int unit, int k) {
    return mma ? rnn_mma_at(units, gates, direction, gate, unit, k)
               : rnn_fma_at(units, gates, direction, gate, unit, k);
  };
  const int padded_units = mma ? (units + kRnnMmaUnits - 1) / kRnnMmaUnits * kRnnMmaUnits : units;
  const int chunk = mma ? kRnnMmaChunk : kRnnSimtChunk;
  const std::size_t element = mma ? sizeof(std::uint16_t) : sizeof(float);
  const auto elements = static_cast<std::size_t>(std::int64_t{2} * gates * padded_units *
                                                 rnn_chunks(choice.technique, units) * chunk);
  const std::string key = fmt::format("{}/weight_hh, {}, rounding {}", setup.name,
                                      mma ? "mma" : "fma", static_cast<int>(choice.rounding));
  return setup.packed->get(key, elements * element, [&](std::byte* to) {
    for (int direction : {0, 1}) {
      const RnnWeights w = weights_of(op, setup.weights, direction);
      for (int gate = 0; gate < gates; ++gate) {
        for (int unit = 0; unit < units; ++unit) {
          const float* row = &w.weight_hh[static_cast<std::size_t>(gate * units + unit) *
                                          static_cast<std::size_t>(units)];
          for (int k = 0; k < units; ++k)
            store_rounded(choice.rounding, row[k], to + at(direction, gate, unit, k) * element);
        }
      }
    }
  });
}

// b_hh of a GRU's n: (2, units).
std::shared_ptr<const DeviceBuffer> pack_bias_n(const BiRnn& op, const CudaSetup& setup) {
  const auto units = static_cast<std::size_t>(op.units);
  return setup.packed->get(
      setup.name + "/bias of n", 2 * units * sizeof(float), [&](std::byte* to) {
        for (int direction : {0, 1}) {
          const RnnWeights w = weights_of(op, setup.weights, direction);
          std::memcpy(to + static_cast<std::size_t>(direction) * units * sizeof(float),
                      &w.bias_hh[2 * units], units * sizeof(float));
        }
      });
}

std::shared_ptr<const DeviceBuffer> pack_table(const BiRnn& op, const CudaSetup& setup) {
  const TensorView& table = setup.weights[0];
  const std::size_t bytes = static_cast<std::size_t>(op.embedding->words) *
                            static_cast<std::size_t>(op.embedding->features) * sizeof(float);
  return setup.packed->get(setup.name + "/embedding", bytes, [&](std::byte* to) {
    const std::vector<float> values = to_f32(table);
    std::memcpy(to, values.data(), bytes);
  });
}

// W x + b of every word, made on the device when the first step of the node is.
std::shared_ptr<const DeviceBuffer> project_words(const BiRnn& op, const CudaSetup& setup,
                                                  const GemmWeights& projection) {
  const std::int64_t words = op.embedding->words;
  const std::size_t bytes =
      static_cast<std::size_t>(words * projection.layout.units) * sizeof(float);
  const std::string key = fmt::format("{}/projected words, rounding {}", setup.name,
                                      static_cast<int>(projection.layout.rounding));
  std::vector<float> values;  // both live until the work is done
  DeviceBuffer table;
  return setup.packed->get_computed(key, bytes, setup.stream, [&](std::byte* to) {
    values = to_f32(setup.weights[0]);
    table = DeviceBuffer(values.size() * sizeof(float));
    cuda_check(cudaMemcpyAsync(table.get(), values.data(), table.size(), cudaMemcpyHostToDevice,
                               setup.stream),
               "copy of the embedding");
    gemm_cuda(projection, reinterpret_cast<const float*>(table.get()), {}, words,
              reinterpret_cast<float*>(to), setup.traits.multiprocessors, setup.stream);
  });
}

// All that a run needs besides its operands.
struct Plan {
  GemmWeights projection;
  std::shared_ptr<const DeviceBuffer> words;      // projected, if they are kept
  std::shared_ptr<const DeviceBuffer> embedding;  // else the table, if there is one
  std::shared_ptr<const DeviceBuffer> recurrent, bias_n;
  RnnChoice choice;
  RnnCell cell{};
  int units = 0, t = 0, multiprocessors = 0;
  bool hard_sigmoid = false, masked = false, has_ids = false;
  std::int64_t sequences = 0;
  std::int64_t chunk = 0;  // sequences projected at a time
  CudaStream stream = nullptr;

  bool ordered() const { return masked && choice.sequences > 1; }
  std::size_t projected_bytes() const {
    if (words) return 0;
    return static_cast<std::size_t>(chunk * t * projection.layout.units) * sizeof(float);
  }
  std::size_t scratch_bytes() const {
    return projected_bytes() +
           (ordered() ? static_cast<std::size_t>(chunk) * sizeof(std::int32_t) : 0);
  }
};

void run_chunk(const Plan& plan, const Operands& operands, std::byte* scratch, std::int64_t first,
               std::int64_t count) {
  const auto* ids = plan.has_ids ? operands.inputs[0].as<std::int32_t>() + first * plan.t : nullptr;
  const auto* lengths = plan.masked ? operands.inputs[1].as<std::int32_t>() + first : nullptr;
  const int features = plan.projection.layout.features;

  const float* projected = nullptr;
  if (plan.words) {
    projected = reinterpret_cast<const float*>(plan.words->get());
  } else {
    RowMap map{.lengths = lengths, .t = plan.t};
    const float* x = nullptr;
    if (plan.has_ids) {
      x = reinterpret_cast<const float*>(plan.embedding->get());
      map.ids = ids;
      map.x_rows = static_cast<std::int64_t>(plan.embedding->size() / sizeof(float)) / features;
    } else {
      x = operands.inputs[0].as<float>() + first * plan.t * features;
    }
    auto* to = reinterpret_cast<float*>(scratch);
    gemm_cuda(plan.projection, x, map, count * plan.t, to, plan.multiprocessors, plan.stream);
    projected = to;
  }

  std::int32_t* order = nullptr;
  if (plan.ordered()) {
    order = reinterpret_cast<std::int32_t*>(scratch + plan.projected_bytes());
    rnn_order_cuda(lengths, count, order, plan.stream);
  }
  const int columns = plan.projection.layout.units;
  rnn_cuda(
      {.projected = projected,
       .ids = plan.words ? ids : nullptr,
       .projected_rows =
           plan.words ? static_cast<std::int64_t>(plan.words->size() / sizeof(float)) / columns : 0,
       .lengths = lengths,
       .order = order,
       .recurrent = plan.recurrent->get(),
       .bias_n = plan.bias_n ? reinterpret_cast<const float*>(plan.bias_n->get()) : nullptr,
       .y = operands.outputs[0].as<float>() + first * plan.t * 2 * plan.units,
       .sequences = count,
       .t = plan.t,
       .units = plan.units,
       .chunks = rnn_chunks(plan.choice.technique, plan.units),
       .cell = plan.cell,
       .hard_sigmoid = plan.hard_sigmoid},
      plan.choice, plan.stream);
}

// Sequences whose W x + b are made at once.
std::int64_t chunk_of(const BiRnn& op, std::int64_t sequences, std::int64_t t) {
  if (rnn_keeps_words(op)) return sequences;
  const std::int64_t row = t * 2 * rnn_projected_columns(op) * std::int64_t{sizeof(float)};
  return std::clamp<std::int64_t>(kProjectedBytes / row, 1, std::max<std::int64_t>(sequences, 1));
}

std::int64_t steps_of(const BiRnn& op, const Shape& x) {
  return op.embedding ? x[-1] : x[-2];
}
std::int64_t sequences_of(const BiRnn& op, const Shape& x) {
  return x.elements(0, x.rank() - (op.embedding ? 1 : 2));
}

}  // namespace

RnnChoice choose_rnn(const BiRnn& op, const CudaSetup& setup) {
  const Shape& x = setup.inputs[0].shape;
  return choose_rnn(setup.traits, setup.math, cell_of(op), op.units,
                    chunk_of(op, sequences_of(op, x), steps_of(op, x)));
}

Step cuda(const BiRnn& op, const CudaSetup& setup) {
  infer(op, setup.inputs);
  if (op.carried) return {};
  const Shape& shape = setup.inputs[0].shape;
  const std::int64_t t = steps_of(op, shape);
  const std::int64_t features = op.embedding ? op.embedding->features : shape[-1];
  constexpr std::int64_t kMost = 0x7fffffff;
  require(t <= kMost && features <= kMost / 4,
          "rnn on CUDA takes at most {} steps of {} features, but got {}: cut the sequences", kMost,
          kMost / 4, setup.inputs[0]);

  Plan plan;
  plan.cell = cell_of(op);
  plan.units = op.units;
  plan.t = static_cast<int>(t);
  plan.sequences = sequences_of(op, shape);
  plan.multiprocessors = setup.traits.multiprocessors;
  plan.hard_sigmoid = op.gate == BiRnn::Gate::kHardSigmoid;
  plan.masked = op.masked;
  plan.has_ids = op.embedding.has_value();
  plan.stream = setup.stream;
  const auto width = static_cast<std::size_t>(features);
  const int columns = static_cast<int>(2 * rnn_projected_columns(op));
  plan.projection =
      gemm_weights(setup, "projection", columns, static_cast<int>(features), setup.math,
                   [&](std::vector<float>& matrix, std::vector<float>& bias) {
                     fill_projection(op, setup.weights, width, matrix, bias);
                   });
  plan.chunk = chunk_of(op, plan.sequences, t);
  if (rnn_keeps_words(op)) {
    plan.words = project_words(op, setup, plan.projection);
  } else if (op.embedding) {
    plan.embedding = pack_table(op, setup);
  }
  plan.choice = choose_rnn(op, setup);
  plan.recurrent = pack_recurrent(op, setup, plan.choice);
  if (op.cell == BiRnn::Cell::kGru) plan.bias_n = pack_bias_n(op, setup);

  return {plan.scratch_bytes(), [plan](const Operands& operands, std::byte* scratch) {
            for (std::int64_t first = 0; first < plan.sequences; first += plan.chunk)
              run_chunk(plan, operands, scratch, first,
                        std::min(plan.chunk, plan.sequences - first));
          }};
}

}  // namespace tessera
