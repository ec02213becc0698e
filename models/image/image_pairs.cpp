#include "models/image/image_pairs.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <iterator>
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <utility>

#include "engine/train/random.h"
#include "kernels/error.h"
#include "models/image/image_io.h"
#include "models/image/rule_text.h"
#include "models/text/text_stream.h"

namespace tessera {

namespace fs = std::filesystem;

namespace {

// ---- files -------------------------------------------------------------------------------------

// Pages of a file; a file that cannot be opened has one, which the check then reports.
std::int64_t page_count(const fs::path& path) {
  try {
    return ImageReader::page_count(path);
  } catch (const Error&) {
    return 1;
  }
}

void add_pages(const std::string& name, const fs::path& image, const fs::path& mask,
               ImagePairs& into, DataReport& report) {
  std::error_code ignored;
  if (fs::equivalent(image, mask, ignored)) {
    report.problem(image.string(), 0, "it is named as its own mask; give the file of its mask");
    return;
  }
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

// Files below a folder by their path without ending.
struct FoundFiles {
  std::multimap<std::string, fs::path> images;
  std::multimap<std::string, fs::path> others;  // of formats that are not read
};

FoundFiles files_below(const fs::path& folder) {
  std::error_code error;
  require(fs::is_directory(folder, error), "'{}' is no folder; check the path", folder.string());
  FoundFiles files;
  try {
    fs::recursive_directory_iterator entry(folder), end;
    for (; entry != end; ++entry) {
      const bool hidden = entry->path().filename().string().starts_with('.');
      const bool is_store = !hidden && entry->is_directory() && is_store_folder(entry->path());
      if ((hidden && entry->is_directory()) || is_store) entry.disable_recursion_pending();
      if (hidden || (!is_store && !entry->is_regular_file())) continue;
      (is_store || is_image_name(entry->path()) ? files.images : files.others)
          .emplace(entry->path().lexically_relative(folder).replace_extension().string(),
                   entry->path());
    }
  } catch (const fs::filesystem_error& failure) {
    fail("'{}' cannot be walked: {}", folder.string(), failure.code().message());
  }
  return files;
}

// `name` without what programs put behind the name of a mask: "_mask", "-labels", ".seg" and the
// like, in any case. The same name where there is none.
std::string_view without_mask_ending(std::string_view name) {
  constexpr std::string_view kEndings[] = {
      "mask",        "masks",        "label",        "labels",        "seg",        "segs",
      "gt",          "truth",        "segmentation", "segmentations", "annotation", "annotations",
      "groundtruth", "ground_truth", "instance",     "instances",     "cp_masks"};
  constexpr std::string_view kSeparators = "_-. ";
  std::string lower(name);
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  std::size_t longest = 0;
  for (const std::string_view ending : kEndings) {
    const bool fits =
        lower.size() > ending.size() + 1 && lower.ends_with(ending) &&
        kSeparators.find(lower[lower.size() - ending.size() - 1]) != std::string_view::npos;
    if (fits) longest = std::max(longest, ending.size() + 1);
  }
  name.remove_suffix(longest);
  return name;
}

// The image that a mask's name belongs to: an image of the very name, else the first that is left
// when endings are taken off; else the name without its last ending.
std::string image_name_of(std::string_view mask,
                          const std::multimap<std::string, fs::path>& images) {
  for (std::string_view name = mask;;) {
    if (images.contains(std::string(name))) return std::string(name);
    const std::string_view shorter = without_mask_ending(name);
    if (shorter == name || shorter.ends_with('/')) break;
    name = shorter;
  }
  return std::string(without_mask_ending(mask));
}

// Takes the masks out of a folder that holds both: a_masks.tif beside a.tif.
FoundFiles masks_among(FoundFiles& both) {
  FoundFiles masks;
  for (auto file = both.images.begin(); file != both.images.end();) {
    const std::string image(without_mask_ending(file->first));
    if (image == file->first || !both.images.contains(image)) {
      ++file;
      continue;
    }
    masks.images.insert(*file);
    file = both.images.erase(file);
  }
  masks.others = both.others;
  return masks;
}

using MaskFiles = std::map<std::string, std::vector<fs::path>>;  // by their image's name

MaskFiles by_image(const std::multimap<std::string, fs::path>& masks,
                   const std::multimap<std::string, fs::path>& images) {
  MaskFiles files;
  for (const auto& [name, path] : masks) files[image_name_of(name, images)].push_back(path);
  return files;
}

constexpr const char* kNotRead =
    "is of a format that is not read; convert it to PNG or TIFF (not to JPEG, which changes "
    "values)";

// ---- text files --------------------------------------------------------------------------------

// Lines of a text file, without the carriage return of other systems.
std::vector<std::string> lines_of(const fs::path& path) {
  constexpr std::size_t kMostBytes = std::size_t{1} << 20;  // far beyond two paths
  TextStream file(path.string());
  std::vector<std::string> lines;
  for (std::string line; file.read_line(line, kMostBytes);) {
    if (line.ends_with('\r')) line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

bool is_comment(std::string_view line) {
  return line.find_first_not_of(" \t") == std::string_view::npos || line.starts_with('#');
}

std::optional<double> share(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
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
    // A stack's own name stands for all of its pages, and a file's for what is in it.
    const std::string& name = pairs[i].name;
    for (const std::string& known :
         {name, name.substr(0, name.rfind('#')),
          fs::path(name).replace_filename(pairs[i].image.filename()).string()}) {
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

}  // namespace

// ---- files -------------------------------------------------------------------------------------

ImagePairs find_pairs(const fs::path& images, const fs::path& masks, DataReport& report) {
  FoundFiles image_files = files_below(images);
  std::error_code ignored;
  const FoundFiles found_masks =
      fs::equivalent(images, masks, ignored) ? masks_among(image_files) : files_below(masks);
  const MaskFiles mask_files = by_image(found_masks.images, image_files.images),
                  unread_masks = by_image(found_masks.others, image_files.images);
  if (image_files.images.empty()) {
    report.problem(
        images.string(), 0,
        fmt::format("no images in this folder (PNG, JPEG, BMP, PNM, TIFF){}",
                    image_files.others.empty()
                        ? ""
                        : fmt::format("; '{}' {}", image_files.others.begin()->second.string(),
                                      "is of a format that is not read; convert it")));
  }

  ImagePairs pairs;
  const auto has_mask = [&](const auto& image) {
    return mask_files.contains(image.first) || unread_masks.contains(image.first);
  };
  if (!mask_files.empty() && image_files.images.size() > 1 &&
      std::ranges::none_of(image_files.images, has_mask)) {
    report.problem(
        images.string(), 0,
        fmt::format("none of its {} images has a mask of its name among the {} of '{}': '{}' and "
                    "'{}', for example. Rename the masks, or give a list of lines image<TAB>mask "
                    "in place of the folders{}",
                    image_files.images.size(), found_masks.images.size(), masks.string(),
                    image_files.images.begin()->second.filename().string(),
                    found_masks.images.begin()->second.filename().string(),
                    image_files.images.size() != found_masks.images.size()
                        ? ""
                        : fmt::format("; if both sort alike, made by: paste <(ls -d '{}'/*) <(ls "
                                      "-d '{}'/*) > pairs.tsv",
                                      images.string(), masks.string())));
    return pairs;
  }
  std::set<std::string> used;
  for (auto file = image_files.images.begin(); file != image_files.images.end();) {
    const auto& [name, path] = *file;
    const auto end = image_files.images.upper_bound(name);
    const auto mask = mask_files.find(name);
    const auto unread = unread_masks.find(name);
    if (std::next(file) != end) {
      report.problem(path.string(), 0,
                     fmt::format("'{}' has the same name but for its ending; rename one of them",
                                 std::next(file)->second.string()));
    } else if (mask == mask_files.end() && unread != unread_masks.end()) {
      report.problem(path.string(), 0,
                     fmt::format("its mask '{}' {}", unread->second[0].string(), kNotRead));
    } else if (mask == mask_files.end()) {
      report.problem(path.string(), 0,
                     fmt::format("it has no mask; expected '{}' (or with _mask, _label, _seg and "
                                 "the like behind it) with the ending of an image",
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
  std::map<fs::path, std::size_t> first_lines;  // by image
  bool has_begun = false;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (is_comment(lines[i])) continue;
    const std::size_t tab = lines[i].find('\t');
    const bool is_first = !std::exchange(has_begun, true);
    if (tab == std::string::npos) {
      const std::size_t other = lines[i].find_first_of(",;");
      report.problem(
          list.string(), i + 1,
          other == std::string::npos
              ? "expected image<TAB>mask, found no tab"
              : fmt::format("expected image<TAB>mask, found a '{}' and no tab; put a tab "
                            "in its place",
                            lines[i][other]));
      continue;
    }
    const fs::path folder = list.parent_path();
    const fs::path image = lines[i].substr(0, tab), mask = lines[i].substr(tab + 1);
    std::vector<fs::path> missing;
    for (const fs::path& file : {image, mask}) {
      std::error_code ignored;
      if (!fs::is_regular_file(folder / file, ignored) && !is_store_folder(folder / file))
        missing.push_back(file);
    }
    // Names of columns have no endings.
    const bool is_header =
        is_first && missing.size() == 2 && !image.has_extension() && !mask.has_extension();
    if (is_header) {
      report.problem(list.string(), i + 1,
                     fmt::format("it looks like a header: there are no files '{}' and '{}'; remove "
                                 "the line, or begin it with #",
                                 image.string(), mask.string()));
      continue;
    }
    for (const fs::path& file : missing)
      report.problem(list.string(), i + 1,
                     fmt::format("there is no file '{}'", (folder / file).string()));
    if (!missing.empty()) continue;
    const auto [first, is_new] = first_lines.emplace(fs::weakly_canonical(folder / image), i + 1);
    if (!is_new) {
      report.problem(list.string(), i + 1,
                     fmt::format("line {} names the image '{}' already; remove one, or a copy may "
                                 "validate what the other one trained",
                                 first->second, image.string()));
      continue;
    }
    fs::path name = image;
    add_pages(name.replace_extension().string(), folder / image, folder / mask, pairs, report);
  }
  if (pairs.empty() && report.problem_count() == 0)
    report.problem(list.string(), 0, "the list names no images; give image<TAB>mask per line");
  return pairs;
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

}  // namespace tessera
