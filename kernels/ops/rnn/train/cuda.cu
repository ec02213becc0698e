// Backward through time of BiRnn in exact f32 (formulas: backward.h), from the gates that the
// training run kept to the gradients dz of the gates' sums; products over all steps at once, dW, dU
// and dx, are linear/train/gemm_sum.cu's and linear's.
//
// A block owns 1, 2 or 4 sequences of one direction for all their steps, as in the forward run
// (cuda.cu). Two neighbouring threads own a unit: they make dz of the unit's gates, which goes to
// memory and through shared memory, then each multiplies half of all dz with the unit's column of
// weight_hh (rnn_transposed_at), and a shuffle adds the halves: dh of the step before. dz is twice
// buffered: one barrier per step, three where a GRU's r comes before the product. The weights lie
// in registers first, then in shared memory, and what is left streams from L2; kept gates of the
// next step load during this one. Roofline per step and block, LSTM of 150 units: 90,000 FMA a
// sequence (703 cycles of an SM) beside 260 KB of shared weights (2,030 cycles): shared memory
// binds up to two sequences, FMA beyond. Share of it: not measured yet. Oracle:
// backward_reference.cpp.
#include "kernels/ops/rnn/train/cuda.h"

#include "kernels/cuda/element.cuh"
#include "kernels/ops/rnn/recurrence.cuh"

namespace tessera {

namespace {

// The columns of weight_hh of one direction as one thread sees them.
template <int kHeld>
struct Columns {
  float held[kHeld > 0 ? kHeld : 1][4];  // of the thread's unit, half of each chunk
  const float4* shared;                  // (shared chunks, units, lanes)
  const float4* all;                     // (chunks, units, lanes)
  int shared_end, pitch;                 // of units x lanes

  // Copies what is shared, without a barrier, and loads what `column` = unit x lanes + lane holds.
  __device__ Columns(const RnnBackwardArgs& args, int chunks, int shared_chunks, int column,
                     float4* memory)
      : shared(memory), shared_end(kHeld + shared_chunks), pitch(args.units * kRnnSimtLanes) {
    all =
        reinterpret_cast<const float4*>(args.recurrent) + std::int64_t{blockIdx.y} * chunks * pitch;
    const float4* from = all + kHeld * pitch;
    for (int i = static_cast<int>(threadIdx.x); i < shared_chunks * pitch;
         i += static_cast<int>(blockDim.x))
      memory[i] = from[i];
#pragma unroll
    for (int chunk = 0; chunk < kHeld; ++chunk) {
      if (chunk < chunks)
        load_elements(reinterpret_cast<const float*>(all + chunk * pitch + column), held[chunk]);
    }
  }

  // sums[0][s] = this thread's half of the product of chunks [first, end) with dz of sequence s.
  // Each is four chains, added pairwise at the end: one would wait for itself.
  template <int kSequences>
  __device__ void multiply(int column, const float* dz, int dz_pitch, int first, int end,
                           float (&sums)[1][kSequences]) const {
    const float* half = dz + column % kRnnSimtLanes * 4;
    float chains[kSequences][4];
#pragma unroll
    for (int s = 0; s < kSequences; ++s) {
#pragma unroll
      for (int i = 0; i < 4; ++i) chains[s][i] = 0;
    }
    const auto add = [&](int chunk, const float(&w)[4]) {
#pragma unroll
      for (int s = 0; s < kSequences; ++s) {
        float x[4];
        load_elements(half + s * dz_pitch + chunk * kRnnSimtChunk, x);
#pragma unroll
        for (int i = 0; i < 4; ++i) chains[s][i] = fmaf(w[i], x[i], chains[s][i]);
      }
    };
    const auto add_from = [&](const float4* from, int chunk) {
      float w[4];
      load_elements(reinterpret_cast<const float*>(from + column), w);
      add(chunk, w);
    };
#pragma unroll
    for (int chunk = 0; chunk < kHeld; ++chunk) {
      if (chunk >= first && chunk < end) add(chunk, held[chunk]);
    }
    // Unrolled further, the loads in flight would take the registers of weights.
#pragma unroll 2
    for (int chunk = max(kHeld, first); chunk < min(shared_end, end); ++chunk)
      add_from(shared + (chunk - kHeld) * pitch, chunk);
#pragma unroll 2
    for (int chunk = max(shared_end, first); chunk < end; ++chunk)
      add_from(all + std::int64_t{chunk} * pitch, chunk);
#pragma unroll
    for (int s = 0; s < kSequences; ++s)
      sums[0][s] = (chains[s][0] + chains[s][1]) + (chains[s][2] + chains[s][3]);
  }
};

// Where a block keeps what lasts from step to step. Of the states and sums, an element belongs to
// one thread.
struct State {
  float* weights;  // (shared chunks, units, lanes, 4)
  float* dz;       // (2, sequences, gates, chunks of a gate, 8), zeros past the units
  float* dh;       // (sequences, units)
  float* dc;       // (sequences, units), of an LSTM
  float* sums;     // (kRnnBiasGates, units, lanes)
  int gate_pitch, pitch, dz_size;

