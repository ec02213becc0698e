// The CUDA path of BiRnn: what its launchers take, and the choice between its techniques.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kernels/cuda/stream.h"
#include "kernels/ops/linear/cuda.h"

namespace tessera {

struct BiRnn;
struct CudaSetup;
struct CudaTraits;

enum class RnnCell : std::uint8_t { kLstm, kGruResetAfter, kGruResetBefore };

template <RnnCell kCell>
inline constexpr int kGatesOf = kCell == RnnCell::kLstm ? 4 : 3;

// What a training run keeps of each step, in units (backward.h).
template <RnnCell kCell>
inline constexpr int kKeptOf = kCell == RnnCell::kLstm ? 5 : 4;

// How the recurrent product is made.
//   kSimt: exact f32. Two threads per unit hold half of its rows of weight_hh each, the first
//     `RnnChoice::held` chunks in registers, more in shared memory, the rest read from L2 at each
//     step, so that any number of units runs.
//   kMma: bf16 or f16 on tensor cores, gates by sequences; all of weight_hh in registers and shared
//     memory.
enum class RnnTechnique : std::uint8_t { kMma, kSimt };

// Features of h in one chunk of weight_hh.
constexpr int kRnnSimtLanes = 2;                  // threads of a unit
constexpr int kRnnSimtChunk = 4 * kRnnSimtLanes;  // each takes four neighbours
constexpr int kRnnMmaChunk = 16;                  // one mma's
constexpr int kRnnMmaUnits = 16;                  // of a warp

constexpr int rnn_chunks(RnnTechnique technique, int units) {
  // mma's chunks are loaded in pairs.
  const int whole = technique == RnnTechnique::kMma ? 2 * kRnnMmaChunk : kRnnSimtChunk;
  const int padded = (units + whole - 1) / whole * whole;
  return padded / (technique == RnnTechnique::kMma ? kRnnMmaChunk : kRnnSimtChunk);
}

// Chunks of weight_hh in a thread's registers, at most, where a block takes `sequences`: what their
// sums leave of 168 registers, as many as a thread of 12 warps may have.
constexpr int rnn_held(RnnTechnique technique, RnnCell cell, int sequences) {
  const bool lstm = cell == RnnCell::kLstm;
  if (technique == RnnTechnique::kMma) {
    if (sequences == 8) return cell == RnnCell::kGruResetAfter ? 8 : 6;
    return lstm ? 2 : 4;
  }
  return (lstm ? 7 : 9) - (sequences == 1 ? 0 : sequences == 2 ? 1 : 3);
}

// Most units whose weights are held in registers: 12 warps of two threads per unit, or of 16 units.
constexpr int kRnnHeldUnits = 192;

// The bytes of the result depend on technique and rounding alone; the other members are speed.
struct RnnChoice {
  RnnTechnique technique = RnnTechnique::kSimt;
  Precision rounding = Precision::kFp32;  // of weight_hh and, before its product, h
  int sequences = 1;                      // of a block
  int threads = 0;                        // of a block
  int held = 0;                           // chunks of weight_hh in registers
  int shared_chunks = 0;                  // the next ones, in shared memory
  std::size_t shared_bytes = 0;           // of a block, everything
  std::vector<std::string> rejected;      // why not each candidate that was preferred to it
};

// A pure function: the fastest technique that the device, the precision and the size allow. Throws
// Error where the state of one sequence does not fit shared memory (above 13,900 units on an A100).
RnnChoice choose_rnn(const CudaTraits& traits, Precision rounding, RnnCell cell, int units,
                     std::int64_t sequences);
// The one that a layer of these inputs gets.
RnnChoice choose_rnn(const BiRnn& op, const CudaSetup& setup);

struct RnnArgs {
  const float* projected;       // (rows, 2, units, gates): W x + b of both directions
  const std::int32_t* ids;      // (sequences, t): row of a step, clamped to rows; null: the step
  std::int64_t projected_rows;  // used with ids
  const std::int32_t* lengths;  // (sequences), clamped to 0 .. t; null: all t
  const std::int32_t* order;    // (sequences): the order to take them in; null: as they are
  const void* recurrent;        // weight_hh of both directions, as rnn_fma_at or rnn_mma_at say
  const float* bias_n;          // (2, units): b_hh of a GRU's n; null for an LSTM
  float* y;                     // (sequences, t, 2 units)
  std::int64_t sequences;
  int t;
  int units;
  int chunks;  // of weight_hh, rnn_chunks
  RnnCell cell;
  bool hard_sigmoid;
  // (sequences, t, 2, kKeptOf, units): what training keeps, 0 behind a sequence's end. kSimt alone;
  // null at inference.
  float* kept = nullptr;
};

// Element of the packed weight_hh of kSimt, f32: (2, chunks, gates, units, lanes, 4).
inline std::size_t rnn_fma_at(int units, int gates, int direction, int gate, int unit, int k) {
  const int chunk = k / kRnnSimtChunk, lane = k % kRnnSimtChunk / 4;
  const std::size_t row =
      (std::size_t(direction) * std::size_t(rnn_chunks(RnnTechnique::kSimt, units)) +
       std::size_t(chunk)) *
          std::size_t(gates) +
      std::size_t(gate);
  return ((row * std::size_t(units) + std::size_t(unit)) * kRnnSimtLanes + std::size_t(lane)) * 4 +
         std::size_t(k % 4);
}

// The same of kMma, 2 bytes: (2, groups of 16 units, chunks, gates, 32 lanes, 4 registers, 2), the
// fragments of mma.m16n8k16's first operand in the order that lanes read them.
inline std::size_t rnn_mma_at(int units, int gates, int direction, int gate, int unit, int k) {
  const int groups = (units + kRnnMmaUnits - 1) / kRnnMmaUnits;
  const int row = unit % kRnnMmaUnits, column = k % kRnnMmaChunk;
  const int lane = row % 8 * 4 + column % 8 / 2, slot = column / 8 * 2 + row / 8;
  std::size_t at = std::size_t(direction * groups + unit / kRnnMmaUnits);
  at = at * std::size_t(rnn_chunks(RnnTechnique::kMma, units)) + std::size_t(k / kRnnMmaChunk);
  at = at * std::size_t(gates) + std::size_t(gate);
  return ((at * 32 + std::size_t(lane)) * 4 + std::size_t(slot)) * 2 + std::size_t(column % 2);
}

// Writes an order (sequences) that puts equal lengths beside each other, longest first within each
// 1,024 sequences.
void rnn_order_cuda(const std::int32_t* lengths, std::int64_t sequences, std::int32_t* order,
                    CudaStream stream);

void rnn_cuda(const RnnArgs& args, const RnnChoice& choice, CudaStream stream);

// Its techniques.
void rnn_fma_cuda(const RnnArgs& args, const RnnChoice& choice, CudaStream stream);
void rnn_mma_cuda(const RnnArgs& args, const RnnChoice& choice, CudaStream stream);

}  // namespace tessera
