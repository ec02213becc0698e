#include "models/image/mask_format.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <mutex>

#include "kernels/cpu/parallel.h"
#include "kernels/error.h"

namespace tessera {

namespace {

// The connected pieces of each value in a picture whose rows come one by one.
class Pieces {
 public:
  void add_row(const std::int64_t* line, std::int64_t width) {
    if (pieces_.size() > MaskCensus::kMostValues) return;
    row_.clear();
    for (std::int64_t begin = 0, end; begin < width; begin = end) {
      for (end = begin + 1; end < width && line[end] == line[begin];) ++end;
      parents_.push_back(static_cast<std::uint32_t>(parents_.size()));
      row_.push_back({begin, end, line[begin], parents_.back()});
      ++pieces_[line[begin]];
      if (pieces_.size() > MaskCensus::kMostValues) return;
    }
    join(above_, row_);
    above_.swap(row_);
  }

  const std::map<std::int64_t, std::int64_t>& by_value() const { return pieces_; }

 private:
  struct Run {
    std::int64_t begin, end, value;
    std::uint32_t id;
  };

  std::uint32_t root(std::uint32_t id) {
    while (parents_[id] != id) id = parents_[id] = parents_[parents_[id]];
    return id;
  }

  // Runs touch that overlap, or meet at a corner.
  void join(const std::vector<Run>& above, const std::vector<Run>& below) {
    auto upper = above.begin();
    for (const Run& run : below) {
      while (upper != above.end() && upper->end < run.begin) ++upper;
      for (auto other = upper; other != above.end() && other->begin <= run.end; ++other) {
        if (other->value != run.value) continue;
        const std::uint32_t a = root(other->id), b = root(run.id);
        if (a == b) continue;
        parents_[std::max(a, b)] = std::min(a, b);
        --pieces_[run.value];
      }
    }
  }

  std::vector<Run> above_, row_;
  std::vector<std::uint32_t> parents_;
  std::map<std::int64_t, std::int64_t> pieces_;
};

constexpr std::int64_t kGreyToColour = 0x010101;

// Of objects in natural masks a few lie in two pieces, parted by another one or by the border.
constexpr double kWholeShare = 0.9;
// Values that would stand for more classes than this are those of objects.
constexpr std::int64_t kMostClasses = 20;

class Choice {
 public:
  Choice(const MaskCensus& census, const MaskHints& hints) : census_(census), hints_(hints) {}

  MaskRules rules() const {
    if (census_.masks == 0) return hints_.trained.value_or(format("ids"));
    if (hints_.trained && fits(*hints_.trained)) return *hints_.trained;
    if (census_.colour) return of_colours();
    const auto classes = static_cast<std::int64_t>(hints_.classes);
    if (all_among([&](std::int64_t value) { return value < classes; })) return format("ids");
    if (two_classes() && all_among([](std::int64_t value) { return value == 0 || value == 255; }))
      return format("binary");
    refuse_lossy();
    if (!two_classes()) refuse_values();
    if (has(0) && count() == 2) return format(fmt::format("values:0,{}", greatest()));
    if (has(255) && all_among([](std::int64_t value) { return value < 2 || value == 255; }))
      refuse({"ids,ignore=255 if 255 is where nobody knows", "objects if each value is an object"});
    if (!has(0) || !are_objects()) refuse_values();
    require_no_classes();
    return format("objects");
  }

  // Whether the masks can be meant as those were that a model was trained with.
  bool fits(const MaskRules& rules) const {
    if (rules.classes() != hints_.classes) return false;
    if (rules.kind == MaskRules::Kind::kObjects)
      return census_.lossy.empty() && are_objects() && (count() < 2 || has(0));
    const bool colours = rules.kind == MaskRules::Kind::kColours;
    return all_among([&](std::int64_t value) {
      if (!colours)
        return !census_.colour && (value == rules.ignored ||
                                   std::ranges::find(rules.values, value) != rules.values.end());
      return among(rules.colours, census_.colour ? value : value * kGreyToColour);
    });
  }

 private:
  MaskRules format(const std::string& text) const { return MaskRules::parse(text, hints_.classes); }

  bool two_classes() const { return hints_.classes == 2; }
  std::size_t count() const { return census_.values.size(); }
  bool has(std::int64_t value) const { return census_.values.contains(value); }
  std::int64_t greatest() const { return census_.values.rbegin()->first; }

  template <class Test>
  bool all_among(Test&& test) const {
    return !census_.more_values && std::ranges::all_of(census_.values, [&](const auto& entry) {
      return test(entry.first);
    });
  }

