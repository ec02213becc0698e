#include "engine/files/json_text.h"

#include <algorithm>
#include <string>

#include "kernels/error.h"

namespace tessera {
namespace {

using nlohmann::json;

// What nlohmann's message tells: "[id] parse error at .., column 5: syntax error while parsing
// PLACE
// - FOUND; last read: 'TEXT'; expected WHAT". TEXT may be as long as the record and hold anything;
// the message may end before it or behind it.
std::string reason_of(std::string_view message) {
  constexpr std::string_view kBegin = " - ", kText = "; last read: '", kExpected = "; expected ";
  const std::size_t begin = std::min(message.find(kBegin), message.size());
  const std::size_t text = message.find(kText), expected = message.rfind(kExpected);
  const bool tells = expected != message.npos &&
                     (text == message.npos || (expected > text && message[expected - 1] == '\''));
  std::string_view found = message.substr(0, std::min(text, tells ? expected : message.size()));
  found.remove_prefix(std::min(begin + kBegin.size(), found.size()));
  if (found.starts_with("unexpected ")) found.remove_prefix(found.find(' ') + 1);
  if (found == "invalid literal") found = "a word without quotes";
  if (!tells) return std::string(found);
  return fmt::format("expected {}, found {}", message.substr(expected + kExpected.size()), found);
}

}  // namespace

json parse_json(std::string_view text, const json::parser_callback_t& callback) {
  try {
    return json::parse(text, callback);
  } catch (const json::parse_error& error) {
    const std::string_view before = text.substr(0, std::max<std::size_t>(error.byte, 1) - 1);
    const auto lines = std::count(before.begin(), before.end(), '\n');
    const std::size_t column = before.size() - (before.rfind('\n') + 1) + 1;
    fail("no JSON from column {}{} on: {}", column,
         lines > 0 ? fmt::format(" of its line {}", lines + 1) : "", reason_of(error.what()));
  } catch (const json::out_of_range&) {
    fail("a number is larger than a double holds");
  }
}

}  // namespace tessera
