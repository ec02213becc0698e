// Images with the masks that belong to them, found on disk, and their split into training and
// validation.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "models/data_report.h"
#include "models/image/image.h"

namespace tessera {

struct ImagePair {
  std::string name;  // below the folder, without ending; of a stack "name#page", pages from 0
  std::filesystem::path image, mask;
  std::int64_t page = 0;
  // Instead of the files, whose paths then only name them: what gives pixels that lie in memory.
  std::function<Image()> held_image = {}, held_mask = {};
};
using ImagePairs = std::vector<ImagePair>;

// The images below one folder with the masks of the same name below another: a/x.tif belongs to
// a/x.png, and to a/x_mask.png, a/x-labels.png, a/x.seg.png and the like. Sorted by the bytes of
// their names. The pages of a TIFF stack, whatever its ending, are pairs of their own. Reports
// images without a mask (and what there is instead, if it is of a format that is not read), masks
// without an image, two files of one name, stacks of different length, and a folder without images.
// Throws Error where a folder cannot be read.
ImagePairs find_pairs(const std::filesystem::path& images, const std::filesystem::path& masks,
                      DataReport& report);

// The pairs that a text file lists: `image<TAB>mask` per line, relative to the file's own folder;
// blank lines and lines that begin with # are passed over. UTF-8, or UTF-16 with a byte order mark.
// In the order of the list. Reports lines without a mask, files that are not there, and stacks of
// different length.
ImagePairs read_pair_list(const std::filesystem::path& list, DataReport& report);

// ---- training and validation -------------------------------------------------------------------

struct Split {
  std::vector<std::size_t> training, validation;  // indices into the pairs, rising
};

// `rule` says what is held out for validation:
//   "none"         nothing
//   "0.2"          that share, drawn by `seed`; at least one
//   "every:5"      the first of the sorted names and each fifth after it
//   "fold:2/5"     the second of five equal parts, drawn by `seed`
//   "names:a,b/c,24..29"   these, with their endings or without; two whole numbers with .. between
//                          them are a range
//   "list:FILE"    the names in a text file, one a line
// A name of the last two that stands for no pair, or a split that leaves nothing to train on, is an
// Error.
Split split_pairs(const ImagePairs& pairs, const std::string& rule, std::uint64_t seed);

}  // namespace tessera
