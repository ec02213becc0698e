// Images with the masks that say what their pixels are: found on disk, checked in one pass, split
// into training and validation, and read for training.
//
//   ImagePairs pairs = find_pairs("data/images", "data/masks", report);
//   check_images(pairs, rules, threads, report);   // every problem at once, with file names
//   report.require_none();
//   Split split = split_pairs(pairs, "every:5", seed);
//   LabelledImages images(pairs, rules, preprocessing, weights, cache_bytes);
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/data_report.h"
#include "models/image.h"
#include "models/instances.h"
#include "models/mask.h"
#include "models/weight_map.h"

namespace tessera {

// ---- which files -------------------------------------------------------------------------------

struct ImagePair {
  std::string name;  // below the folder, without ending; of a stack "name#page", pages from 0
  std::filesystem::path image, mask;
  std::int64_t page = 0;
};
using ImagePairs = std::vector<ImagePair>;

// The images below one folder with the masks of the same name below another: a/x.tif belongs to
// a/x.png, a/x_mask.png or a/x.mask.png. Sorted by the bytes of their names. The pages of a TIFF
// stack are pairs of their own. Reports images without a mask, masks without an image, two files of
// one name, stacks of different length, and a folder without images. Throws Error where a folder
// cannot be read.
ImagePairs find_pairs(const std::filesystem::path& images, const std::filesystem::path& masks,
                      DataReport& report);

// The pairs that a text file lists: `image<TAB>mask` per line, relative to the file's own folder;
// blank lines and lines that begin with # are passed over. In the order of the list. Reports lines
// without a mask, files that are not there, and stacks of different length.
ImagePairs read_pair_list(const std::filesystem::path& list, DataReport& report);

// ---- what a mask says --------------------------------------------------------------------------

struct MaskRules {
  enum class Kind : std::uint8_t {
    kValues,   // grey values, one per class
    kColours,  // RGB colours, one per class
    kObjects,  // 0 = background (class 0), any other value the id of an object (class 1)
  };

  Kind kind = Kind::kValues;
  std::vector<std::int64_t> values{0, 1};  // of kValues, by class
  std::vector<Rgb> colours{};              // of kColours, by class
  std::optional<std::int64_t> ignored{};   // a grey value whose pixels teach and count nothing
  // Of kObjects: where two touch, the pixels of the one with the larger id become background, so
  // that the gap can be learnt that makes them two.
  bool separate_touching = true;

  std::size_t classes() const;

  // "ids" (values 0 .. classes - 1), "binary" (0 and 255), "values:255,0",
  // "colours:#000000,#ff8000" or "objects", each with ",ignore=V" behind it. Throws Error for
  // anything else, or for a number of classes other than `classes`.
  static MaskRules parse(std::string_view text, std::size_t classes);
};

// A pixel without a class.
inline constexpr std::uint8_t kIgnoredClass = 255;

struct Mask {
  std::vector<std::uint8_t> classes;   // (height, width), kIgnoredClass where nobody knows
  std::vector<std::uint32_t> objects;  // (height, width) as in the file, touching or not; of
                                       // kObjects alone, else empty
};

// Throws Error that lists the values outside of the classes (the first five) and their pixels.
Mask decode_mask(const Image& image, const MaskRules& rules);

// Object ids for weight maps and for counting: those of the mask, touching ones separated as its
// classes are, else the connected components of every class but the background.
std::vector<std::uint32_t> objects_of(const Mask& mask, std::int64_t height, std::int64_t width,
                                      const InstanceOptions& options);

// ---- all of it, before it is used --------------------------------------------------------------

struct ImageStatistics {
  std::vector<std::int64_t> class_pixels;  // by class; empty where the pair could not be read
  std::int64_t height = 0, width = 0, channels = 0;
  std::string range_note;  // of its values, for a model of scale "unit"
};

// Decodes every image and every mask, and reports what is wrong with any: unreadable or damaged
// files, a mask and an image of different size, values outside of the classes, masks without any
// known pixel, a class that no mask has. Returns one entry per pair. `progress` hears of every pair
// done, from any thread, one at a time. The result does not depend on the number of threads.
std::vector<ImageStatistics> check_images(
    const ImagePairs& pairs, const MaskRules& rules, int threads, DataReport& report,
    const std::function<void(std::size_t done)>& progress = {});

// Sums over the pairs of `which`.
std::vector<std::int64_t> sum_class_pixels(std::span<const ImageStatistics> statistics,
                                           std::span<const std::size_t> which);

// ---- training and validation -------------------------------------------------------------------

struct Split {
  std::vector<std::size_t> training, validation;  // indices into the pairs, rising
};

// `rule` says what is held out for validation:
//   "none"         nothing
//   "0.2"          that share, drawn by `seed`; at least one
//   "every:5"      the first of the sorted names and each fifth after it
//   "fold:2/5"     the second of five equal parts, drawn by `seed`
//   "names:a,b/c,24..29"   these; two whole numbers with .. between them are a range
//   "list:FILE"    the names in a text file, one a line
// A name of the last two that stands for no pair, or a split that leaves nothing to train on, is an
// Error.
Split split_pairs(const ImagePairs& pairs, const std::string& rule, std::uint64_t seed);

// ---- in memory ---------------------------------------------------------------------------------

struct WeightRules {
  std::vector<float> class_weights{};          // w_c by class; empty: 1
  std::optional<BorderWeight> border{};        // none: no second term
  InstanceOptions objects{.connectivity = 4};  // where the mask has no ids of its own
};

// One image as training reads it.
struct LabelledImage {
  std::int64_t height = 0, width = 0, channels = 0;
  std::vector<float> pixels;          // (height, width, channels), normalised
  float low = 0, high = 0;            // the least and the greatest of them
  std::vector<std::uint8_t> classes;  // (height, width); an ignored pixel is of class 0, weight 0
  std::vector<float> weights;         // (height, width)
};

// Throws Error that names the file where it cannot be read or does not fit its mask.
LabelledImage load_labelled_image(const ImagePair& pair, const MaskRules& rules,
                                  const Preprocessing& preprocessing, const WeightRules& weights);

// All images of a set; those used last stay in memory, with their weight maps.
class LabelledImages {
 public:
  LabelledImages(ImagePairs pairs, MaskRules rules, Preprocessing preprocessing,
                 WeightRules weights, std::size_t cache_bytes);

  std::size_t size() const { return pairs_.size(); }
  const ImagePair& pair(std::size_t i) const { return pairs_[i]; }
  const MaskRules& rules() const { return rules_; }
  const WeightRules& weights() const { return weights_; }
  std::int64_t channels() const { return preprocessing_.channels; }

  // Safe to call from several threads.
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

  std::mutex mutex_;  // of what follows
  std::vector<Entry> entries_;
  std::list<std::size_t> uses_;  // the last used first
  std::size_t held_bytes_ = 0;
};

}  // namespace tessera
