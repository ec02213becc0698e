#include "models/image/tiff_stack.h"

#include <expat.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>

#include "kernels/error.h"

namespace tessera {
namespace {

// More planes than any file holds; keeps sums and products of hostile numbers inside 64 bits.
constexpr std::int64_t kMostPlanes = std::int64_t{1} << 40;
constexpr std::size_t kLongestShown = 60;  // bytes of a hostile text in a message

// A number from `least` to kMostPlanes, with white space around it. Nothing for any other text.
std::optional<std::int64_t> parse_count(std::string_view text, std::int64_t least = 1) {
  constexpr std::string_view kSpaces = " \t\r\n";
  text.remove_prefix(std::min(text.find_first_not_of(kSpaces), text.size()));
  text = text.substr(0, text.find_last_not_of(kSpaces) + 1);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if (value < least || value > kMostPlanes) return std::nullopt;
  return value;
}

std::int64_t product(std::int64_t a, std::int64_t b) {
  require(a <= kMostPlanes / b, "its description says {} x {} planes, more than a file can hold", a,
          b);
  return a * b;
}

std::string counted(std::int64_t count, const char* what) {
  return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s");
}

std::string dimensions(std::int64_t channels, std::int64_t slices, std::int64_t frames) {
  return fmt::format("{}, {}, {}", counted(channels, "channel"), counted(slices, "slice"),
                     counted(frames, "frame"));
}

// ---- ImageJ: lines of key=value ----------------------------------------------------------------

StackDescription from_imagej(std::string_view text) {
  std::map<std::string_view, std::int64_t> counts{
      {"images", 0}, {"channels", 0}, {"slices", 0}, {"frames", 0}};  // 0: not said
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) continue;
    const auto known = counts.find(line.substr(0, equals));
    if (known == counts.end()) continue;
    const auto count = parse_count(line.substr(equals + 1));
    require(count.has_value(),
            "ImageJ's description says \"{}\", expected a number from 1 to {}; save it again with "
            "Fiji, or remove the description",
            line.substr(0, kLongestShown), kMostPlanes);
    if (known->second == 0) known->second = *count;
  }
  const auto count = [&](std::string_view key, std::int64_t missing) {
    const std::int64_t said = counts.at(key);
    return said > 0 ? said : missing;
  };
  const std::int64_t channels = count("channels", 1), slices = count("slices", 1),
                     frames = count("frames", 1);
  const std::int64_t named = product(product(channels, slices), frames);
  StackDescription stack;
  stack.writer = "ImageJ";
  stack.planes = count("images", named);
  stack.channels = channels;
  stack.numbers =
      named == stack.planes ? dimensions(channels, slices, frames) : counted(stack.planes, "image");
  require(channels == 1 || named == stack.planes,
          "ImageJ's description says {} and {}, which is no stack; save it again with Fiji",
          dimensions(channels, slices, frames), counted(stack.planes, "image"));
  stack.one_directory = true;  // above 4 GB ImageJ writes one alone, and tifffile always does
  return stack;
}

// ---- tifffile: {"shape": [5, 96, 111], "axes": "ZYX", "truncated": true} -----------------------

