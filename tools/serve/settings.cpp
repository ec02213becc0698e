#include "tools/serve/settings.h"

#include <charconv>
#include <functional>
#include <map>

#include "engine/device/machine.h"
#include "kernels/error.h"

namespace tessera::serve {

using nlohmann::json;

namespace {

// What is made of a result beside it, at most: an answer for the client (class, probabilities) and
// the labels of the objects.
constexpr std::uint64_t kAnswerBytesPerPixel = 16;

// Requests that wait for a batch; more are turned away at once. Images are large.
constexpr int kLongestQueue[] = {64, 1024};  // segment, classify
constexpr int kLargestBatch[] = {16, 256};

int to_count(const std::string& value) {
  int count = 0;
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, count);
  require(error == std::errc() && stop == end && count >= 0, "'{}' is no count", value);
  return count;
}

bool to_bool(const std::string& value) {
  require(value == "true" || value == "false", "'{}' is neither true nor false", value);
  return value == "true";
}

json input(const char* name, const char* type, const json& dims) {
  return {{"name", name},
          {"data_type", type},
          {"dims", dims},
          {"allow_ragged_batch", true},
          {"optional", true}};
}

json output(const char* name, const char* type, const json& dims) {
  return {{"name", name}, {"data_type", type}, {"dims", dims}};
}

bool is_empty(const json& config, const char* key) {
  return !config.contains(key) || config[key].empty();
}

}  // namespace

void Settings::set(const std::string& name, const std::string& value) {
  const std::map<std::string, std::function<void()>> setters = {
      {"device", [&] { session.device = value; }},
      {"precision", [&] { session.precision = value; }},
      {"threads", [&] { session.threads = to_count(value); }},
      {"max_memory", [&] { session.max_memory = parse_bytes(value); }},
      {"tile", [&] { session.tile = to_count(value); }},
      {"range", [&] { session.range = value; }},
      {"probabilities", [&] { session.probabilities = to_bool(value); }},
      {"max_request_bytes", [&] { max_request_bytes = parse_bytes(value); }}};
  const auto setter = setters.find(name);
  if (setter == setters.end()) {
    std::string known;
    for (const auto& [one, unused] : setters) known += (known.empty() ? "" : ", ") + one;
    fail("'{}' is no parameter of a Tessera model; these are: {}", name, known);
  }
  try {
    setter->second();
  } catch (const std::exception& error) {
    fail("parameter {}: {}", name, error.what());
  }
}

Settings read_settings(const json& command_line, const json& config) {
  Settings settings;
  settings.session.probabilities = true;
  settings.session.caller_bytes_per_pixel = kAnswerBytesPerPixel;
  const json started_with = command_line.value("cmdline", json::object());
  for (const auto& [name, value] : started_with.items()) {
    if (name.find('-') == std::string::npos) settings.set(name, value.get<std::string>());
  }
  const json parameters = config.value("parameters", json::object());
  for (const auto& [name, value] : parameters.items())
    settings.set(name, value.at("string_value").get<std::string>());
  return settings;
}

void complete(json& config, Session::Task task, const Settings& settings) {
  const bool segments = task == Session::Task::kSegment;
  if (is_empty(config, "input")) {
    const json image = {-1, -1, -1}, one = {1};
    config["input"] =
        segments
            ? json{input("IMAGE", "TYPE_UINT8", image), input("IMAGE_UINT16", "TYPE_UINT16", image),
                   input("IMAGE_FP32", "TYPE_FP32", image), input("ENCODED", "TYPE_STRING", one)}
            : json{input("TEXT", "TYPE_STRING", one)};
  }
  if (is_empty(config, "output")) {
    config["output"] =
        segments
            ? json{output(kMask, "TYPE_UINT8", {-1, -1}), output(kObjects, "TYPE_STRING", {1})}
            : json{output(kLabel, "TYPE_STRING", {1}), output(kProbabilities, "TYPE_FP32", {-1}),
                   output(kAttention, "TYPE_STRING", {1})};
    if (segments && settings.session.probabilities)
      config["output"].push_back(output(kProbabilities, "TYPE_FP32", {-1, -1, -1}));
  }
  const std::size_t kind = segments ? 0 : 1;
  if (config.value("max_batch_size", 0) == 0) config["max_batch_size"] = kLargestBatch[kind];
  if (!config.contains("dynamic_batching") && !config.contains("sequence_batching")) {
    config["dynamic_batching"] = {
        {"default_queue_policy", {{"max_queue_size", kLongestQueue[kind]}}}};
  }
}

}  // namespace tessera::serve
