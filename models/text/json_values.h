// The values of a JSON text one after another, however long the text is: the elements of an array
// where it is one, else values with white space between them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace tessera {

class TextStream;

class JsonValues {
 public:
  // Of at most `max_bytes` each, from a stream that must outlive this.
  JsonValues(TextStream& stream, std::size_t max_bytes) : stream_(stream), max_bytes_(max_bytes) {}

  // The text of the next value, which is found by its brackets and quotes alone, and of a longer
  // one its first bytes. False at the end. Throws Error, which names file and line, where the
  // text ends too early, or has no comma between elements.
  bool next(std::string& value);
  std::size_t line() const { return value_line_; }  // where the value starts, from 1

 private:
  char skip_white_space();  // what comes next; NUL at the end
  void take(std::size_t count);
  bool next_element(char first);
  std::size_t scan(std::string_view bytes, std::size_t begun);

  TextStream& stream_;
  std::size_t max_bytes_;
  std::size_t line_ = 1, value_line_ = 1;
  bool started_ = false, in_array_ = false, has_elements_ = false;

  // Of the value that is being scanned.
  std::size_t depth_ = 0;
  bool in_string_ = false, escaped_ = false, complete_ = false;
};

}  // namespace tessera