std::optional<StackDescription> from_tifffile(std::string_view text, const PlaneSize& size) {
  constexpr int kMaxDepth = 16;
  bool deep = false;
  const auto limit = [&](int depth, auto, const nlohmann::json&) {
    deep |= depth > kMaxDepth;
    return !deep;
  };
  const auto json = nlohmann::json::parse(text, limit, false);
  if (deep || !json.is_object() || !json.contains("shape")) return std::nullopt;
  const nlohmann::json& shape = json["shape"];
  if (!shape.is_array()) return std::nullopt;
  std::vector<std::int64_t> sizes;
  std::int64_t samples = 1;
  for (const nlohmann::json& one : shape) {
    const std::uint64_t value = one.is_number_unsigned() ? one.get<std::uint64_t>() : 0;
    require(
        value >= 1 && value <= static_cast<std::uint64_t>(kMostPlanes) &&
            samples <= std::numeric_limits<std::int64_t>::max() / static_cast<std::int64_t>(value),
        "tifffile's description has a shape with {}, expected numbers from 1 to {} whose "
        "product is below 2^63; save it again, or remove the description",
        one.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, kLongestShown),
        kMostPlanes);
    sizes.push_back(static_cast<std::int64_t>(value));
    samples *= sizes.back();
  }
  // Programs that crop or scale an image keep its description; one that does not fit the plane is
  // of another image.
  for (const std::int64_t part : {size.width, size.height, size.samples}) {
    if (part < 1 || samples % part != 0) return std::nullopt;
    samples /= part;
  }

  StackDescription stack;
  stack.writer = "tifffile";
  stack.planes = samples;
  stack.whole_file = false;
  const auto truncated = json.find("truncated");
  stack.one_directory = truncated != json.end() && *truncated == true;
  stack.numbers = fmt::format("shape {}", fmt::join(sizes, " x "));
  const auto axes = json.find("axes");
  if (axes != json.end() && axes->is_string()) {
    const auto& letters = axes->get_ref<const std::string&>();
    const std::size_t channel = letters.find('C');
    if (letters.size() == sizes.size() && channel != std::string::npos && size.samples == 1 &&
        stack.planes % sizes[channel] == 0) {
      stack.channels = sizes[channel];
      for (std::size_t i = channel + 1; i < sizes.size(); ++i)
        if (letters[i] != 'Y' && letters[i] != 'X' && letters[i] != 'S')
          stack.channel_step *= sizes[i];
    }
  }
  return stack;
}

// ---- OME-XML -----------------------------------------------------------------------------------

// Gathers what the elements say; expat calls it from C, so it must not throw.
struct OmeReader {
  struct Pixels {
    std::int64_t channels = 1, slices = 1, frames = 1;
    std::string order;  // "XYCZT"
  };
  std::vector<Pixels> images;
  std::string uuid;  // of this file, where planes are told apart by files
  std::string text;  // of the UUID element that is open
  bool in_uuid = false;
  bool elsewhere = false;          // planes that a UUID places in another file
  std::int64_t first_channel = 0;  // of the TiffData that is open
  std::set<std::int64_t> channels_here;
  std::string damage;  // "SizeC="-3"": the first number that does not fit

  void refuse(std::string_view key, std::string_view value) {
    if (damage.empty()) damage = fmt::format("{}=\"{}\"", key, value.substr(0, kLongestShown));
  }

  // Without the prefix of its namespace.
  static std::string_view local(std::string_view name) { return name.substr(name.rfind(':') + 1); }

  static std::string_view attribute(const char** attributes, std::string_view name) {
    for (; attributes[0] != nullptr; attributes += 2) {
      if (local(attributes[0]) == name) return attributes[1];
    }
    return {};
  }

  void begin(std::string_view name, const char** attributes) {
    const auto size = [&](const char* key) {
      const std::string_view said = attribute(attributes, key);
      const auto count = parse_count(said);
      if (!count) refuse(key, said);
      return count.value_or(1);
    };
    if (name == "OME") uuid = attribute(attributes, "UUID");
    if (name == "Pixels")
      images.push_back({size("SizeC"), size("SizeZ"), size("SizeT"),
                        std::string(attribute(attributes, "DimensionOrder"))});
    if (name == "TiffData") {
      const std::string_view first = attribute(attributes, "FirstC");
      const auto number = first.empty() ? 0 : parse_count(first, 0);
      if (!number) refuse("FirstC", first);
      first_channel = number.value_or(0);
    }
    in_uuid = name == "UUID";
    text.clear();
  }

  void end(std::string_view name) {
    if (name == "UUID") {
      if (text == uuid) {
        channels_here.insert(first_channel);
      } else {
        elsewhere = true;
      }
    }
    in_uuid = false;
  }
};

