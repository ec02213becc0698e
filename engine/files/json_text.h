// JSON from a file that somebody wrote: what is wrong with it is said in the program's own words.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace tessera {

// The value of `text`. Throws Error for what is no JSON, with the column, the line if it is not the
// first (both from 1), what stands there and what was expected. `callback` is nlohmann's and may
// throw.
nlohmann::json parse_json(std::string_view text,
                          const nlohmann::json::parser_callback_t& callback = nullptr);

}  // namespace tessera