  __device__ State(const RnnBackwardArgs& args, int sequences, int gates, int shared_chunks,
                   float* memory)
      : weights(memory),
        gate_pitch(args.chunks * kRnnSimtChunk),
        pitch(gates * gate_pitch),
        dz_size(sequences * pitch) {
    dz = memory + shared_chunks * args.units * kRnnSimtChunk;
    dh = dz + 2 * dz_size;
    dc = dh + sequences * args.units;
    sums = dc + sequences * args.units;
    const float* end = sums + kRnnBiasGates * args.units * kRnnSimtLanes;
    for (float* zero = dz + threadIdx.x; zero < end; zero += blockDim.x) *zero = 0;
  }
};

// What a cell's gradient is made from. `before` is c of the step before of an LSTM, or h of a GRU.
template <RnnCell kCell>
struct CellInputs {
  static constexpr int kKept = kKeptOf<kCell>;
  float kept[kKept], before, dy;
};

// Reads that of the i-th step, if there is one; leaves `to` as it is elsewhere.
template <RnnCell kCell>
__device__ inline void load_cell(const RnnBackwardArgs& args, const DirectedSequence& sequence,
                                 int i, int unit, CellInputs<kCell>& to) {
  if (i < 0 || i >= sequence.length) return;
  constexpr int kKept = CellInputs<kCell>::kKept;
  const std::int64_t at = sequence.row(i) * 2 + blockIdx.y;
  const float* kept = args.kept + at * kKept * args.units + unit;
#pragma unroll
  for (int k = 0; k < kKept; ++k) to.kept[k] = kept[k * args.units];
  to.dy = args.dy[at * args.units + unit];
  to.before = 0;
  if (i == 0) return;
  const std::int64_t before = sequence.row(i - 1) * 2 + blockIdx.y;
  if constexpr (kCell == RnnCell::kLstm) {
    to.before = args.kept[(before * kKept + kKept - 1) * args.units + unit];
  } else {
    to.before = args.y[before * args.units + unit];
  }
}

// Of a gate; 0 for NaN if hard, as the reference has it.
__device__ inline float slope(float gate, bool hard) {
  if (!hard) return gate * (1 - gate);
  return gate > 0 && gate < 1 ? 0.2f : 0.0f;
}

template <RnnCell kCell, int kSequences, int kHeld>
__global__ void __launch_bounds__(kHeld > 0 ? kRnnHeldThreads : kRnnPassThreads, 1)
    rnn_backward_kernel(RnnBackwardArgs args, int shared_chunks) {
  constexpr int kGates = kGatesOf<kCell>;
  using Own = Owned<kSequences>;
  SIMT_DYN_SHARED(float, s_memory, 16);
  const State state(args, kSequences, kGates, shared_chunks, s_memory);
  const int units = args.units;
  const Passes<kSequences, kHeld> passes(units);
  const int chunks = kGates * args.chunks;
  const Columns<kHeld> columns(args, chunks, shared_chunks, passes.column(0),
                               reinterpret_cast<float4*>(state.weights));
  const int longest = longest_of_block(args, kSequences);

  DirectedSequence sequence[Own::kCount];
  CellInputs<kCell> next[Own::kCount];
#pragma unroll
  for (int i = 0; i < Own::kCount; ++i) {
    sequence[i] = DirectedSequence(args, std::int64_t{blockIdx.x} * kSequences + Own::slot(i));
    next[i] = {};
    load_cell(args, sequence[i], longest - 1, passes.unit(0), next[i]);
  }
  // Puts the zeros of the state and the shared weights before their reads.
  __syncthreads();

  for (int step = longest - 1; step >= 0; --step) {
    float* dz = state.dz + step % 2 * state.dz_size;
    // dz; of a GRU without reset_after all but r's.
    for (int pass = 0; pass < passes.count; ++pass) {
      const int unit = passes.unit(pass);
      const bool last = pass + 1 == passes.count;
#pragma unroll
      for (int i = 0; i < Own::kCount; ++i) {
        const CellInputs<kCell> in = next[i];
        load_cell(args, sequence[i], last ? step - 1 : step, passes.unit(last ? 0 : pass + 1),
                  next[i]);
        if (!passes.writes(pass) || step >= sequence[i].length) continue;
        const int slot = Own::slot(i);
        const std::int64_t at = sequence[i].row(step) * 2 + blockIdx.y;
        float* to = args.dz + at * kGates * units + unit;
        float* shared = dz + slot * state.pitch + unit;
        float* sums = state.sums + passes.column(pass);
        const auto finish = [&](int gate, float gradient) {
          to[gate * units] = gradient;
          shared[gate * state.gate_pitch] = gradient;
          sums[gate * units * kRnnSimtLanes] += gradient;
        };
        float& kept_dh = state.dh[slot * units + unit];
        const float dh = kept_dh + in.dy;
        if constexpr (kCell == RnnCell::kLstm) {
          float& kept_dc = state.dc[slot * units + unit];
          const float input = in.kept[0], forget = in.kept[1], g = in.kept[2], output = in.kept[3];
          const float tanh_c = AccurateFunctions::tanh(in.kept[4]);
          const float dc = fmaf(dh * output, 1 - tanh_c * tanh_c, kept_dc);
          finish(0, dc * g * slope(input, args.hard_sigmoid));
          finish(1, dc * in.before * slope(forget, args.hard_sigmoid));
          finish(2, dc * input * (1 - g * g));
          finish(3, dh * tanh_c * slope(output, args.hard_sigmoid));
          kept_dc = dc * forget;
          kept_dh = 0;
        } else {
          const float r = in.kept[0], z = in.kept[1], n = in.kept[2], q = in.kept[3];
          const float dn = dh * (1 - z) * (1 - n * n);
          finish(1, dh * (in.before - n) * slope(z, args.hard_sigmoid));
          finish(2, dn);
          kept_dh = dh * z;
          float dq = dn;
          if constexpr (kCell == RnnCell::kGruResetAfter) {
            dq = dn * r;
            finish(0, dn * q * slope(r, args.hard_sigmoid));
            shared[2 * state.gate_pitch] = dq;
            args.dq[at * units + unit] = dq;
          }
          sums[3 * units * kRnnSimtLanes] += dq;
        }
      }
    }
    // Puts the writes of dz before its reads. Its reads come before its next writes, two steps on,
    // by the barrier of the step between.
    __syncthreads();

    if constexpr (kCell == RnnCell::kGruResetBefore) {
      for (int pass = 0; pass < passes.count; ++pass) {  // dp, and dz of r
        const int unit = passes.unit(pass);
        float product[1][kSequences], dp[Own::kCount][1];
        columns.multiply(passes.column(pass), dz, state.pitch, 2 * args.chunks, chunks, product);
        Own::add_halves(product, dp);
#pragma unroll
        for (int i = 0; i < Own::kCount; ++i) {
          if (!passes.writes(pass) || step >= sequence[i].length) continue;
          const int slot = Own::slot(i);
          const std::int64_t at = sequence[i].row(step) * 2 + blockIdx.y;
          const float r = args.kept[at * CellInputs<kCell>::kKept * units + unit];
          float h = 0;
          if (step > 0) h = args.y[(sequence[i].row(step - 1) * 2 + blockIdx.y) * units + unit];
          const float dr = dp[i][0] * h * slope(r, args.hard_sigmoid);
          args.dz[at * kGates * units + unit] = dr;
          dz[slot * state.pitch + unit] = dr;
          state.sums[passes.column(pass)] += dr;
          state.dh[slot * units + unit] += dp[i][0] * r;
        }
      }
      // Puts the writes of r's dz before its reads.
      __syncthreads();
    }

    if (step == 0) break;  // no step before
    constexpr bool kWithoutN = kCell == RnnCell::kGruResetBefore;
    for (int pass = 0; pass < passes.count; ++pass) {  // dh of the step before
      float product[1][kSequences], dh[Own::kCount][1];
      columns.multiply(passes.column(pass), dz, state.pitch, 0,
                       kWithoutN ? 2 * args.chunks : chunks, product);
      Own::add_halves(product, dh);
#pragma unroll
      for (int i = 0; i < Own::kCount; ++i) {
        if (passes.writes(pass) && step < sequence[i].length)
          state.dh[Own::slot(i) * units + passes.unit(pass)] += dh[i][0];
      }
    }
  }

  // Puts the sums of both lanes before their reads.
  __syncthreads();
  float* sums =
      args.bias_sums + (std::int64_t{blockIdx.y} * gridDim.x + blockIdx.x) * kRnnBiasGates * units;
  for (int i = static_cast<int>(threadIdx.x); i < kRnnBiasGates * units;
       i += static_cast<int>(blockDim.x))
    sums[i] = state.sums[i * kRnnSimtLanes] + state.sums[i * kRnnSimtLanes + 1];
}

template <RnnCell kCell, int kSequences>
void launch(const RnnBackwardArgs& args, const RnnBackwardChoice& choice, CudaStream stream) {
  const auto launch_kernel = [&](auto* kernel) {
    simt::launch(kernel, dim3(static_cast<unsigned>(choice.blocks(args.sequences)), 2),
                 dim3(static_cast<unsigned>(choice.threads)), choice.shared_bytes, stream, args,
                 choice.shared_chunks);
  };
  if (choice.held) {
    launch_kernel(rnn_backward_kernel<kCell, kSequences, rnn_backward_held(kCell, kSequences)>);
  } else {
    launch_kernel(rnn_backward_kernel<kCell, kSequences, 0>);
  }
}

template <RnnCell kCell>
void launch_sequences(const RnnBackwardArgs& args, const RnnBackwardChoice& choice,
                      CudaStream stream) {
  switch (choice.sequences) {
    case 1:
      return launch<kCell, 1>(args, choice, stream);
    case 2:
      return launch<kCell, 2>(args, choice, stream);
    default:
      return launch<kCell, 4>(args, choice, stream);
  }
}

// ---- Biases and packing: a few microseconds each, of latency.

constexpr int kThreads = 256;
constexpr std::int64_t kMostBlocks = 1 << 16;  // of a grid; threads stride over what is left

unsigned blocks_of(std::int64_t count) {
  const std::int64_t blocks = (count + kThreads - 1) / kThreads;
  return static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks);
}

// A block takes 32 columns (gate, unit); each of its 8 warps sums every eighth of the recurrence's
// blocks, and their sums are added in order.
constexpr int kBiasColumns = 32, kBiasParts = kThreads / kBiasColumns;

__global__ void __launch_bounds__(kThreads) bias_gradient_kernel(RnnBiasGradientArgs args) {
  SIMT_SHARED(float, s_sums, [kBiasParts][kBiasColumns]);
  const int lane = static_cast<int>(threadIdx.x) % kBiasColumns;
  const int part = static_cast<int>(threadIdx.x) / kBiasColumns;
  const int columns = kRnnBiasGates * args.units;
  const int column = static_cast<int>(blockIdx.x) * kBiasColumns + lane;
  const float* from = args.bias_sums + std::int64_t{blockIdx.y} * args.blocks * columns + column;
  float sum = 0;
  if (column < columns) {
#pragma unroll 4
    for (std::int64_t block = part; block < args.blocks; block += kBiasParts)
      sum += from[block * columns];
  }
  s_sums[part][lane] = sum;
  // Puts the sums before their reads.
  __syncthreads();
  if (part != 0 || column >= columns) return;
  for (int i = 1; i < kBiasParts; ++i) sum += s_sums[i][lane];

  const int gate = column / args.units, unit = column % args.units;
  const bool gru = args.cell != RnnCell::kLstm;
  const bool to_input = !gru || gate != 3, to_hidden = !gru || gate != 2;
  float* input = blockIdx.y == 0 ? args.input[0] : args.input[1];
  float* hidden = blockIdx.y == 0 ? args.hidden[0] : args.hidden[1];
  if (to_input && input != nullptr) input[column] += sum;
  if (to_hidden && hidden != nullptr)
    hidden[(gru && gate == 3 ? 2 : gate) * args.units + unit] += sum;
}

template <Precision kRounding>
__global__ void __launch_bounds__(kThreads) rnn_pack_kernel(RnnPackArgs args) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.count;
       i += stride) {
    const std::int64_t from = args.order[i];
    float value = 0;
    if (from >= 0)
      value = from < args.size ? args.weight[0][from] : args.weight[1][from - args.size];
    if constexpr (kRounding == Precision::kBf16) {
      static_cast<BF16*>(args.packed)[i] = from_float<BF16>(value);
    } else if constexpr (kRounding == Precision::kFp16) {
      static_cast<F16*>(args.packed)[i] = from_float<F16>(value);
    } else {
      if constexpr (kRounding == Precision::kTf32) value = __uint_as_float(ptx::to_tf32(value));
      static_cast<float*>(args.packed)[i] = value;
    }
  }
}

