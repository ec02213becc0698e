#include "models/training/labelled_images.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "engine/files/digest.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "models/image/image_io.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

void add(Digest& digest, const Image& image) {
  const std::int64_t size[] = {image.height, image.width, image.channels};
  digest.add(std::span<const std::int64_t>(size));
  std::visit([&](const auto& pixels) { digest.add(std::span(pixels)); }, image.pixels);
}

Image read_image(const ImagePair& pair) {
  return pair.held_image ? pair.held_image() : ImageReader(pair.image).read(pair.page);
}

struct Checked {
  ImageStatistics statistics;
  std::vector<DataProblem> problems;
};

Checked check_pair(const ImagePair& pair, const MaskRules& rules) {
  Checked result;
  const auto attempt = [&](const fs::path& file, const auto& work) {
    try {
      work();
      return true;
    } catch (const std::exception& error) {  // memory too: it must not leave its thread
      result.problems.push_back({file.string(), 0, error.what()});
      return false;
    }
  };
  Image image;
  MaskPage mask;
  const bool read = attempt(pair.image, [&] { image = read_image(pair); });
  if (!attempt(pair.mask, [&] { mask = read_mask(pair); }) || !read) return result;
  attempt(pair.mask, [&] {
    require(mask.image.height == image.height && mask.image.width == image.width,
            "the mask is {} x {}, its image '{}' is {} x {} (height x width)", mask.image.height,
            mask.image.width, pair.image.string(), image.height, image.width);
    const Mask decoded = decode_mask(mask, rules);
    std::vector<std::int64_t> pixels(rules.classes());
    std::int64_t known = 0;
    for (const std::uint8_t id : decoded.classes) {
      if (id == kIgnoredClass) continue;
      ++pixels[id];
      ++known;
    }
    require(known > 0, "the mask has no pixel with a class: all are ignored");
    Digest digest;
    add(digest, image);
    add(digest, mask.image);
    result.statistics = {std::move(pixels), image.height,          image.width,
                         image.channels,    range_note(image, {}), mask.stored.white_is_zero,
                         digest.hex()};
  });
  attempt(pair.image, [&] {
    const auto* floats = std::get_if<std::vector<float>>(&image.pixels);
    require(floats == nullptr ||
                std::ranges::all_of(*floats, [](float value) { return std::isfinite(value); }),
            "the image has values that are not finite; replace them");
  });
  return result;
}

std::size_t bytes_of(const LabelledImage& image) {
  return image.pixels.size() * sizeof(float) + image.classes.size() +
         image.weights.size() * sizeof(float);
}

}  // namespace

// ---- the check ---------------------------------------------------------------------------------

std::vector<ImageStatistics> check_images(const ImagePairs& pairs, const MaskRules& rules,
                                          int threads, DataReport& report,
                                          const std::function<bool(std::size_t)>& progress) {
  std::vector<Checked> checked(pairs.size());
  std::mutex mutex;
  std::size_t done = 0;
  std::atomic<bool> goes_on = true;
  parallel_for(threads, static_cast<std::int64_t>(pairs.size()), [&](std::int64_t at) {
    if (!goes_on) return;
    const auto i = static_cast<std::size_t>(at);
    checked[i] = check_pair(pairs[i], rules);
    const std::lock_guard lock(mutex);
    ++done;
    if (progress && !progress(done)) goes_on = false;
  });
  std::vector<ImageStatistics> statistics;
  std::vector<std::int64_t> pixels(rules.classes());
  bool any = false;
  std::size_t white_is_zero = 0;
  for (Checked& one : checked) {
    for (DataProblem& problem : one.problems)
      report.problem(std::move(problem.file), problem.line, std::move(problem.text));
    for (std::size_t c = 0; c < one.statistics.class_pixels.size(); ++c)
      pixels[c] += one.statistics.class_pixels[c];
    any |= !one.statistics.class_pixels.empty();
    white_is_zero += one.statistics.white_is_zero ? 1 : 0;
    statistics.push_back(std::move(one.statistics));
  }
  for (std::size_t c = 0; any && c < pixels.size(); ++c) {
    if (pixels[c] > 0) continue;
    report.problem(
        "masks", 0,
        fmt::format("no pixel of any mask is of class {}; correct the masks or the classes", c));
  }
  if (white_is_zero > 0) report.note(white_is_zero_note(white_is_zero));
  return statistics;
}

