#include "models/image/image.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "kernels/error.h"
#include "models/image/image_rows.h"
#include "models/image/pixel_steps.h"

namespace tessera {
namespace {

constexpr std::array<std::pair<Scale, const char*>, 4> kScaleNames = {{
    {Scale::kNone, "none"},
    {Scale::kUnit, "unit"},
    {Scale::kStandardize, "standardize"},
    {Scale::kMinMax, "min_max"},
}};

constexpr double kStandardizeEpsilon = 1e-6;

// ITU-R BT.601 luma.
constexpr float kRed = 0.299f;
constexpr float kGreen = 0.587f;
constexpr float kBlue = 0.114f;

// `count` pixels of `from` channels.
template <class T>
void convert_channels(const T* in, int64_t count, int64_t from, int64_t to, std::span<float> out) {
  if (from == to) {
    std::transform(in, in + count * from, out.begin(),
                   [](T value) { return static_cast<float>(value); });
  } else if (to == 1) {
    for (int64_t i = 0; i < count; ++i) {
      out.data()[i] = kRed * static_cast<float>(in[3 * i]) +
                      kGreen * static_cast<float>(in[3 * i + 1]) +
                      kBlue * static_cast<float>(in[3 * i + 2]);
    }
  } else {
    for (int64_t i = 0; i < count; ++i) {
      std::fill_n(out.data() + 3 * i, 3, static_cast<float>(in[i]));
    }
  }
}

// What white is in a file of this type: integers fill their range, floats are free to choose.
template <class T>
float full_scale(const std::vector<T>&) {
  return std::is_floating_point_v<T> ? 1.0f : static_cast<float>(std::numeric_limits<T>::max());
}

// (x - offset) / divisor: a division, because PyTorch and numpy divide and x * (1 / d) rounds
// differently.
void shift_and_divide(std::span<float> values, float offset, float divisor) {
  for (float& value : values) value = (value - offset) / divisor;
}

ValueRange checked_range(float low, float high, std::string_view found) {
  require(std::isfinite(low) && std::isfinite(high) && low < high && std::isfinite(high - low),
          "the range is '{}', expected 'auto' or two numbers LO,HI, the first one smaller", found);
  return {.low = low, .high = high};
}

ValueRange range_from_json(const nlohmann::json& json) {
  if (json == "auto") return {.automatic = true};
  const bool pair =
      json.is_array() && json.size() == 2 && json[0].is_number() && json[1].is_number();
  require(pair, "preprocessing: \"range\" is {}, expected \"auto\" or two numbers", json.dump());
  return checked_range(json[0].get<float>(), json[1].get<float>(), json.dump());
}

void require_finite(std::span<const float> values, const char* when) {
  const auto bad = std::find_if_not(values.begin(), values.end(),
                                    [](float value) { return std::isfinite(value); });
  require(bad == values.end(),
          "the image has the value {} {} normalisation, expected finite numbers; replace NaN and "
          "infinite pixels in the file",
          bad == values.end() ? 0.0f : *bad, when);
}

std::vector<float> channel_values(const nlohmann::json& json, const char* key, int64_t channels) {
  const nlohmann::json& values = json.at(key);
  const bool numbers = values.is_array() && std::all_of(values.begin(), values.end(), [](auto& v) {
                         return v.is_number() && std::isfinite(v.template get<float>());
                       });
  require(numbers && (values.empty() || static_cast<int64_t>(values.size()) == channels),
          "preprocessing: \"{}\" is {}, expected {} finite numbers, one per channel", key,
          values.dump(), channels);
  return values.get<std::vector<float>>();
}

}  // namespace

void require_readable_size(int64_t height, int64_t width, int64_t channels, int64_t max_samples) {
  require(height > 0 && width > 0 && channels > 0,
          "the header says {} x {} pixels (width x height), expected sizes above 0", width, height);
  // Divided, because the product of what a hostile header claims overflows 64 bits.
  require(width <= max_samples / channels && height <= max_samples / (width * channels),
          "the header says {} x {} pixels (width x height) of {} samples, above the limit of {} "
          "samples for one image; split the image into parts",
          width, height, channels, max_samples);
}

std::string_view pixel_type_name(const Image& image) {
  constexpr std::array<std::string_view, 4> kNames = {"8-bit", "16-bit", "32-bit", "float"};
  return kNames[image.pixels.index()];
}

ValueRange parse_range(std::string_view text) {
  if (text == "auto") return {.automatic = true};
  const std::size_t comma = text.find(',');
  float ends[2] = {};
  const auto number = [&](std::string_view part, float& value) {
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    return error == std::errc() && end == part.data() + part.size();
  };
  const bool two = comma != std::string_view::npos && number(text.substr(0, comma), ends[0]) &&
                   number(text.substr(comma + 1), ends[1]);
  return two ? checked_range(ends[0], ends[1], text) : checked_range(0, 0, text);
}

void set_range(Preprocessing& preprocessing, std::string_view text) {
  preprocessing.range = parse_range(text);
  require(preprocessing.scale == Scale::kUnit,
          "a range (--range) is for the scale \"unit\", which it replaces; the scale is {}",
          to_json(preprocessing)["scale"].dump());
}

namespace {

// The same for a model of a range of its own: the image fills little of it, or mostly leaves it.
std::string outside_note(const Image& image, const ValueRange& range) {
  if (range.automatic) return "";
  return std::visit(
      [&](const auto& pixels) -> std::string {
        if (pixels.empty()) return "";
        const auto [least, greatest] = std::ranges::minmax_element(pixels);
        const double low = static_cast<double>(*least), high = static_cast<double>(*greatest);
        const double from = static_cast<double>(range.low), to = static_cast<double>(range.high);
        const auto outside = std::ranges::count_if(pixels, [&](auto value) {
          return static_cast<double>(value) < from || static_cast<double>(value) > to;
        });
        const bool odd = 4 * (high - from) <= to - from || 2 * outside > std::ssize(pixels);
        if (!odd || low == high) return "";
        return fmt::format(
            "{} images with values from {:.6g} to {:.6g}, where this model takes {:.9g} for black "
            "and {:.9g} for white. If these images have others, set them: --range LO,HI (or "
            "--range auto)",
            pixel_type_name(image), low, high, from, to);
      },
      image.pixels);
}

}  // namespace

std::string range_note(const Image& image, const Preprocessing& preprocessing) {
  if (preprocessing.scale != Scale::kUnit) return "";
  if (preprocessing.range) return outside_note(image, *preprocessing.range);
  return std::visit(
      [&]<class T>(const std::vector<T>& pixels) -> std::string {
        if (sizeof(T) == 1 || pixels.empty()) return "";
        const auto [least, greatest] = std::ranges::minmax_element(pixels);
        const double low = static_cast<double>(*least), high = static_cast<double>(*greatest);
        const double white = static_cast<double>(full_scale(pixels));
        // Of integers two unused bits are odd, and so are signed ones that were shifted up; an
        // image of one value, perhaps empty, says nothing.
        const bool is_float = std::is_floating_point_v<T>;
        constexpr double kShifted =
            32;  // a picture fills more of its type than one part of so many
        const bool shifted = !is_float && 2 * low > white && kShifted * (high - low) < white;
        const bool odd = is_float ? low < 0 || high > 1 : 4 * high <= white + 3 || shifted;
        if (!odd || low == high) return "";
        double end = high;  // what white may be: that of the least usual number of bits
        constexpr double kLeastGuessed = 100;  // floats below are in units of their own
        for (const int bits : {16, 14, 12, 10, 8}) {
          const bool fits = high <= std::exp2(bits) - 1;
          if (fits && !(is_float && high < kLeastGuessed)) end = std::exp2(bits) - 1;
        }
        return fmt::format(
            "{} images with values from {:.6g} to {:.6g}, which this model {}. If white is another "
            "value, set it: --range {:.6g},{:.9g} (or --range auto)",
            pixel_type_name(image), low, high,
            is_float ? std::string("expects in 0 to 1")
                     : fmt::format("divides by {:.0f}",
                                   static_cast<double>(std::numeric_limits<T>::max())),
            shifted ? low : std::min(low, 0.0), shifted ? high : end);
      },
      image.pixels);
}

Preprocessing preprocessing_from_json(const nlohmann::json& json) {
  require(json.is_object(), "preprocessing is {}, expected an object", json.type_name());
  for (const auto& [key, value] : json.items()) {
    require(
        key == "channels" || key == "scale" || key == "mean" || key == "std" || key == "range" ||
            key == "steps",
        "preprocessing has the unknown key \"{}\", expected channels, scale, mean, std, range or "
        "steps",
        key);
  }

  Preprocessing result;
  if (json.contains("channels")) {
    const nlohmann::json& channels = json["channels"];
    require(channels == 1 || channels == 3,
            "preprocessing: \"channels\" is {}, expected 1 (grey) or 3 (RGB)", channels.dump());
    result.channels = channels.get<int64_t>();
  }
  if (json.contains("scale")) {
    const nlohmann::json& scale = json["scale"];
    const auto* found = std::find_if(kScaleNames.begin(), kScaleNames.end(),
                                     [&](const auto& entry) { return scale == entry.second; });
    require(found != kScaleNames.end(),
            "preprocessing: \"scale\" is {}, expected \"none\", \"unit\", \"standardize\" or "
            "\"min_max\"",
            scale.dump());
    result.scale = found->first;
  }
  if (json.contains("mean")) result.mean = channel_values(json, "mean", result.channels);
  if (json.contains("std")) result.std = channel_values(json, "std", result.channels);
  if (json.contains("range")) {
    result.range = range_from_json(json["range"]);
    require(result.scale == Scale::kUnit,
            "preprocessing: a range is for the scale \"unit\", which it replaces; the scale is {}",
            json["scale"].dump());
  }
  if (json.contains("steps")) result.steps = pixel_steps_from_json(json["steps"], result.channels);
  for (const float value : result.std) {
    require(value > 0, "preprocessing: \"std\" has the value {}, expected values above 0", value);
  }
  return result;
}

nlohmann::json to_json(const Preprocessing& preprocessing) {
  const auto* name = std::find_if(kScaleNames.begin(), kScaleNames.end(), [&](const auto& entry) {
    return entry.first == preprocessing.scale;
  });
  nlohmann::json json = {{"channels", preprocessing.channels}, {"scale", name->second}};
  if (!preprocessing.mean.empty()) json["mean"] = preprocessing.mean;
  if (!preprocessing.std.empty()) json["std"] = preprocessing.std;
  if (preprocessing.range) {
    const ValueRange& range = *preprocessing.range;
    json["range"] =
        range.automatic ? nlohmann::json("auto") : nlohmann::json{range.low, range.high};
  }
  if (!preprocessing.steps.empty()) json["steps"] = to_json(preprocessing.steps);
  return json;
}

namespace {

void require_room(int64_t height, int64_t width, int64_t channels, std::span<const float> out) {
  const int64_t expected = height * width * channels;
  require(static_cast<int64_t>(out.size()) == expected && expected > 0,
          "normalise: room for {} floats, expected {} x {} x {}", out.size(), height, width,
          channels);
}

// Rows [begin, end) in the channels that a model reads.
void convert_rows(const Image& image, int64_t begin, int64_t end, int64_t channels,
                  std::span<float> out) {
  std::visit(
      [&](const auto& pixels) {
        convert_channels(pixels.data() + begin * image.width * image.channels,
                         (end - begin) * image.width, image.channels, channels, out);
      },
      image.pixels);
}

template <class See>
void for_each_row(const Image& image, int64_t channels, const See& see) {
  std::vector<float> line(static_cast<size_t>(image.width * channels));
  for (int64_t y = 0; y < image.height; ++y) {
    convert_rows(image, y, y + 1, channels, line);
    see(line);
  }
}

void require_finite_rows(const Image& image, int64_t channels) {
  if (!std::holds_alternative<std::vector<float>>(image.pixels)) return;
  for_each_row(image, channels, [](const auto& line) { require_finite(line, "before"); });
}

}  // namespace

bool needs_all_pixels(const Preprocessing& preprocessing) {
  return preprocessing.scale == Scale::kStandardize || preprocessing.scale == Scale::kMinMax ||
         (preprocessing.range && preprocessing.range->automatic);
}

LinearScale scale_of(const ImageRows& rows, const Preprocessing& preprocessing) {
  const int64_t channels = preprocessing.channels;
  const auto for_each_value = [&](const auto& see) {
    rows([&](const Image& some) {
      require_finite_rows(some, channels);
      for_each_row(some, channels, [&](const auto& line) {
        for (const float value : line) see(value);
      });
    });
  };
  if (preprocessing.scale == Scale::kStandardize) {
    double sum = 0, count = 0;
    for_each_value([&](float value) {
      sum += value;
      ++count;
    });
    const double mean = sum / count;
    double squares = 0;
    for_each_value([&](float value) { squares += (value - mean) * (value - mean); });
    return {static_cast<float>(mean),
            static_cast<float>(std::sqrt(squares / count) + kStandardizeEpsilon)};
  }
  float low = std::numeric_limits<float>::max(), high = std::numeric_limits<float>::lowest();
  for_each_value([&](float value) {
    low = std::min(low, value);
    high = std::max(high, value);
  });
  return {low, high > low ? high - low : 1.0f};
}

RowNormaliser::RowNormaliser(const Image& image, const Preprocessing& preprocessing,
                             std::optional<LinearScale> whole)
    : image_(image), preprocessing_(preprocessing) {
  const bool is_unit = preprocessing.scale == Scale::kUnit;
  divide_ = preprocessing.scale != Scale::kNone;
  clamp_ = is_unit && preprocessing.range && !preprocessing.range->automatic;
  if (whole || !needs_all_pixels(preprocessing)) require_finite_rows(image, preprocessing.channels);
  if (whole) {
    scale_ = *whole;
  } else if (needs_all_pixels(preprocessing)) {
    scale_ = scale_of([&](const auto& take) { take(image); }, preprocessing);
  } else if (clamp_) {
    scale_.offset = preprocessing.range->low;
    scale_.divisor = preprocessing.range->high - preprocessing.range->low;
  } else if (is_unit) {
    scale_.divisor =
        std::visit([](const auto& pixels) { return full_scale(pixels); }, image.pixels);
  }
  std::vector<float> line(static_cast<size_t>(image.width * preprocessing.channels));
  for (const PixelStep& step : preprocessing.steps) {
    steps_.push_back(measured(step, preprocessing.channels, [&](const SeeValues& see) {
      for (int64_t y = 0; y < image.height; ++y) {
        scaled(y, y + 1, line);
        require_finite(line, "between steps of");
        see(line);
      }
    }));
  }
}

void RowNormaliser::scaled(int64_t begin, int64_t end, std::span<float> out) const {
  convert_rows(image_, begin, end, preprocessing_.channels, out);
  if (clamp_) {
    const ValueRange& range = *preprocessing_.range;
    for (float& value : out) value = std::clamp(value, range.low, range.high);
  }
  if (divide_) shift_and_divide(out, scale_.offset, scale_.divisor);
  for (const PixelStep& step : steps_) apply(step, preprocessing_.channels, out);
}

void RowNormaliser::rows(int64_t begin, int64_t end, std::span<float> out) const {
  require_room(end - begin, image_.width, preprocessing_.channels, out);
  scaled(begin, end, out);
  if (!preprocessing_.mean.empty() || !preprocessing_.std.empty()) {
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t c = i % static_cast<size_t>(preprocessing_.channels);
      const float mean = preprocessing_.mean.empty() ? 0.0f : preprocessing_.mean[c];
      const float std = preprocessing_.std.empty() ? 1.0f : preprocessing_.std[c];
      out[i] = (out[i] - mean) / std;
    }
  }
  // Only floats near the ends of their range, and steps, can overflow above.
  if (std::holds_alternative<std::vector<float>>(image_.pixels) || !steps_.empty())
    require_finite(out, "after");
}

