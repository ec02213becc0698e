#include "models/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <limits>

#include "kernels/error.h"

namespace tessera {
namespace {

constexpr char32_t kCapitalIWithDot = 0x130;
constexpr char32_t kCombiningDot = 0x307;
constexpr char32_t kCapitalSigma = 0x3A3;
constexpr char32_t kFinalSigma = 0x3C2;
constexpr char32_t kFirstNonAscii = 0x80;

utf8proc_category_t category(char32_t code) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(code));
}

bool is_cased(char32_t code) {
  const bool is_roman_numeral = code >= 0x2160 && code <= 0x217F;
  const bool is_circled_letter = code >= 0x24B6 && code <= 0x24E9;
  const bool is_ordinal_indicator = code == 0xAA || code == 0xBA;
  return is_upper(code) || is_lower(code) || is_roman_numeral || is_circled_letter ||
         is_ordinal_indicator;
}

// Marks and signs that lie within a word without being letters of either case.
bool is_case_ignorable(char32_t code) {
  switch (category(code)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_SK:
      return true;
    default:
      return std::u32string_view(U"'.:\u00B7\u2018\u2019\u2024\u2027").find(code) !=
             std::u32string_view::npos;
  }
}

// Whether the capital sigma at `at` ends its word: a cased letter before it and none after it.
// Each run of ignorable marks is walked at most twice, so a word of any length is linear.
bool is_final_sigma(std::u32string_view word, size_t at) {
  size_t before = at;
  while (before > 0 && is_case_ignorable(word[before - 1])) --before;
  if (before == 0 || !is_cased(word[before - 1])) return false;
  size_t after = at + 1;
  while (after < word.size() && is_case_ignorable(word[after])) ++after;
  return after == word.size() || !is_cased(word[after]);
}

}  // namespace

CodePoint decode_one(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < kFirstNonAscii) return {lead, 1, true};
  const CodePoint lone_byte{kReplacementCharacter, 1, false};
  if (lead < 0xC2 || lead > 0xF4) return lone_byte;

  const size_t bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte's range shuts out overlong forms, surrogates and code points above U+10FFFF.
  unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t code = lead & (0xFFu >> (bytes + 1));
  for (size_t i = 1; i < bytes; ++i) {
    if (at + i == text.size()) return {kReplacementCharacter, i, false};
    const auto next = static_cast<unsigned char>(text[at + i]);
    if (next < low || next > high) return {kReplacementCharacter, i, false};
    code = code << 6 | (next & 0x3Fu);
    low = 0x80;
    high = 0xBF;
  }
  return {code, bytes, true};
}

DecodedText decode(std::string_view text) {
  require(text.size() < std::numeric_limits<uint32_t>::max(),
          "the text has {} bytes; a document may have at most 4 GiB: split it into several",
          text.size());
  DecodedText decoded;
  decoded.characters.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_one(text, at);
    decoded.characters.push_back({point.code, static_cast<uint32_t>(at)});
    if (!point.valid) ++decoded.invalid_sequences;
    at += point.bytes;
  }
  decoded.characters.push_back({0, static_cast<uint32_t>(text.size())});
  return decoded;
}

std::u32string decode_strictly(std::string_view text, std::string_view what) {
  std::u32string codes;
  for (size_t at = 0; at < text.size();) {
    const CodePoint point = decode_one(text, at);
    require(point.valid, "{}: expected UTF-8, found an invalid sequence at byte {}; re-encode it",
            what, at);
    codes.push_back(point.code);
    at += point.bytes;
  }
  return codes;
}

void append_utf8(std::string& out, char32_t code) {
  utf8proc_uint8_t bytes[4];
  const auto count = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes);
  out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
}

bool is_white_space(char32_t code) {
  if (code < kFirstNonAscii) {
    return code == ' ' || (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x1F);
  }
  if (code == 0x85) return true;
  const auto kind = category(code);
  return kind == UTF8PROC_CATEGORY_ZS || kind == UTF8PROC_CATEGORY_ZL ||
         kind == UTF8PROC_CATEGORY_ZP;
}

bool is_newline(char32_t code) {
  return code == '\n' || code == '\r' || code == 0x2029;
}

bool is_letter(char32_t code) {
  const auto kind = category(code);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_digit(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_ND;
}

bool is_upper(char32_t code) {
  const auto kind = category(code);
  return kind == UTF8PROC_CATEGORY_LU || kind == UTF8PROC_CATEGORY_LT;
}

bool is_lower(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LL;
}

bool is_opener(char32_t code) {
  if (code == '"' || code == '\'') return true;
  const auto kind = category(code);
  return kind == UTF8PROC_CATEGORY_PS || kind == UTF8PROC_CATEGORY_PI;
}

char32_t lower_code(char32_t code) {
  if (code < kFirstNonAscii) return code >= 'A' && code <= 'Z' ? code + ('a' - 'A') : code;
  return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(code)));
}

std::string lower_case(std::u32string_view word) {
  std::string lowered;
  lowered.reserve(word.size());
  for (size_t i = 0; i < word.size(); ++i) {
    const char32_t code = word[i];
    if (code == kCapitalIWithDot) {
      append_utf8(lowered, 'i');
      append_utf8(lowered, kCombiningDot);
    } else if (code == kCapitalSigma && is_final_sigma(word, i)) {
      append_utf8(lowered, kFinalSigma);
    } else {
      append_utf8(lowered, lower_code(code));
    }
  }
  return lowered;
}

std::string to_utf8(std::u32string_view word) {
  std::string bytes;
  bytes.reserve(word.size());
  for (const char32_t code : word) append_utf8(bytes, code);
  return bytes;
}

CodePointSet::CodePointSet(std::string_view characters, std::string_view what) {
  for (const char32_t code : decode_strictly(characters, what)) {
    if (code < ascii_.size()) {
      ascii_[code] = true;
    } else {
      others_.push_back(code);
    }
  }
  std::sort(others_.begin(), others_.end());
}

bool CodePointSet::contains_other(char32_t code) const {
  return std::binary_search(others_.begin(), others_.end(), code);
}

}  // namespace tessera
