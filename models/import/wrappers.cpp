#include "models/import/wrappers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace tessera {
namespace {

// What lies beside the network that a wrapper holds: losses, and the counters of averaged weights
// (torch.optim.swa_utils, ema_pytorch).
bool is_beside(std::string_view name) {
  constexpr std::array<std::string_view, 7> kLosses{"criterion.", "criterions.", "loss.", "losses.",
                                                    "loss_fn.",   "loss_func.",  "metric"};
  constexpr std::array<std::string_view, 3> kCounters{"n_averaged", "initted", "step"};
  return std::any_of(kLosses.begin(), kLosses.end(),
                     [&](std::string_view loss) { return name.starts_with(loss); }) ||
         std::find(kCounters.begin(), kCounters.end(), name) != kCounters.end();
}

// The members of `object` whose names begin with `prefix`, without it; the whole network's, too.
nlohmann::json below(const nlohmann::json& object, std::string_view prefix) {
  nlohmann::json kept = nlohmann::json::object();
  for (const auto& [name, value] : object.items()) {
    if (name.starts_with(prefix)) kept[name.substr(prefix.size())] = value;
    if (name + "." == prefix) kept[""] = value;
  }
  return kept;
}

}  // namespace

std::optional<Contents> without_wrapper(const Contents& contents) {
  std::string_view prefix;
  std::size_t beside = 0;
  for (const StoredTensor& tensor : contents.tensors) {
    if (is_beside(tensor.name)) {
      ++beside;
      continue;
    }
    if (prefix.empty()) prefix = std::string_view(tensor.name).substr(0, tensor.name.find('.') + 1);
    if (prefix.empty() || !tensor.name.starts_with(prefix)) return std::nullopt;
  }
  if (prefix.empty()) return std::nullopt;
  Contents stripped;
  stripped.file = contents.file;
  stripped.format = contents.format;
  stripped.said = contents.said;
  stripped.notes = contents.notes;
  stripped.owners = contents.owners;
  for (const StoredTensor& tensor : contents.tensors) {
    if (!tensor.name.starts_with(prefix)) continue;
    stripped.tensors.push_back(tensor);
    stripped.tensors.back().name.erase(0, prefix.size());
  }
  if (beside > 0)
    stripped.notes.push_back(
        fmt::format("{} tensors beside the network, of losses or counters, are left out", beside));
  for (const char* place : {"modules", "objects"})
    if (const auto said = stripped.said.find(place); said != stripped.said.end())
      *said = below(*said, prefix);
  return stripped;
}

}  // namespace tessera
