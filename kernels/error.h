// The exception types of Tessera and the two ways to throw them.
//
// An error is thrown at the boundary where a value first proves wrong. Its text says what was
// expected, what was found and what to do about it; only `main` catches.
#pragma once

#include <fmt/format.h>

#include <concepts>
#include <stdexcept>
#include <string>
#include <utility>

namespace tessera {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What a device could not do: it is missing or too old, its memory is full, a launch failed.
// Another device may still do it.
class DeviceError : public Error {
 public:
  using Error::Error;
};

// Throws Error with the formatted text.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> text, Args&&... args) {
  throw Error(fmt::format(text, std::forward<Args>(args)...));
}

// Throws Error with the formatted text unless `ok`.
template <class... Args>
void require(bool ok, fmt::format_string<Args...> text, Args&&... args) {
  if (!ok) [[unlikely]]
    fail(text, std::forward<Args>(args)...);
}

// What says itself in words is an argument of a message as it is, so that no words are made where
// nothing fails.
template <class T>
concept Spelled = requires(const T& value) {
  { value.to_string() } -> std::same_as<std::string>;
};

}  // namespace tessera

template <tessera::Spelled T>
struct fmt::formatter<T> : fmt::formatter<std::string> {
  auto format(const T& value, format_context& context) const {
    return fmt::formatter<std::string>::format(value.to_string(), context);
  }
};
