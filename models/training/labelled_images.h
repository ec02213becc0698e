// Images with the masks that say what their pixels are: checked in one pass, and read for training.
//
//   ImagePairs pairs = find_pairs("data/images", "data/masks", report);
//   MaskRules rules = recognise_masks(pairs, ...);  // models/image/mask_format.h
//   check_images(pairs, rules, threads, report);   // every problem at once, with file names
//   report.require_none();
//   Split split = split_pairs(pairs, "every:5", seed);
//   LabelledImages images(pairs, rules, preprocessing, weights, cache_bytes);
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "models/data_report.h"
#include "models/image/image.h"
#include "models/image/image_pairs.h"
#include "models/image/image_rows.h"
#include "models/image/mask_rules.h"
#include "models/image/mask_source.h"
#include "models/image/pixel_source.h"
#include "models/training/weight_map.h"

namespace tessera {

// ---- all of it, before it is used --------------------------------------------------------------

struct ImageStatistics {
  std::vector<std::int64_t> class_pixels;  // by class; empty where the pair could not be read
  std::int64_t height = 0, width = 0, channels = 0;
  std::string range_note;      // of its values, for a model of scale "unit"
  bool white_is_zero = false;  // the mask's file says so
  std::string digest{};        // of the pixels of both
};

// Decodes every image and every mask, and reports what is wrong with any: unreadable or damaged
// files, a mask and an image of different size, values outside of the classes, masks without any
// known pixel, a class that no mask has. Returns one entry per pair. `progress` hears of every pair
// done, from any thread, one at a time, and leaves out the rest where it returns false. The result
// does not depend on the number of threads.
std::vector<ImageStatistics> check_images(
    const ImagePairs& pairs, const MaskRules& rules, int threads, DataReport& report,
    const std::function<bool(std::size_t done)>& progress = {});

// That so many masks are inverted for the eye, which changes no value.
std::string white_is_zero_note(std::size_t masks);

// Of all images and masks, in their order: other pixels have another one.
std::string digest_of_pixels(std::span<const ImageStatistics> statistics);

// Sums over the pairs of `which`.
std::vector<std::int64_t> sum_class_pixels(std::span<const ImageStatistics> statistics,
                                           std::span<const std::size_t> which);

// ---- in memory ---------------------------------------------------------------------------------

struct WeightRules {
  std::vector<float> class_weights{};          // w_c by class; empty: 1
  std::optional<BorderWeight> border{};        // none: no second term
  InstanceOptions objects{.connectivity = 4};  // where the mask has no ids of its own
};

// One image as training reads it, or a part of it.
struct LabelledImage {
  std::int64_t height = 0, width = 0, channels = 0;  // of the whole
  ImageWindow part;                                  // what is here; sizes below are its own
  std::vector<float> pixels;                         // (height, width, channels), normalised
  float low = 0, high = 0;                           // the least and the greatest of the whole
  std::vector<std::uint8_t> classes;  // (height, width); an ignored pixel is of class 0, weight 0
  std::vector<float> weights;         // (height, width)

  // Of a pixel of the whole that lies in the part.
  std::int64_t at(std::int64_t y, std::int64_t x) const {
    return (y - part.y0) * (part.x1 - part.x0) + x - part.x0;
  }
};

// Throws Error that names the file where it cannot be read or does not fit its mask.
LabelledImage load_labelled_image(const ImagePair& pair, const MaskRules& rules,
                                  const Preprocessing& preprocessing, const WeightRules& weights);

// An image that stays on disk, in a TIFF or a Zarr store: parts of it are those of the image that
// load_labelled_image gives, to the byte.
class LabelledSlide {
 public:
  // Reads all pixels once or more, for what normalisation takes from them. The rules must outlive
  // this. Where the weights are those of borders and the mask has no ids, components of the whole
  // are found, and their ids wait in a scratch picture of 4 bytes a pixel in the folder for
  // temporary files. Throws Error where that is full.
  LabelledSlide(const ImagePair& pair, const MaskRules& rules, const Preprocessing& preprocessing,
                const WeightRules& weights);

  std::int64_t height() const { return image_.layout().height; }
  std::int64_t width() const { return image_.layout().width; }
  // Safe to call from several threads.
  LabelledImage part(const ImageWindow& part);

 private:
  void find_objects();

  std::string name_;
  const MaskRules& rules_;
  const Preprocessing& preprocessing_;
  const WeightRules& weights_;
  std::mutex mutex_;  // of reading
  PixelSource image_;
  MaskSource mask_;
  std::optional<LinearScale> scale_;
  float low_, high_;
  std::unique_ptr<ScratchPicture> objects_;  // ids, where the mask has none of its own
};

// All images of a set; those used last stay in memory, with their weight maps. Those that are too
// large for that, and can be read in parts, are slides.
class LabelledImages {
 public:
  LabelledImages(ImagePairs pairs, MaskRules rules, Preprocessing preprocessing,
                 WeightRules weights, std::size_t cache_bytes);

  std::size_t size() const { return pairs_.size(); }
  const ImagePair& pair(std::size_t i) const { return pairs_[i]; }
  const MaskRules& rules() const { return rules_; }
  const WeightRules& weights() const { return weights_; }
  std::int64_t channels() const { return preprocessing_.channels; }

  // Null where the image is no slide. Safe to call from several threads, as load is.
  LabelledSlide* slide(std::size_t i);
  std::shared_ptr<const LabelledImage> load(std::size_t i);

 private:
  struct Entry {
    std::shared_ptr<const LabelledImage> image;
    std::list<std::size_t>::iterator use;
  };

  ImagePairs pairs_;
  MaskRules rules_;
  Preprocessing preprocessing_;
  WeightRules weights_;
  std::size_t cache_bytes_;

  std::mutex slides_mutex_;                                            // of what follows
  std::vector<std::optional<std::unique_ptr<LabelledSlide>>> slides_;  // none: nobody has asked yet

  std::mutex mutex_;  // of what follows
  std::vector<Entry> entries_;
  std::list<std::size_t> uses_;  // the last used first
  std::size_t held_bytes_ = 0;
};

}  // namespace tessera
