// The recurrence of BiRnn on tensor cores (formulas: rnn.h), from W x + b of all steps.
//
// A block owns 8 or 16 sequences of one direction for all their steps. A warp owns 16 units: with
// gates as rows and sequences as columns of mma.m16n8k16 (bf16 or f16, sums in f32), a thread gets
// every gate of its 2 units x 2 sequences, so cells need no exchange. Only h, rounded, goes through
// shared memory, twice buffered: one barrier per step; c and the GRU's own h stay f32 in registers.
// weight_hh lies in fragment order, in registers first, the rest in shared memory.
// Roofline per step and block of 8 LSTM sequences of 150 units: 400 mma (about 680 cycles of an SM)
// beside 107 KB of shared reads (840) and 6,400 tanh (400). Share of it: not measured yet.
// Oracle: reference.cpp.
#include "kernels/cuda/element.cuh"
#include "kernels/ops/rnn/cuda.h"
#include "kernels/ops/rnn/recurrence.cuh"

namespace tessera {

namespace {

constexpr int kMostThreads = kRnnHeldUnits / kRnnMmaUnits * 32;
constexpr int kTileSequences = 8;  // columns of an mma

// weight_hh's fragments of one warp, as one lane sees them.
template <int kGates, int kHeld>
struct Fragments {
  std::uint32_t held[kHeld][kGates][4];
  const uint4* shared;  // (chunks past kHeld, gates, 32 lanes)
  int chunks;

  __device__ Fragments(const RnnArgs& args, uint4* memory) : chunks(args.chunks) {
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
    const int groups = static_cast<int>(blockDim.x) / 32, left = max(chunks - kHeld, 0);
    const uint4* from = static_cast<const uint4*>(args.recurrent) +
                        (static_cast<int>(blockIdx.y) * groups + warp) * chunks * kGates * 32 +
                        lane;
    uint4* own = memory + warp * left * kGates * 32 + lane;  // read by the lane that wrote it
    shared = own;
#pragma unroll
    for (int chunk = 0; chunk < kHeld; ++chunk) {
      if (chunk < chunks) {
#pragma unroll
        for (int g = 0; g < kGates; ++g) {
          const uint4 four = from[(chunk * kGates + g) * 32];
          held[chunk][g][0] = four.x;
          held[chunk][g][1] = four.y;
          held[chunk][g][2] = four.z;
          held[chunk][g][3] = four.w;
        }
      }
    }
#pragma unroll 4
    for (int i = 0; i < left * kGates; ++i) own[i * 32] = from[(kHeld * kGates + i) * 32];
  }

  // sums[tile][g] += gate kFirst + g's rows times h (sequences, pitch).
  template <class T, int kFirst, int kCount, int kTiles>
  __device__ void multiply(const T* h, int pitch, float (&sums)[kTiles][kCount][4]) const {
    static_assert(kHeld % 2 == 0);
    const int lane = static_cast<int>(threadIdx.x) % 32;
    // Of each sequence, 4 pieces of 8 values of h: both halves of both chunks of a pair.
    const T* piece = h + lane % 8 * pitch + lane / 8 * 8;
    const auto load_pair = [&](int chunk, std::uint32_t(&b)[kTiles][4]) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
        ptx::ldmatrix_x4(b[tile], piece + tile * kTileSequences * pitch + chunk * kRnnMmaChunk);
    };
    const auto add = [&](const std::uint32_t(&a)[4], const std::uint32_t(&b)[kTiles][4], int part,
                         int g) {
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        const std::uint32_t b_part[2] = {b[tile][part * 2], b[tile][part * 2 + 1]};
        ptx::mma_m16n8k16<T>(sums[tile][g], a, b_part, sums[tile][g]);
      }
    };

#pragma unroll
    for (int chunk = 0; chunk < kHeld; chunk += 2) {
      if (chunk < chunks) {
        std::uint32_t b[kTiles][4];
        load_pair(chunk, b);
#pragma unroll
        for (int part = 0; part < 2; ++part) {
#pragma unroll
          for (int g = 0; g < kCount; ++g) add(held[chunk + part][kFirst + g], b, part, g);
        }
      }
    }
#pragma unroll 1
    for (int chunk = kHeld; chunk < chunks; chunk += 2) {
      std::uint32_t b[kTiles][4];
      load_pair(chunk, b);
#pragma unroll
      for (int part = 0; part < 2; ++part) {
#pragma unroll
        for (int g = 0; g < kCount; ++g) {
          const uint4 four = shared[((chunk + part - kHeld) * kGates + kFirst + g) * 32];
          const std::uint32_t a[4] = {four.x, four.y, four.z, four.w};
          add(a, b, part, g);
        }
      }
    }
  }
};

