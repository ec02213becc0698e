// The files that one segmented image becomes: mask, overlay, probabilities, instances. Pages come
// one by one; nothing appears under its final name before `commit`.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "models/image_io.h"
#include "models/instances.h"
#include "models/mask.h"
#include "models/session.h"
#include "models/tiff.h"

namespace tessera {

// The pixels of `image`, which must outlive it, as a Session takes them.
ImageView view_of(const Image& image);

struct SegmentOutputs {
  bool overlay = true;
  bool probabilities = false;
  bool instances = false;
  InstanceOptions instance_options;
  std::vector<ClassInfo> classes;
};

// Names below `base`, the output folder and the input's name without its extension. Stacks are
// TIFFs, single images PNGs.
std::filesystem::path mask_path(const std::filesystem::path& base, bool stack);
std::filesystem::path overlay_path(const std::filesystem::path& base, bool stack);
std::filesystem::path probabilities_path(const std::filesystem::path& base);
std::filesystem::path instances_path(const std::filesystem::path& base);
// Whether a file's name is one that this program gives to its outputs.
bool is_output_name(const std::filesystem::path& path);
// The mask of `base` if every wanted file is there; each is written atomically, the mask last.
std::optional<std::filesystem::path> complete_mask(const std::filesystem::path& base,
                                                   const SegmentOutputs& wanted);

// What the summary says of one image's masks.
class MaskStatistics {
 public:
  explicit MaskStatistics(const SegmentOutputs& outputs) : outputs_(outputs) {}

  // Returns the objects' label image where instances are wanted.
  std::optional<Image> add_page(const std::vector<std::uint8_t>& class_ids, std::int64_t height,
                                std::int64_t width);
  nlohmann::json json() const;   // pages, height, width, classes, instances
  std::string sentence() const;  // "512 x 512, cell 78.1 %, membrane 21.9 %"

 private:
  const SegmentOutputs& outputs_;
  std::int64_t pages_ = 0, height_ = 0, width_ = 0;
  std::vector<std::int64_t> pixels_ = std::vector<std::int64_t>(outputs_.classes.size());
  nlohmann::json objects_ = nlohmann::json::array();
};

class SegmentFiles {
 public:
  SegmentFiles(std::filesystem::path base, std::int64_t pages, const SegmentOutputs& outputs);
  ~SegmentFiles();

  // `result` is of `image`. Throws Error where the file system refuses.
  void add_page(const Image& image, const Segmentation& result);
  void commit();

  const MaskStatistics& statistics() const { return statistics_; }
  const std::vector<std::string>& written() const { return written_; }

 private:
  // One picture per page: in a TIFF, or alone in a PNG.
  class Pages;

  std::filesystem::path base_;
  std::int64_t pages_;
  const SegmentOutputs& outputs_;
  OverlayStyle style_;
  std::unique_ptr<Pages> masks_, overlays_, labels_;
  std::optional<NpyWriter> probabilities_;
  std::vector<std::int64_t> probabilities_shape_;
  MaskStatistics statistics_;
  std::vector<std::string> written_;
};

}  // namespace tessera
