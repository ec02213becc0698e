// The table of families: one line each; what they are stands in files of their own.
#include "models/import/families/families.h"
#include "models/import/families/tessera.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/word_networks.h"
#include "models/import/wrappers.h"

namespace tessera {

const std::vector<Family>& families() {
  static const std::vector<Family> table = {
      kTesseraFamily,        kPaperHanFamily,
      kSgrvinodFamily,       kUvipenFamily,
      kCediasFamily,         kJoungheekimFamily,
      kMilesialFamily,       kWzmiaomiaoFamily,
      kPaperFamily,          kAladdinperssonFamily,
      kMateuszbudaFamily,    kLeejunhyunFamily,
      kUsuyamaFamily,        kJvanvugtFamily,
      kDeepresearchFamily,   kBubbliiiingFamily,
      kTorchEmFamily,        kNucleiBroadFamily,
      kPytorch3dunetFamily,  kSmpFamily,
      kNnunetFamily,         kMonaiUnetFamily,
      kMonaiBasicUnetFamily, kRefusedFamilies,  // the last, because it
                                                // throws
  };
  return table;
}

Imported match_family(const Contents& contents, const ImportOptions& options) {
  std::vector<std::string> reasons;
  std::optional<Contents> stripped;
  const Contents* tried = &contents;
  constexpr int kMostWrappers = 8;
  for (int wrappers = 0; tried != nullptr && wrappers <= kMostWrappers; ++wrappers) {
    for (const Family& family : families()) {
      if (!options.family.empty() && options.family != family.name) continue;
      std::string why;
      if (std::optional<Imported> imported = family.match(*tried, options, why)) {
        imported->family = family.name;
        imported->notes.insert(imported->notes.end(), tried->notes.begin(), tried->notes.end());
        imported->owners.insert(imported->owners.end(), tried->owners.begin(), tried->owners.end());
        return *std::move(imported);
      }
      std::string reason = fmt::format("\n  not {}: {}", family.name, why);
      if (!why.empty() && std::find(reasons.begin(), reasons.end(), reason) == reasons.end())
        reasons.push_back(std::move(reason));
    }
    stripped = without_wrapper(*tried);
    tried = stripped ? &*stripped : nullptr;
  }
  constexpr std::size_t kShown = 8;
  std::vector<std::string> names;
  for (const StoredTensor& tensor : contents.tensors) {
    if (names.size() == kShown) break;
    names.push_back(fmt::format("\n  {} {}", in_quotes(tensor.name), shape_text(tensor.shape)));
  }
  if (const std::optional<WordNetwork> words = word_network_of(contents))
    fail("{}: {}, and no HAN that is known by its names:{}{}{}\n{}{}", contents.file, words->kind,
         fmt::join(names, ""), contents.tensors.size() > kShown ? "\n  ..." : "",
         fmt::join(reasons, ""),
         words->may_be_han ? "Where it is a HAN, export it as ONNX (torch.onnx.export) with fixed "
                             "numbers of sentences and words, and import that. "
                           : "",
         kWordNetworkAdvice);
  fail(
      "{}: no known network has these {} tensors:{}{}{}\nExport it as ONNX (torch.onnx.export), "
      "which says what is computed, and import that; `tessera import --list` names what is known",
      contents.file, contents.tensors.size(), fmt::join(names, ""),
      contents.tensors.size() > kShown ? "\n  ..." : "", fmt::join(reasons, ""));
}

}  // namespace tessera
