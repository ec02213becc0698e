#include "models/import/pickle_data.h"

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <vector>

#include "models/text/unicode.h"

namespace tessera {
namespace {

// Of `text`, the part behind the last dot.
std::string_view last_part(std::string_view name) {
  return name.substr(name.rfind('.') + 1);
}

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// "builtins.dict" -> "dict": Python 2 and 3 have two names for the room of built-in classes.
std::string_view built_in(std::string_view name) {
  for (const std::string_view room : {"builtins.", "__builtin__."})
    if (name.starts_with(room)) return name.substr(room.size());
  return {};
}

std::optional<std::vector<PickleRef>> pairs_of(const Pickle& pickle, const PickleValue& from,
                                               const PickleStore& store) {
  store.count(from.items.size());
  if (from.is(PickleKind::kDict)) return from.items;
  if (!from.is_sequence()) return std::nullopt;
  std::vector<PickleRef> pairs;
  for (const PickleRef item : from.items) {
    const PickleValue& pair = pickle[item];
    if (!pair.is_sequence() || pair.items.size() != 2) return std::nullopt;
    pairs.insert(pairs.end(), pair.items.begin(), pair.items.end());
  }
  return pairs;
}
// numpy.dtype's REDUCE and state: "<f8".
std::optional<PickleValue> numpy_scalar(const Pickle& pickle, const PickleValue& type,
                                        std::string_view bytes) {
  const PickleValue& args = pickle[pickle.objects[type.object].arguments];
  const PickleValue& state = pickle.state(type);
  if (args.items.empty()) return std::nullopt;
  if (state.items.size() > 1 && pickle[state.items[1]].text == ">") return std::nullopt;
  const std::string_view name = pickle[args.items[0]].text;
  if (name.size() != 2 || bytes.size() != static_cast<std::size_t>(name[1] - '0'))
    return std::nullopt;
  std::uint64_t raw = 0;
  if (bytes.empty() || bytes.size() > sizeof raw) return std::nullopt;
  std::memcpy(&raw, bytes.data(), bytes.size());
  const int unused = 64 - 8 * static_cast<int>(bytes.size());
  if (name == "f8") return pickle_real(std::bit_cast<double>(raw));
  if (name == "f4") return pickle_real(std::bit_cast<float>(static_cast<std::uint32_t>(raw)));
  if (name[0] == 'i') return pickle_integer(static_cast<std::int64_t>(raw << unused) >> unused);
  if (name[0] == 'u' || name[0] == 'b') return pickle_integer(static_cast<std::int64_t>(raw));
  return std::nullopt;
}

// The code points below 256 as bytes.
std::string latin_bytes(std::string_view text) {
  std::string bytes;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint point = decode_one(text, i);
    bytes += point.code < 0x100 ? static_cast<char>(point.code) : '?';
    i += point.bytes;
  }
  return bytes;
}

}  // namespace

PickleValue pickle_integer(std::int64_t number) {
  PickleValue value;
  value.kind = PickleKind::kInt;
  value.integer = number;
  return value;
}

PickleValue pickle_real(double number) {
  PickleValue value;
  value.kind = PickleKind::kFloat;
  value.real = number;
  return value;
}

std::optional<PickleValue> pickle_data(const Pickle& pickle, std::string_view name,
                                       const PickleValue& args, const PickleStore& store) {
  const std::string_view plain = built_in(name);
  const PickleValue* first = args.items.empty() ? nullptr : &pickle[args.items[0]];
  PickleValue made;
  const bool is_default = name == "collections.defaultdict";
  if (is_default || plain == "dict" ||
      is_one_of(name, {"collections.OrderedDict", "collections.Counter"})) {
    made.kind = PickleKind::kDict;
    if (first == nullptr || is_default) return made;
    std::optional<std::vector<PickleRef>> pairs = pairs_of(pickle, *first, store);
    if (!pairs) return std::nullopt;
    made.items = *std::move(pairs);
  } else if (is_one_of(plain, {"list", "set", "frozenset", "tuple"})) {
    made.kind = plain == "list"    ? PickleKind::kList
                : plain == "tuple" ? PickleKind::kTuple
                                   : PickleKind::kSet;
    if (first == nullptr) return made;
    if (!first->is_sequence() && !first->is(PickleKind::kSet)) return std::nullopt;
    made.items = first->items;
  } else if (is_one_of(plain, {"int", "long", "float", "bool"})) {
    if (first == nullptr) return pickle_integer(0);
    if (!first->is(PickleKind::kInt) && !first->is(PickleKind::kFloat) &&
        !first->is(PickleKind::kBool))
      return std::nullopt;
    return *first;
  } else if (name == "_codecs.encode" || plain == "bytearray" || plain == "bytes") {
    made.kind = PickleKind::kBytes;
    if (first == nullptr) return made;
    if (!first->is(PickleKind::kText) && !first->is(PickleKind::kBytes)) return std::nullopt;
    made.text = first->is(PickleKind::kBytes) ? first->text : store.keep(latin_bytes(first->text));
  } else if (last_part(name) == "scalar" && name.starts_with("numpy.") && args.items.size() == 2) {
    const PickleValue& value = pickle[args.items[1]];
    if (pickle.class_name(*first) != "numpy.dtype" || !first->is(PickleKind::kObject) ||
        !value.is(PickleKind::kBytes))
      return std::nullopt;
    return numpy_scalar(pickle, *first, value.text);
  } else {
    return std::nullopt;
  }
  store.count(made.items.size());
  return made;
}

std::optional<std::string> pickle_unescaped(std::string_view line, bool unicode) {
  std::string out;
  for (std::size_t i = 0; i < line.size();) {
    const auto code = static_cast<std::uint8_t>(line[i]);
    if (code != '\\' || i + 1 == line.size()) {
      append_utf8(out, code);  // latin-1
      ++i;
      continue;
    }
    const char kind = line[i + 1];
    const std::size_t digits = unicode ? (kind == 'u'   ? 4
                                          : kind == 'U' ? 8
                                                        : 0)
                                       : (kind == 'x' ? 2 : 0);
    if (digits > 0) {
      std::uint32_t value = 0;
      const char* const first = line.data() + i + 2;
      if (line.size() - i - 2 < digits ||
          std::from_chars(first, first + digits, value, 16).ptr != first + digits)
        return std::nullopt;
      append_utf8(out, value <= 0x10FFFF ? static_cast<char32_t>(value) : kReplacementCharacter);
      i += 2 + digits;
    } else if (unicode) {
      out += '\\';
      ++i;
    } else {
      constexpr std::string_view kNames = "nrt0abfv", kCodes("\n\r\t\0\a\b\f\v", 8);
      const std::size_t known = kNames.find(kind);
      out += known == std::string_view::npos ? kind : kCodes[known];
      i += 2;
    }
  }
  return out;
}

}  // namespace tessera
