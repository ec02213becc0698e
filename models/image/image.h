// Images as files hold them, and the way from there to the floats a model reads.
#pragma once

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace tessera {

// Pixels in the type of their file, so that an 8-bit image costs one byte per sample.
// Channels are 1 (grey) or 3 (RGB); readers drop alpha.
struct Image {
  using Pixels = std::variant<std::vector<uint8_t>, std::vector<uint16_t>, std::vector<uint32_t>,
                              std::vector<float>>;

  int64_t height = 0;
  int64_t width = 0;
  int64_t channels = 0;
  Pixels pixels;  // (height, width, channels)

  int64_t samples() const { return height * width * channels; }
};

// What a reader that is asked for numbers (of masks, say) instead of light tells besides. The
// values are then those that the file stores, as tifffile and scikit-image give them: in a TIFF
// white as zero is not inverted, and 2 to 15 bits are not spread over the range of their type (1
// bit is: 0 and 255).
struct StoredValues {
  bool lossy = false;  // JPEG: values are near those that were saved
  bool white_is_zero = false;
  // (height, width), grey; of a palette image whose pixels are RGB, the indices that the file
  // holds.
  std::optional<Image> indices{};
};

// The most samples (height x width x channels) a reader accepts in one page, unless told otherwise:
// a gigabyte in 8 bits.
inline constexpr int64_t kMaxSamples = int64_t{1} << 30;

// Throws Error unless all sizes are above 0 and their product is at most `max_samples`. Readers
// call it on what a header claims, before they allocate.
void require_readable_size(int64_t height, int64_t width, int64_t channels, int64_t max_samples);

// "8-bit", "16-bit", "32-bit" or "float".
std::string_view pixel_type_name(const Image& image);

// ---- normalisation -----------------------------------------------------------------------------

enum class Scale {
  kNone,         // values as in the file
  kUnit,         // divided by 255, 65535 or 2^32 - 1, floats taken as they are; or see ValueRange
  kStandardize,  // (x - mean) / (std + 1e-6), over all samples of the image
  kMinMax,       // (x - min) / (max - min), over all samples of the image; 0 if all are equal
};

// What becomes 0 and 1 instead of the ends of the type: a camera of 12 bits fills a sixteenth
// of 16.
struct ValueRange {
  bool automatic = false;   // each image's own least and greatest value
  float low = 0, high = 1;  // else these; what lies outside becomes the nearer of them

  bool operator==(const ValueRange&) const = default;
};

// "auto", or two numbers with a comma between them, the first one smaller. Throws Error.
ValueRange parse_range(std::string_view text);

// A step that a package of bioimage.io may ask for, on floats.
struct PixelStep {
  enum class Kind : std::uint8_t {
    kStandardize,  // (x - mean) / (std + eps)
    kPercentiles,  // (x - p) / (q - p + eps): p and q the percentiles low and high, as numpy's
    kDivide,       // (x - mean) / std
    kClip,         // not below low, not above high
  };
  Kind kind = Kind::kStandardize;
  bool per_channel = false;  // what is measured is of each channel alone, not of all
  double eps = 1e-6;
  double low = 0, high = 100;
  std::vector<float> mean{}, std{};  // of kDivide: one number, or one for each channel; no std is 0

  bool operator==(const PixelStep&) const = default;
};

// What a model wants of its input, in this order: colour, scale, steps, (x - mean[c]) / std[c].
struct Preprocessing {
  int64_t channels = 1;  // 1: RGB becomes BT.601 luma, not rounded; 3: grey is repeated
  Scale scale = Scale::kUnit;
  std::vector<float> mean{};          // (channels), or empty for 0
  std::vector<float> std{};           // (channels), or empty for 1
  std::optional<ValueRange> range{};  // of Scale::kUnit alone
  std::vector<PixelStep> steps{};
};

// {"channels": 1, "scale": "unit", "mean": [..], "std": [..], "range": [0, 4095] or "auto",
// "steps": [..] (models/image/pixel_steps.h)}; scale is one of "none", "unit", "standardize",
// "min_max"; all keys are optional. Throws Error on an
// unknown key or bad value, and for a range of another scale than "unit".
Preprocessing preprocessing_from_json(const nlohmann::json& json);
nlohmann::json to_json(const Preprocessing& preprocessing);

// Takes the range that `text` names (parse_range). Throws Error also where the scale is not "unit".
void set_range(Preprocessing& preprocessing, std::string_view text);

// Writes (height, width, preprocessing.channels) floats to `out`. Statistics are accumulated in
// double. Throws Error if `out` has another size or a value is not finite (a float TIFF may hold
// NaN, and one NaN would spread over the whole receptive field).
void normalise(const Image& image, const Preprocessing& preprocessing, std::span<float> out);

// What is odd about the values of `image` for a model of scale "unit": they fill a small part of 16
// or 32 bits, floats leave 0 to 1; or they fill a small part of the model's own range, or mostly
// lie outside of it. Names the range seen and the option that sets it. Empty where nothing is odd,
// and for other scales.
std::string range_note(const Image& image, const Preprocessing& preprocessing);

// ---- mirrored borders --------------------------------------------------------------------------

// The index inside [0, n) that any i, even far outside, mirrors to. The edge pixel is not repeated:
// for n = 3, -2 -1 0 1 2 3 4 5 become 2 1 0 1 2 1 0 1 (numpy.pad's "reflect"). n >= 1.
int64_t mirror_index(int64_t i, int64_t n);

// Rows [y0, y1) and columns [x0, x1) in an image's coordinates; may reach outside of it.
struct ImageWindow {
  int64_t y0 = 0;
  int64_t x0 = 0;
  int64_t y1 = 0;
  int64_t x1 = 0;
};

// Cuts `window` out of an image, mirroring at its borders as U-Net's overlap-tile strategy does.
// `image` is (height, width, channels), `out` is (y1 - y0, x1 - x0, channels).
// Throws Error if a size does not agree.
void mirror_pad(std::span<const float> image, int64_t height, int64_t width, int64_t channels,
                const ImageWindow& window, std::span<float> out);

}  // namespace tessera
