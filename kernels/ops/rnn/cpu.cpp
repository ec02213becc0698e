// Bidirectional LSTM or GRU; formulas in rnn.h.
//
// Method: (1) W x + b of both directions is one matrix product over the valid steps, or, with
// `embedding`, over the distinct words, whose steps then gather their row; words that an earlier
// run projected are not projected again (the embedding is frozen), if the whole vocabulary would
// fit kRnnKeptBytes; threads that run one model share them. (2) Sequences, longest first, run step
// by step in groups; a group's direction is the unit of work of the threads: its product h U leaves
// the gates of 16 units at hand in L1, where the cells take them. A sequence that has ended drops
// off the end of its group. (3) Sequences are taken in chunks of about kChunkSteps steps, which
// bounds the scratch memory.
//
// Compute binds: at 64 x 150 steps, LSTM of 150 units, h U is 3.5 GFLOP and W x (features 100, no
// word twice) 2.3 GFLOP; the weights of a direction (0.4 MB) stay in L2. Measured on 2 threads of
// Zen 4 beside other work: 24 ms when the words are known, 40 ms when 7,600 must be projected. On
// one thread a direction is at 72 % of the peak: the products run at 95 %, the cells take a fifth,
// the gathered rows a twentieth. Tried: one division for s(i) tanh(g) (2 %), c and h in separate
// loops (nothing), projected rows on cache lines (1 % at most).
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/ops/rnn/cpu.cpp"
#include <hwy/foreach_target.h>  // IWYU pragma: keep
#include <hwy/highway.h>

#include <mutex>
#include <new>
#include <numeric>

#include "kernels/cpu/convert.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/paths.h"
#include "kernels/lengths.h"
#include "kernels/ops/rnn/cells-inl.h"
#include "kernels/ops/rnn/rnn.h"
#include "kernels/ops/rnn/train/backward.h"

HWY_BEFORE_NAMESPACE();
namespace tessera::HWY_NAMESPACE {

std::size_t RnnPackedSize(const BiRnn& op, std::size_t features) {
  return RnnLayout(op, features).total;
}

void RnnPack(const BiRnn& op, std::size_t features, const RnnWeights* weights, float* packed) {
  rnn_pack(op, features, weights, packed);
}

// W x + b of both directions for `rows` rows of x.
void RnnProject(const BiRnn& op, std::size_t features, const float* packed, const float* x,
                std::size_t rows, float* projected) {
  const auto columns = static_cast<std::size_t>(2 * rnn_projected_columns(op));
  gemm(x, features, packed, rows, features, columns, projected, columns,
       {.row = packed + RnnLayout(op, features).input_bias});
}

void RnnRun(const RnnGroup& group) {
  if (group.op->gate == BiRnn::Gate::kSigmoid) {
    rnn_group<Sigmoid>(group);
  } else {
    rnn_group<HardSigmoid>(group);
  }
}

}  // namespace tessera::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace tessera {

HWY_EXPORT(RnnPackedSize);
HWY_EXPORT(RnnPack);
HWY_EXPORT(RnnProject);
HWY_EXPORT(RnnRun);

