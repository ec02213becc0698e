#include "engine/train/ranks.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>

#include "engine/files/digest.h"

namespace tessera {

namespace {

class OneRank : public Ranks {
 public:
  OneRank() : Ranks(0, 1) {}
  void exchange(std::span<const std::byte> send, std::span<std::byte> received) override {
    std::ranges::copy(send, received.begin());
  }
  void gather(std::span<const std::byte> own, std::span<std::byte> all) override {
    std::ranges::copy(own, all.begin());
  }
  void broadcast(std::span<std::byte>) override {}
};

template <class T>
std::vector<T> gather_each(Ranks& ranks, const T& own) {
  std::vector<T> all(static_cast<std::size_t>(ranks.count()));
  ranks.gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)));
  return all;
}

}  // namespace

std::shared_ptr<Ranks> one_rank() {
  return std::make_shared<OneRank>();
}

bool any(Ranks& ranks, bool one) {
  const std::vector<std::uint8_t> all = gather_each<std::uint8_t>(ranks, one ? 1 : 0);
  return std::ranges::count(all, 1) > 0;
}

std::string gather_text(Ranks& ranks, const std::string& own) {
  const std::vector<std::uint64_t> lengths = gather_each<std::uint64_t>(ranks, own.size());
  const std::uint64_t longest = *std::ranges::max_element(lengths);
  std::string part = own, all(longest * lengths.size(), '\0'), text;
  part.resize(longest);
  ranks.gather(std::as_bytes(std::span(part)), std::as_writable_bytes(std::span(all)));
  for (std::size_t i = 0; i < lengths.size(); ++i) text.append(all, i * longest, lengths[i]);
  return text;
}

std::string broadcast_text(Ranks& ranks, std::string text) {
  std::uint64_t length = text.size();
  ranks.broadcast(std::as_writable_bytes(std::span(&length, 1)));
  text.resize(length);
  ranks.broadcast(std::as_writable_bytes(std::span(text)));
  return text;
}

RanksBeside ranks_beside(Ranks& ranks) {
  std::string machine, processors;
  std::ifstream boot("/proc/sys/kernel/random/boot_id"), status("/proc/self/status");
  std::getline(boot, machine);
  while (!processors.starts_with("Cpus_allowed:") && std::getline(status, processors)) {
  }
  const auto alike = [&](const std::string& text, int* before) {
    const std::string own = digest_of(text), all = gather_text(ranks, own);
    int count = 0;
    for (int rank = 0; rank < ranks.count(); ++rank) {
      if (rank == ranks.rank()) *before = count;
      if (all.compare(own.size() * static_cast<std::size_t>(rank), own.size(), own) == 0) ++count;
    }
    return count;
  };
  RanksBeside beside;
  int unused = 0;
  beside.machine = alike(machine, &beside.before);
  beside.processors = alike(machine + processors, &unused);
  return beside;
}

}  // namespace tessera
