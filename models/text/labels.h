// What labels in files are likely to mean: the same label written in two ways, and names of
// columns.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// The label without what people do not see or mean: case, white space around it, the way in which
// Unicode composes a letter. Bytes that are not UTF-8 stay.
std::string folded_label(std::string_view label);

// Labels that differ and are alike once folded, or as whole numbers ("1", "1.0"), in groups of two
// or more, in the order given.
std::vector<std::vector<std::string>> look_alikes(std::span<const std::string> labels);

// What is to be said of such a group.
std::string look_alike_note(const std::vector<std::string>& group);

// Whether a first record of columns names them ("label", "text") instead of being a document.
bool looks_like_header(std::span<const std::string> columns);

// Whether a column of that name is likely to hold labels ("Sentiment"), texts ("review"), or what
// numbers the rows ("id", or nothing, as pandas writes it).
bool is_label_name(std::string_view name);
bool is_text_name(std::string_view name);
bool is_row_name(std::string_view name);

// Whether the name of a class is a whole number.
bool is_whole_number(std::string_view name);

}  // namespace tessera