namespace {

constexpr std::int64_t kChunkSteps = 16384;  // projected at once: 80 MB for an LSTM of 150 units
constexpr std::int64_t kChunkRows = 32;      // at least, however long they are
constexpr std::int64_t kProjectRows = 48;    // of one unit of work: 8 tiles of the product

struct Dims {
  std::int64_t rows, t, features;
  std::int64_t block;    // RnnGroup's
  std::int64_t chunk;    // sequences at a time
  std::int64_t fresh;    // rows of x that a chunk projects, at most
  std::int64_t columns;  // of a projected row
  bool kept;             // projected words stay for the runs to come
};

Dims dims_of(const BiRnn& op, Types inputs) {
  const Shape& shape = inputs[0].shape;
  Dims d{};
  d.t = op.embedding ? shape[-1] : shape[-2];
  d.features = op.embedding ? op.embedding->features : shape[-1];
  d.rows = shape.elements(0, shape.rank() - (op.embedding ? 1 : 2));
  if (op.carried) {  // sequences that hand on their state are one
    const std::int64_t chain = shape[op.embedding ? -2 : -3];
    d.block = d.t;
    d.t *= chain;
    d.rows = chain == 0 ? 0 : d.rows / chain;
  }
  d.chunk = std::min(d.rows, std::max(kChunkRows, kChunkSteps / d.t));
  d.fresh = d.chunk * d.t;
  if (op.embedding) d.fresh = std::min<std::int64_t>(d.fresh, op.embedding->words);
  d.columns = 2 * rnn_projected_columns(op);
  d.kept = rnn_keeps_words(op);
  return d;
}

// Cuts memory into arrays that begin on cache lines. `base` may be null, to learn the size.
class Cutter {
 public:
  explicit Cutter(std::byte* base) : base_(base) {}
  template <class T>
  T* take(std::int64_t count) {
    auto* array = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + bytes_);
    bytes_ += (static_cast<std::size_t>(count) * sizeof(T) + 63) / 64 * 64;
    return array;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* base_;
  std::size_t bytes_ = 0;
};

// W x + b of the rows of x, or of the words, that have a slot: those below `used`.
struct Slots {
  std::mutex* mutex;  // of kept words: held to look up and to project; a row that has a slot
                      // never changes, so the recurrence reads it without
  std::uint32_t* used;
  std::int64_t* sources;   // (slots): row of the embedding or of x that a slot projects
  std::uint32_t* slot_of;  // (words): of a word, if sources[slot_of[word]] == word
  float* projected;        // (slots, columns)

  Slots(const BiRnn& op, const Dims& d, Cutter& cut) {
    const std::int64_t words = op.embedding ? op.embedding->words : 0;
    const std::int64_t slots = d.kept ? words : d.fresh;
    mutex = cut.take<std::mutex>(1);
    used = cut.take<std::uint32_t>(1);
    sources = cut.take<std::int64_t>(slots);
    slot_of = cut.take<std::uint32_t>(words);
    projected = cut.take<float>(slots * d.columns);
  }
};

// The scratch memory of a run.
struct Scratch {
  std::int64_t* order;     // (rows): sequences, longest first
  RnnSequence* sequences;  // (chunk): group by group
  std::int32_t* slots;     // (chunk, t): slot of a step
  float* x;                // (fresh, features)
  float* state;            // (2, kRnnStates, chunk, rnn_state_stride)

  Scratch(const BiRnn& op, const Dims& d, Cutter& cut)
      : order(cut.take<std::int64_t>(d.rows)),
        sequences(cut.take<RnnSequence>(d.chunk)),
        slots(cut.take<std::int32_t>(d.chunk * d.t)),
        x(cut.take<float>(d.fresh * d.features)),
        state(cut.take<float>(2 * kRnnStates * d.chunk * rnn_state_stride(op))) {}
};

// Bytes of a T's memory.
template <class T>
std::size_t bytes_of(const BiRnn& op, const Dims& d) {
  Cutter cut(nullptr);
  T(op, d, cut);
  return cut.bytes();
}

// Groups that a chunk of `rows` sequences is dealt to; with both directions, a multiple of
// `threads` units of equal work where the rows suffice.
std::int64_t groups_of(std::int64_t rows, int threads) {
  constexpr std::int64_t kFewestRows = 6;  // of a group: a full tile of the product
  const std::int64_t wanted = threads % 2 == 0 ? threads / 2 : threads;
  const std::int64_t most = (rows + kFewestRows - 1) / kFewestRows;
  return std::max(std::min(wanted, most), (rows + kRnnGroup - 1) / kRnnGroup);
}

class Run {
 public:
  // `kept`: (rows, t, 2, rnn_kept_values, units), written; null outside of training.
  Run(const BiRnn& op, const Dims& d, const float* packed, int threads, const Operands& operands,
      const Scratch& scratch, const Slots& slots, float* kept = nullptr)
      : op_(op),
        d_(d),
        packed_(packed),
        threads_(threads),
        operands_(operands),
        s_(scratch),
        slots_(slots),
        kept_(kept) {
    std::iota(s_.order, s_.order + d.rows, std::int64_t{0});
    std::sort(s_.order, s_.order + d.rows, [&](std::int64_t a, std::int64_t b) {
      return length(a) != length(b) ? length(a) > length(b) : a < b;
    });
    for (std::int64_t first = 0; first < d.rows; first += d.chunk) {
      const std::int64_t rows = std::min(d.chunk, d.rows - first);
      find_words(s_.order + first, rows);
      recur(s_.order + first, rows);
    }
  }

