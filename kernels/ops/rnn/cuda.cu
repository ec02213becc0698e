// The recurrence of BiRnn in exact f32 (formulas: rnn.h), from W x + b of all steps.
//
// A block owns 1, 2 or 4 sequences of one direction for all their steps, so no grid barrier is
// needed. Two neighbouring threads own a unit: each multiplies half of h with all gates of the unit
// (kRnnSimtChunk), they add their halves by a shuffle and make the cell; h goes through shared
// memory, twice buffered: one barrier per step. weight_hh lies in registers first, then in shared
// memory, and what is left streams from L2. W x + b of the next step loads during this one.
// Roofline per step and block, LSTM of 150 units: 90,000 FMA a sequence (703 cycles of an SM)
// beside 230 KB of shared weights (1,800 cycles): shared memory binds up to two sequences, FMA
// beyond. A GRU of 50 units lies in registers whole; its step is latency. Share of it: not measured
// yet. Oracle: reference.cpp.
#include "kernels/cuda/element.cuh"
#include "kernels/ops/rnn/cuda.h"
#include "kernels/ops/rnn/recurrence.cuh"

namespace tessera {

namespace {

// weight_hh of one direction as one thread sees it.
template <int kGates, int kHeld>
struct Weights {
  float held[kHeld > 0 ? kHeld : 1][kGates][4];  // of the thread's unit, half of each chunk
  const float4* shared;                          // (shared chunks, gates, units, lanes)
  const float4* all;                             // (chunks, gates, units, lanes)
  int chunks, shared_end, pitch;                 // of units x lanes

  // Copies what is shared, without a barrier, and loads what `column` = unit x lanes + lane holds.
  __device__ Weights(const RnnArgs& args, int shared_chunks, int column, float4* memory)
      : shared(memory),
        chunks(args.chunks),
        shared_end(kHeld + shared_chunks),
        pitch(args.units * kRnnSimtLanes) {
    all = static_cast<const float4*>(args.recurrent) +
          std::int64_t{blockIdx.y} * chunks * kGates * pitch;
    const float4* from = all + kHeld * kGates * pitch;
    for (int i = static_cast<int>(threadIdx.x); i < shared_chunks * kGates * pitch;
         i += static_cast<int>(blockDim.x))
      memory[i] = from[i];
#pragma unroll
    for (int chunk = 0; chunk < kHeld; ++chunk) {
      if (chunk < chunks) {
#pragma unroll
        for (int g = 0; g < kGates; ++g)
          load_elements(reinterpret_cast<const float*>(all + (chunk * kGates + g) * pitch + column),
                        held[chunk][g]);
      }
    }
  }

  // sums[g][s] = this thread's half of gate kFirst + g's row times h of sequence s.
  template <int kFirst, int kCount, int kSequences>
  __device__ void multiply(int column, const float* h, int h_pitch,
                           float (&sums)[kCount][kSequences]) const {
    const float* half = h + column % kRnnSimtLanes * 4;
    const auto add = [&](int chunk, const float(&w)[kCount][4]) {
#pragma unroll
      for (int s = 0; s < kSequences; ++s) {
        float x[4];
        load_elements(half + s * h_pitch + chunk * kRnnSimtChunk, x);
#pragma unroll
        for (int g = 0; g < kCount; ++g) {
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[g][s] = fmaf(w[g][i], x[i], sums[g][s]);
        }
      }
    };
    const auto add_from = [&](const float4* from, int chunk) {
      float w[kCount][4];
#pragma unroll
      for (int g = 0; g < kCount; ++g)
        load_elements(reinterpret_cast<const float*>(from + (kFirst + g) * pitch + column), w[g]);
      add(chunk, w);
    };

#pragma unroll
    for (int g = 0; g < kCount; ++g) {
#pragma unroll
      for (int s = 0; s < kSequences; ++s) sums[g][s] = 0;
    }
#pragma unroll
    for (int chunk = 0; chunk < kHeld; ++chunk) {
      if (chunk < chunks) {
        float w[kCount][4];
#pragma unroll
        for (int g = 0; g < kCount; ++g) {
#pragma unroll
          for (int i = 0; i < 4; ++i) w[g][i] = held[chunk][kFirst + g][i];
        }
        add(chunk, w);
      }
    }
    // Unrolled, the loads in flight would take the registers of weights.
#pragma unroll 1
    for (int chunk = kHeld; chunk < shared_end; ++chunk)
      add_from(shared + (chunk - kHeld) * kGates * pitch, chunk);
#pragma unroll 1
    for (int chunk = shared_end; chunk < chunks; ++chunk)
      add_from(all + std::int64_t{chunk} * kGates * pitch, chunk);
  }
};

// Where a block keeps what lasts from step to step.
struct State {
  float* weights;  // (shared chunks, gates, units, lanes, 4)
  float* h;        // (2, sequences, pitch), zeros past the units
  float* cell;     // (sequences, units): c of an LSTM, z of a GRU
  int pitch;
  int h_size;  // of one of the two

