// What the techniques of the recurrence share on the device: gates, cells, sequences.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/ops/rnn/cuda.h"

namespace tessera {

// To an ULP or two, for exact f32.
struct AccurateFunctions {
  __device__ static float tanh(float x) { return tanhf(x); }
  __device__ static float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
};

// One instruction each, relative error of tanh 2^-11: for operands that are rounded as coarsely.
struct FastFunctions {
  __device__ static float tanh(float x) { return ptx::tanh_approx(x); }
  __device__ static float sigmoid(float x) { return fmaf(0.5f, ptx::tanh_approx(0.5f * x), 0.5f); }
};

// Sigmoid, or Keras' hard one; NaN stays NaN in both.
template <class Functions>
__device__ inline float gate(float x, bool hard) {
  if (!hard) return Functions::sigmoid(x);
  const float y = fmaf(0.2f, x, 0.5f);
  return y < 0 ? 0.0f : y > 1 ? 1.0f : y;
}

// The sums of i, f, g, o become these gates; the new c is kept and the new h returned.
template <class Functions>
__device__ inline float lstm_cell(float (&gates)[4], bool hard, float& c) {
  gates[0] = gate<Functions>(gates[0], hard);
  gates[1] = gate<Functions>(gates[1], hard);
  gates[3] = gate<Functions>(gates[3], hard);
  gates[2] = Functions::tanh(gates[2]);
  c = fmaf(gates[1], c, gates[0] * gates[2]);
  return gates[3] * Functions::tanh(c);
}

__device__ inline float gru_blend(float z, float n, float h) {
  return fmaf(1 - z, n, z * h);
}

__device__ inline int kept_of(RnnCell cell) {
  return cell == RnnCell::kLstm ? kKeptOf<RnnCell::kLstm> : kKeptOf<RnnCell::kGruResetAfter>;
}

// One direction of a sequence: which rows of memory its steps are.
struct DirectedSequence {
  std::int64_t first = 0;  // row of step 0
  int length = 0;          // also where there is no such sequence

  DirectedSequence() = default;
  // The `at`-th of the order. `Args` are RnnArgs or those of the backward run.
  template <class Args>
  __device__ DirectedSequence(const Args& args, std::int64_t at) {
    if (at >= args.sequences) return;
    const std::int64_t index = args.order != nullptr ? args.order[at] : at;
    first = index * args.t;
    length = args.lengths != nullptr ? min(max(args.lengths[index], 0), args.t) : args.t;
  }

  __device__ static bool backward() { return blockIdx.y != 0; }

  // Row of the i-th step in the direction's order, i < length.
  __device__ std::int64_t row(int i) const { return first + (backward() ? length - 1 - i : i); }

  // Its row of projected inputs, or -1 past the end.
  __device__ int projected_row(const RnnArgs& args, int i) const {
    if (i >= length) return -1;
    if (args.ids == nullptr) return static_cast<int>(row(i));
    const int last = static_cast<int>(args.projected_rows) - 1;
    return min(max(args.ids[row(i)], 0), last);
  }

  // Where the direction's h of the i-th step goes.
  __device__ float* output(const RnnArgs& args, int i) const {
    return args.y + (row(i) * 2 + blockIdx.y) * args.units;
  }

  // Where a training run keeps the unit's gates of the i-th step, `units` apart.
  __device__ float* kept(const RnnArgs& args, int i, int unit) const {
    return args.kept + (row(i) * 2 + blockIdx.y) * kept_of(args.cell) * args.units + unit;
  }
};

// The sequences whose cells a thread of kSimt makes: of several, each lane takes every other one; a
// single one is made by both lanes alike and written by lane 0.
template <int kSequences>
struct Owned {
  static constexpr int kCount = kSequences < kRnnSimtLanes ? 1 : kSequences / kRnnSimtLanes;

  __device__ static int lane() { return static_cast<int>(threadIdx.x) % kRnnSimtLanes; }
  __device__ static int slot(int i) { return kSequences == 1 ? 0 : i * kRnnSimtLanes + lane(); }
  __device__ static bool writes() { return kSequences > 1 || lane() == 0; }