void on_begin(void* user, const char* name, const char** attributes) {
  static_cast<OmeReader*>(user)->begin(OmeReader::local(name), attributes);
}
void on_end(void* user, const char* name) {
  static_cast<OmeReader*>(user)->end(OmeReader::local(name));
}
void on_text(void* user, const char* text, int size) {
  auto* reader = static_cast<OmeReader*>(user);
  if (reader->in_uuid) reader->text.append(text, static_cast<std::size_t>(size));
}

std::optional<StackDescription> from_ome(std::string_view text, const PlaneSize& size) {
  require(text.size() <= std::numeric_limits<int>::max(), "its OME-XML has {} bytes", text.size());
  // Expat expands no external entity and bounds what internal ones grow to.
  const std::unique_ptr<XML_ParserStruct, decltype(&XML_ParserFree)> parser(
      XML_ParserCreate(nullptr), XML_ParserFree);
  require(parser != nullptr, "out of memory for its OME-XML");
  OmeReader reader;
  XML_SetUserData(parser.get(), &reader);
  XML_SetElementHandler(parser.get(), on_begin, on_end);
  XML_SetCharacterDataHandler(parser.get(), on_text);
  const auto status = XML_Parse(parser.get(), text.data(), static_cast<int>(text.size()), XML_TRUE);
  require(status == XML_STATUS_OK,
          "its OME-XML is damaged at line {}: {}; save it again, or remove the description",
          XML_GetCurrentLineNumber(parser.get()), XML_ErrorString(XML_GetErrorCode(parser.get())));
  require(reader.damage.empty(),
          "its OME-XML has {}, expected numbers up to {}: SizeC, SizeZ and SizeT of 1 or more, "
          "FirstC of 0 or more; save it again, or remove the description",
          reader.damage, kMostPlanes);
  if (reader.images.empty()) return std::nullopt;

  StackDescription stack;
  stack.writer = "OME-XML";
  stack.planes = 0;
  for (const OmeReader::Pixels& image : reader.images) {
    // The samples of an RGB plane count as channels there.
    const bool in_samples = size.samples > 1 && image.channels % size.samples == 0;
    const std::int64_t channels = in_samples ? image.channels / size.samples : image.channels;
    const std::int64_t planes = product(product(channels, image.slices), image.frames);
    stack.planes = std::min(stack.planes + planes, kMostPlanes);
    stack.channels = std::max(stack.channels, channels);
  }
  const OmeReader::Pixels& first = reader.images[0];
  stack.numbers = dimensions(first.channels, first.slices, first.frames);
  if (reader.images.size() > 1)
    stack.numbers = fmt::format("{} images, the first of {}", reader.images.size(), stack.numbers);
  // What changes faster than the channel. Channels of several images are read of none.
  for (const char axis : first.order.substr(0, first.order.find('C'))) {
    if (axis == 'Z') stack.channel_step = product(stack.channel_step, first.slices);
    if (axis == 'T') stack.channel_step = product(stack.channel_step, first.frames);
  }
  if (reader.images.size() > 1) stack.channel_step = 0;
  stack.other_files = reader.elsewhere;
  if (reader.elsewhere)  // of a set of files, each may hold one channel
    stack.channels = std::max<std::int64_t>(1, std::ssize(reader.channels_here));
  return stack;
}

}  // namespace

std::optional<StackDescription> describe_stack(std::string_view text, const PlaneSize& size) {
  while (text.ends_with('\0')) text.remove_suffix(1);
  if (text.starts_with("ImageJ=")) return from_imagej(text);
  if (text.starts_with(kSeriesText)) return from_tifffile(text, size);
  // XML may begin with its own declaration and comments.
  constexpr std::size_t kBeginning = 4096;
  const std::string_view beginning = text.substr(0, kBeginning);
  const bool is_xml = text.starts_with('<') || text.starts_with("\xef\xbb\xbf<");
  const bool is_ome = beginning.find("<OME") != std::string_view::npos ||
                      beginning.find(":OME") != std::string_view::npos;
  if (is_xml && is_ome) return from_ome(text, size);
  return std::nullopt;
}

}  // namespace tessera