__global__ void __launch_bounds__(kThreads) rnn_pack_bias_kernel(RnnBiasArgs args) {
  const int stride = static_cast<int>(gridDim.x) * kThreads;
  for (int i = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
       i < 2 * args.units * args.gates; i += stride) {
    const int gate = i % args.gates, unit = i / args.gates % args.units;
    const int direction = i / args.gates / args.units, from = gate * args.units + unit;
    const float input = direction == 0 ? args.input[0][from] : args.input[1][from];
    const float hidden = direction == 0 ? args.hidden[0][from] : args.hidden[1][from];
    const bool n_of_gru = args.bias_n != nullptr && gate == 2;
    args.bias[i] = input + (n_of_gru ? 0.0f : hidden);
    if (n_of_gru) args.bias_n[direction * args.units + unit] = hidden;
  }
}

}  // namespace

void rnn_backward_cuda(const RnnBackwardArgs& args, const RnnBackwardChoice& choice,
                       CudaStream stream) {
  if (args.sequences == 0) return;
  switch (args.cell) {
    case RnnCell::kLstm:
      return launch_sequences<RnnCell::kLstm>(args, choice, stream);
    case RnnCell::kGruResetAfter:
      return launch_sequences<RnnCell::kGruResetAfter>(args, choice, stream);
    case RnnCell::kGruResetBefore:
      return launch_sequences<RnnCell::kGruResetBefore>(args, choice, stream);
  }
}

