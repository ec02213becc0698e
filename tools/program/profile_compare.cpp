// `tessera profile --compare A.json B.json`.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "engine/files/json_text.h"
#include "engine/files/mapped_file.h"
#include "kernels/error.h"
#include "tools/program/profile.h"

namespace tessera {

namespace {

using nlohmann::json;

constexpr std::size_t kMostNodes = 100'000;

struct SavedProfile {
  std::string title;  // workload, precision
  std::vector<std::string> order;
  std::map<std::string, double> seconds;  // by node
  std::map<std::string, std::string> choices;
};

const json& member(const json& object, const char* key, const std::string& where) {
  require(object.is_object() && object.contains(key),
          "{}: no result of 'tessera profile --json': the key \"{}\" is missing", where, key);
  return object[key];
}

std::string text_of(const json& object, const char* key, const std::string& where) {
  const json& value = member(object, key, where);
  require(value.is_string(), "{}: \"{}\": expected a string", where, key);
  return value.get<std::string>();
}

SavedProfile read_profile(const std::string& path) {
  const MappedFile file = MappedFile::open(path, "a result of 'tessera profile --json'");
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  json document;
  try {
    document = parse_json(text);
  } catch (const Error& error) {
    fail("{}: {}", path, error.what());
  }
  SavedProfile profile;
  profile.title = text_of(document, "workload", path) + ", " + text_of(document, "precision", path);
  const json& nodes = member(document, "nodes", path);
  require(nodes.is_array() && nodes.size() <= kMostNodes,
          "{}: \"nodes\": expected a list of at most {} nodes", path, kMostNodes);
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    const std::string where = fmt::format("{}: nodes[{}]", path, i);
    const std::string name = text_of(nodes[i], "name", where);
    const json& seconds = member(nodes[i], "seconds", where);
    require(
        seconds.is_number() && seconds.get<double>() >= 0 && std::isfinite(seconds.get<double>()),
        "{}: \"seconds\": expected a number of at least 0", where);
    require(profile.seconds.emplace(name, seconds.get<double>()).second,
            "{}: the node '{}' is there twice", path, name);
    profile.order.push_back(name);
    if (nodes[i].contains("choice")) {
      const std::string choice = text_of(nodes[i], "choice", where);
      profile.choices[name] = choice.substr(0, choice.find('\n'));
    }
  }
  return profile;
}

}  // namespace

std::string compare_profiles(const std::string& before, const std::string& after) {
  const SavedProfile a = read_profile(before), b = read_profile(after);
  struct Row {
    std::string name;
    double a, b;
    std::string note;
  };
  std::vector<Row> rows;
  std::string alone;
  double sum_a = 0, sum_b = 0;
  for (const std::string& name : a.order) {
    sum_a += a.seconds.at(name);
    const auto found = b.seconds.find(name);
    if (found == b.seconds.end()) {
      alone += fmt::format("{:<24} {:>11.1f} {:>11}\n", name, 1e6 * a.seconds.at(name), "-");
      continue;
    }
    const auto choice_of = [&](const SavedProfile& profile) {
      const auto choice = profile.choices.find(name);
      return choice == profile.choices.end() ? std::string() : choice->second;
    };
    const std::string from = choice_of(a), to = choice_of(b);
    rows.push_back({name, a.seconds.at(name), found->second,
                    from == to ? "" : fmt::format("{} -> {}", from, to)});
  }
  for (const std::string& name : b.order) {
    sum_b += b.seconds.at(name);
    if (a.seconds.count(name) == 0)
      alone += fmt::format("{:<24} {:>11} {:>11.1f}\n", name, "-", 1e6 * b.seconds.at(name));
  }
  // What moved most comes first.
  std::ranges::stable_sort(rows, std::ranges::greater(),
                           [](const Row& row) { return std::abs(row.b - row.a); });
  std::string text =
      fmt::format("A  {}: {}\nB  {}: {}\n\n{:<24} {:>11} {:>11} {:>11} {:>7}\n", before, a.title,
                  after, b.title, "node", "A [us]", "B [us]", "B - A", "B / A");
  const auto line = [](const std::string& name, double first, double second) {
    return fmt::format("{:<24} {:>11.1f} {:>11.1f} {:>+11.1f} {:>7}", name, 1e6 * first,
                       1e6 * second, 1e6 * (second - first),
                       first > 0 ? fmt::format("{:.3f}", second / first) : "-");
  };
  for (const Row& row : rows)
    text += line(row.name, row.a, row.b) + (row.note.empty() ? "" : "  " + row.note) + '\n';
  text += alone + line("total", sum_a, sum_b) + '\n';
  if (a.title != b.title) text += "These are results of different workloads or precisions.\n";
  return text;
}

}  // namespace tessera