  // totals[i][g]: both halves of gate g's sum for the thread's i-th sequence. All lanes of a warp
  // take part.
  template <int kGates>
  __device__ static void add_halves(const float (&sums)[kGates][kSequences],
                                    float (&totals)[kCount][kGates]) {
#pragma unroll
    for (int g = 0; g < kGates; ++g) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        float own = sums[g][0], other = own;
        if constexpr (kSequences > 1) {
          const float even = sums[g][i * kRnnSimtLanes], odd = sums[g][i * kRnnSimtLanes + 1];
          own = lane() == 0 ? even : odd;
          other = lane() == 0 ? odd : even;
        }
        totals[i][g] = own + __shfl_xor_sync(~0u, other, 1);
      }
    }
  }
};

// Threads of a block of kSimt that holds weights, and of one that holds none, where more units take
// several passes.
constexpr int kRnnHeldThreads = kRnnHeldUnits * kRnnSimtLanes;
constexpr int kRnnPassThreads = 512;

// The unit that a thread of kSimt makes in each pass; where there is none, the last, unwritten.
template <int kSequences, int kHeld>
struct Passes {
  using Own = Owned<kSequences>;
  int units, slot, stride, count;

  __device__ explicit Passes(int units_of_args)
      : units(units_of_args),
        slot(static_cast<int>(threadIdx.x) / kRnnSimtLanes),
        stride(static_cast<int>(blockDim.x) / kRnnSimtLanes),
        count(kHeld > 0 ? 1 : (units + stride - 1) / stride) {}

  __device__ int unit(int pass) const { return min(pass * stride + slot, units - 1); }
  __device__ int column(int pass) const { return unit(pass) * kRnnSimtLanes + Own::lane(); }
  __device__ bool writes(int pass) const { return pass * stride + slot < units && Own::writes(); }
};

// Reads W x + b of all gates of one unit; leaves `to` as it is past the end of the sequence.
template <int kGates>
__device__ inline void load_projected(const RnnArgs& args, int row, int unit, float (&to)[kGates]) {
  if (row < 0) return;
  const float* from =
      args.projected + ((std::int64_t{row} * 2 + blockIdx.y) * args.units + unit) * kGates;
  if constexpr (kGates == 4) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    to[0] = four.x;
    to[1] = four.y;
    to[2] = four.z;
    to[3] = four.w;
  } else {
#pragma unroll
    for (int g = 0; g < kGates; ++g) to[g] = from[g];
  }
}

// Zeros behind the end of each of the block's sequences, in the direction's half of y and, in
// training, of what is kept.
template <bool kTrain>
__device__ inline void zero_padding(const RnnArgs& args, int sequences) {
  for (int s = 0; s < sequences; ++s) {
    const std::int64_t at = std::int64_t{blockIdx.x} * sequences + s;
    if (at >= args.sequences) return;
    const DirectedSequence sequence(args, at);
    for (int step = sequence.length; step < args.t; ++step) {
      float* y = args.y + ((sequence.first + step) * 2 + blockIdx.y) * args.units;
      for (int unit = static_cast<int>(threadIdx.x); unit < args.units;
           unit += static_cast<int>(blockDim.x))
        y[unit] = 0;
      if constexpr (kTrain) {
        const int values = kept_of(args.cell) * args.units;
        float* kept = args.kept + ((sequence.first + step) * 2 + blockIdx.y) * values;
        for (int i = static_cast<int>(threadIdx.x); i < values; i += static_cast<int>(blockDim.x))
          kept[i] = 0;
      }
    }
  }
}

// The most steps that a sequence of the block has.
template <class Args>
__device__ inline int longest_of_block(const Args& args, int sequences) {
  int longest = 0;
  for (int s = 0; s < sequences; ++s)
    longest = max(longest, DirectedSequence(args, std::int64_t{blockIdx.x} * sequences + s).length);
  return longest;
}

}  // namespace tessera