  __device__ State(const RnnArgs& args, int sequences, int gates, int shared_chunks, float* memory)
      : weights(memory), pitch(args.chunks * kRnnSimtChunk), h_size(sequences * pitch) {
    h = memory + shared_chunks * gates * args.units * kRnnSimtChunk;
    cell = h + 2 * h_size;
    for (float* zero = h + threadIdx.x; zero < cell + sequences * args.units; zero += blockDim.x)
      *zero = 0;
  }
};

template <RnnCell kCell, int kSequences, int kHeld, bool kTrain>
__global__ void __launch_bounds__(kHeld > 0 ? kRnnHeldThreads : kRnnPassThreads, 1)
    rnn_fma_kernel(RnnArgs args, int shared_chunks) {
  constexpr int kGates = kGatesOf<kCell>;
  using Own = Owned<kSequences>;
  SIMT_DYN_SHARED(float, s_memory, 16);
  const State state(args, kSequences, kGates, shared_chunks, s_memory);
  const int units = args.units;
  const Passes<kSequences, kHeld> passes(units);
  const Weights<kGates, kHeld> weights(args, shared_chunks, passes.column(0),
                                       reinterpret_cast<float4*>(state.weights));
  const float* bias_n = args.bias_n != nullptr ? args.bias_n + blockIdx.y * units : nullptr;

  // Sequences, and W x + b of the first step; the row after it is known one step ahead.
  DirectedSequence sequence[Own::kCount];
  int row[Own::kCount], row_after[Own::kCount];
  float next[Own::kCount][kGates];
#pragma unroll
  for (int i = 0; i < Own::kCount; ++i) {
    sequence[i] = DirectedSequence(args, std::int64_t{blockIdx.x} * kSequences + Own::slot(i));
    row[i] = sequence[i].projected_row(args, 0);
    row_after[i] = sequence[i].projected_row(args, 1);
#pragma unroll
    for (int g = 0; g < kGates; ++g) next[i][g] = 0;
    load_projected(args, row[i], passes.unit(0), next[i]);
  }
  const int longest = longest_of_block(args, kSequences);
  // Puts the zeros of the state and the shared weights before their reads.
  __syncthreads();

  for (int step = 0; step < longest; ++step) {
    const float* h_now = state.h + step % 2 * state.h_size;
    float* h_next = state.h + (step + 1) % 2 * state.h_size;
    for (int pass = 0; pass < passes.count; ++pass) {
      const int unit = passes.unit(pass);
      const bool writes = passes.writes(pass);
      const float hidden_bias = kCell == RnnCell::kLstm ? 0 : bias_n[unit];

      // W x + b: take what was loaded, load for the next pass or step.
      float projected[Own::kCount][kGates];
      const bool last = pass + 1 == passes.count;
#pragma unroll
      for (int i = 0; i < Own::kCount; ++i) {
#pragma unroll
        for (int g = 0; g < kGates; ++g) projected[i][g] = next[i][g];
        if (last) row[i] = row_after[i];
        load_projected(args, row[i], passes.unit(last ? 0 : pass + 1), next[i]);
        if (last) row_after[i] = sequence[i].projected_row(args, step + 2);
      }

      // U h.
      float sums[kGates][kSequences];
      weights.template multiply<0>(passes.column(pass), h_now, state.pitch, sums);

      float hidden[Own::kCount][kGates];
      Own::add_halves(sums, hidden);

      // Cells.
#pragma unroll
      for (int i = 0; i < Own::kCount; ++i) {
        if (!writes || step >= sequence[i].length) continue;
        const int slot = Own::slot(i);
        float h;
        if constexpr (kCell == RnnCell::kLstm) {
#pragma unroll
          for (int g = 0; g < kGates; ++g) hidden[i][g] += projected[i][g];
          float c = state.cell[slot * units + unit];
          h = lstm_cell<AccurateFunctions>(hidden[i], args.hard_sigmoid, c);
          state.cell[slot * units + unit] = c;
          if constexpr (kTrain) {
            float* kept = sequence[i].kept(args, step, unit);
#pragma unroll
            for (int g = 0; g < kGates; ++g) kept[g * units] = hidden[i][g];
            kept[kGates * units] = c;
          }
        } else {
          const float r =
              gate<AccurateFunctions>(projected[i][0] + hidden[i][0], args.hard_sigmoid);
          const float z =
              gate<AccurateFunctions>(projected[i][1] + hidden[i][1], args.hard_sigmoid);
          const float q = hidden[i][2] + hidden_bias;
          const float n = AccurateFunctions::tanh(fmaf(r, q, projected[i][2]));
          h = gru_blend(z, n, h_now[slot * state.pitch + unit]);
          if constexpr (kTrain) {
            const float gates[] = {r, z, n, q};
            float* kept = sequence[i].kept(args, step, unit);
#pragma unroll
            for (int g = 0; g < 4; ++g) kept[g * units] = gates[g];
          }
        }
        h_next[slot * state.pitch + unit] = h;
        sequence[i].output(args, step)[unit] = h;
      }
    }
    // Puts the writes of h_next before the next step's reads, and the reads of h_now before the
    // next step's writes.
    __syncthreads();
  }
  zero_padding<kTrain>(args, kSequences);
}

// A GRU whose r comes before the product: the first half of State::h keeps h, the second takes r h.
template <int kSequences, int kHeld, bool kTrain>
__global__ void __launch_bounds__(kHeld > 0 ? kRnnHeldThreads : kRnnPassThreads, 1)
    gru_reset_before_fma_kernel(RnnArgs args, int shared_chunks) {
  constexpr int kGates = kGatesOf<RnnCell::kGruResetBefore>;
  using Own = Owned<kSequences>;
  SIMT_DYN_SHARED(float, s_memory, 16);
  const State state(args, kSequences, kGates, shared_chunks, s_memory);
  const int units = args.units;
  const Passes<kSequences, kHeld> passes(units);
  const Weights<kGates, kHeld> weights(args, shared_chunks, passes.column(0),
                                       reinterpret_cast<float4*>(state.weights));
  const float* bias_n = args.bias_n + blockIdx.y * units;
  float* reset_h = state.h + state.h_size;
  DirectedSequence sequence[Own::kCount];
#pragma unroll
  for (int i = 0; i < Own::kCount; ++i)
    sequence[i] = DirectedSequence(args, std::int64_t{blockIdx.x} * kSequences + Own::slot(i));
  const int longest = longest_of_block(args, kSequences);
  // Puts the zeros of the state and the shared weights before their reads.
  __syncthreads();

  // Of W x + b of this step, what one half of the step needs.
  const auto load_step = [&](int step, int unit, float(&projected)[Own::kCount][kGates]) {
#pragma unroll
    for (int i = 0; i < Own::kCount; ++i) {
#pragma unroll
      for (int g = 0; g < kGates; ++g) projected[i][g] = 0;
      load_projected(args, sequence[i].projected_row(args, step), unit, projected[i]);
    }
  };
  for (int step = 0; step < longest; ++step) {
    for (int pass = 0; pass < passes.count; ++pass) {  // r, z and r h
      const int unit = passes.unit(pass);
      const bool writes = passes.writes(pass);
      float projected[Own::kCount][kGates], sums[2][kSequences];
      load_step(step, unit, projected);
      weights.template multiply<0>(passes.column(pass), state.h, state.pitch, sums);
      float hidden[Own::kCount][2];
      Own::add_halves(sums, hidden);
#pragma unroll
      for (int i = 0; i < Own::kCount; ++i) {
        if (!writes || step >= sequence[i].length) continue;
        const int slot = Own::slot(i);
        const float r = gate<AccurateFunctions>(projected[i][0] + hidden[i][0], args.hard_sigmoid);
        const float reset = r * state.h[slot * state.pitch + unit];
        const float z = gate<AccurateFunctions>(projected[i][1] + hidden[i][1], args.hard_sigmoid);
        reset_h[slot * state.pitch + unit] = reset;
        state.cell[slot * units + unit] = z;
        if constexpr (kTrain) {
          float* kept = sequence[i].kept(args, step, unit);
          kept[0] = r;
          kept[units] = z;
          kept[3 * units] = reset;
        }
      }
    }
    // Puts the writes of r h before its reads, and the reads of h before its writes.
    __syncthreads();
    for (int pass = 0; pass < passes.count; ++pass) {  // n and h
      const int unit = passes.unit(pass);
      const bool writes = passes.writes(pass);
      float projected[Own::kCount][kGates], sums[1][kSequences];
      load_step(step, unit, projected);
      weights.template multiply<2>(passes.column(pass), reset_h, state.pitch, sums);
      float hidden[Own::kCount][1];
      Own::add_halves(sums, hidden);
#pragma unroll
      for (int i = 0; i < Own::kCount; ++i) {
        if (!writes || step >= sequence[i].length) continue;
        const int slot = Own::slot(i);
        float& h = state.h[slot * state.pitch + unit];
        const float n = AccurateFunctions::tanh(projected[i][2] + (hidden[i][0] + bias_n[unit]));
        h = gru_blend(state.cell[slot * units + unit], n, h);
        if constexpr (kTrain) sequence[i].kept(args, step, unit)[2 * units] = n;
        sequence[i].output(args, step)[unit] = h;
      }
    }
    // Puts the writes of h before the next step's reads, and the reads of r h before its writes.
    __syncthreads();
  }
  zero_padding<kTrain>(args, kSequences);
}

template <RnnCell kCell, int kSequences, int kHeld, bool kTrain>
void launch(const RnnArgs& args, const RnnChoice& choice, CudaStream stream) {
  const auto launch_kernel = [&](auto* kernel) {
    const std::int64_t blocks = (args.sequences + kSequences - 1) / kSequences;
    simt::launch(kernel, dim3(static_cast<unsigned>(blocks), 2),
                 dim3(static_cast<unsigned>(choice.threads)), choice.shared_bytes, stream, args,
                 choice.shared_chunks);
  };
  if constexpr (kCell == RnnCell::kGruResetBefore) {
    launch_kernel(gru_reset_before_fma_kernel<kSequences, kHeld, kTrain>);
  } else {
    launch_kernel(rnn_fma_kernel<kCell, kSequences, kHeld, kTrain>);
  }
}

template <RnnCell kCell, int kSequences, int kHeld>
void launch_kept(const RnnArgs& args, const RnnChoice& choice, CudaStream stream) {
  if (args.kept != nullptr) {
    launch<kCell, kSequences, kHeld, true>(args, choice, stream);
  } else {
    launch<kCell, kSequences, kHeld, false>(args, choice, stream);
  }
}

template <RnnCell kCell, int kSequences>
void launch_held(const RnnArgs& args, const RnnChoice& choice, CudaStream stream) {
  if (choice.held > 0) {
    launch_kept<kCell, kSequences, rnn_held(RnnTechnique::kSimt, kCell, kSequences)>(args, choice,
                                                                                     stream);
  } else {
    launch_kept<kCell, kSequences, 0>(args, choice, stream);
  }
}

template <RnnCell kCell>
void launch_sequences(const RnnArgs& args, const RnnChoice& choice, CudaStream stream) {
  switch (choice.sequences) {
    case 1:
      return launch_held<kCell, 1>(args, choice, stream);
    case 2:
      return launch_held<kCell, 2>(args, choice, stream);
    default:
      return launch_held<kCell, 4>(args, choice, stream);
  }
}

}  // namespace

void rnn_fma_cuda(const RnnArgs& args, const RnnChoice& choice, CudaStream stream) {
  switch (args.cell) {
    case RnnCell::kLstm:
      return launch_sequences<RnnCell::kLstm>(args, choice, stream);
    case RnnCell::kGruResetAfter:
      return launch_sequences<RnnCell::kGruResetAfter>(args, choice, stream);
    case RnnCell::kGruResetBefore:
      return launch_sequences<RnnCell::kGruResetBefore>(args, choice, stream);
  }
}

void rnn_cuda(const RnnArgs& args, const RnnChoice& choice, CudaStream stream) {
  if (choice.technique == RnnTechnique::kMma) {
    rnn_mma_cuda(args, choice, stream);
  } else {
    rnn_fma_cuda(args, choice, stream);
  }
}

}  // namespace tessera
