#include "engine/graph/fields.h"

#include <fmt/ranges.h>

#include <algorithm>

namespace tessera {

namespace {

using nlohmann::json;

template <class T>
constexpr bool kIsEnum = std::is_enum_v<T>;

// An enumeration by its name. What a pass or a caller cast from elsewhere has none.
template <class Enum>
std::string name_in(const char* attribute, Enum value) {
  constexpr auto kNames = names_of(Enum());
  const auto index = static_cast<std::size_t>(value);
  require(index < kNames.size(), "{}: the value {} stands for none of {}", attribute, index,
          fmt::join(kNames, ", "));
  return std::string(kNames[index]);
}

struct Write {
  json& into;

  template <class T>
  void operator()(const char* name, const T& value, Range = {}) const {
    if constexpr (kIsEnum<T>) {
      into[name] = name_in(name, value);
    } else {
      into[name] = value;
    }
  }
};

struct Read {
  JsonFields& from;

  template <class T>
  void operator()(const char* name, T& value) const {
    from.read(name, value);
  }
  template <class T>
  void operator()(const char* name, T& value, Range range) const {
    from.read(name, value, range.least, range.most);
  }
};

struct Check {
  void one(const char* name, double value, Range range) const {
    require(value >= range.least && value <= range.most, "{}: expected a number {}, found {}", name,
            JsonFields::shown_range(range.least, range.most), value);
  }
  template <class T>
  void operator()(const char* name, const T& value) const {
    if constexpr (kIsEnum<T>) name_in(name, value);
  }
  template <class T>
  void operator()(const char* name, const T& value, Range range) const {
    one(name, value, range);
  }
  template <std::size_t N>
  void operator()(const char* name, const std::array<int, N>& values, Range range) const {
    for (const int value : values) one(name, value, range);
  }
  void operator()(const char* name, const std::vector<int>& values, Range range) const {
    for (const int value : values) one(name, value, range);
  }
};

struct Text {
  const json& changed;  // attributes_of the operator
  std::string& into;

  bool is_default(const char* name) const { return !changed.contains(name); }
  void add(const char* name, const std::string& value) const {
    into += fmt::format("{}{} {}", into.empty() ? "" : ", ", name, value);
  }
  template <class T>
  void operator()(const char* name, const T& value) const {
    if constexpr (kIsEnum<T>) {
      add(name, name_in(name, value));
    } else if (!is_default(name)) {
      add(name, value ? "yes" : "no");
    }
  }
  template <class T>
  void operator()(const char* name, const T& value, Range range) const {
    // A default of a kind that uses it or not (a slope, an epsilon) would be noise.
    const bool says_nothing = std::is_floating_point_v<T> || value == 0 || value == range.least;
    if (!is_default(name) || !says_nothing) add(name, fmt::format("{}", value));
  }
  void operator()(const char* name, const std::vector<int>& values, Range) const {
    if (!is_default(name)) add(name, fmt::format("{}", fmt::join(values, " ")));
  }
  template <std::size_t N>
  void operator()(const char* name, const std::array<int, N>& values, Range range) const {
    const bool equal = std::ranges::count(values, values[0]) == std::ptrdiff_t{N};
    if (is_default(name) && equal && (values[0] == 0 || values[0] == range.least)) return;
    if (N == 2) {
      add(name, fmt::format("{}", fmt::join(values, "x")));
    } else {
      add(name, equal ? fmt::format("{}", values[0]) : fmt::format("{}", fmt::join(values, " ")));
    }
  }
};

template <class One>
json all_attributes(const One& op) {
  json all = json::object();
  fields(Write{all}, op);
  return all;
}

// Calls `found` with a new operator of each kind until it says that it was the one.
template <std::size_t... I>
bool any_kind(const auto& found, std::index_sequence<I...>) {
  return (found(std::variant_alternative_t<I, Op>()) || ...);
}
bool any_kind(const auto& found) {
  return any_kind(found, std::make_index_sequence<std::variant_size_v<Op>>());
}

}  // namespace

json attributes_of(const Op& op) {
  return std::visit(
      [](const auto& one) {
        json all = all_attributes(one);
        const json unset = all_attributes(std::remove_cvref_t<decltype(one)>());
        for (const auto& [name, value] : unset.items()) {
          if (all[name] == value) all.erase(name);
        }
        return all;
      },
      op);
}

Op read_op(std::string_view name, JsonFields& members) {
  Op op;
  std::string known;
  const bool found = any_kind([&]<class One>(One one) {
    known += fmt::format("{}{}", known.empty() ? "" : ", ", One::kName);
    if (One::kName != name) return false;
    fields(Read{members}, one);
    op = one;
    return true;
  });
  require(found, "unknown operator {}; this program has {}; use the version that wrote the file",
          JsonFields::shown(json(name)), known);
  return op;
}

void check_attributes(const Op& op) {
  std::visit([](const auto& one) { fields(Check(), one); }, op);
}

std::string attributes_text(const Op& op) {
  const json changed = attributes_of(op);
  std::string text;
  std::visit([&](const auto& one) { fields(Text{changed, text}, one); }, op);
  return text;
}

}  // namespace tessera
