#include "tools/program/segment_files.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "kernels/error.h"
#include "models/image/png.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

fs::path with_suffix(fs::path base, const char* suffix) {
  return base += suffix;
}

OverlayStyle style_of(const std::vector<ClassInfo>& classes) {
  OverlayStyle style;
  for (const ClassInfo& one : classes) style.colours.push_back(one.colour);
  return style;
}

std::int64_t bytes_of(const Image& image) {
  return std::visit(
      [](const auto& pixels) {
        return static_cast<std::int64_t>(pixels.size() * sizeof(pixels[0]));
      },
      image.pixels);
}

}  // namespace

ImageView view_of(const Image& image) {
  using Type = ImageView::Type;
  constexpr Type kTypes[] = {Type::kU8, Type::kU16, Type::kU32, Type::kF32};  // as the variant
  return std::visit(
      [&](const auto& pixels) {
        return ImageView{pixels.data(), image.height, image.width, image.channels,
                         kTypes[image.pixels.index()]};
      },
      image.pixels);
}

SegmentOutputs windowed(SegmentOutputs wanted) {
  wanted.overlay = false;
  wanted.object_table = wanted.instances;
  return wanted;
}

fs::path mask_path(const fs::path& base, bool stack, const SegmentOutputs& wanted) {
  if (!wanted.mask_ending.empty()) return with_suffix(base, wanted.mask_ending.c_str());
  return with_suffix(base, stack ? ".mask.tif" : ".mask.png");
}
fs::path overlay_path(const fs::path& base, bool stack) {
  return with_suffix(base, stack ? ".overlay.tif" : ".overlay.png");
}
fs::path probabilities_path(const fs::path& base) {
  return with_suffix(base, ".probabilities.npy");
}
fs::path instances_path(const fs::path& base, const SegmentOutputs& wanted) {
  const bool zarr = wanted.mask_ending == kZarrEnding;
  return with_suffix(base, zarr ? ".instances.zarr" : ".instances.tif");
}

fs::path object_table_path(const fs::path& base, const SegmentOutputs& wanted) {
  return with_suffix(
      base, wanted.object_format == ObjectFormat::kCsv ? ".instances.csv" : ".instances.geojsonl");
}

bool is_output_name(const fs::path& path) {
  const std::string name = path.filename().string();
  return std::ranges::any_of(
      std::initializer_list<const char*>{".mask.png", ".mask.tif", ".overlay.png", ".overlay.tif",
                                         ".instances.tif"},
      [&](const char* suffix) { return name.ends_with(suffix); });
}

std::vector<fs::path> result_paths(const fs::path& base, bool stack, const SegmentOutputs& wanted) {
  std::vector<fs::path> paths;
  if (wanted.overlay) paths.push_back(overlay_path(base, stack));
  if (wanted.probabilities) paths.push_back(probabilities_path(base));
  if (wanted.instances) paths.push_back(instances_path(base, wanted));
  if (wanted.instances && wanted.object_table) paths.push_back(object_table_path(base, wanted));
  paths.push_back(mask_path(base, stack, wanted));
  return paths;
}

std::vector<fs::path> all_result_paths(const fs::path& base) {
  SegmentOutputs all;
  all.overlay = all.probabilities = all.instances = all.object_table = true;
  std::vector<fs::path> paths = result_paths(base, false, all);
  paths.push_back(overlay_path(base, true));  // of a stack
  paths.push_back(mask_path(base, true, all));
  all.object_format = ObjectFormat::kGeoJson;
  paths.push_back(object_table_path(base, all));
  return paths;
}

std::string suffix_of(const fs::path& file, const fs::path& base) {
  return file.string().substr(base.string().size());
}

std::optional<Image> MaskStatistics::add_page(const std::vector<std::uint8_t>& class_ids,
                                              std::int64_t height, std::int64_t width) {
  begin_page(height, width);
  count(class_ids);
  const std::int64_t page = pages_ - 1;
  if (!outputs_.instances) return std::nullopt;
  Instances found = find_instances(class_ids, height, width, outputs_.instance_options);
  for (nlohmann::json& object : to_json(found.objects)) {
    object["page"] = page;
    objects_.push_back(std::move(object));
  }
  object_count_ = objects_.size();
  return std::move(found.labels);
}

void MaskStatistics::begin_page(std::int64_t height, std::int64_t width) {
  ++pages_;
  height_ = std::max(height_, height);
  width_ = std::max(width_, width);
}

