// Text as code points that remember the bytes they came from. Internal to the text pipeline.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

struct CodePoint {
  char32_t code;  // kReplacementCharacter where the bytes are not UTF-8
  size_t bytes;   // 1 to 4; of an invalid sequence, its maximal subpart (Unicode 15, section 3.9)
  bool valid;
};

// The code point that starts at `at`, which must be inside `text`.
CodePoint decode_one(std::string_view text, size_t at);

struct Character {
  char32_t code;
  uint32_t begin;  // byte offset in the original text; the end is the next character's begin
};

struct DecodedText {
  std::vector<Character> characters;  // closed by a sentinel whose `begin` is the text's size
  size_t invalid_sequences = 0;

  size_t size() const { return characters.size() - 1; }
};

// Throws Error for a text of 4 GiB or more, which 32-bit offsets cannot address.
DecodedText decode(std::string_view text);

// Valid UTF-8 as code points. Throws Error naming `what` otherwise.
std::u32string decode_strictly(std::string_view text, std::string_view what);

void append_utf8(std::string& out, char32_t code);

// What Python's str.isspace holds for: the Unicode spaces and separators, and the ASCII controls
// 09-0D and 1C-1F.
bool is_white_space(char32_t code);
bool is_newline(char32_t code);
bool is_letter(char32_t code);
bool is_digit(char32_t code);
bool is_upper(char32_t code);  // title case too
bool is_lower(char32_t code);
bool is_opener(char32_t code);  // brackets and quotes that may stand before a sentence's first word

// The simple, one-to-one lower case.
char32_t lower_code(char32_t code);

// The full lower case of a word as UTF-8, as Python's str.lower: U+0130 becomes two code points and
// a capital sigma at the end of a word becomes the final one.
std::string lower_case(std::u32string_view word);
std::string to_utf8(std::u32string_view word);

// A set of code points: a table for ASCII, a sorted list for the few others.
class CodePointSet {
 public:
  // Throws Error naming `what` unless `characters` is valid UTF-8.
  CodePointSet(std::string_view characters, std::string_view what);

  bool contains(char32_t code) const {
    return code < ascii_.size() ? ascii_[code] : contains_other(code);
  }

 private:
  bool contains_other(char32_t code) const;

  std::array<bool, 128> ascii_{};
  std::vector<char32_t> others_;
};

}  // namespace tessera
