// The files that one segmented image becomes: mask, overlay, probabilities, instances. Pages come
// one by one; `finish` completes the files, and `commit` gives them their names.
#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/files/numpy_writer.h"
#include "models/image/image_io.h"
#include "models/image/instances.h"
#include "models/image/mask.h"
#include "models/image/tiff.h"
#include "models/session.h"
#include "tools/program/object_table.h"

namespace tessera {

// The pixels of `image`, which must outlive it, as a Session takes them.
ImageView view_of(const Image& image);

struct SegmentOutputs {
  bool overlay = true;
  bool probabilities = false;
  bool instances = false;
  InstanceOptions instance_options;
  std::vector<ClassInfo> classes;
  bool pyramid = false;       // of a mask in windows
  bool object_table = false;  // a file of objects; else they are in the summary
  ObjectFormat object_format = ObjectFormat::kCsv;
  std::string mask_ending;  // where the user names the mask's file; empty: see mask_path
};

// What of that an image in windows has: no overlay, and objects in a table.
SegmentOutputs windowed(SegmentOutputs wanted);

inline constexpr const char* kZarrEnding = ".zarr";

// Names below `base`, the output folder and the input's name without its extension. Stacks are
// TIFFs, single images PNGs.
std::filesystem::path mask_path(const std::filesystem::path& base, bool stack,
                                const SegmentOutputs& wanted);
std::filesystem::path overlay_path(const std::filesystem::path& base, bool stack);
std::filesystem::path probabilities_path(const std::filesystem::path& base);
std::filesystem::path instances_path(const std::filesystem::path& base,
                                     const SegmentOutputs& wanted);
std::filesystem::path object_table_path(const std::filesystem::path& base,
                                        const SegmentOutputs& wanted);
// Whether a file's name is one that this program gives to its outputs.
bool is_output_name(const std::filesystem::path& path);
// All files of one image, in the order in which they get their names: the mask last.
std::vector<std::filesystem::path> result_paths(const std::filesystem::path& base, bool stack,
                                                const SegmentOutputs& wanted);
// Those that any options may give it.
std::vector<std::filesystem::path> all_result_paths(const std::filesystem::path& base);
// What `file` has behind `base`: ".mask.png".
std::string suffix_of(const std::filesystem::path& file, const std::filesystem::path& base);

// What the summary says of one image's masks.
class MaskStatistics {
 public:
  explicit MaskStatistics(const SegmentOutputs& outputs) : outputs_(outputs) {}

  // Returns the objects' label image where instances are wanted.
  std::optional<Image> add_page(const std::vector<std::uint8_t>& class_ids, std::int64_t height,
                                std::int64_t width);
  // The same, some pixels at a time, of a page whose objects nobody counts.
  void begin_page(std::int64_t height, std::int64_t width);
  void count(std::span<const std::uint8_t> class_ids);
  void set_objects(std::size_t count) { object_count_ = count; }
  nlohmann::json json() const;   // pages, height, width, classes, instances
  std::string sentence() const;  // "512 x 512, cell 78.1 %, membrane 21.9 %"

 private:
  const SegmentOutputs& outputs_;
  std::int64_t pages_ = 0, height_ = 0, width_ = 0;
  std::vector<std::int64_t> pixels_ = std::vector<std::int64_t>(outputs_.classes.size());
  nlohmann::json objects_ = nlohmann::json::array();
  std::size_t object_count_ = 0;
};

// Finished files that have no names yet.
class ResultFiles {
 public:
  virtual ~ResultFiles() = default;

  virtual std::vector<std::filesystem::path> paths() const = 0;  // the mask last
  virtual void commit() = 0;                                     // gives them their names
  virtual void clean_up() = 0;                                   // behind that, once it is noted
};

class SegmentFiles : public ResultFiles {
 public:
  SegmentFiles(std::filesystem::path base, std::int64_t pages, const SegmentOutputs& outputs);
  ~SegmentFiles() override;

  // `result` is of `image`. Throws Error where the file system refuses.
  void add_page(const Image& image, const Segmentation& result);
  void finish();
  void commit() override;
  void clean_up() override {}

  const MaskStatistics& statistics() const { return statistics_; }
  std::vector<std::filesystem::path> paths() const override {
    return result_paths(base_, pages_ > 1, outputs_);
  }

 private:
  // One picture per page: in a TIFF, or alone in a PNG.
  class Pages;

  std::filesystem::path base_;
  std::int64_t pages_;
  const SegmentOutputs& outputs_;
  OverlayStyle style_;
  std::unique_ptr<Pages> masks_, overlays_, labels_;
  std::optional<NumpyWriter> probabilities_;
  std::vector<std::int64_t> probabilities_shape_;
  MaskStatistics statistics_;
};

}  // namespace tessera