void normalise(const Image& image, const Preprocessing& preprocessing, std::span<float> out) {
  require_room(image.height, image.width, preprocessing.channels, out);
  RowNormaliser(image, preprocessing).rows(0, image.height, out);
}

int64_t mirror_index(int64_t i, int64_t n) {
  if (n == 1) return 0;
  const int64_t period = 2 * (n - 1);
  const int64_t phase = ((i % period) + period) % period;
  return phase < n ? phase : period - phase;
}

void mirror_row(const float* row, int64_t first, int64_t width, int64_t channels, int64_t begin,
                int64_t end, float* to) {
  // The columns inside the image are one copy; only those outside need an index each.
  const int64_t inside_begin = std::clamp<int64_t>(0, begin, end);
  const int64_t inside_end = std::clamp(width, inside_begin, end);
  const auto mirror_columns = [&](int64_t from, int64_t until) {
    for (int64_t x = from; x < until; ++x)
      to = std::copy_n(row + (mirror_index(x, width) - first) * channels, channels, to);
  };
  mirror_columns(begin, inside_begin);
  if (inside_begin < inside_end)
    to = std::copy_n(row + (inside_begin - first) * channels,
                     (inside_end - inside_begin) * channels, to);
  mirror_columns(inside_end, end);
}

void mirror_pad(std::span<const float> image, int64_t height, int64_t width, int64_t channels,
                const ImageWindow& window, std::span<float> out) {
  require(height > 0 && width > 0 && channels > 0 &&
              static_cast<int64_t>(image.size()) == height * width * channels,
          "mirror_pad: the image has {} floats, expected {} x {} x {}", image.size(), height, width,
          channels);
  const int64_t rows = window.y1 - window.y0;
  const int64_t columns = window.x1 - window.x0;
  require(
      rows >= 0 && columns >= 0 && static_cast<int64_t>(out.size()) == rows * columns * channels,
      "mirror_pad: room for {} floats, expected {} x {} x {}", out.size(), rows, columns, channels);

  float* to = out.data();
  for (int64_t y = window.y0; y < window.y1; ++y, to += columns * channels)
    mirror_row(image.data() + mirror_index(y, height) * width * channels, 0, width, channels,
               window.x0, window.x1, to);
}

}  // namespace tessera
