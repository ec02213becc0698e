// Records of columns, as spreadsheets and Python's csv module write them (RFC 4180): between two
// columns stands a comma, a tab or another character; a column in quotes may hold it, line breaks,
// and quotes written twice.
//
// Many a TSV is written without any quoting, and its texts begin with a quote by chance. A column
// is therefore taken out of its quotes only if these are closed as the format asks; if they are not
// it keeps its bytes, or, where the file is known to be quoted, is an error.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

class TextStream;

struct SeparatedRecord {
  std::size_t line = 0;  // where it starts, from 1
  std::vector<std::string> columns;
  std::string error;  // not empty: the line is bad, and the columns are void
};

class SeparatedValues {
 public:
  struct Style {
    char separator = ',';
    bool keep_odd_quotes = false;  // else an error
  };

  // Records of at most `max_bytes`, from a stream that must outlive this.
  SeparatedValues(TextStream& stream, Style style, std::size_t max_bytes)
      : stream_(stream), style_(style), max_bytes_(max_bytes) {}

  // False at the end. Blank lines are passed over. Throws Error where the stream does.
  bool next(SeparatedRecord& record);

 private:
  // The line that comes after `index` others, without its line break; null at the end, or where
  // the lines looked at would take too much memory.
  const std::string* line(std::size_t index);
  bool take_quoted(std::size_t& index, std::size_t& at, std::string& column);

  TextStream& stream_;
  Style style_;
  std::size_t max_bytes_;
  std::deque<std::string> ahead_;  // read, and not yet part of a record
  std::size_t ahead_bytes_ = 0;
  std::size_t taken_ = 0;  // lines before those
  bool is_quoted_ =
      false;  // a column had quotes or line breaks as only a writer of quotes has them
};

// What stands between the columns of a file.
struct Separator {
  char character = ',';
  bool has_line = false;  // the first line says it, as Excel writes it ("sep=;"), and is no record
};

// What the first line says or has between columns: a comma; where there is none outside of quotes a
// semicolon, which spreadsheets of many countries write, a tab, or a vertical bar.
Separator separator_of(std::string_view beginning);

}  // namespace tessera
