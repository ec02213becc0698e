// Strict reading of the JSON that travels in a model file: every key known, every type right.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/error.h"

namespace tessera {

// The names that an enumeration's values have in JSON.
template <class Enum, std::size_t N>
using JsonNames = std::array<std::pair<Enum, const char*>, N>;

template <class Enum, std::size_t N>
const char* json_name(Enum value, const JsonNames<Enum, N>& names) {
  for (const auto& [known, name] : names) {
    if (known == value) return name;
  }
  fail("the value {} stands for no choice; use a named one", static_cast<int>(value));
}

// Reads the members of one JSON object, each at most once, and then refuses what is left over. An
// absent member leaves its variable as it was.
class JsonFields {
 public:
  // `where` names the object in errors. Throws Error unless it is an object.
  JsonFields(const nlohmann::json& object, std::string where)
      : object_(object), where_(std::move(where)) {
    require(object.is_object(), "{}: expected a JSON object, found {}", where_, shown(object));
  }

  void read(const char* key, std::string& into) {
    if (const nlohmann::json* value = take(key)) {
      expect(value->is_string(), key, "a string", *value);
      into = value->get<std::string>();
    }
  }

  void read(const char* key, bool& into) {
    if (const nlohmann::json* value = take(key)) {
      expect(value->is_boolean(), key, "true or false", *value);
      into = value->get<bool>();
    }
  }

  void read(const char* key, double& into) {
    if (const nlohmann::json* value = take(key)) {
      expect(value->is_number(), key, "a number", *value);
      into = value->get<double>();
    }
  }

  void read(const char* key, std::int64_t& into) {
    if (const nlohmann::json* value = take(key)) {
      const bool fits = value->is_number_integer() &&
                        (!value->is_number_unsigned() || value->get<std::uint64_t>() <= INT64_MAX);
      expect(fits, key, "a whole number", *value);
      into = value->get<std::int64_t>();
    }
  }

  // A number from `least` to `most`; of an int, a whole one. It must be there where the variable
  // holds none of them.
  template <class Number>
  void read(const char* key, Number& into, double least,
            double most) requires std::same_as<Number, int> || std::same_as<Number, double> {
    std::conditional_t<std::same_as<Number, int>, std::int64_t, double> value = into;
    read(key, value);
    const bool fits = static_cast<double>(value) >= least && static_cast<double>(value) <= most;
    require(fits || object_.contains(key), "{}: the key \"{}\" is missing: a number {}", where_,
            key, shown_range(least, most));
    require(fits, "{}.{}: expected {}, found {}", where_, key, shown_range(least, most), value);
    into = static_cast<Number>(value);
  }

  // As many whole numbers, each from `least` to `most`.
  template <std::size_t N>
  void read(const char* key, std::array<int, N>& into, double least, double most) {
    std::vector<int> list(into.begin(), into.end());
    read_list(key, list, fmt::format("a list of {} whole numbers", N), N, N, least, most);
    std::copy(list.begin(), list.end(), into.begin());
  }

  // Up to kMostInts whole numbers, each from `least` to `most`.
  void read(const char* key, std::vector<int>& into, double least, double most) {
    read_list(key, into, fmt::format("a list of up to {} whole numbers", kMostInts), 0, kMostInts,
              least, most);
  }

  void read(const char* key, std::vector<std::string>& into) {
    if (const nlohmann::json* value = take(key)) {
      expect(value->is_array(), key, "a list of strings", *value);
      into.clear();
      for (const nlohmann::json& item : *value) {
        expect(item.is_string(), key, "a list of strings", item);
        into.push_back(item.get<std::string>());
      }
    }
  }

  template <class Enum, std::size_t N>
  void read(const char* key, Enum& into, const JsonNames<Enum, N>& names) {
    const nlohmann::json* value = take(key);
    if (value == nullptr) return;
    std::string choices;
    for (const auto& [choice, name] : names) {
      if (*value == name) {
        into = choice;
        return;
      }
      choices += fmt::format("{}\"{}\"", choices.empty() ? "" : ", ", name);
    }
    expect(false, key, "one of " + choices, *value);
  }

  // An enumeration whose names are names_of(Enum), in the order of its values.
  template <class Enum>
  void read(const char* key, Enum& into) requires std::is_enum_v<Enum> {
    constexpr auto kTexts = names_of(Enum());
    JsonNames<Enum, kTexts.size()> names;
    for (std::size_t i = 0; i < names.size(); ++i)
      names[i] = {static_cast<Enum>(i), kTexts[i].data()};
    read(key, into, names);
  }

  // The member for the caller to read further; null if absent.
  const nlohmann::json* take(const char* key) {
    known_.insert(key);
    const auto found = object_.find(key);
    return found == object_.end() ? nullptr : &*found;
  }

  // The member, which must be there.
  const nlohmann::json& take_required(const char* key) {
    const nlohmann::json* value = take(key);
    require(value != nullptr, "{}: the key \"{}\" is missing", where_, key);
    return *value;
  }

  void refuse_unknown() const {
    for (const auto& member : object_.items()) {
      require(known_.contains(member.key()),
              "{}: unknown key {}; remove it, or use the version of the program that wrote it",
              where_, shown(nlohmann::json(member.key())));
    }
  }

  // "from 1 to 64", or what is left of it where an end means none.
  static std::string shown_range(double least, double most) {
    constexpr double kNone = std::numeric_limits<double>::max();
    const bool above_zero = least == std::numeric_limits<double>::min();
    const std::string from = above_zero        ? "above 0"
                             : least == -kNone ? ""
                                               : fmt::format("from {}", least);
    const std::string to = most == kNone ? "" : fmt::format("to {}", most);
    return from.empty() && to.empty() ? "that is finite"
                                      : from + (from.empty() || to.empty() ? "" : " ") + to;
  }

  // A value as an error text shows it: short, on one line, valid UTF-8.
  static std::string shown(const nlohmann::json& value) {
    constexpr std::size_t kLongest = 80;
    if (value.is_structured()) return fmt::format("an {}", value.type_name());
    std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (text.size() > kLongest) text.replace(kLongest, std::string::npos, "...");
    return text;
  }

 private:
  static constexpr std::size_t kMostInts = 64;

  void read_list(const char* key, std::vector<int>& into, const std::string& count,
                 std::size_t fewest, std::size_t most_items, double least, double most) {
    const nlohmann::json* list = take(key);
    if (list == nullptr) return;
    const std::string what = count + " " + shown_range(least, most);
    expect(list->is_array() && list->size() >= fewest && list->size() <= most_items, key, what,
           *list);
    into.clear();
    for (const nlohmann::json& item : *list) {
      const bool fits =
          item.is_number_integer() && item.get<double>() >= least && item.get<double>() <= most;
      expect(fits, key, what, item);
      into.push_back(item.get<int>());
    }
  }

  void expect(bool ok, const char* key, const std::string& what,
              const nlohmann::json& found) const {
    require(ok, "{}.{}: expected {}, found {}", where_, key, what, shown(found));
  }

  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string> known_;
};

}  // namespace tessera
