// Sectors and bank conflicts. Lanes of a warp need not run in step here, so a warp-wide request is
// put together from the accesses that its lanes made at one place in the program, for the n-th time
// since the warp last converged.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <tuple>

#include "emulator/emulator.h"
#include "emulator/findings.h"
#include "emulator/state.h"
#include "emulator/streams.h"

namespace simt {
namespace machine {
namespace {

constexpr unsigned kSectorBytes = 32;
constexpr unsigned kBanks = 32, kBankBytes = 4;

struct Cost {
  std::uint64_t requests = 0, cost = 0, ideal = 0;
};
using Place = std::pair<const void*, bool>;  // pc, of shared memory?

std::mutex mutex;
Cost global_memory, shared_memory;  // of the launch under way
std::map<Place, Cost> by_line;
std::vector<std::pair<const void*, Profile>> profiles;  // with their kernels

using WarpRequest = std::vector<const Request*>;

// The sectors that the lanes' bytes lie in, and as few as would do.
Cost global_cost(const WarpRequest& lanes) {
  std::set<std::uint64_t> sectors, addresses;
  for (const Request* r : lanes) {
    for (std::uint64_t s = r->address / kSectorBytes;
         s <= (r->address + r->bytes - 1) / kSectorBytes; ++s)
      sectors.insert(s);
    addresses.insert(r->address);
  }
  const std::uint64_t bytes = addresses.size() * lanes.front()->bytes;
  return {1, sectors.size(), (bytes + kSectorBytes - 1) / kSectorBytes};
}

// In each wave a bank gives one word to all that want it. Accesses of 8 and 16 bytes go in halves
// and quarters of a warp.
Cost shared_cost(const WarpRequest& lanes) {
  const std::size_t bytes = std::clamp<std::size_t>(lanes.front()->bytes, kBankBytes, 16);
  const std::size_t together = kBanks * kBankBytes / bytes;
  Cost cost{1, 0, 0};
  for (std::size_t i = 0; i < lanes.size(); i += together) {
    std::map<std::uint64_t, std::set<std::uint64_t>> words;  // by bank
    for (std::size_t j = i; j < std::min(lanes.size(), i + together); ++j)
      for (std::uint64_t word = lanes[j]->address / kBankBytes;
           word <= (lanes[j]->address + lanes[j]->bytes - 1) / kBankBytes; ++word)
        words[word % kBanks].insert(word);
    std::size_t waves = 1;
    for (const auto& [bank, distinct] : words) waves = std::max(waves, distinct.size());
    cost.cost += waves;
    ++cost.ideal;
  }
  return cost;
}

void add(Cost& to, const Cost& cost) {
  to.requests += cost.requests;
  to.cost += cost.cost;
  to.ideal += cost.ideal;
}

}  // namespace

void run_profile(Warp& warp) {
  if (!SIMT_CHECK || !config().profile) return;
  const Uninterrupted uninterrupted;
  std::map<std::tuple<const void*, bool, std::uint32_t, std::uint32_t>, WarpRequest> requests;
  for (Thread* t : warp.lanes) {
    if (t == nullptr) continue;
    std::map<std::tuple<const void*, bool, std::uint32_t>, std::uint32_t> repeats;
    for (const Request& r : t->requests)
      requests[{r.pc, r.shared, r.interval, repeats[{r.pc, r.shared, r.interval}]++}].push_back(&r);
  }
  {
    std::lock_guard lock(mutex);
    for (const auto& [key, lanes] : requests) {
      const bool shared = lanes.front()->shared;
      const Cost cost = shared ? shared_cost(lanes) : global_cost(lanes);
      add(shared ? shared_memory : global_memory, cost);
      add(by_line[{lanes.front()->pc, shared}], cost);
    }
  }
  for (Thread* t : warp.lanes)
    if (t != nullptr) t->requests.clear();
}

void finish_profile(const Grid& grid, std::uint64_t barriers, std::uint64_t mma) {
  std::lock_guard lock(mutex);
  const Cost g = std::exchange(global_memory, {}), s = std::exchange(shared_memory, {});
  profiles.push_back(
      {grid.kernel, {{}, g.requests, g.cost, g.ideal, s.requests, s.cost, s.ideal, barriers, mma}});
}

}  // namespace machine

std::vector<Profile> take_profiles() {
  machine::finish_all();
  std::lock_guard lock(machine::mutex);
  std::vector<Profile> result;
  for (auto& [kernel, profile] : machine::profiles) {
    profile.kernel = machine::function_name(kernel);
    result.push_back(std::move(profile));
  }
  machine::profiles.clear();
  return result;
}

std::vector<std::string> costly_lines(std::size_t count) {
  machine::finish_all();
  std::map<machine::Place, machine::Cost> costs;
  {
    std::lock_guard lock(machine::mutex);
    costs = std::exchange(machine::by_line, {});
  }
  std::vector<std::pair<machine::Place, machine::Cost>> lines(costs.begin(), costs.end());
  std::sort(lines.begin(), lines.end(), [](const auto& a, const auto& b) {
    return a.second.cost - a.second.ideal > b.second.cost - b.second.ideal;
  });
  lines.resize(std::min(lines.size(), count));
  std::vector<std::string> result;
  for (const auto& [place, cost] : lines)
    result.push_back(fmt::format("{}: {} requests of {} memory, {} {}, ideally {}",
                                 machine::line_of(place.first), cost.requests,
                                 place.second ? "shared" : "global", cost.cost,
                                 place.second ? "waves" : "sectors", cost.ideal));
  return result;
}

}  // namespace simt
