#include "models/text/separated_values.h"

#include <algorithm>

#include "kernels/error.h"
#include "models/text/text_stream.h"

namespace tessera {
namespace {

constexpr char kQuote = '"';

// The end of a line's last column: before a carriage return that belongs to the line break.
std::size_t end_of(const std::string& line) {
  return line.ends_with('\r') ? line.size() - 1 : line.size();
}

bool is_quote(const std::string& line, std::size_t at) {
  return at < line.size() && line[at] == kQuote;
}

bool is_blank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

}  // namespace

const std::string* SeparatedValues::line(std::size_t index) {
  while (ahead_.size() <= index) {
    std::string more;
    if (ahead_bytes_ > max_bytes_ || !stream_.read_line(more, max_bytes_ + 1)) return nullptr;
    ahead_bytes_ += more.size() + sizeof(std::string);
    ahead_.push_back(std::move(more));
  }
  return &ahead_[index];
}

// Reads the column that starts with the quote at `at` of line `index`, and moves both to its end;
// they stay where they are if the quotes are not closed before a separator or the end of a line.
//
// Every scan ends at the first quote that is closed or odd, and the next one starts behind it, so
// that a file is read at most twice.
bool SeparatedValues::take_quoted(std::size_t& index, std::size_t& at, std::string& column) {
  const std::string* text = line(index);
  std::size_t row = index;
  std::size_t begin = at + 1;
  // Whether every line after the first would be a record if the quotes meant nothing: a speech of
  // two sentences, each a record of its own, begins and ends with a quote. It is not taken for a
  // column before others have shown that the file is quoted.
  bool lines_are_records = true, separated = true, doubled = false;
  for (;;) {
    const std::size_t quote = std::min(text->find(kQuote, begin), text->size());
    column.append(*text, begin, quote - begin);
    separated |= text->find(style_.separator, begin) < quote;
    if (quote == text->size()) {
      text = line(++row);
      if (text == nullptr || column.size() > max_bytes_) return false;
      lines_are_records &= separated;
      separated = false;
      column += '\n';
      begin = 0;
    } else if (is_quote(*text, quote + 1)) {
      doubled = true;
      column += kQuote;
      begin = quote + 2;
    } else if (quote + 1 == end_of(*text) || (*text)[quote + 1] == style_.separator) {
      lines_are_records &= separated;
      is_quoted_ |= !style_.keep_odd_quotes || doubled || (row > index && !lines_are_records);
      if (row > index && lines_are_records && !is_quoted_) return false;
      index = row;
      at = quote + 1;
      return true;
    } else {
      return false;
    }
  }
}

bool SeparatedValues::next(SeparatedRecord& record) {
  record = {};
  const auto drop_lines = [&](std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      ahead_bytes_ -= ahead_.front().size() + sizeof(std::string);
      ahead_.pop_front();
    }
    taken_ += count;
  };
  const std::string* text = line(0);
  while (text != nullptr && is_blank(*text)) {
    drop_lines(1);
    text = line(0);
  }
  if (text == nullptr) return false;
  record.line = taken_ + 1;
  std::size_t index = 0;
  try {
    require(text->size() <= max_bytes_, "more than {} bytes; split it", max_bytes_);
    for (std::size_t at = 0;; ++at) {
      std::string column;
      if (is_quote(*text, at) && take_quoted(index, at, column)) {
        text = line(index);
      } else {
        require(style_.keep_odd_quotes || !is_quote(*text, at),
                "column {} opens a quote that is not closed before a '{}' or the end of a line; "
                "write a quote inside of quotes twice, or say --format",
                record.columns.size(), style_.separator);
        const std::size_t end = std::min(text->find(style_.separator, at), end_of(*text));
        column.assign(*text, at, end - at);
        at = end;
      }
      record.columns.push_back(std::move(column));
      if (at >= end_of(*text)) break;
    }
  } catch (const Error& error) {
    record.error = error.what();
    index = 0;  // what the other lines are, they say themselves
  }
  drop_lines(index + 1);
  return true;
}

Separator separator_of(std::string_view beginning) {
  constexpr std::string_view kHint = "sep=";
  const std::string_view line = beginning.substr(0, beginning.find('\n'));
  if (line.starts_with(kHint) && end_of(std::string(line)) == kHint.size() + 1)
    return {line[kHint.size()], true};
  std::size_t semicolons = 0, tabs = 0, bars = 0;
  bool quoted = false;
  for (const char c : beginning) {
    if (c == kQuote) quoted = !quoted;
    if (quoted) continue;
    if (c == ',') return {','};
    if (c == '\n') break;
    semicolons += c == ';' ? 1 : 0;
    tabs += c == '\t' ? 1 : 0;
    bars += c == '|' ? 1 : 0;
  }
  return {semicolons > 0 ? ';' : tabs > 0 ? '\t' : bars > 0 ? '|' : ','};
}

}  // namespace tessera
