// Python pickles, protocols 0 to 5, read without Python: a machine that resolves no class and calls
// nothing. What a pickle would make by a call stays an inert object that names the class and holds
// its arguments, state and items; only containers and numbers of the standard library and of numpy
// (OrderedDict, Counter, set, numpy.float64, ...) become the data that they are.
//
//   Pickle pickle = Pickle::read(bytes, "tokenizer.pickle");
//   const PickleValue& root = pickle[pickle.root];
//   if (pickle.class_name(root).ends_with("Tokenizer"))
//     if (const PickleValue* index = pickle.find(pickle.state(root), "word_index"))
//       for (std::size_t i = 0; i < index->items.size(); i += 2)
//         use(pickle[index->items[i]].text, pickle[index->items[i + 1]].integer);
#pragma once

#include <cstdint>
#include <deque>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

// A value's place in Pickle's table. Values share others and may hold themselves, so whoever walks
// them bounds depth and number.
using PickleRef = std::uint32_t;

struct PickleValue {
  enum class Kind : std::uint8_t {
    kNone,
    kBool,        // integer
    kInt,         // integer
    kFloat,       // real; also whole numbers beyond 64 bits
    kText,        // text: UTF-8 as the file has it, unchecked
    kBytes,       // text
    kTuple,       // items
    kList,        // items
    kSet,         // items
    kDict,        // items: key, value, key, value, ...; of equal keys the last one counts
    kGlobal,      // text: "torch.nn.modules.conv.Conv2d", a class or function by name
    kObject,      // what a call would have made: see `object`
    kPersistent,  // items[0]: what the file's writer keeps elsewhere (torch.save: storages)
  };
  static constexpr std::uint32_t kNoObject = ~std::uint32_t{0};

  Kind kind = Kind::kNone;
  // Into Pickle::objects, if a call would have made the value; lists and dicts may have one, too.
  std::uint32_t object = kNoObject;
  union {
    std::int64_t integer = 0;
    double real;
  };
  std::string_view text;
  std::vector<PickleRef> items;

  bool is(Kind other) const { return kind == other; }
  bool is_sequence() const { return is(Kind::kTuple) || is(Kind::kList); }
};
using PickleKind = PickleValue::Kind;

struct PickleObject {
  PickleRef callable = 0;   // a kGlobal, or what stands for it
  PickleRef arguments = 0;  // a tuple
  PickleRef state = 0;      // what BUILD gave; kNone's place where nothing did
};

struct PickleLimits {
  std::size_t opcodes = std::size_t{1} << 26;
  std::size_t values = std::size_t{12} << 20;      // made, and copied from one container to another
  std::size_t marks = 4096;                        // open containers, one inside the other
  std::size_t made_text = std::size_t{256} << 20;  // bytes that are not in the file as they are
};

// One pickle. The bytes that it was read from must outlive it.
class Pickle {
 public:
  // Reads the pickle at the start of `bytes`; others may follow. `file` names it in errors. Throws
  // Error for what is malformed, beyond `limits`, or in need of anything outside of the file.
  static Pickle read(std::span<const std::byte> bytes, const std::string& file,
                     const PickleLimits& limits = {});

  Pickle(Pickle&&) = default;
  Pickle& operator=(Pickle&&) = default;

  const PickleValue& operator[](PickleRef ref) const { return values[ref]; }

  // "module.name" of the class or function that would have made the value, or of a kGlobal; empty
  // for plain data.
  std::string_view class_name(const PickleValue& value) const;
  // What BUILD gave to an object; a kNone where it gave nothing.
  const PickleValue& state(const PickleValue& value) const;
  // The value of a dict's text key; null where there is none, and where `dict` is no dict.
  const PickleValue* find(const PickleValue& dict, std::string_view key) const;

  // Plain values as JSON: objects as {"class": .., "state": ..}, bytes and what else JSON lacks as
  // null, keys as text, invalid UTF-8 replaced. Cut, with null, below `depth` and behind `budget`
  // values; `budget` counts down.
  nlohmann::json to_json(PickleRef ref, int depth, std::size_t& budget) const;

  std::vector<PickleValue> values;  // values[0] is a kNone
  std::vector<PickleObject> objects;
  std::deque<std::string> texts;  // those that are not in the file as they are
  PickleRef root = 0;
  std::size_t consumed = 0;  // bytes, STOP included

 private:
  Pickle() = default;
  friend class PickleMachine;
};

// `text` with what is not UTF-8 replaced by U+FFFD: fit for JSON and messages.
std::string valid_utf8(std::string_view text);

}  // namespace tessera
