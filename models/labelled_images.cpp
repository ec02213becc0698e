#include "models/labelled_images.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <fstream>
#include <map>
#include <numeric>
#include <set>
#include <thread>

#include "engine/random.h"
#include "kernels/error.h"
#include "models/image_io.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

// ---- files -------------------------------------------------------------------------------------

bool is_stack_name(const fs::path& path) {
  return path.extension() == ".tif" || path.extension() == ".tiff" || path.extension() == ".TIF" ||
         path.extension() == ".TIFF";
}

// Pages of a file; a file that cannot be opened has one, which the check then reports.
std::int64_t page_count(const fs::path& path) {
  if (!is_stack_name(path)) return 1;
  try {
    return ImageReader(path).page_count();
  } catch (const Error&) {
    return 1;
  }
}

void add_pages(const std::string& name, const fs::path& image, const fs::path& mask,
               ImagePairs& into, DataReport& report) {
  const std::int64_t pages = page_count(image), mask_pages = page_count(mask);
  if (pages != mask_pages) {
    report.problem(image.string(), 0,
                   fmt::format("it has {} pages, its mask '{}' has {}; give each page its mask",
                               pages, mask.string(), mask_pages));
    return;
  }
  for (std::int64_t page = 0; page < pages; ++page)
    into.push_back({pages == 1 ? name : fmt::format("{}#{}", name, page), image, mask, page});
}

// Image files below a folder by their path without ending.
std::multimap<std::string, fs::path> images_below(const fs::path& folder) {
  std::error_code error;
  require(fs::is_directory(folder, error), "'{}' is no folder; check the path", folder.string());
  std::multimap<std::string, fs::path> files;
  try {
    fs::recursive_directory_iterator entry(folder), end;
    for (; entry != end; ++entry) {
      const bool hidden = entry->path().filename().string().starts_with('.');
      if (hidden && entry->is_directory()) entry.disable_recursion_pending();
      if (hidden || !entry->is_regular_file() || !is_image_name(entry->path())) continue;
      files.emplace(entry->path().lexically_relative(folder).replace_extension().string(),
                    entry->path());
    }
  } catch (const fs::filesystem_error& failure) {
    fail("'{}' cannot be walked: {}", folder.string(), failure.code().message());
  }
  return files;
}

std::string_view without_mask_ending(std::string_view name) {
  for (const std::string_view ending : {"_mask", ".mask"}) {
    if (name.ends_with(ending)) name.remove_suffix(ending.size());
  }
  return name;
}

// Lines of a text file, without the carriage return of other systems.
std::vector<std::string> lines_of(const fs::path& path) {
  std::ifstream file(path);
  require(file.is_open(), "'{}' cannot be read; check the path", path.string());
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

bool is_comment(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos || line.starts_with('#');
}

// ---- numbers in rules --------------------------------------------------------------------------

std::vector<std::string_view> parts_of(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.push_back(text.substr(0, end));
    if (end == text.size()) return parts;
    text.remove_prefix(end + 1);
  }
}

