#include "models/import/nnunet_folder.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "engine/files/json_text.h"
#include "engine/files/mapped_file.h"
#include "engine/files/safetensors.h"
#include "engine/graph/graph_file.h"
#include "kernels/error.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;

constexpr const char *kPlans = "plans.json", *kDataset = "dataset.json";

bool is_model_folder(const fs::path& folder) {
  std::error_code missing;
  return fs::is_regular_file(folder / kPlans, missing) &&
         fs::is_regular_file(folder / kDataset, missing);
}

// By rising names; fold_all, which was trained with everything, is the first.
std::vector<fs::path> folds_in(const fs::path& folder) {
  std::vector<fs::path> folds;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().filename().string().starts_with("fold_")) folds.push_back(entry.path());
  std::ranges::sort(folds, {}, [](const fs::path& fold) {
    const std::string name = fold.filename().string();
    return std::pair(name != "fold_all", name);
  });
  return folds;
}

std::optional<fs::path> checkpoint_of(const fs::path& fold) {
  for (const char* name : {"checkpoint_final.pth", "checkpoint_best.pth"}) {
    std::error_code missing;
    if (fs::is_regular_file(fold / name, missing)) return fold / name;
  }
  return std::nullopt;
}

nlohmann::json read_json(const fs::path& path) {
  constexpr std::size_t kMostBytes = std::size_t{16} << 20;
  constexpr int kMostDepth = 64;
  const MappedFile file = MappedFile::open(path, "a description of nnU-Net");
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  require(text.size() <= kMostBytes, "{}: {} bytes, expected at most {}", path.string(),
          text.size(), kMostBytes);
  try {
    check_json_limits(text, kMostDepth);
    return parse_json(text);
  } catch (const Error& error) {
    fail("{}: {}", path.string(), error.what());
  }
}

}  // namespace

std::optional<fs::path> nnunet_checkpoint_in(const fs::path& folder) {
  if (!is_model_folder(folder)) return std::nullopt;
  for (const fs::path& fold : folds_in(folder))
    if (const auto checkpoint = checkpoint_of(fold)) return checkpoint;
  fail("{}: a model folder of nnU-Net, in which no fold has a checkpoint; expected fold_0/{}",
       folder.string(), "checkpoint_final.pth");
}

void add_nnunet_plans(Contents& contents) {
  const fs::path fold = fs::absolute(contents.file).lexically_normal().parent_path();
  const fs::path folder = fold.parent_path();
  if (!fold.filename().string().starts_with("fold_") || !is_model_folder(folder)) return;
  const std::string name = folder.filename().string();
  const std::size_t last = name.rfind("__");
  contents.said["nnunet"] = {{"plans", read_json(folder / kPlans)},
                             {"dataset", read_json(folder / kDataset)},
                             {"configuration", last == name.npos ? "2d" : name.substr(last + 2)}};
  std::vector<std::string> folds;
  for (const fs::path& one : folds_in(folder))
    if (checkpoint_of(one)) folds.push_back(one.filename().string());
  if (folds.size() > 1)
    contents.notes.push_back(
        fmt::format("{} of {}, whose mean nnU-Net gives; name the checkpoint to take another",
                    fold.filename().string(), fmt::join(folds, ", ")));
}

}  // namespace tessera