void rnn_bias_gradient_cuda(const RnnBiasGradientArgs& args, CudaStream stream) {
  const int columns = kRnnBiasGates * args.units;
  const dim3 grid(static_cast<unsigned>((columns + kBiasColumns - 1) / kBiasColumns), 2);
  simt::launch(bias_gradient_kernel, grid, dim3(kThreads), 0, stream, args);
}

void rnn_pack_cuda(const RnnPackArgs& args, CudaStream stream) {
  const auto launch_kernel = [&](auto* kernel) {
    simt::launch(kernel, dim3(blocks_of(args.count)), dim3(kThreads), 0, stream, args);
  };
  switch (args.rounding) {
    case Precision::kFp32:
      return launch_kernel(rnn_pack_kernel<Precision::kFp32>);
    case Precision::kTf32:
      return launch_kernel(rnn_pack_kernel<Precision::kTf32>);
    case Precision::kBf16:
      return launch_kernel(rnn_pack_kernel<Precision::kBf16>);
    case Precision::kFp16:
      return launch_kernel(rnn_pack_kernel<Precision::kFp16>);
  }
}

void rnn_pack_bias_cuda(const RnnBiasArgs& args, CudaStream stream) {
  const std::int64_t count = std::int64_t{2} * args.units * args.gates;
  simt::launch(rnn_pack_bias_kernel, dim3(blocks_of(count)), dim3(kThreads), 0, stream, args);
}

}  // namespace tessera