template <class T>
std::optional<T> number(std::string_view text, int base = 10) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<double> share(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

Rgb parse_colour(std::string_view text) {
  const auto value = text.starts_with('#') && text.size() == 7
                         ? number<std::uint32_t>(text.substr(1), 16)
                         : std::nullopt;
  require(value.has_value(), "colours: found '{}', expected #rrggbb", text);
  return {static_cast<std::uint8_t>(*value >> 16), static_cast<std::uint8_t>(*value >> 8),
          static_cast<std::uint8_t>(*value)};
}

// ---- masks -------------------------------------------------------------------------------------

// What a pixel of a mask holds, as one number: its grey value, or red, green and blue.
struct RawMask {
  std::vector<std::int64_t> values;
  bool colour = false;

  std::string shown(std::int64_t value) const {
    return colour ? fmt::format("#{:06x}", value) : fmt::format("{}", value);
  }
};

template <class T>
RawMask raw_mask(const std::vector<T>& samples, std::int64_t channels, bool as_colours) {
  RawMask raw;
  raw.colour = as_colours;
  const std::size_t step = static_cast<std::size_t>(channels);
  raw.values.reserve(samples.size() / step);
  for (std::size_t i = 0; i < samples.size(); i += step) {
    const auto at = [&](std::size_t c) {
      return static_cast<std::int64_t>(samples[i + (channels == 1 ? 0 : c)]);
    };
    if (as_colours) {
      raw.values.push_back(at(0) << 16 | at(1) << 8 | at(2));
    } else {
      require(at(0) == at(1) && at(0) == at(2),
              "the mask is coloured, expected grey values; give its colours (colours:#rrggbb,..)");
      raw.values.push_back(at(0));
    }
  }
  return raw;
}

RawMask raw_mask(const Image& image, const MaskRules& rules) {
  const bool as_colours = rules.kind == MaskRules::Kind::kColours;
  require(!std::holds_alternative<std::vector<float>>(image.pixels),
          "the mask holds floats, expected whole numbers");
  require(!as_colours || std::holds_alternative<std::vector<std::uint8_t>>(image.pixels),
          "the mask is {}, expected 8-bit colours", pixel_type_name(image));
  return std::visit(
      [&](const auto& samples) { return raw_mask(samples, image.channels, as_colours); },
      image.pixels);
}

// The classes of the values that a set of rules knows.
std::map<std::int64_t, std::uint8_t> class_table(const MaskRules& rules) {
  std::map<std::int64_t, std::uint8_t> table;
  for (std::size_t c = 0; c < rules.classes(); ++c) {
    const std::int64_t key =
        rules.kind == MaskRules::Kind::kColours
            ? rules.colours[c][0] << 16 | rules.colours[c][1] << 8 | rules.colours[c][2]
            : rules.values[c];
    table.emplace(key, static_cast<std::uint8_t>(c));
  }
  if (rules.ignored) table[*rules.ignored] = kIgnoredClass;
  return table;
}

std::vector<std::uint8_t> classes_of_values(const RawMask& raw, const MaskRules& rules) {
  const std::map<std::int64_t, std::uint8_t> table = class_table(rules);
  std::map<std::int64_t, std::int64_t> strange;  // value -> pixels
  std::vector<std::uint8_t> classes;
  classes.reserve(raw.values.size());
  auto last = table.begin();  // neighbours are alike
  for (const std::int64_t value : raw.values) {
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
    found += fmt::format("{}{} ({} pixels)", found.empty() ? "" : ", ", raw.shown(value), pixels);
  }
  if (strange.size() > kShown) found += fmt::format(" and {} more", strange.size() - kShown);
  for (const auto& [value, id] : table)
    expected += fmt::format("{}{}", expected.empty() ? "" : ", ", raw.shown(value));
  const bool is_binary = !raw.colour && strange.size() == 1 && strange.begin()->first == 255;
  fail("the mask has the values {}, expected {}{}", found, expected,
       is_binary ? "; masks of 0 and 255 are \"binary\"" : "; correct it or the rule for masks");
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

// ---- the check ---------------------------------------------------------------------------------

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
  Image image, mask;
  const bool read = attempt(pair.image, [&] { image = ImageReader(pair.image).read(pair.page); });
  if (!attempt(pair.mask, [&] { mask = ImageReader(pair.mask).read(pair.page); }) || !read)
    return result;
  attempt(pair.mask, [&] {
    require(mask.height == image.height && mask.width == image.width,
            "the mask is {} x {}, its image '{}' is {} x {} (height x width)", mask.height,
            mask.width, pair.image.string(), image.height, image.width);
    const Mask decoded = decode_mask(mask, rules);
    std::vector<std::int64_t> pixels(rules.classes());
    std::int64_t known = 0;
    for (const std::uint8_t id : decoded.classes) {
      if (id == kIgnoredClass) continue;
      ++pixels[id];
      ++known;
    }
    require(known > 0, "the mask has no pixel with a class: all are ignored");
    result.statistics = {std::move(pixels), image.height, image.width, image.channels,
                         range_note(image, {})};
  });
  attempt(pair.image, [&] {
    const auto* floats = std::get_if<std::vector<float>>(&image.pixels);
    require(floats == nullptr ||
                std::ranges::all_of(*floats, [](float value) { return std::isfinite(value); }),
            "the image has values that are not finite; replace them");
  });
  return result;
}

// ---- splits ------------------------------------------------------------------------------------

constexpr const char* kSplitHelp =
    "expected none, a share as 0.2, every:K, fold:I/K, names:a,b or list:FILE";

// `names` with each range a..b written out.
std::set<std::string> expand_names(const std::vector<std::string_view>& names) {
  constexpr std::int64_t kLongest = 1000000;
  std::set<std::string> expanded;
  for (const std::string_view name : names) {
    const std::size_t dots = name.find("..");
    const auto first = number<std::int64_t>(name.substr(0, dots));
    const auto last =
        dots == std::string_view::npos ? std::nullopt : number<std::int64_t>(name.substr(dots + 2));
    if (!first || !last) {
      expanded.emplace(name);
      continue;
    }
    require(*first <= *last && *last - *first < kLongest, "validation: the range '{}' is empty",
            name);
    for (std::int64_t i = *first; i <= *last; ++i) expanded.insert(fmt::format("{}", i));
  }
  return expanded;
}

std::vector<bool> held_out_names(const ImagePairs& pairs, std::set<std::string> names) {
  std::set<std::string> missing = names;
  std::vector<bool> held_out(pairs.size());
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    // A stack's own name stands for all of its pages.
    const std::string& name = pairs[i].name;
    for (const std::string& known : {name, name.substr(0, name.rfind('#'))}) {
      if (!names.contains(known)) continue;
      held_out[i] = true;
      missing.erase(known);
    }
  }
  require(missing.empty(), "validation: {} of the names stand for no image, the first is '{}'",
          missing.size(), missing.empty() ? "" : *missing.begin());
  return held_out;
}

