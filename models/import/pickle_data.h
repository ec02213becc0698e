// What the machine of pickles (pickle.cpp) makes of Python's own classes and texts.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "models/import/pickle.h"

namespace tessera {

PickleValue pickle_integer(std::int64_t number);
PickleValue pickle_real(double number);

// How the machine counts and keeps what is made for it. Both throw Error beyond its limits.
struct PickleStore {
  std::function<void(std::size_t values)> count;  // that are copied or looked at
  std::function<std::string_view(std::string text)> keep;
};

// The data that a call of a container's or number's class would make; nothing for all others.
std::optional<PickleValue> pickle_data(const Pickle& pickle, std::string_view name,
                                       const PickleValue& args, const PickleStore& store);

// Python's escapes: \n, \x41, and of Unicode texts \u0041 and \U00000041. Nothing where one is
// cut.
std::optional<std::string> pickle_unescaped(std::string_view line, bool unicode);

}  // namespace tessera
