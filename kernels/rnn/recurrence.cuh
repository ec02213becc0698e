// What the techniques of the recurrence share on the device: gates, cells, sequences.
#pragma once

#include "kernels/rnn/cuda.h"
#include "kernels/simt/simt.h"

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

// The sums of i, f, g, o in; the new c is kept and the new h returned.
template <class Functions>
__device__ inline float lstm_cell(const float (&sum)[4], bool hard, float& c) {
  const float i = gate<Functions>(sum[0], hard), f = gate<Functions>(sum[1], hard);
  const float o = gate<Functions>(sum[3], hard);
  c = fmaf(f, c, i * Functions::tanh(sum[2]));
  return o * Functions::tanh(c);
}

// (1 - z) n + z h with n = tanh(sum).
template <class Functions>
__device__ inline float gru_blend(float z, float sum, float h) {
  return fmaf(1 - z, Functions::tanh(sum), z * h);
}

// One direction of a sequence: which rows of memory its steps are.
struct DirectedSequence {
  std::int64_t first = 0;  // row of step 0
  int length = 0;          // also where there is no such sequence

  DirectedSequence() = default;
  // The `at`-th of the order.
  __device__ DirectedSequence(const RnnArgs& args, std::int64_t at) {
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

// Zeros behind the end of each of the block's sequences, in the direction's half of y.
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
    }
  }
}

// The most steps that a sequence of the block has.
__device__ inline int longest_of_block(const RnnArgs& args, int sequences) {
  int longest = 0;
  for (int s = 0; s < sequences; ++s)
    longest = max(longest, DirectedSequence(args, std::int64_t{blockIdx.x} * sequences + s).length);
  return longest;
}

}  // namespace tessera