// Every index in an order drawn by the seed.
std::vector<std::size_t> drawn_order(std::size_t count, std::uint64_t seed) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  Random(seed, stream_of("split")).shuffle(order);
  return order;
}

std::vector<bool> held_out_by(const ImagePairs& pairs, const std::string& rule,
                              std::uint64_t seed) {
  const std::size_t count = pairs.size();
  std::vector<bool> held_out(count);
  const auto after = [&](std::string_view prefix) -> std::optional<std::string_view> {
    if (!rule.starts_with(prefix)) return std::nullopt;
    return std::string_view(rule).substr(prefix.size());
  };
  if (rule == "none") return held_out;
  if (const auto text = after("every:")) {
    const auto step = number<std::size_t>(*text);
    require(step && *step >= 2, "validation: '{}', expected every:K with K of 2 or more", rule);
    for (std::size_t i = 0; i < count; i += *step) held_out[i] = true;
  } else if (const auto fold = after("fold:")) {
    const std::size_t slash = fold->find('/');
    const auto index = number<std::size_t>(fold->substr(0, slash));
    const auto folds = slash == std::string_view::npos
                           ? std::nullopt
                           : number<std::size_t>(fold->substr(slash + 1));
    require(index && folds && *index >= 1 && *folds >= 2 && *index <= *folds && *folds <= count,
            "validation: '{}', expected fold:I/K with 1 <= I <= K, and K from 2 to the number of "
            "images, {}",
            rule, count);
    const auto order = drawn_order(count, seed);
    for (std::size_t i = *index - 1; i < count; i += *folds) held_out[order[i]] = true;
  } else if (const auto names = after("names:")) {
    return held_out_names(pairs, expand_names(parts_of(*names, ',')));
  } else if (const auto list = after("list:")) {
    std::set<std::string> listed;
    for (const std::string& line : lines_of(std::string(*list))) {
      if (!is_comment(line)) listed.insert(line);
    }
    return held_out_names(pairs, std::move(listed));
  } else {
    const auto part = share(rule);
    require(part && *part > 0 && *part < 1, "validation: '{}', {}", rule, kSplitHelp);
    const auto size = std::max<std::size_t>(
        1, static_cast<std::size_t>(std::llround(*part * static_cast<double>(count))));
    const auto order = drawn_order(count, seed);
    for (std::size_t i = 0; i < std::min(size, count); ++i) held_out[order[i]] = true;
  }
  return held_out;
}

std::size_t bytes_of(const LabelledImage& image) {
  return image.pixels.size() * sizeof(float) + image.classes.size() +
         image.weights.size() * sizeof(float);
}

}  // namespace

// ---- files -------------------------------------------------------------------------------------