 private:
  std::int64_t length(std::int64_t row) const {
    return op_.masked ? operands_.inputs[1].as<std::int32_t>()[row] : d_.t;
  }

  // Fills the slots of all valid steps of the sequences.
  void find_words(const std::int64_t* rows, std::int64_t count) {
    std::unique_lock<std::mutex> lock;
    if (d_.kept) {
      lock = std::unique_lock(*slots_.mutex);
    } else {
      *slots_.used = 0;
    }
    const std::uint32_t used = assign_slots(rows, count);
    project(*slots_.used, used);
    *slots_.used = used;
  }

  // Gives each valid step of the sequences a slot, the same to equal words; returns how many are
  // used then. `slot_of` needs no clearing: an entry counts only if `sources` confirms it.
  std::uint32_t assign_slots(const std::int64_t* rows, std::int64_t count) {
    const auto* ids = op_.embedding ? operands_.inputs[0].as<std::int32_t>() : nullptr;
    std::uint32_t used = *slots_.used;
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t step = 0; step < length(rows[i]); ++step) {
        const std::int64_t at = rows[i] * d_.t + step, source = ids != nullptr ? ids[at] : at;
        std::uint32_t slot = ids != nullptr ? slots_.slot_of[source] : used;
        if (slot >= used || slots_.sources[slot] != source) {
          slot = used++;
          slots_.sources[slot] = source;
          if (ids != nullptr) slots_.slot_of[source] = slot;
        }
        s_.slots[i * d_.t + step] = static_cast<std::int32_t>(slot);
      }
    }
    return used;
  }

  // Fills the slots from `begin` to `end`.
  void project(std::int64_t begin, std::int64_t end) {
    const TensorView& from = op_.embedding ? operands_.weights[0] : operands_.inputs[0];
    parallel_for(threads_, (end - begin + kProjectRows - 1) / kProjectRows, [&](std::int64_t i) {
      const std::int64_t first = begin + i * kProjectRows,
                         count = std::min(kProjectRows, end - first);
      float* x = s_.x + (first - begin) * d_.features;
      copy_rows_f32(from, slots_.sources + first, count, x);
      HWY_DYNAMIC_DISPATCH(RnnProject)
      (op_, static_cast<std::size_t>(d_.features), packed_, x, static_cast<std::size_t>(count),
       slots_.projected + first * d_.columns);
    });
  }

  // Deals the sequences to groups in turn, so that all groups have the same work, and runs both
  // directions of each. The forward one zeroes the steps behind the end.
  void recur(const std::int64_t* rows, std::int64_t count) {
    const std::int64_t groups = groups_of(count, threads_), y_row = d_.t * 2 * op_.units;
    const std::int64_t kept_row = y_row * rnn_kept_values(op_);
    const auto size_of_group = [=](std::int64_t group) {
      return (count - group + groups - 1) / groups;
    };
    RnnSequence* sequence = s_.sequences;
    for (std::int64_t group = 0; group < groups; ++group) {
      for (std::int64_t i = group; i < count; i += groups)
        *sequence++ = {s_.slots + i * d_.t, operands_.outputs[0].as<float>() + rows[i] * y_row,
                       length(rows[i]), kept_ != nullptr ? kept_ + rows[i] * kept_row : nullptr};
    }
    parallel_for(threads_, 2 * groups, [&](std::int64_t unit) {
      const std::int64_t group = unit / 2;
      const bool backward = unit % 2 != 0;
      std::int64_t before = 0;
      for (std::int64_t g = 0; g < group; ++g) before += size_of_group(g);
      const RnnGroup work{.op = &op_,
                          .packed = packed_,
                          .projected = slots_.projected,
                          .features = static_cast<std::size_t>(d_.features),
                          .backward = backward,
                          .block = d_.block,
                          .sequences = s_.sequences + before,
                          .count = size_of_group(group),
                          .state = s_.state + (2 * before + (backward ? size_of_group(group) : 0)) *
                                                  kRnnStates * rnn_state_stride(op_)};
      HWY_DYNAMIC_DISPATCH(RnnRun)(work);
      if (backward) return;
      for (std::int64_t i = 0; i < work.count; ++i) {
        const RnnSequence& s = work.sequences[i];
        std::fill(s.y + s.length * 2 * op_.units, s.y + y_row, 0.0f);
        if (s.kept != nullptr)
          std::fill(s.kept + s.length * kept_row / d_.t, s.kept + kept_row, 0.0f);
      }
    });
  }

  const BiRnn& op_;
  const Dims& d_;
  const float* packed_;
  const int threads_;
  const Operands& operands_;
  const Scratch& s_;
  const Slots& slots_;
  float* const kept_;
};

