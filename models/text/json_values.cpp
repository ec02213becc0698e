#include "models/text/json_values.h"

#include <algorithm>

#include "kernels/error.h"
#include "models/text/text_stream.h"

namespace tessera {
namespace {

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

}  // namespace

void JsonValues::take(std::size_t count) {
  const std::string_view bytes = stream_.rest().substr(0, count);
  line_ += static_cast<std::size_t>(std::count(bytes.begin(), bytes.end(), '\n'));
  stream_.take(count);
}

char JsonValues::skip_white_space() {
  for (std::string_view bytes = stream_.rest(); !bytes.empty(); bytes = stream_.rest()) {
    const auto* other = std::find_if_not(bytes.begin(), bytes.end(), is_space);
    take(static_cast<std::size_t>(other - bytes.begin()));
    if (other != bytes.end()) return *other;
  }
  return '\0';
}

bool JsonValues::next(std::string& value) {
  value.clear();
  char first = skip_white_space();
  if (!started_) {
    started_ = true;
    in_array_ = first == '[';
    if (in_array_) {
      take(1);
      first = skip_white_space();
    }
  }
  if (in_array_ ? !next_element(first) : first == '\0') return false;
  value_line_ = line_;
  depth_ = 0;
  in_string_ = escaped_ = complete_ = false;
  std::size_t begun = 0;
  while (!complete_) {
    const std::string_view bytes = stream_.rest();
    if (bytes.empty()) {
      require(!in_string_ && depth_ == 0 && !in_array_,
              "{}, line {}: the text ends in the middle of a JSON value; the file is incomplete",
              stream_.name(), value_line_);
      return true;
    }
    const std::size_t count = scan(bytes, begun);
    begun += count;
    value += bytes.substr(0, std::min(count, max_bytes_ + 1 - value.size()));
    take(count);
  }
  return true;
}

// Goes from one element of the array to the next; false at its end.
bool JsonValues::next_element(char first) {
  if (first == ']') {
    take(1);
    require(skip_white_space() == '\0',
            "{}, line {}: there is more behind the JSON array; remove it", stream_.name(), line_);
    in_array_ = false;
    return false;
  }
  if (has_elements_) {
    require(first == ',' || first == '\0',
            "{}, line {}: expected a comma or ] behind an element of the JSON array, found '{}'",
            stream_.name(), line_, first);
    if (first == ',') take(1);
    first = skip_white_space();
  }
  require(first != '\0', "{}, line {}: the JSON array has no end; the file is incomplete",
          stream_.name(), line_);
  require(first != ',' && first != ']',
          "{}, line {}: expected an element of the JSON array, found '{}'", stream_.name(), line_,
          first);
  has_elements_ = true;
  return true;
}

// How many of `bytes` belong to the value, of which `begun` came before.
std::size_t JsonValues::scan(std::string_view bytes, std::size_t begun) {
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    const char c = bytes[at];
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
        complete_ = depth_ == 0;
      }
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if ((c == '}' || c == ']') && depth_ > 0) {
      complete_ = --depth_ == 0;
    } else if (depth_ == 0 && (is_space(c) || c == ',' || c == ']' || c == '}')) {
      complete_ = true;
      return std::max<std::size_t>(at, begun + at == 0 ? 1 : 0);  // one that begins so is no value
    }
    if (complete_) return at + 1;
  }
  return bytes.size();
}

}  // namespace tessera
