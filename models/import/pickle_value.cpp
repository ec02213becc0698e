// What a pickle's values say (pickle.cpp reads them).
#include <string>

#include "models/import/pickle.h"
#include "models/text/unicode.h"

namespace tessera {

std::string_view Pickle::class_name(const PickleValue& value) const {
  if (value.is(PickleKind::kGlobal)) return value.text;
  if (value.object == PickleValue::kNoObject) return {};
  const PickleValue* callable = &values[objects[value.object].callable];
  // torch.save before 1.6 wraps a module's class: ("module", class, file of its source, source).
  if (callable->is(PickleKind::kPersistent)) {
    const PickleValue& id = values[callable->items[0]];
    if (!id.is(PickleKind::kTuple) || id.items.size() < 2 || values[id.items[0]].text != "module")
      return {};
    callable = &values[id.items[1]];
  }
  return callable->is(PickleKind::kGlobal) ? callable->text : std::string_view();
}

const PickleValue& Pickle::state(const PickleValue& value) const {
  return values[value.object == PickleValue::kNoObject ? 0 : objects[value.object].state];
}

const PickleValue* Pickle::find(const PickleValue& dict, std::string_view key) const {
  if (!dict.is(PickleKind::kDict)) return nullptr;
  for (std::size_t i = dict.items.size(); i >= 2; i -= 2) {
    const PickleValue& candidate = values[dict.items[i - 2]];
    if (candidate.is(PickleKind::kText) && candidate.text == key) return &values[dict.items[i - 1]];
  }
  return nullptr;
}

nlohmann::json Pickle::to_json(PickleRef ref, int depth, std::size_t& budget) const {
  const PickleValue& value = values[ref];
  const std::size_t price = 1 + value.text.size() / 16;  // one text may be written many times
  if (budget < price || depth < 0) return nullptr;
  budget -= price;
  switch (value.kind) {
    case PickleKind::kBool:
      return value.integer != 0;
    case PickleKind::kInt:
      return value.integer;
    case PickleKind::kFloat:
      return value.real;
    case PickleKind::kText:
    case PickleKind::kGlobal:
      return valid_utf8(value.text);
    case PickleKind::kTuple:
    case PickleKind::kList:
    case PickleKind::kSet: {
      nlohmann::json list = nlohmann::json::array();
      for (const PickleRef item : value.items) {
        if (budget == 0) break;
        list.push_back(to_json(item, depth - 1, budget));
      }
      return list;
    }
    case PickleKind::kDict: {
      nlohmann::json object = nlohmann::json::object();
      for (std::size_t i = 0; i + 1 < value.items.size() && budget > 0; i += 2) {
        const PickleValue& key = values[value.items[i]];
        const std::string name = key.is(PickleKind::kText)  ? valid_utf8(key.text)
                                 : key.is(PickleKind::kInt) ? std::to_string(key.integer)
                                                            : std::string();
        if (!name.empty()) object[name] = to_json(value.items[i + 1], depth - 1, budget);
      }
      return object;
    }
    case PickleKind::kObject:
      return {{"class", valid_utf8(class_name(value))},
              {"state", to_json(objects[value.object].state, depth - 1, budget)}};
    case PickleKind::kNone:
    case PickleKind::kBytes:
    case PickleKind::kPersistent:
      break;
  }
  return nullptr;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const CodePoint point = decode_one(text, i);
    if (point.valid)
      out.append(text.substr(i, point.bytes));
    else
      append_utf8(out, kReplacementCharacter);
    i += point.bytes;
  }
  return out;
}

}  // namespace tessera