// The cells of a thread: element e of an mma tile is unit `unit(e)` of sequence `column(e)`.
__device__ inline int unit_of(int e) {
  return static_cast<int>(threadIdx.x) / 32 * kRnnMmaUnits +
         static_cast<int>(threadIdx.x) % 32 / 4 + e / 2 * 8;
}
__device__ inline int column_of(int e) {
  return static_cast<int>(threadIdx.x) % 4 * 2 + e % 2;
}

template <class T, RnnCell kCell, int kTiles, int kHeld>
__global__ void __launch_bounds__(kMostThreads, 1) rnn_mma_kernel(RnnArgs args) {
  constexpr int kGates = kGatesOf<kCell>, kSequences = kTiles * kTileSequences;
  SIMT_DYN_SHARED(uint4, s_memory, 16);
  const Fragments<kGates, kHeld> fragments(args, s_memory);
  const int pitch = fragments.chunks * kRnnMmaChunk + 8;  // 16 bytes of padding: no bank conflicts
  T* s_h = reinterpret_cast<T*>(s_memory + static_cast<int>(blockDim.x) * kGates *
                                               max(fragments.chunks - kHeld, 0));
  const int h_size = kSequences * pitch;  // of one of the two
  for (int i = static_cast<int>(threadIdx.x); i < 2 * h_size; i += static_cast<int>(blockDim.x))
    s_h[i] = from_float<T>(0.0f);

  // Two sequences a tile; W x + b of the first step, and the row of the one after it.
  DirectedSequence sequence[kTiles][2];
  int row[kTiles][2];
  float next[kTiles][4][kGates], kept[kTiles][4];  // kept: c of an LSTM, h of a GRU
  float hidden_bias[4];
  const auto load_next = [&](int tile) {
#pragma unroll
    for (int e = 0; e < 4; ++e)
      load_projected(args, row[tile][e % 2], min(unit_of(e), args.units - 1), next[tile][e]);
  };
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    const int unit = min(unit_of(e), args.units - 1);
    hidden_bias[e] = kCell == RnnCell::kLstm ? 0 : args.bias_n[blockIdx.y * args.units + unit];
  }
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      sequence[tile][j] = DirectedSequence(
          args, std::int64_t{blockIdx.x} * kSequences + tile * kTileSequences + column_of(j));
      row[tile][j] = sequence[tile][j].projected_row(args, 0);
    }
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      kept[tile][e] = 0;
#pragma unroll
      for (int g = 0; g < kGates; ++g) next[tile][e][g] = 0;
    }
    load_next(tile);
