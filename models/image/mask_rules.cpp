#include "models/image/mask_rules.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "kernels/error.h"
#include "models/image/image_io.h"
#include "models/image/mask_source.h"
#include "models/image/rule_text.h"

namespace tessera {

namespace {

Rgb parse_colour(std::string_view text) {
  const auto value = text.starts_with('#') && text.size() == 7
                         ? number<std::uint32_t>(text.substr(1), 16)
                         : std::nullopt;
  require(value.has_value(), "colours: found '{}', expected #rrggbb", text);
  return {static_cast<std::uint8_t>(*value >> 16), static_cast<std::uint8_t>(*value >> 8),
          static_cast<std::uint8_t>(*value)};
}

std::int64_t number_of(const Rgb& colour) {
  return colour[0] << 16 | colour[1] << 8 | colour[2];
}

// Calls take(red, green, blue) for every pixel; of a grey image all three are alike.
template <class Take>
void for_pixels(const Image& image, Take&& take) {
  const auto step = static_cast<std::size_t>(image.channels);
  std::visit(
      [&](const auto& samples) {
        for (std::size_t i = 0; i < samples.size(); i += step) {
          const auto at = [&](std::size_t c) {
            return static_cast<std::int64_t>(samples[i + (step == 1 ? 0 : c)]);
          };
          take(at(0), at(1), at(2));
        }
      },
      image.pixels);
}

// The classes of the values that a set of rules knows.
std::map<std::int64_t, std::uint8_t> class_table(const MaskRules& rules) {
  std::map<std::int64_t, std::uint8_t> table;
  for (std::size_t c = 0; c < rules.classes(); ++c) {
    const std::int64_t key =
        rules.kind == MaskRules::Kind::kColours ? number_of(rules.colours[c]) : rules.values[c];
    table.emplace(key, static_cast<std::uint8_t>(c));
  }
  if (rules.ignored) table[*rules.ignored] = kIgnoredClass;
  return table;
}

[[noreturn]] void refuse_lossy(const std::string& found, const std::string& expected) {
  fail(
      "the mask is compressed as JPEG, which changes values: found {}, expected {}; save the "
      "masks from their source as PNG or TIFF without JPEG",
      found, expected);
}

std::vector<std::uint8_t> classes_of_values(const MaskNumbers& numbers, const MaskRules& rules,
                                            bool lossy) {
  const std::map<std::int64_t, std::uint8_t> table = class_table(rules);
  std::map<std::int64_t, std::int64_t> strange;  // value -> pixels
  std::vector<std::uint8_t> classes;
  classes.reserve(numbers.values.size());
  auto last = table.begin();  // neighbours are alike
  for (const std::int64_t value : numbers.values) {
    if (last == table.end() || last->first != value) last = table.find(value);
    if (last == table.end()) ++strange[value];
    classes.push_back(last == table.end() ? kIgnoredClass : last->second);
  }
  if (strange.empty()) return classes;

  constexpr std::size_t kShown = 5;
  std::string found, expected;
  std::size_t shown = 0;
  for (const auto& [value, pixels] : strange) {
    if (shown++ == kShown) break;
    found +=
        fmt::format("{}{} ({} pixels)", found.empty() ? "" : ", ", numbers.shown(value), pixels);
  }
  if (strange.size() > kShown) found += fmt::format(" and {} more", strange.size() - kShown);
  for (const auto& [value, id] : table)
    expected += fmt::format("{}{}", expected.empty() ? "" : ", ", numbers.shown(value));
  if (lossy) refuse_lossy(found, expected);
  const bool is_binary = !numbers.colour && strange.size() == 1 && strange.begin()->first == 255;
  fail("the mask has the values {}, expected {}; {}", found, expected,
       is_binary ? "masks of 0 and 255 are --mask-format binary"
                 : "correct it, or say with --mask-format what its values are (auto decides from "
                   "all masks)");
}

// The pixels of touching objects that become background: see MaskRules::separate_touching.
std::vector<bool> gaps(const std::vector<std::uint32_t>& objects, std::int64_t height,
                       std::int64_t width) {
  std::vector<bool> is_gap(objects.size());
  const auto at = [&](std::int64_t y, std::int64_t x) {
    return objects[static_cast<std::size_t>(y * width + x)];
  };
  for (std::int64_t y = 0; y < height; ++y) {
    for (std::int64_t x = 0; x < width; ++x) {
      const std::uint32_t id = at(y, x);
      if (id == 0) continue;
      bool gap = false;
      for (std::int64_t v = std::max<std::int64_t>(y - 1, 0); v <= std::min(y + 1, height - 1);
           ++v) {
        for (std::int64_t u = std::max<std::int64_t>(x - 1, 0); u <= std::min(x + 1, width - 1);
             ++u)
          gap |= at(v, u) != 0 && at(v, u) < id;
      }
      is_gap[static_cast<std::size_t>(y * width + x)] = gap;
    }
  }
  return is_gap;
}

}  // namespace

bool is_grey(const Image& image) {
  bool grey = true;
  if (image.channels > 1)
    for_pixels(image, [&](auto r, auto g, auto b) { grey = grey && r == g && r == b; });
  return grey;
}

std::size_t MaskRules::classes() const {
  if (kind == Kind::kObjects) return 2;
  return kind == Kind::kColours ? colours.size() : values.size();
}

MaskRules MaskRules::parse(std::string_view text, std::size_t classes) {
  MaskRules rules;
  std::string_view rest = text;
  constexpr std::string_view kIgnore = ",ignore=";
  if (const std::size_t at = text.find(kIgnore); at != std::string_view::npos) {
    rules.ignored = number<std::int64_t>(text.substr(at + kIgnore.size()));
    require(rules.ignored.has_value(), "masks: '{}', expected a grey value behind ,ignore=", text);
    rest = text.substr(0, at);
  }
  if (rest == "ids") {
    rules.values.resize(classes);
    std::iota(rules.values.begin(), rules.values.end(), std::int64_t{0});
  } else if (rest == "binary") {
    rules.values = {0, 255};
  } else if (rest == "objects") {
    rules.kind = Kind::kObjects;
  } else if (rest.starts_with("values:")) {
    rules.values.clear();
    for (const std::string_view part : parts_of(rest.substr(rest.find(':') + 1), ',')) {
      const auto value = number<std::int64_t>(part);
      require(value.has_value(),
              "masks: '{}', expected grey values between commas, then perhaps ,ignore=V", text);
      rules.values.push_back(*value);
    }
  } else if (rest.starts_with("colours:")) {
    rules.kind = Kind::kColours;
    for (const std::string_view part : parts_of(rest.substr(rest.find(':') + 1), ','))
      rules.colours.push_back(parse_colour(part));
    require(!rules.ignored, "masks: '{}', ignore= is a grey value and does not go with colours",
            text);
  } else {
    fail(
        "masks: '{}', expected ids, binary, values:V,V.. or objects, each also with ,ignore=V "
        "behind it, colours:#rrggbb,..",
        text);
  }
  require(rules.classes() == classes,
          "masks: '{}' tells {} classes apart, expected {}, those of the model", text,
          rules.classes(), classes);
  if (rules.kind == Kind::kObjects) return rules;
  const std::size_t distinct = class_table(rules).size() - (rules.ignored ? 1 : 0);
  require(distinct == classes, "masks: '{}' gives two classes the same value", text);
  return rules;
}

std::string MaskRules::to_string() const {
  std::string text;
  std::vector<std::int64_t> ids(values.size());
  std::iota(ids.begin(), ids.end(), std::int64_t{0});
  if (kind == Kind::kObjects) {
    text = "objects";
  } else if (kind == Kind::kColours) {
    for (const Rgb& colour : colours)
      text += (text.empty() ? "colours:" : ",") + MaskNumbers::shown(number_of(colour), true);
  } else if (values == ids) {
    text = "ids";
  } else if (values == std::vector<std::int64_t>{0, 255}) {
    text = "binary";
  } else {
    for (const std::int64_t value : values)
      text += fmt::format("{}{}", text.empty() ? "values:" : ",", value);
  }
  return ignored ? fmt::format("{},ignore={}", text, *ignored) : text;
}

MaskPage read_mask(const ImagePair& pair) {
  MaskPage page;
  if (pair.held_mask)
    page.image = pair.held_mask();
  else
    page.image = ImageReader(pair.mask).read(pair.page, page.stored);
  return page;
}

std::string MaskNumbers::shown(std::int64_t value, bool colour) {
  return colour ? fmt::format("#{:06x}", value) : fmt::format("{}", value);
}

MaskNumbers mask_numbers(const MaskPage& page, std::optional<MaskRules::Kind> kind) {
  return mask_numbers(page, kind, is_grey(page.image));
}

MaskNumbers mask_numbers(const MaskPage& page, std::optional<MaskRules::Kind> kind, bool grey) {
  using Kind = MaskRules::Kind;
  const bool wants_colours = kind == Kind::kColours;
  const Image& image =
      !grey && !wants_colours && page.stored.indices ? *page.stored.indices : page.image;
  require(!std::holds_alternative<std::vector<float>>(image.pixels),
          "the mask holds floats, expected whole numbers; save it with 8 or 16 bits");
  const bool coloured = !grey && image.channels == 3;
  require(!coloured || kind != Kind::kValues,
          "the mask is coloured, expected grey values; give the colour of each class "
          "(--mask-format colours:#rrggbb,..)");
  MaskNumbers numbers{{}, wants_colours || coloured, &image != &page.image};
  require(!numbers.colour || std::holds_alternative<std::vector<std::uint8_t>>(image.pixels),
          "the mask is {}, expected 8-bit colours", pixel_type_name(image));
  numbers.values.reserve(static_cast<std::size_t>(image.height * image.width));
  for_pixels(image, [&](std::int64_t r, std::int64_t g, std::int64_t b) {
    numbers.values.push_back(numbers.colour ? r << 16 | g << 8 | b : r);
  });
  return numbers;
}

Mask decode_mask(const MaskPage& page, const MaskRules& rules) {
  return decode_mask(page, rules, is_grey(page.image));
}

Mask decode_mask(const MaskPage& page, const MaskRules& rules, bool grey) {
  const MaskNumbers numbers = mask_numbers(page, rules.kind, grey);
  if (rules.kind != MaskRules::Kind::kObjects)
    return {classes_of_values(numbers, rules, page.stored.lossy), {}};
  if (page.stored.lossy) refuse_lossy("ids of objects", "a lossless file");
  Mask mask;
  mask.objects.reserve(numbers.values.size());
  for (const std::int64_t value : numbers.values)
    mask.objects.push_back(value == rules.ignored ? 0 : static_cast<std::uint32_t>(value));
  for (const std::uint32_t id : mask.objects) mask.classes.push_back(id != 0 ? 1 : 0);
  if (rules.separate_touching) {
    const std::vector<bool> is_gap = gaps(mask.objects, page.image.height, page.image.width);
    for (std::size_t i = 0; i < is_gap.size(); ++i) {
      if (is_gap[i]) mask.classes[i] = 0;
    }
  }
  for (std::size_t i = 0; rules.ignored && i < numbers.values.size(); ++i) {
    if (numbers.values[i] == *rules.ignored) mask.classes[i] = kIgnoredClass;
  }
  return mask;
}

InstanceOptions without_ignored(InstanceOptions options) {
  options.background.push_back(kIgnoredClass);
  return options;
}

std::vector<std::uint32_t> objects_of(const Mask& mask, std::int64_t height, std::int64_t width,
                                      const InstanceOptions& options) {
  std::vector<std::uint32_t> objects(mask.classes.size());
  if (!mask.objects.empty()) {
    for (std::size_t i = 0; i < objects.size(); ++i)
      objects[i] = mask.classes[i] == 1 ? mask.objects[i] : 0;
    return objects;
  }
  const Instances found = find_instances(mask.classes, height, width, without_ignored(options));
  std::visit(
      [&](const auto& labels) {
        std::ranges::transform(labels, objects.begin(),
                               [](auto label) { return static_cast<std::uint32_t>(label); });
      },
      found.labels.pixels);
  return objects;
}

}  // namespace tessera
