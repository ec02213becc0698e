// What kind of masks a set has, where nobody says so (--mask-format auto): decided from all of
// them, and refused where they can be read in two ways.
//
//   grey values that are all class ids              ids
//   0 and 255, of two classes                       binary
//   0 and one other value, of two classes           values:0,V
//   0 and more values, each in one piece of a mask  objects (of two classes)
//   colours of the model's classes, or black and    colours:..
//     one other of two classes
//   black and more colours, each in one piece       objects (of two classes)
//
// The rules that a model was trained with come first, where the masks can be meant so.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "models/data_report.h"
#include "models/image/mask_rules.h"
#include "models/image/mask_source.h"

namespace tessera {

// What masks hold.
struct MaskCensus {
  std::size_t masks = 0;  // that can be read; the others are the check's to report
  bool colour = false;    // values are 0xrrggbb
  bool indices = false;   // values are, of some masks, those of a palette
  std::map<std::int64_t, std::int64_t> values;  // in how many masks; the first kMostValues
  bool more_values = false;
  // Values but 0 of each mask, and how many of them are one connected piece (8 neighbours) there.
  std::int64_t ids = 0, whole_ids = 0;
  // The fewest and the most values but 0 that one mask has.
  std::int64_t fewest_ids = 0, most_ids = 0;
  std::string lossy;  // a file compressed as JPEG, empty where none is

  static constexpr std::size_t kMostValues = 1 << 16;

  // `kind`: what numbers to take of it, as mask_numbers.
  void add(MaskSource& mask, const std::string& file,
           std::optional<MaskRules::Kind> kind = std::nullopt);
  void add(const MaskCensus& other);
  std::string describe() const;  // "the values 0, 1, 2 .. 37 in 12 masks"
};

struct MaskHints {
  std::size_t classes = 2;
  bool classes_are_known = true;     // not the two that are taken where nobody says any
  std::optional<MaskRules> trained;  // what a model was trained with
  std::vector<Rgb> class_colours;    // of the model's classes, to be looked for among colours
};

// Whether the masks can be meant so.
bool could_be(const MaskCensus& census, const MaskRules& rules, std::size_t classes);

// Throws Error that tells the values and the formats that they could be.
MaskRules choose_mask_rules(const MaskCensus& census, const MaskHints& hints);

// Reads all masks, chooses, and notes the choice in one line.
MaskRules recognise_masks(const ImagePairs& pairs, const MaskHints& hints, int threads,
                          DataReport& report);

}  // namespace tessera