ImagePairs find_pairs(const fs::path& images, const fs::path& masks, DataReport& report) {
  const auto image_files = images_below(images);
  std::map<std::string, std::vector<fs::path>> mask_files;
  for (const auto& [name, path] : images_below(masks))
    mask_files[std::string(without_mask_ending(name))].push_back(path);
  if (image_files.empty())
    report.problem(images.string(), 0, "no images in this folder (PNG, JPEG, BMP, PNM, TIFF)");

  ImagePairs pairs;
  std::set<std::string> used;
  for (auto file = image_files.begin(); file != image_files.end();) {
    const auto& [name, path] = *file;
    const auto end = image_files.upper_bound(name);
    const auto mask = mask_files.find(name);
    if (std::next(file) != end) {
      report.problem(path.string(), 0,
                     fmt::format("'{}' has the same name but for its ending; rename one of them",
                                 std::next(file)->second.string()));
    } else if (mask == mask_files.end()) {
      report.problem(path.string(), 0,
                     fmt::format("it has no mask; expected '{}' with the ending of an image",
                                 (masks / name).string()));
    } else if (mask->second.size() > 1) {
      report.problem(path.string(), 0,
                     fmt::format("it has two masks, '{}' and '{}'; remove one",
                                 mask->second[0].string(), mask->second[1].string()));
    } else {
      add_pages(name, path, mask->second[0], pairs, report);
    }
    used.insert(name);
    file = end;
  }
  for (const auto& [name, paths] : mask_files) {
    if (used.contains(name)) continue;
    for (const fs::path& path : paths)
      report.problem(path.string(), 0,
                     fmt::format("no image belongs to this mask; expected '{}' with the ending of "
                                 "an image",
                                 (images / name).string()));
  }
  return pairs;
}

ImagePairs read_pair_list(const fs::path& list, DataReport& report) {
  ImagePairs pairs;
  const std::vector<std::string> lines = lines_of(list);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (is_comment(lines[i])) continue;
    const std::size_t tab = lines[i].find('\t');
    if (tab == std::string::npos) {
      report.problem(list.string(), i + 1, "expected image<TAB>mask, found no tab");
      continue;
    }
    const fs::path folder = list.parent_path();
    const fs::path image = lines[i].substr(0, tab), mask = lines[i].substr(tab + 1);
    bool found = true;
    for (const fs::path& file : {image, mask}) {
      std::error_code ignored;
      if (fs::is_regular_file(folder / file, ignored)) continue;
      found = false;
      report.problem(list.string(), i + 1,
                     fmt::format("there is no file '{}'", (folder / file).string()));
    }
    if (!found) continue;
    fs::path name = image;
    add_pages(name.replace_extension().string(), folder / image, folder / mask, pairs, report);
  }
  if (pairs.empty() && report.problem_count() == 0)
    report.problem(list.string(), 0, "the list names no images; give image<TAB>mask per line");
  return pairs;
}

// ---- masks -------------------------------------------------------------------------------------

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
    require(rules.ignored.has_value(), "masks: '{}', expected a grey value after ignore=", text);
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
      require(value.has_value(), "masks: '{}', expected grey values between commas", text);
      rules.values.push_back(*value);
    }
  } else if (rest.starts_with("colours:")) {
    rules.kind = Kind::kColours;
    for (const std::string_view part : parts_of(rest.substr(rest.find(':') + 1), ','))
      rules.colours.push_back(parse_colour(part));
    require(!rules.ignored, "masks: '{}', ignore= is a grey value and does not go with colours",
            text);
  } else {
    fail("masks: '{}', expected ids, binary, values:V,V.., colours:#rrggbb,.. or objects", text);
  }
  require(rules.classes() == classes,
          "masks: '{}' tells {} classes apart, expected {}, those of the model", text,
          rules.classes(), classes);
  if (rules.kind == Kind::kObjects) return rules;
  const std::size_t distinct = class_table(rules).size() - (rules.ignored ? 1 : 0);
  require(distinct == classes, "masks: '{}' gives two classes the same value", text);
  return rules;
}

