#include "models/import/wrappers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace tessera {
namespace {

// What lies beside the network that a wrapper holds, by the first part of its name: losses and
// metrics, and the counters of averaged weights (torch.optim.swa_utils, ema_pytorch).
bool is_beside(std::string_view name) {
  constexpr std::array<std::string_view, 3> kLosses{"criterion", "loss", "metric"};
  constexpr std::array<std::string_view, 3> kCounters{"n_averaged", "initted", "step"};
  const std::string_view first = name.substr(0, name.find('.'));
  if (first.size() == name.size()) return std::ranges::count(kCounters, name) > 0;
  return std::ranges::any_of(kLosses,
                             [&](std::string_view loss) { return first.find(loss) != first.npos; });
}

// ema_pytorch keeps the network in training beside the averaged one, which is to be used.
constexpr std::string_view kOnline = "online_model.", kAveraged = "ema_model.";

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
  const bool is_averaged = std::ranges::any_of(contents.tensors, [](const StoredTensor& tensor) {
    return tensor.name.starts_with(kAveraged);
  });
  for (const StoredTensor& tensor : contents.tensors) {
    if (is_beside(tensor.name) || (is_averaged && tensor.name.starts_with(kOnline))) {
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
        fmt::format("{} tensors beside the network, of losses, counters or the network in training "
                    "that its average replaces, are left out",
                    beside));
  for (const char* place : {"modules", "objects"})
    if (const auto said = stripped.said.find(place); said != stripped.said.end())
      *said = below(*said, prefix);
  return stripped;
}

}  // namespace tessera