void MaskStatistics::count(std::span<const std::uint8_t> class_ids) {
  for (const std::uint8_t id : class_ids) {
    require(id < pixels_.size(), "the mask has the class {}, the model has {} classes", id,
            pixels_.size());
    ++pixels_[id];
  }
}

nlohmann::json MaskStatistics::json() const {
  nlohmann::json result = {{"pages", pages_}, {"height", height_}, {"width", width_}};
  const double total = static_cast<double>(std::reduce(pixels_.begin(), pixels_.end()));
  for (std::size_t i = 0; i < pixels_.size(); ++i) {
    result["classes"].push_back({{"name", outputs_.classes[i].name},
                                 {"pixels", pixels_[i]},
                                 {"share", static_cast<double>(pixels_[i]) / total}});
  }
  if (outputs_.instances) {
    result["instances"] = outputs_.object_table ? nlohmann::json(object_count_) : objects_;
  }
  return result;
}

std::string MaskStatistics::sentence() const {
  constexpr std::size_t kShown = 4;
  std::vector<std::size_t> order(pixels_.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater(), [&](auto i) { return pixels_[i]; });
  const double total = static_cast<double>(std::reduce(pixels_.begin(), pixels_.end()));
  std::string text = fmt::format("{} x {}", height_, width_);
  if (pages_ > 1) text += fmt::format(", {} pages", pages_);
  for (std::size_t i = 0; i < std::min(order.size(), kShown); ++i) {
    text += fmt::format(", {} {:.1f} %", outputs_.classes[order[i]].name,
                        100 * static_cast<double>(pixels_[order[i]]) / total);
  }
  if (outputs_.instances) text += fmt::format(", {} objects", object_count_);
  return text;
}

class SegmentFiles::Pages {
 public:
  Pages(fs::path path, std::int64_t count) : path_(std::move(path)), count_(count) {}

  void append(Image page) {
    if (path_.extension() == ".png") {
      single_ = std::move(page);
      return;
    }
    if (!stack_) stack_ = std::make_unique<TiffWriter>(path_, count_ * bytes_of(page));
    stack_->append(page);
  }

  void finish() {
    if (stack_) {
      stack_->finish();
    } else {
      encode_png(png_.emplace(path_), std::exchange(single_, {}));
    }
  }

  void commit() {
    if (stack_) {
      stack_->commit();
    } else {
      png_->commit();
    }
  }

 private:
  fs::path path_;
  std::int64_t count_;
  Image single_;
  std::optional<AtomicFile> png_;
  std::unique_ptr<TiffWriter> stack_;
};

SegmentFiles::SegmentFiles(fs::path base, std::int64_t pages, const SegmentOutputs& outputs)
    : base_(std::move(base)),
      pages_(pages),
      outputs_(outputs),
      style_(style_of(outputs.classes)),
      masks_(std::make_unique<Pages>(mask_path(base_, pages > 1, outputs), pages)),
      statistics_(outputs) {
  if (outputs.overlay) overlays_ = std::make_unique<Pages>(overlay_path(base_, pages > 1), pages);
  if (outputs.instances) labels_ = std::make_unique<Pages>(instances_path(base_, outputs), pages);
}

SegmentFiles::~SegmentFiles() = default;

void SegmentFiles::add_page(const Image& image, const Segmentation& result) {
  const std::int64_t height = result.height, width = result.width;
  if (outputs_.probabilities) {
    const std::vector<std::int64_t> shape{pages_, height, width, result.outputs};
    if (!probabilities_) {
      probabilities_.emplace(probabilities_path(base_), DType::kF32, shape);
      probabilities_shape_ = shape;
    }
    require(shape == probabilities_shape_,
            "its pages differ in size, which one array of probabilities cannot hold; split the "
            "file or leave out --probabilities");
    probabilities_->append(std::as_bytes(std::span(result.probabilities)));
  }
  if (auto labels = statistics_.add_page(result.mask, height, width))
    labels_->append(std::move(*labels));
  if (overlays_) overlays_->append(make_overlay(image, result.mask, style_));
  masks_->append({height, width, 1, result.mask});
}

void SegmentFiles::finish() {
  for (const auto& pages : {overlays_.get(), labels_.get(), masks_.get()})
    if (pages != nullptr) pages->finish();
}

void SegmentFiles::commit() {
  if (overlays_) overlays_->commit();
  if (probabilities_) probabilities_->commit();
  if (labels_) labels_->commit();
  masks_->commit();  // last: its presence says that all are there
}

}  // namespace tessera
