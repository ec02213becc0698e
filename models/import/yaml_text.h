// YAML from a file that somebody wrote, as JSON: what package descriptions are written in.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace tessera {

// The value of `text`, one document, by the core schema of YAML 1.2: null, true, false, numbers
// (.inf and .nan, too); all else is text. Throws Error for what is no UTF-8 or no YAML, with its
// line, for keys twice, and for more than 1 MiB, 32 levels or 2^16 values, those that aliases
// repeat among them: the parser hands over one value after the other, so that no bomb is ever
// built.
nlohmann::json parse_yaml(std::string_view text);

}  // namespace tessera
