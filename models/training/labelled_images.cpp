#include "models/training/labelled_images.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "engine/files/digest.h"
#include "kernels/cpu/parallel.h"
#include "kernels/error.h"
#include "models/image/image_io.h"
#include "models/image/pixel_steps.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

Image read_image(const ImagePair& pair) {
  return pair.held_image ? pair.held_image() : ImageReader(pair.image).read(pair.page);
}

// Gives an image's rows, of a large one that can be read in parts some at a time.
void read_rows(const ImagePair& pair,
               const std::function<void(const ImageLayout& whole, const Image& rows)>& take) {
  constexpr std::int64_t kWholeBytes = std::int64_t{1} << 27;
  const auto take_whole = [&](const Image& image) {
    take({image.height, image.width, image.channels}, image);
  };
  if (pair.held_image) return take_whole(pair.held_image());
  ImageReader reader = open_page(pair.image, pair.page);
  const std::optional<ImageLayout> layout = layout_for_windows(reader);
  if (!layout ||
      layout->height <= kWholeBytes / layout->width / layout->channels / layout->sample_bytes)
    return take_whole(reader.read());
  PixelSource(std::move(reader)).read_rows([&](const Image& rows) { take(*layout, rows); });
}

// What the check takes from an image's rows.
class ImageCheck {
 public:
  void add(const ImageLayout& whole, const Image& rows, Digest& digest) {
    if (statistics.height == 0) {
      statistics.height = whole.height;
      statistics.width = whole.width;
      statistics.channels = whole.channels;
      add_size(whole.height, whole.width, whole.channels, digest);
    }
    std::visit(
        [&]<class T>(const std::vector<T>& pixels) {
          digest.add(std::span(pixels));
          if constexpr (std::is_floating_point_v<T>)
            is_finite &= std::ranges::all_of(pixels, [](T value) { return std::isfinite(value); });
          const auto [low, high] = std::ranges::minmax(pixels);
          auto* const ends = std::get_if<std::vector<T>>(&ends_.pixels);
          ends_.pixels =
              ends == nullptr || ends->empty()
                  ? std::vector<T>{low, high}
                  : std::vector<T>{std::min(low, (*ends)[0]), std::max(high, (*ends)[1])};
        },
        rows.pixels);
  }

  static void add_size(std::int64_t height, std::int64_t width, std::int64_t channels,
                       Digest& digest) {
    const std::int64_t size[] = {height, width, channels};
    digest.add(std::span<const std::int64_t>(size));
  }

  void finish() { statistics.range_note = range_note(ends_, {}); }

  ImageStatistics statistics;
  bool is_finite = true;

 private:
  Image ends_{1, 2, 1, {}};  // the least and the greatest value
};

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
  ImageCheck image;
  Digest digest;
  const bool read = attempt(pair.image, [&] {
    read_rows(pair,
              [&](const ImageLayout& whole, const Image& rows) { image.add(whole, rows, digest); });
    image.finish();
  });
  attempt(pair.mask, [&] {
    MaskSource mask(pair);
    ImageStatistics& statistics = image.statistics;
    require(!read || (mask.height() == statistics.height && mask.width() == statistics.width),
            "the mask is {} x {}, its image '{}' is {} x {} (height x width)", mask.height(),
            mask.width(), pair.image.string(), statistics.height, statistics.width);
    std::vector<std::int64_t> pixels(rules.classes());
    mask.read_rows([&](std::int64_t y, std::int64_t height) {
      const ImageWindow part{y, 0, y + height, mask.width()};
      const Image values = mask.page(part).image;
      if (y == 0) ImageCheck::add_size(mask.height(), mask.width(), values.channels, digest);
      std::visit([&](const auto& samples) { digest.add(std::span(samples)); }, values.pixels);
      if (!read) return;
      for (const std::uint8_t id : mask.read(part, rules).classes) {
        if (id != kIgnoredClass) ++pixels[id];
      }
    });
    if (!read) return;
    require(std::ranges::any_of(pixels, [](std::int64_t count) { return count > 0; }),
            "the mask has no pixel with a class: all are ignored");
    statistics.class_pixels = std::move(pixels);
    statistics.white_is_zero = mask.white_is_zero();
    statistics.digest = digest.hex();
    result.statistics = statistics;
  });
  if (read)
    attempt(pair.image, [&] {
      require(image.is_finite, "the image has values that are not finite; replace them");
    });
  return result;
}

