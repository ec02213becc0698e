// Strict reading of the JSON that travels in a model file: every key known, every type right.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
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

  // A whole number from `least` to `most`.
  void read(const char* key, int& into, int least, int most) {
    std::int64_t value = into;
    read(key, value);
    require(value >= least && value <= most, "{}.{}: expected {} to {}, found {}", where_, key,
            least, most, value);
    into = static_cast<int>(value);
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

  // A value as an error text shows it: short, on one line, valid UTF-8.
  static std::string shown(const nlohmann::json& value) {
    constexpr std::size_t kLongest = 80;
    if (value.is_structured()) return fmt::format("an {}", value.type_name());
    std::string text = value.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (text.size() > kLongest) text = text.substr(0, kLongest) + "...";
    return text;
  }

 private:
  void expect(bool ok, const char* key, const std::string& what,
              const nlohmann::json& found) const {
    require(ok, "{}.{}: expected {}, found {}", where_, key, what, shown(found));
  }

  const nlohmann::json& object_;
  std::string where_;
  std::set<std::string> known_;
};

}  // namespace tessera