  bool are_objects() const {
    return !census_.more_values &&
           static_cast<double>(census_.whole_ids) >= kWholeShare * static_cast<double>(census_.ids);
  }

  static bool among(const std::vector<Rgb>& colours, std::int64_t value) {
    return std::ranges::any_of(colours, [&](const Rgb& colour) {
      return (colour[0] << 16 | colour[1] << 8 | colour[2]) == value;
    });
  }

  MaskRules of_colours() const {
    if (hints_.class_colours.size() == hints_.classes &&
        all_among([&](std::int64_t value) { return among(hints_.class_colours, value); })) {
      MaskRules rules;
      rules.kind = MaskRules::Kind::kColours;
      rules.colours = hints_.class_colours;
      return rules;
    }
    refuse_lossy();
    if (two_classes() && has(0) && count() == 2)
      return format(fmt::format("colours:#000000,{}", MaskNumbers::shown(greatest(), true)));
    if (two_classes() && has(0) && are_objects()) {
      require_no_classes();
      return format("objects");
    }
    refuse_values();
  }

  // Organs have values of their own, of which each is one piece in every image: they would be taken
  // for objects.
  void require_no_classes() const {
    const bool varies = census_.fewest_ids < census_.most_ids;
    const std::int64_t classes =
        census_.colour ? static_cast<std::int64_t>(count()) : greatest() + 1;
    if (hints_.classes_are_known || classes > kMostClasses || (varies && are_numbered())) return;
    refuse({"objects if each value is an object",
            fmt::format("{} with --classes and {} names if each is a class",
                        census_.colour ? "colours:#rrggbb,.." : "ids", classes)});
  }

  // Whether each mask seems to number its objects from 1: then a number is the rarer, the greater.
  bool are_numbered() const {
    std::int64_t next = 0;
    std::int64_t before = std::numeric_limits<std::int64_t>::max();
    for (const auto& [value, masks] : census_.values) {
      if (value != next++ || (value > 0 && masks > before)) return false;
      if (value > 0) before = masks;
    }
    return true;
  }

  void refuse_lossy() const {
    if (census_.lossy.empty()) return;
    fail(
        "'{}' is a mask compressed as JPEG, which changes values ({}): no format fits; save the "
        "masks from their source as PNG or TIFF without JPEG",
        census_.lossy, census_.describe());
  }

  [[noreturn]] void refuse(const std::vector<std::string>& readings) const {
    std::string list;
    for (const std::string& reading : readings)
      list += fmt::format("{}--mask-format {}", list.empty() ? "" : ", ", reading);
    fail("the masks have {}, which can be read in more than one way; give {}", census_.describe(),
         list);
  }

  // What could be meant is a guess, so it is left to the reader.
  [[noreturn]] void refuse_values() const {
    if (count() == hints_.classes) {
      std::string values;
      for (const auto& entry : census_.values)
        values += fmt::format("{}{}", values.empty() ? "" : ",",
                              MaskNumbers::shown(entry.first, census_.colour));
      refuse({fmt::format("{}:{} with the value of each class in the order of the classes",
                          census_.colour ? "colours" : "values", values)});
    }
    const auto classes = static_cast<std::int64_t>(hints_.classes);
    if (has(255) && all_among([&](std::int64_t value) { return value < classes || value == 255; }))
      refuse({"ids,ignore=255 if 255 is where nobody knows"});
    fail(
        "the masks have {}, and the model has {} classes: no format fits; give as many names with "
        "--classes as there are classes, the value of each with --mask-format {}, or correct the "
        "masks{}",
        census_.describe(), hints_.classes, census_.colour ? "colours:#rrggbb,.." : "values:V,V..",
        two_classes() && has(0) && !are_objects()
            ? "; they are no objects, because their values lie in many pieces (blurred borders, or "
              "a copy of a JPEG?)"
            : "");
  }