// Classes and weights of `result.part`, around which `mask` may have more: it is of `mask_at`, as
// the objects are, which only weights of borders need.
void add_labels(const Mask& mask, const ImageWindow& mask_at,
                std::span<const std::uint32_t> objects, const WeightRules& weights,
                const MaskRules& rules, LabelledImage& result) {
  require(weights.class_weights.empty() || weights.class_weights.size() == rules.classes(),
          "{} class weights for {} classes", weights.class_weights.size(), rules.classes());
  const std::int64_t height = mask_at.y1 - mask_at.y0, width = mask_at.x1 - mask_at.x0;
  std::vector<float> borders;
  if (weights.border) borders = border_weights(objects, height, width, *weights.border);
  const ImageWindow& part = result.part;
  const auto pixels = static_cast<std::size_t>((part.y1 - part.y0) * (part.x1 - part.x0));
  result.classes.reserve(pixels);
  result.weights.reserve(pixels);
  for (std::int64_t y = part.y0; y < part.y1; ++y) {
    for (std::int64_t x = part.x0; x < part.x1; ++x) {
      const auto i = static_cast<std::size_t>((y - mask_at.y0) * width + x - mask_at.x0);
      const std::uint8_t id = mask.classes[i];
      const bool is_known = id != kIgnoredClass;
      float weight = borders.empty() ? 0.0f : borders[i];
      if (is_known) weight += weights.class_weights.empty() ? 1.0f : weights.class_weights[id];
      result.classes.push_back(is_known ? id : std::uint8_t{0});
      result.weights.push_back(is_known ? weight : 0.0f);
    }
  }
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
    result.part = {0, 0, image.height, image.width};
    result.pixels.resize(static_cast<std::size_t>(image.height * image.width * result.channels));
    normalise(image, preprocessing, result.pixels);
    const auto [low, high] = std::ranges::minmax_element(result.pixels);
    result.low = *low;
    result.high = *high;
    const Mask mask = decode_mask(page, rules);
    std::vector<std::uint32_t> objects;
    if (weights.border) objects = objects_of(mask, image.height, image.width, weights.objects);
    add_labels(mask, result.part, objects, weights, rules, result);
    return result;
  } catch (const Error& error) {
    fail("{}, {}: {}", pair.image.string(), pair.mask.string(), error.what());
  }
}

LabelledSlide::LabelledSlide(const ImagePair& pair, const MaskRules& rules,
                             const Preprocessing& preprocessing, const WeightRules& weights)
    : name_(fmt::format("{}, {}", pair.image.string(), pair.mask.string())),
      rules_(rules),
      preprocessing_(preprocessing),
      weights_(weights),
      image_(open_page(pair.image, pair.page)),
      mask_(pair),
      low_(std::numeric_limits<float>::infinity()),
      high_(-low_) {
  require(mask_.height() == height() && mask_.width() == width(),
          "{}: the mask is {} x {}, its image is {} x {} (height x width)", pair.mask.string(),
          mask_.height(), mask_.width(), height(), width());
  require(std::ranges::none_of(preprocessing.steps, measures),
          "{}: its {} x {} pixels do not fit into memory, and a step of the preprocessing measures "
          "the whole image; cut it into images",
          name_, height(), width());
  if (needs_all_pixels(preprocessing))
    scale_ = scale_of([&](const auto& take) { image_.read_rows(take); }, preprocessing);
  std::vector<float> floats;
  image_.read_rows([&](const Image& rows) {
    floats.resize(static_cast<std::size_t>(rows.height * rows.width * preprocessing.channels));
    RowNormaliser(rows, preprocessing, scale_).rows(0, rows.height, floats);
    const auto [low, high] = std::ranges::minmax(floats);
    low_ = std::min(low_, low);
    high_ = std::max(high_, high);
  });
  if (weights.border && rules.kind != MaskRules::Kind::kObjects) find_objects();
}

