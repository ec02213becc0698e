#include "models/import/yaml_text.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "models/text/unicode.h"

namespace tessera {
namespace {

using nlohmann::json;

constexpr std::size_t kMostYamlBytes = 1 << 20;
constexpr std::size_t kMostYamlValues = 1 << 16;
constexpr std::size_t kMostYamlLevels = 32;
constexpr std::size_t kBytesOfValue = 64;  // a longer text counts as several values

// All of `text` as a number of JSON's, which is one of YAML's.
template <class Number>
bool read_number(std::string_view text, Number& value) {
  if (text.starts_with('+')) text.remove_prefix(1);
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size();
}

json plain_scalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")
    return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (text == ".inf" || text == "+.inf" || text == ".Inf" || text == ".INF") return kInfinity;
  if (text == "-.inf" || text == "-.Inf" || text == "-.INF") return -kInfinity;
  if (text == ".nan" || text == ".NaN" || text == ".NAN") return std::nan("");
  // Of the words that from_chars takes ("inf", "nan", and hexadecimal digits) none is a number
  // here.
  if (text.find_first_not_of("+-.0123456789eE") != std::string::npos) return text;
  std::int64_t whole = 0;
  if (read_number(text, whole)) return whole;
  double number = 0;
  if (read_number(text, number)) return number;
  return text;
}

class JsonMaker final : public YAML::EventHandler {
 public:
  json take() { return std::move(document_); }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    put(mark, anchor, nullptr);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& text) override {
    put(mark, anchor, tag == "?" ? plain_scalar(text) : json(text),
        1 + text.size() / kBytesOfValue);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    at_line(mark, found != anchors_.end(), "an alias stands within what it repeats");
    count(mark, found->second.values);
    place(mark, json(found->second.value));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    open(mark, anchor, json::array());
  }
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    open(mark, anchor, json::object());
  }
  void OnSequenceEnd() override { close(); }
  void OnMapEnd() override { close(); }

 private:
  struct Level {
    YAML::Mark mark;
    YAML::anchor_t anchor = 0;
    json value;
    std::size_t before = 0;  // values that came before
    std::optional<std::string> key{};
  };
  struct Anchored {
    json value;
    std::size_t values = 1;
  };

  static void at_line(const YAML::Mark& mark, bool holds, std::string_view what) {
    require(holds, "line {}: {}", mark.line + 1, what);
  }
  void count(const YAML::Mark& mark, std::size_t values) {
    values_ += values;
    require(
        values_ <= kMostYamlValues,
        "line {}: more than {} values, counting what aliases repeat; a description has hundreds",
        mark.line + 1, kMostYamlValues);
  }
  void keep(YAML::anchor_t anchor, const json& value, std::size_t values) {
    if (anchor != 0) anchors_[anchor] = {value, values};
  }
  void put(const YAML::Mark& mark, YAML::anchor_t anchor, json value, std::size_t values = 1) {
    count(mark, values);
    keep(anchor, value, values);
    place(mark, std::move(value));
  }
  // Into the container that is open.
  void place(const YAML::Mark& mark, json value) {
    if (levels_.empty()) {
      document_ = std::move(value);
      return;
    }
    Level& level = levels_.back();
    if (level.value.is_array()) {
      level.value.push_back(std::move(value));
    } else if (!level.key) {
      at_line(mark, !value.is_structured(), "a list or a map is a key, expected a text");
      level.key = value.is_string() ? value.get<std::string>() : value.dump();
      require(!level.value.contains(*level.key), "line {}: the key '{}' stands there twice",
              mark.line + 1, *level.key);
    } else {
      level.value[*level.key] = std::move(value);
      level.key.reset();
    }
  }
  void open(const YAML::Mark& mark, YAML::anchor_t anchor, json empty) {
    require(levels_.size() < kMostYamlLevels, "line {}: nested deeper than {} levels",
            mark.line + 1, kMostYamlLevels);
    levels_.push_back({mark, anchor, std::move(empty), values_});
    count(mark, 1);
  }
  void close() {
    Level level = std::move(levels_.back());
    levels_.pop_back();
    keep(level.anchor, level.value, values_ - level.before);
    place(level.mark, std::move(level.value));
  }

  std::vector<Level> levels_;
  std::map<YAML::anchor_t, Anchored> anchors_;
  std::size_t values_ = 0;
  json document_;
};

}  // namespace

json parse_yaml(std::string_view text) {
  require(text.size() <= kMostYamlBytes, "the YAML text has {} bytes, at most {} are read",
          text.size(), kMostYamlBytes);
  decode_strictly(text, "the YAML text");  // What quotes the text later relies on it.
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    JsonMaker maker;
    parser.HandleNextDocument(maker);
    return maker.take();
  } catch (const YAML::Exception& error) {
    fail("no YAML: line {}: {}", error.mark.line + 1, error.msg);
  }
}

}  // namespace tessera