void pack(const BiRnn& op, std::size_t features, std::span<const TensorView> weights, float* to) {
  const auto all = weights.subspan(op.embedding ? 1 : 0);
  RnnWeights directions[2];
  for (std::size_t i : {0, 1}) {
    const auto w = all.subspan(4 * i, 4);
    directions[i] = {to_f32(w[0]), to_f32(w[1]), to_f32(w[2]), to_f32(w[3])};
  }
  HWY_DYNAMIC_DISPATCH(RnnPack)(op, features, directions, to);
}

}  // namespace

Step cpu(const BiRnn& op, const CpuSetup& setup) {
  infer(op, setup.inputs);
  const Dims d = dims_of(op, setup.inputs);
  const auto features = static_cast<std::size_t>(d.features);
  const auto packed = setup.packed->get(
      setup.name + "/rnn", HWY_DYNAMIC_DISPATCH(RnnPackedSize)(op, features) * sizeof(float),
      [&](std::byte* to) { pack(op, features, setup.weights, reinterpret_cast<float*>(to)); });
  std::shared_ptr<const AlignedBuffer> words;
  if (d.kept) {
    words = setup.packed->get(setup.name + "/projected words", bytes_of<Slots>(op, d),
                              [&](std::byte* to) {
                                Cutter cut(to);
                                const Slots slots(op, d, cut);
                                ::new (slots.mutex) std::mutex;
                                *slots.used = 0;
                              });
  }
  const auto run = [op, d, packed, words, threads = setup.threads](const Operands& operands,
                                                                   std::byte* memory) {
    if (op.embedding) require_ids(*op.embedding, operands.inputs[0]);
    if (op.masked) require_lengths("rnn", operands.inputs[1], d.t);
    Cutter cut(memory), table(d.kept ? words->get() : nullptr);
    const Scratch scratch(op, d, cut);
    const Slots slots(op, d, d.kept ? table : cut);
    Run(op, d, reinterpret_cast<const float*>(packed->get()), threads, operands, scratch, slots);
  };
  return {bytes_of<Scratch>(op, d) + (d.kept ? 0 : bytes_of<Slots>(op, d)), run};
}

TrainStep cpu_train(const BiRnn& op, const CpuSetup& setup) {
  saved_for_backward(op, setup.inputs);
  const Dims d = dims_of(op, setup.inputs);
  const auto features = static_cast<std::size_t>(d.features);
  const auto floats = static_cast<std::int64_t>(HWY_DYNAMIC_DISPATCH(RnnPackedSize)(op, features));
  const auto packed_of = [floats](Cutter& cut) { return cut.take<float>(floats); };
  Cutter size(nullptr);
  packed_of(size);
  const auto run = [=, threads = setup.threads](const TrainOperands& operands, std::byte* memory) {
    if (op.masked) require_lengths("rnn", operands.inputs[1], d.t);
    Cutter cut(memory);
    float* packed = packed_of(cut);
    pack(op, features, operands.weights, packed);
    const Scratch scratch(op, d, cut);
    const Slots slots(op, d, cut);
    Run(op, d, packed, threads, {operands.inputs, operands.weights, operands.outputs}, scratch,
        slots, operands.saved[0].as<float>());
  };
  return {size.bytes() + bytes_of<Scratch>(op, d) + bytes_of<Slots>(op, d), run};
}

}  // namespace tessera
#endif