// What looks like two objects in a part may be one in the whole.
void LabelledSlide::find_objects() {
  const fs::path folder = fs::temp_directory_path();
  InstanceFinder finder(width(), without_ignored(weights_.objects), folder);
  Image line{1, width(), 1, std::vector<std::uint32_t>(static_cast<std::size_t>(width()))};
  auto& labels = std::get<std::vector<std::uint32_t>>(line.pixels);
  const auto for_each_row = [&](const auto& see) {
    mask_.read_rows([&](std::int64_t y, std::int64_t rows) {
      const Mask mask = mask_.read({y, 0, y + rows, width()}, rules_);
      for (std::int64_t row = 0; row < rows; ++row)
        see(y + row, mask.classes.data() + row * width());
      finder.release();
    });
  };
  for_each_row([&](std::int64_t, const std::uint8_t* ids) { finder.add_row(ids, labels.data()); });
  finder.finish([](const Instance&) {});
  objects_ = std::make_unique<ScratchPicture>(folder, width(), 1, line.pixels);
  for_each_row([&](std::int64_t y, const std::uint8_t* ids) {
    finder.label_row(ids, labels.data());
    objects_->write(y, 0, line);
  });
}

LabelledImage LabelledSlide::part(const ImageWindow& part) {
  LabelledImage result;
  result.height = height();
  result.width = width();
  result.channels = preprocessing_.channels;
  result.part = part;
  result.low = low_;
  result.high = high_;
  const std::int64_t reach = weights_.border ? reach_of(*weights_.border) : 0;
  const ImageWindow around{std::max<std::int64_t>(part.y0 - reach, 0),
                           std::max<std::int64_t>(part.x0 - reach, 0),
                           std::min(part.y1 + reach, height()), std::min(part.x1 + reach, width())};
  std::shared_ptr<const Image> image;
  Mask mask;
  try {
    {
      const std::lock_guard lock(mutex_);
      image = image_.read(part);
      mask = mask_.read(around, rules_);
    }
    result.pixels.resize(static_cast<std::size_t>(image->height * image->width * result.channels));
    RowNormaliser(*image, preprocessing_, scale_).rows(0, image->height, result.pixels);
    std::vector<std::uint32_t> objects;
    if (objects_) {
      objects = std::get<std::vector<std::uint32_t>>(objects_->read(around).pixels);
    } else if (weights_.border) {
      objects = objects_of(mask, around.y1 - around.y0, around.x1 - around.x0, weights_.objects);
    }
    add_labels(mask, around, objects, weights_, rules_, result);
  } catch (const Error& error) {
    fail("{}: {}", name_, error.what());
  }
  return result;
}

LabelledImages::LabelledImages(ImagePairs pairs, MaskRules rules, Preprocessing preprocessing,
                               WeightRules weights, std::size_t cache_bytes)
    : pairs_(std::move(pairs)),
      rules_(std::move(rules)),
      preprocessing_(std::move(preprocessing)),
      weights_(std::move(weights)),
      cache_bytes_(cache_bytes),
      slides_(pairs_.size()),
      entries_(pairs_.size()) {}

LabelledSlide* LabelledImages::slide(std::size_t i) {
  const std::lock_guard lock(slides_mutex_);
  std::optional<std::unique_ptr<LabelledSlide>>& known = slides_.at(i);
  if (!known) {
    const auto is_slide = [&] {
      if (pairs_[i].held_image) return false;
      ImageReader reader = open_page(pairs_[i].image, pairs_[i].page);
      const std::optional<ImageLayout> layout = layout_for_windows(reader);
      const auto pixel =
          static_cast<std::int64_t>(sizeof(float)) * (preprocessing_.channels + 1) + 1;
      return layout &&
             layout->height > static_cast<std::int64_t>(cache_bytes_) / layout->width / pixel;
    };
    known = is_slide()
                ? std::make_unique<LabelledSlide>(pairs_[i], rules_, preprocessing_, weights_)
                : nullptr;
  }
  return known->get();
}

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