std::string white_is_zero_note(std::size_t masks) {
  return fmt::format(
      "{} mask{} white as zero (an inverting look-up table): the values count as they are stored, "
      "255 is no background because it looks black",
      masks, masks == 1 ? " shows" : "s show");
}

std::string digest_of_pixels(std::span<const ImageStatistics> statistics) {
  Digest digest;
  for (const ImageStatistics& one : statistics) digest.add(one.digest);
  return digest.hex();
}

std::vector<std::int64_t> sum_class_pixels(std::span<const ImageStatistics> statistics,
                                           std::span<const std::size_t> which) {
  std::vector<std::int64_t> sum;
  for (const std::size_t i : which) {
    sum.resize(std::max(sum.size(), statistics[i].class_pixels.size()));
    for (std::size_t c = 0; c < statistics[i].class_pixels.size(); ++c)
      sum[c] += statistics[i].class_pixels[c];
  }
  return sum;
}

// ---- in memory ---------------------------------------------------------------------------------

LabelledImage load_labelled_image(const ImagePair& pair, const MaskRules& rules,
                                  const Preprocessing& preprocessing, const WeightRules& weights) {
  const Image image = read_image(pair);
  const MaskPage page = read_mask(pair);
  require(page.image.height == image.height && page.image.width == image.width,
          "{}: the mask is {} x {}, its image is {} x {} (height x width)", pair.mask.string(),
          page.image.height, page.image.width, image.height, image.width);
  try {
    LabelledImage result;
    result.height = image.height;
    result.width = image.width;
    result.channels = preprocessing.channels;
    result.pixels.resize(static_cast<std::size_t>(image.height * image.width * result.channels));
    normalise(image, preprocessing, result.pixels);
    const auto [low, high] = std::ranges::minmax_element(result.pixels);
    result.low = *low;
    result.high = *high;

    Mask mask = decode_mask(page, rules);
    if (weights.border) {
      const auto objects = objects_of(mask, image.height, image.width, weights.objects);
      result.weights = border_weights(objects, image.height, image.width, *weights.border);
    } else {
      result.weights.assign(mask.classes.size(), 0.0f);
    }
    require(weights.class_weights.empty() || weights.class_weights.size() == rules.classes(),
            "{} class weights for {} classes", weights.class_weights.size(), rules.classes());
    for (std::size_t i = 0; i < mask.classes.size(); ++i) {
      std::uint8_t& id = mask.classes[i];
      if (id == kIgnoredClass) {
        id = 0;
        result.weights[i] = 0;
      } else {
        result.weights[i] += weights.class_weights.empty() ? 1.0f : weights.class_weights[id];
      }
    }
    result.classes = std::move(mask.classes);
    return result;
  } catch (const Error& error) {
    fail("{}, {}: {}", pair.image.string(), pair.mask.string(), error.what());
  }
}

LabelledImages::LabelledImages(ImagePairs pairs, MaskRules rules, Preprocessing preprocessing,
                               WeightRules weights, std::size_t cache_bytes)
    : pairs_(std::move(pairs)),
      rules_(std::move(rules)),
      preprocessing_(std::move(preprocessing)),
      weights_(std::move(weights)),
      cache_bytes_(cache_bytes),
      entries_(pairs_.size()) {}

std::shared_ptr<const LabelledImage> LabelledImages::load(std::size_t i) {
  {
    const std::lock_guard lock(mutex_);
    if (Entry& entry = entries_.at(i); entry.image) {
      uses_.splice(uses_.begin(), uses_, entry.use);
      return entry.image;
    }
  }
  // Outside of the lock, so that threads decode side by side; two may decode the same.
  auto image = std::make_shared<const LabelledImage>(
      load_labelled_image(pairs_[i], rules_, preprocessing_, weights_));
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[i];
  if (entry.image) return entry.image;
  uses_.push_front(i);
  entry = {image, uses_.begin()};
  held_bytes_ += bytes_of(*image);
  while (held_bytes_ > cache_bytes_ && uses_.size() > 1) {
    Entry& oldest = entries_[uses_.back()];
    held_bytes_ -= bytes_of(*oldest.image);
    oldest = {};
    uses_.pop_back();
  }
  return image;
}

}  // namespace tessera
