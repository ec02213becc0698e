#include "models/import/wrappers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace tessera {
namespace {

constexpr std::array<std::string_view, 7> kWrappers{"module.",  "_orig_mod.", "model.", "net.",
                                                    "network.", "unet.",      "han."};
constexpr std::array<std::string_view, 5> kOfLosses{"criterion.", "loss.", "loss_fn.", "loss_func.",
                                                    "metric."};

template <std::size_t N>
std::string_view beginning_of(std::string_view name, const std::array<std::string_view, N>& among) {
  const auto found = std::find_if(among.begin(), among.end(), [&](std::string_view beginning) {
    return name.starts_with(beginning);
  });
  return found == among.end() ? std::string_view() : *found;
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
  std::size_t of_losses = 0;
  for (const StoredTensor& tensor : contents.tensors) {
    if (!beginning_of(tensor.name, kOfLosses).empty()) {
      ++of_losses;
      continue;
    }
    if (prefix.empty()) prefix = beginning_of(tensor.name, kWrappers);
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
  if (of_losses > 0)
    stripped.notes.push_back(
        fmt::format("{} tensors of losses beside the network are left out", of_losses));
  for (const char* place : {"modules", "objects"})
    if (const auto said = stripped.said.find(place); said != stripped.said.end())
      *said = below(*said, prefix);
  return stripped;
}

}  // namespace tessera
