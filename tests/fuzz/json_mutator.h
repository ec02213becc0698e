// Changes in a JSON text that leave it JSON: bytes changed at random seldom do.
#pragma once

#include <algorithm>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* bytes, std::size_t size, std::size_t most);

namespace tessera::fuzz {

class JsonMutator {
 public:
  explicit JsonMutator(unsigned seed) : random_(seed) {}

  void mutate(nlohmann::json& root) {
    std::vector<nlohmann::json*> nodes;
    collect(root, nodes);
    nlohmann::json& node = *nodes[below(nodes.size())];
    const nlohmann::json other = *nodes[below(nodes.size())];
    if (node.is_structured() && !node.empty() && below(2) == 0) {
      const auto member = std::next(node.begin(), static_cast<std::ptrdiff_t>(below(node.size())));
      if (below(2) == 0) {
        node.erase(member);
      } else if (node.is_array()) {
        node.push_back(*member);
      } else {
        const nlohmann::json moved = *member;
        std::string name = member.key();
        mutate(name);
        node[name] = moved;
      }
      return;
    }
    switch (below(4)) {
      case 0:
        node = other;
        break;
      case 1:
        node = number();
        break;
      case 2:
        node = constant();
        break;
      default:
        if (node.is_string()) {
          mutate(node.get_ref<std::string&>());
        } else if (node.is_number_integer()) {
          const auto value = static_cast<std::uint64_t>(node.get<std::int64_t>());
          node = static_cast<std::int64_t>(value + below(3) - 1);  // it may wrap around
        } else {
          node = nlohmann::json::array({other});
        }
    }
  }

 private:
  static void collect(nlohmann::json& node, std::vector<nlohmann::json*>& nodes) {
    nodes.push_back(&node);
    if (node.is_structured())
      for (nlohmann::json& member : node) collect(member, nodes);
  }
  std::size_t below(std::size_t end) { return random_() % end; }
  std::int64_t number() {
    constexpr std::int64_t kNumbers[] = {-1,
                                         0,
                                         1,
                                         2,
                                         3,
                                         4,
                                         7,
                                         8,
                                         255,
                                         65536,
                                         std::int64_t{1} << 31,
                                         std::int64_t{1} << 40,
                                         std::numeric_limits<std::int64_t>::max(),
                                         std::numeric_limits<std::int64_t>::min()};
    return kNumbers[below(std::size(kNumbers))];
  }
  nlohmann::json constant() {
    switch (below(6)) {
      case 0:
        return nullptr;
      case 1:
        return below(2) == 0;
      case 2:
        return 0.5;
      case 3:
        return "";
      case 4:
        return nlohmann::json::array();
      default:
        return nlohmann::json::object();
    }
  }
  void mutate(std::string& text) {
    std::string wider = text + std::string(8, ' ');
    wider.resize(
        LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(wider.data()), text.size(), wider.size()));
    text = wider;
  }

  std::minstd_rand random_;
};

// What a LLVMFuzzerCustomMutator gives: `bytes` of JSON changed in some places, or as they are
// where the result has no room; other bytes changed anyhow.
inline std::size_t mutate_json(std::uint8_t* bytes, std::size_t size, std::size_t most,
                               unsigned seed) {
  nlohmann::json root = nlohmann::json::parse(bytes, bytes + size, nullptr, false);
  if (root.is_discarded()) return LLVMFuzzerMutate(bytes, size, most);
  JsonMutator mutator(seed);
  for (unsigned i = 0; i <= seed % 3; ++i) mutator.mutate(root);
  const std::string text = root.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > most) return size;
  std::copy(text.begin(), text.end(), bytes);
  return text.size();
}

}  // namespace tessera::fuzz
