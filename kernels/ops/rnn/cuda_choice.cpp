#include "kernels/cuda/step.h"
#include "kernels/ops/rnn/cuda.h"

namespace tessera {

namespace {

constexpr std::int64_t kDirections = 2;

// Candidates for the sequences of a block, fewest first: they end a step soonest, but once all
// multiprocessors have a block, more of them share each read of weight_hh.
constexpr int kMmaSequences[] = {8, 16};
constexpr int kSimtSequences[] = {1, 2, 4};

std::int64_t blocks_of(std::int64_t sequences, int per_block) {
  return (sequences + per_block - 1) / per_block * kDirections;
}

int gates_of(RnnCell cell) {
  return cell == RnnCell::kLstm ? 4 : 3;
}

std::size_t bytes(std::int64_t count, std::size_t of_one) {
  return static_cast<std::size_t>(count) * of_one;
}

RnnChoice mma_choice(Precision rounding, RnnCell cell, int units, int sequences) {
  RnnChoice choice;
  choice.technique = RnnTechnique::kMma;
  choice.rounding = rounding;
  choice.sequences = sequences;
  const int groups = (units + kRnnMmaUnits - 1) / kRnnMmaUnits;
  const int chunks = rnn_chunks(choice.technique, units);
  constexpr int kWarp = 32, kFragment = 4, kPadding = 8;  // registers of a lane; elements of a row
  choice.threads = groups * kWarp;
  choice.held = std::min(chunks, rnn_held(choice.technique, cell, sequences));
  choice.shared_chunks = chunks - choice.held;
  choice.shared_bytes =
      bytes(std::int64_t{choice.shared_chunks} * gates_of(cell) * choice.threads * kFragment,
            sizeof(std::uint32_t)) +
      bytes(std::int64_t{2} * sequences * (chunks * kRnnMmaChunk + kPadding),
            sizeof(std::uint16_t));
  return choice;
}

// What does not depend on where weight_hh lies: h twice, and c or z.
std::size_t fma_state_bytes(int units, int sequences) {
  const std::int64_t pitch = std::int64_t{rnn_chunks(RnnTechnique::kSimt, units)} * kRnnSimtChunk;
  return bytes(sequences * (2 * pitch + units), sizeof(float));
}

RnnChoice fma_choice(RnnCell cell, int units, int sequences, std::size_t shared_limit) {
  RnnChoice choice;
  choice.technique = RnnTechnique::kSimt;
  choice.sequences = sequences;
  constexpr int kWarp = 32, kMostThreads = 512;
  const int chunks = rnn_chunks(choice.technique, units);
  const std::size_t chunk_bytes =
      bytes(std::int64_t{gates_of(cell)} * units * kRnnSimtChunk, sizeof(float));
  const std::size_t state = fma_state_bytes(units, sequences);
  choice.threads = std::min(kMostThreads, (units * kRnnSimtLanes + kWarp - 1) / kWarp * kWarp);
  if (units <= kRnnHeldUnits)
    choice.held = std::min(chunks, rnn_held(choice.technique, cell, sequences));
  choice.shared_chunks = static_cast<int>(std::min<std::size_t>(
      static_cast<std::size_t>(chunks - choice.held), (shared_limit - state) / chunk_bytes));
  choice.shared_bytes = state + static_cast<std::size_t>(choice.shared_chunks) * chunk_bytes;
  return choice;
}

}  // namespace

RnnChoice choose_rnn(const CudaTraits& traits, Precision rounding, RnnCell cell, int units,
                     std::int64_t sequences) {
  std::vector<std::string> rejected;
  const auto fills = [&](int per_block) {
    return blocks_of(sequences, per_block) > traits.multiprocessors;
  };
  const auto too_many_blocks = [&](std::string_view technique, int per_block) {
    rejected.push_back(
        fmt::format("{} x {}: {} blocks for {} multiprocessors; more sequences per block share the "
                    "reads of weight_hh",
                    technique, per_block, blocks_of(sequences, per_block), traits.multiprocessors));
  };

  if (rounding != Precision::kBf16 && rounding != Precision::kFp16) {
    rejected.push_back(
        "mma: the precision asks for f32 or tf32, whose weight_hh is twice the size");
  } else if (units > kRnnHeldUnits) {
    rejected.push_back(fmt::format(
        "mma: {} units are more than the {} whose weight_hh fits on chip", units, kRnnHeldUnits));
  } else {
    for (const int per_block : kMmaSequences) {
      RnnChoice choice = mma_choice(rounding, cell, units, per_block);
      if (choice.shared_bytes > traits.shared_per_block) {
        rejected.push_back(fmt::format("mma x {}: {} bytes of shared memory, the device has {}",
                                       per_block, choice.shared_bytes, traits.shared_per_block));
      } else if (per_block != kMmaSequences[std::size(kMmaSequences) - 1] && fills(per_block) &&
                 mma_choice(rounding, cell, units, 2 * per_block).shared_bytes <=
                     traits.shared_per_block) {
        too_many_blocks("mma", per_block);
      } else {
        choice.rejected = rejected;
        return choice;
      }
    }
  }

  require(
      fma_state_bytes(units, 1) <= traits.shared_per_block,
      "rnn: the state of one sequence of {} units takes {} bytes of shared memory, but this GPU "
      "has {}: use fewer units, or run with --device cpu",
      units, fma_state_bytes(units, 1), traits.shared_per_block);
  int best = 1;
  for (const int per_block : kSimtSequences) {
    if (fma_state_bytes(units, per_block) > traits.shared_per_block) {
      rejected.push_back(fmt::format("fma x {}: {} bytes of state, the device has {}", per_block,
                                     fma_state_bytes(units, per_block), traits.shared_per_block));
      break;
    }
    best = per_block;
    if (!fills(per_block)) break;
    if (per_block != kSimtSequences[std::size(kSimtSequences) - 1])
      too_many_blocks("fma", per_block);
  }
  RnnChoice choice = fma_choice(cell, units, best, traits.shared_per_block);
  choice.rejected = rejected;
  return choice;
}

}  // namespace tessera
