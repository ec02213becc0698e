// Processes that train one model together, the ranks 0, 1, ... of MPI: what they hand each other is
// bytes.
//
// All ranks make the same calls in the same order, and each call waits for the others. A rank that
// fails ends: whoever started the ranks, mpirun, then ends all.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace tessera {

class Ranks {
 public:
  virtual ~Ranks() = default;
  int rank() const { return rank_; }
  int count() const { return count_; }
  bool is_first() const { return rank_ == 0; }

  // `send` has a part for each rank; `received` gets each rank's part for this one. Both in the
  // order of ranks, all parts of one size.
  virtual void exchange(std::span<const std::byte> send, std::span<std::byte> received) = 0;
  // `all` gets what each rank gives, in the order of ranks; all give as much.
  virtual void gather(std::span<const std::byte> own, std::span<std::byte> all) = 0;
  // `bytes` of all ranks become those of rank 0.
  virtual void broadcast(std::span<std::byte> bytes) = 0;
  // There are no further calls; a rank that ends without it has failed.
  virtual void finish() {}

 protected:
  Ranks(int rank, int count) : rank_(rank), count_(count) {}

 private:
  int rank_, count_;
};

// This process alone.
std::shared_ptr<Ranks> one_rank();

// Whether it is true on any rank.
bool any(Ranks& ranks, bool one);

// What all ranks give, one behind the other in the order of ranks; of any lengths.
std::string gather_text(Ranks& ranks, const std::string& own);
template <class T>
requires std::is_trivially_copyable_v<T> std::vector<T> gather_values(Ranks& ranks,
                                                                      const std::vector<T>& own) {
  const std::string all =
      gather_text(ranks, {reinterpret_cast<const char*>(own.data()), own.size() * sizeof(T)});
  std::vector<T> values(all.size() / sizeof(T));
  all.copy(reinterpret_cast<char*>(values.data()), all.size());
  return values;
}

// Of work that is cut into parts, whether this rank does part i.
inline bool is_own(const Ranks& ranks, std::size_t i) {
  return i % static_cast<std::size_t>(ranks.count()) == static_cast<std::size_t>(ranks.rank());
}

// The text of rank 0.
std::string broadcast_text(Ranks& ranks, std::string text);

// How many ranks, this one too, run on this machine, and how many of them are before this one; and
// how many of them may use the very processors that this one may.
struct RanksBeside {
  int machine = 1, before = 0, processors = 1;
};
RanksBeside ranks_beside(Ranks& ranks);

}  // namespace tessera