  const MaskCensus& census_;
  MaskHints hints_;
};

}  // namespace

void MaskCensus::add(MaskSource& mask, const std::string& file,
                     std::optional<MaskRules::Kind> kind) {
  Pieces pieces;
  MaskCensus one;
  one.masks = 1;
  mask.read_rows([&](std::int64_t y, std::int64_t height) {
    const MaskPage page = mask.page({y, 0, y + height, mask.width()});
    const MaskNumbers numbers = mask_numbers(page, kind, mask.is_grey());
    one.colour = numbers.colour;
    one.indices = numbers.indices;
    if (page.stored.lossy) one.lossy = file;
    for (std::int64_t row = 0; row < height; ++row)
      pieces.add_row(numbers.values.data() + row * mask.width(), mask.width());
  });
  one.more_values = pieces.by_value().size() > kMostValues;
  for (const auto& [value, count] : pieces.by_value()) {
    one.values[value] = 1;
    if (value == 0) continue;
    ++one.ids;
    one.whole_ids += count == 1 ? 1 : 0;
  }
  one.fewest_ids = one.most_ids = one.ids;
  add(one);
}

void MaskCensus::add(const MaskCensus& other) {
  if (other.masks == 0) return;
  const auto as_colours = [](std::map<std::int64_t, std::int64_t>& greys) {
    std::map<std::int64_t, std::int64_t> colours;
    for (const auto& [value, count] : greys) colours.emplace(value * kGreyToColour, count);
    greys = std::move(colours);
  };
  std::map<std::int64_t, std::int64_t> more = other.values;
  if (other.colour && !colour) as_colours(values);
  if (colour && !other.colour) as_colours(more);
  colour |= other.colour;
  indices |= other.indices;
  for (const auto& [value, count] : more) values[value] += count;
  more_values |= other.more_values;
  while (values.size() > kMostValues) {
    values.erase(std::prev(values.end()));
    more_values = true;
  }
  fewest_ids = masks == 0 ? other.fewest_ids : std::min(fewest_ids, other.fewest_ids);
  most_ids = std::max(most_ids, other.most_ids);
  masks += other.masks;
  ids += other.ids;
  whole_ids += other.whole_ids;
  if (lossy.empty()) lossy = other.lossy;
}

std::string MaskCensus::describe() const {
  constexpr std::size_t kShown = 8;
  std::string list;
  std::size_t shown = 0;
  for (const auto& entry : values) {
    if (shown++ == kShown) break;
    list += fmt::format("{}{}", list.empty() ? "" : ", ", MaskNumbers::shown(entry.first, colour));
  }
  if (values.size() > kShown) {
    list += fmt::format(" .. {} ({}{} of them)", MaskNumbers::shown(values.rbegin()->first, colour),
                        more_values ? "more than " : "", values.size());
  }
  return fmt::format("the {}{}{} {} in {} mask{}", indices ? "palette's " : "",
                     colour ? "colour" : "value", values.size() == 1 ? "" : "s", list, masks,
                     masks == 1 ? "" : "s");
}

bool could_be(const MaskCensus& census, const MaskRules& rules, std::size_t classes) {
  MaskHints hints;
  hints.classes = classes;
  return Choice(census, hints).fits(rules);
}

MaskRules choose_mask_rules(const MaskCensus& census, const MaskHints& hints) {
  return Choice(census, hints).rules();
}

MaskRules recognise_masks(const ImagePairs& pairs, const MaskHints& hints, int threads,
                          DataReport& report) {
  const auto census_of = [&](std::optional<MaskRules::Kind> kind) {
    MaskCensus census;  // the sum alone is kept: there may be a million masks
    std::mutex mutex;
    parallel_for(threads, static_cast<std::int64_t>(pairs.size()), [&](std::int64_t at) {
      const ImagePair& pair = pairs[static_cast<std::size_t>(at)];
      MaskCensus one;
      try {
        MaskSource mask(pair);
        one.add(mask, pair.mask.string(), kind);
      } catch (const std::exception&) {
        return;  // the check says what is wrong with it
      }
      const std::lock_guard lock(mutex);
      census.add(one);
    });
    return census;
  };
  using Kind = MaskRules::Kind;
  MaskCensus census;
  const auto chosen = [&] {
    if (hints.trained && hints.trained->kind == Kind::kColours) {
      // The colours of a palette, where else its indices would count.
      const MaskCensus colours = census_of(Kind::kColours);
      const bool fits = could_be(colours, *hints.trained, hints.classes);
      // Masks that cannot be read as colours are not in that census.
      census = fits && colours.masks == pairs.size() ? colours : census_of(std::nullopt);
      if (fits && colours.masks == census.masks) {
        census = colours;
        return *hints.trained;
      }
      MaskHints others = hints;
      others.trained.reset();
      return choose_mask_rules(census, others);
    }
    census = census_of(std::nullopt);
    return choose_mask_rules(census, hints);
  };
  const MaskRules rules = chosen();
  if (census.masks > 0) {
    report.note(fmt::format("masks are read as {}{}: {}; --mask-format says otherwise", rules,
                            hints.trained == rules ? ", as in the model's training" : "",
                            census.describe()));
  }
  return rules;
}

}  // namespace tessera