Mask decode_mask(const Image& image, const MaskRules& rules) {
  const RawMask raw = raw_mask(image, rules);
  if (rules.kind != MaskRules::Kind::kObjects) return {classes_of_values(raw, rules), {}};
  Mask mask;
  mask.objects.reserve(raw.values.size());
  for (const std::int64_t value : raw.values)
    mask.objects.push_back(value == rules.ignored ? 0 : static_cast<std::uint32_t>(value));
  for (const std::uint32_t id : mask.objects) mask.classes.push_back(id != 0 ? 1 : 0);
  if (rules.separate_touching) {
    const std::vector<bool> is_gap = gaps(mask.objects, image.height, image.width);
    for (std::size_t i = 0; i < is_gap.size(); ++i) {
      if (is_gap[i]) mask.classes[i] = 0;
    }
  }
  for (std::size_t i = 0; rules.ignored && i < raw.values.size(); ++i) {
    if (raw.values[i] == *rules.ignored) mask.classes[i] = kIgnoredClass;
  }
  return mask;
}

std::vector<std::uint32_t> objects_of(const Mask& mask, std::int64_t height, std::int64_t width,
                                      const InstanceOptions& options) {
  std::vector<std::uint32_t> objects(mask.classes.size());
  if (!mask.objects.empty()) {
    for (std::size_t i = 0; i < objects.size(); ++i)
      objects[i] = mask.classes[i] == 1 ? mask.objects[i] : 0;
    return objects;
  }
  InstanceOptions known = options;
  known.background.push_back(kIgnoredClass);
  const Instances found = find_instances(mask.classes, height, width, known);
  std::visit(
      [&](const auto& labels) {
        std::ranges::transform(labels, objects.begin(),
                               [](auto label) { return static_cast<std::uint32_t>(label); });
      },
      found.labels.pixels);
  return objects;
}

// ---- the check ---------------------------------------------------------------------------------

std::vector<ImageStatistics> check_images(const ImagePairs& pairs, const MaskRules& rules,
                                          int threads, DataReport& report,
                                          const std::function<void(std::size_t)>& progress) {
  std::vector<Checked> checked(pairs.size());
  std::atomic<std::size_t> next = 0;
  std::mutex mutex;
  std::size_t done = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < pairs.size(); i = next++) {
      checked[i] = check_pair(pairs[i], rules);
      const std::lock_guard lock(mutex);
      ++done;
      if (progress) progress(done);
    }
  };
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(work);
    work();
  }
  std::vector<ImageStatistics> statistics;
  std::vector<std::int64_t> pixels(rules.classes());
  bool any = false;
  for (Checked& one : checked) {
    for (DataProblem& problem : one.problems)
      report.problem(std::move(problem.file), problem.line, std::move(problem.text));
    for (std::size_t c = 0; c < one.statistics.class_pixels.size(); ++c)
      pixels[c] += one.statistics.class_pixels[c];
    any |= !one.statistics.class_pixels.empty();
    statistics.push_back(std::move(one.statistics));
  }
  for (std::size_t c = 0; any && c < pixels.size(); ++c) {
    if (pixels[c] > 0) continue;
    report.problem(
        "masks", 0,
        fmt::format("no pixel of any mask is of class {}; correct the masks or the classes", c));
  }
  return statistics;
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

// ---- splits ------------------------------------------------------------------------------------

Split split_pairs(const ImagePairs& pairs, const std::string& rule, std::uint64_t seed) {
  const std::vector<bool> held_out = held_out_by(pairs, rule, seed);
  Split split;
  for (std::size_t i = 0; i < pairs.size(); ++i)
    (held_out[i] ? split.validation : split.training).push_back(i);
  require(!split.training.empty() || pairs.empty(),
          "validation: '{}' leaves none of {} images to train on", rule, pairs.size());
  return split;
}

// ---- in memory ---------------------------------------------------------------------------------

LabelledImage load_labelled_image(const ImagePair& pair, const MaskRules& rules,
                                  const Preprocessing& preprocessing, const WeightRules& weights) {
  const Image image = ImageReader(pair.image).read(pair.page);
  const Image mask_image = ImageReader(pair.mask).read(pair.page);
  require(mask_image.height == image.height && mask_image.width == image.width,
          "{}: the mask is {} x {}, its image is {} x {} (height x width)", pair.mask.string(),
          mask_image.height, mask_image.width, image.height, image.width);
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

    Mask mask = decode_mask(mask_image, rules);
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