#pragma unroll
    for (int j = 0; j < 2; ++j) row[tile][j] = sequence[tile][j].projected_row(args, 1);
  }
  const int longest = longest_of_block(args, kSequences);
  // Puts the zeros of both h before their reads.
  __syncthreads();

  for (int step = 0; step < longest; ++step) {
    // Sums begin with W x + b; what a GRU's n adds later is kept apart.
    float sums[kTiles][kGates][4], projected_n[kTiles][4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
#pragma unroll
        for (int g = 0; g < kGates; ++g) sums[tile][g][e] = next[tile][e][g];
        if constexpr (kCell != RnnCell::kLstm) {
          projected_n[tile][e] = next[tile][e][2];
          sums[tile][2][e] = hidden_bias[e];
        }
      }
      load_next(tile);
#pragma unroll
      for (int j = 0; j < 2; ++j) row[tile][j] = sequence[tile][j].projected_row(args, step + 2);
    }

    const auto goes_on = [&](int tile, int e) {
      return unit_of(e) < args.units && step < sequence[tile][e % 2].length;
    };
    const auto finish = [&](int tile, int e, float h, T* to) {
      to[(tile * kTileSequences + column_of(e)) * pitch + unit_of(e)] = from_float<T>(h);
      sequence[tile][e % 2].output(args, step)[unit_of(e)] = h;
    };
    if constexpr (kCell == RnnCell::kGruResetBefore) {
      float sums_rz[kTiles][2][4], sums_n[kTiles][1][4];
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          sums_rz[tile][0][e] = sums[tile][0][e];
          sums_rz[tile][1][e] = sums[tile][1][e];
          sums_n[tile][0][e] = sums[tile][2][e] + projected_n[tile][e];
        }
      }
      fragments.template multiply<T, 0, 2, kTiles>(s_h, pitch, sums_rz);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (!goes_on(tile, e)) continue;
          const float r = gate<FastFunctions>(sums_rz[tile][0][e], args.hard_sigmoid);
          s_h[h_size + (tile * kTileSequences + column_of(e)) * pitch + unit_of(e)] =
              from_float<T>(r * kept[tile][e]);
        }
      }
      // Puts the writes of r h before its reads, and the reads of h before its writes.
      __syncthreads();
      fragments.template multiply<T, 2, 1, kTiles>(s_h + h_size, pitch, sums_n);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (!goes_on(tile, e)) continue;
          const float z = gate<FastFunctions>(sums_rz[tile][1][e], args.hard_sigmoid);
          kept[tile][e] = gru_blend(z, FastFunctions::tanh(sums_n[tile][0][e]), kept[tile][e]);
          finish(tile, e, kept[tile][e], s_h);
        }
      }
    } else {
      fragments.template multiply<T, 0, kGates, kTiles>(s_h + step % 2 * h_size, pitch, sums);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
          if (!goes_on(tile, e)) continue;
          float h;
          if constexpr (kCell == RnnCell::kLstm) {
            float gates[4] = {sums[tile][0][e], sums[tile][1][e], sums[tile][2][e],
                              sums[tile][3][e]};
            h = lstm_cell<FastFunctions>(gates, args.hard_sigmoid, kept[tile][e]);
          } else {
            const float r = gate<FastFunctions>(sums[tile][0][e], args.hard_sigmoid);
            const float z = gate<FastFunctions>(sums[tile][1][e], args.hard_sigmoid);
            const float n = FastFunctions::tanh(fmaf(r, sums[tile][2][e], projected_n[tile][e]));
            h = gru_blend(z, n, kept[tile][e]);
            kept[tile][e] = h;
          }
          finish(tile, e, h, s_h + (step + 1) % 2 * h_size);
        }
      }
    }
    // Puts the writes of h before the next step's reads, and this step's reads before the next
    // step's writes.
    __syncthreads();
  }
  zero_padding<false>(args, kSequences);
}

template <class T, RnnCell kCell>
void launch_cell(const RnnArgs& args, const RnnChoice& choice, CudaStream stream) {
  const std::int64_t blocks = (args.sequences + choice.sequences - 1) / choice.sequences;
  const auto launch = [&](auto* kernel) {
    simt::launch(kernel, dim3(static_cast<unsigned>(blocks), 2),
                 dim3(static_cast<unsigned>(choice.threads)), choice.shared_bytes, stream, args);
  };
  if (choice.sequences == kTileSequences) {
    launch(rnn_mma_kernel<T, kCell, 1, rnn_held(RnnTechnique::kMma, kCell, kTileSequences)>);
  } else {
    launch(rnn_mma_kernel<T, kCell, 2, rnn_held(RnnTechnique::kMma, kCell, 2 * kTileSequences)>);
  }
}

template <class T>
void launch_type(const RnnArgs& args, const RnnChoice& choice, CudaStream stream) {
  switch (args.cell) {
    case RnnCell::kLstm:
      return launch_cell<T, RnnCell::kLstm>(args, choice, stream);
    case RnnCell::kGruResetAfter:
      return launch_cell<T, RnnCell::kGruResetAfter>(args, choice, stream);
    case RnnCell::kGruResetBefore:
      return launch_cell<T, RnnCell::kGruResetBefore>(args, choice, stream);
  }
}

}  // namespace

void rnn_mma_cuda(const RnnArgs& args, const RnnChoice& choice, CudaStream stream) {
  if (choice.rounding == Precision::kBf16) {
    launch_type<BF16>(args, choice, stream);
  } else {
    launch_type<F16>(args, choice, stream);
  }
}

}  // namespace tessera
