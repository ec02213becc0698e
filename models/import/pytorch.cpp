#include "models/import/pytorch.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <set>
#include <unordered_map>
#include <utility>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/pickle.h"
#include "models/import/torch_tensors.h"

namespace tessera {
namespace {

using nlohmann::json;
constexpr std::size_t kMaxPickleBytes = std::size_t{1} << 30;
constexpr std::size_t kMaxInflated = std::size_t{1} << 30;  // of a file's storages together
constexpr std::size_t kPlainValues = std::size_t{1} << 23;  // those beside the tensors
constexpr int kPlainDepth = 16;                             // of them, one inside the other
constexpr int kModuleDepth = 64;
constexpr std::size_t kMaxTensors = 1 << 17;
constexpr std::size_t kMaxModules = 1 << 17;
constexpr std::size_t kMostEntries = std::size_t{1} << 26;  // read, those of shared dicts each time
constexpr std::string_view kScripted = "__torch__.";

// "__torch__.torch.nn.modules.conv.___torch_mangle_3.Conv2d" -> "torch.nn.modules.conv.Conv2d".
std::string plain_class(std::string_view name) {
  std::string plain(name.starts_with(kScripted) ? name.substr(kScripted.size()) : name);
  constexpr std::string_view kMangled = ".___torch_mangle_";
  if (const std::size_t begin = plain.find(kMangled); begin != std::string::npos) {
    const std::size_t end = plain.find_first_not_of("0123456789", begin + kMangled.size());
    plain.erase(begin, std::min(end, plain.size()) - begin);
  }
  return valid_utf8(plain);
}

std::string joined(const std::string& path, std::string_view name) {
  return path.empty() ? valid_utf8(name) : fmt::format("{}.{}", path, valid_utf8(name));
}

// Entries of a checkpoint that are no network, and large.
bool is_of_training(std::string_view name) {
  constexpr std::string_view kBeginnings[] = {"optim", "lr_sched", "sched", "callbacks",
                                              "loops", "scaler",   "amp"};
  return std::any_of(std::begin(kBeginnings), std::end(kBeginnings),
                     [&](std::string_view beginning) { return name.starts_with(beginning); });
}

// Finds the network in what a checkpoint's pickle holds, and its tensors.
class TorchCheckpoint {
 public:
  TorchCheckpoint(const Pickle& pickle, const std::string& file, TorchTensors::BytesOf bytes_of)
      : pickle_(pickle), tensors_(pickle, file, std::move(bytes_of)) {
    contents_.file = file;
  }

  Contents read(const std::string& key, std::string format) && {
    contents_.format = std::move(format);
    const PickleValue& root = pickle_[pickle_.root];
    find_networks(root, "", 0);
    const Network network = chosen(key);
    if (network.value != &root) add_plain(root);
    if (is_module(*network.value)) {
      add_module(*network.value, "", 0);
    } else {
      add_state_dict(*network.value);
    }
    require(!contents_.tensors.empty(),
            "{}: its network has no tensors: a frozen TorchScript archive has none with names. "
            "Export the state dict (torch.save(model.state_dict(), ..)) or ONNX, and import that",
            contents_.file);
    return std::move(contents_);
  }

 private:
  struct Network {
    std::string path;  // keys with '/' between; empty: the whole
    const PickleValue* value;
  };

  bool is_scripted(const PickleValue& value) const {
    return value.is(PickleKind::kObject) && pickle_.class_name(value).starts_with(kScripted);
  }
  bool is_module(const PickleValue& value) const {
    if (!value.is(PickleKind::kObject)) return false;
    const PickleValue& state = pickle_.state(value);
    return is_scripted(value) || (pickle_.find(state, "_modules") != nullptr &&
                                  pickle_.find(state, "_parameters") != nullptr);
  }
  // Calls visit(name, value) for the entries of a dict that have texts as keys, of equal ones for
  // the last, or of a list.
  template <class Visit>
  void for_each(const PickleValue& value, const Visit& visit) {
    require(value.items.size() <= work_,
            "{}: it names the same entries again and again, as files made to harm do",
            contents_.file);
    work_ -= value.items.size();
    if (value.is_sequence()) {
      for (std::size_t i = 0; i < value.items.size(); ++i)
        visit(std::to_string(i), pickle_[value.items[i]]);
    } else if (value.is(PickleKind::kDict)) {
      std::unordered_map<std::string_view, std::size_t> last;
      for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) {
        const PickleValue& key = pickle_[value.items[i]];
        if (key.is(PickleKind::kText)) last[key.text] = i;
      }
      for (std::size_t i = 0; i + 1 < value.items.size(); i += 2) {
        const PickleValue& key = pickle_[value.items[i]];
        if (key.is(PickleKind::kText) && last[key.text] == i)
          visit(key.text, pickle_[value.items[i + 1]]);
      }
    }
  }
  std::size_t count_tensors(const PickleValue& value) const {
    std::size_t count = 0;
    if (value.is(PickleKind::kDict))
      for (std::size_t i = 1; i < value.items.size(); i += 2)
        count += tensors_.is_tensor(pickle_[value.items[i]]) ? 1 : 0;
    return count;
  }

  // A network is a module, or a dict of tensors that holds no network. Returns whether there is
  // one in `value`.
  bool find_networks(const PickleValue& value, const std::string& path, int depth) {
    constexpr int kDepth = 4;
    constexpr std::size_t kMost = 256;
    if (depth > kDepth || networks_.size() >= kMost) return false;
    bool inside = false;
    if (!is_module(value)) {
      for_each(value, [&](std::string_view name, const PickleValue& entry) {
        if (entry.is(PickleKind::kDict) || entry.is_sequence() || is_module(entry))
          if (!is_of_training(name))
            inside |= find_networks(
                entry, path.empty() ? valid_utf8(name) : path + "/" + valid_utf8(name), depth + 1);
      });
      if (inside || count_tensors(value) == 0) return inside;
    }
    networks_.push_back({path, &value});
    return true;
  }

  Network chosen(const std::string& key) {
    require(!networks_.empty(),
            "{}: it holds no network: expected a dict of tensors (a state dict), one inside of a "
            "checkpoint, or a whole module; found {}",
            contents_.file, what_it_is());
    std::vector<std::string> names;
    std::vector<const Network*> fitting;
    for (const Network& network : networks_) {
      names.push_back(fmt::format("\n  {} ({})", in_quotes(network.path),
                                  is_module(*network.value)
                                      ? std::string(pickle_.class_name(*network.value))
                                      : fmt::format("{} tensors", count_tensors(*network.value))));
      const std::string last = network.path.substr(network.path.rfind('/') + 1);
      if (key.empty() || key == network.path) fitting.push_back(&network);
      if (!key.empty() && key != network.path && key == last) fitting.push_back(&network);
    }
    if (fitting.size() == 1) return *fitting[0];
    constexpr std::size_t kShown = 20;
    if (names.size() > kShown) names.resize(kShown), names.push_back("\n  ...");
    if (key.empty())
      fail("{}: it holds {} networks; name one with --key:{}", contents_.file, networks_.size(),
           fmt::join(names, ""));
    fail("{}: --key {} names {} of its networks, expected one of:{}", contents_.file,
         in_quotes(key), fitting.size(), fmt::join(names, ""));
  }
  std::string what_it_is() {
    const PickleValue& root = pickle_[pickle_.root];
    if (root.is(PickleKind::kObject))
      return fmt::format("a {}", valid_utf8(pickle_.class_name(root)));
    if (!root.is(PickleKind::kDict)) return "no dict";
    std::vector<std::string> keys;
    for_each(root, [&](std::string_view name, const PickleValue&) {
      if (keys.size() < 8) keys.push_back(in_quotes(name));
    });
    return fmt::format("a dict with {}", fmt::join(keys, ", "));
  }

  void add_tensor(std::string name, const PickleValue& value) {
    require(contents_.tensors.size() < kMaxTensors, "{}: more than {} tensors", contents_.file,
            kMaxTensors);
    if (names_.insert(name).second)
      contents_.tensors.push_back(tensors_.read(std::move(name), value));
  }
  json plain(const PickleValue& value) {
    return pickle_.to_json(static_cast<PickleRef>(&value - pickle_.values.data()), kPlainDepth,
                           budget_);
  }
  // Numbers, texts, lists and dicts beside the tensors.
  void add_plain(const PickleValue& dict) {
    if (!dict.is(PickleKind::kDict)) return;
    json& entries = contents_.said["entries"];
    for_each(dict, [&](std::string_view name, const PickleValue& entry) {
      const bool is_network =
          std::any_of(networks_.begin(), networks_.end(),
                      [&](const Network& network) { return network.value == &entry; });
      if (!is_network && !is_of_training(name) && !tensors_.is_tensor(entry))
        entries[valid_utf8(name)] = plain(entry);
    });
  }
  void add_state_dict(const PickleValue& dict) {
    add_plain(dict);
    for_each(dict, [&](std::string_view name, const PickleValue& entry) {
      if (tensors_.is_tensor(entry)) add_tensor(valid_utf8(name), entry);
    });
    if (const PickleValue* modules = pickle_.find(pickle_.state(dict), "_metadata"))
      for_each(*modules, [&](std::string_view path, const PickleValue& said) {
        const PickleValue* version = pickle_.find(said, "version");
        contents_.said["modules"][valid_utf8(path)] =
            version != nullptr && version->is(PickleKind::kInt) ? json(version->integer) : json();
      });
  }

  void add_module(const PickleValue& module, const std::string& path, int depth) {
    require(depth <= kModuleDepth && ++modules_ <= kMaxModules,
            "{}: its modules lie more than {} deep, or are more than {}; save its weights alone: "
            "torch.save(model.state_dict(), ..)",
            contents_.file, kModuleDepth, kMaxModules);
    const PickleValue& state = pickle_.state(module);
    const bool scripted = is_scripted(module);
    json attributes = json::object();
    std::vector<std::pair<std::string, const PickleValue*>> inner;
    for_each(state, [&](std::string_view name, const PickleValue& entry) {
      if (tensors_.is_tensor(entry)) {  // an attribute of a module that is no weight, else a weight
        if (scripted) add_tensor(joined(path, name), entry);
      } else if (scripted && is_scripted(entry)) {
        inner.emplace_back(joined(path, name), &entry);
      } else if (!name.starts_with("_")) {
        attributes[valid_utf8(name)] = plain(entry);
      }
    });
    json& object = contents_.said["objects"][path];
    object = {{"class", plain_class(pickle_.class_name(module))},
              {"attributes", std::move(attributes)}};
    if (const json words = words_of_source(module); !words.empty()) object["source"] = words;

    const PickleValue* unsaved = pickle_.find(state, "_non_persistent_buffers_set");
    const auto is_unsaved = [&](std::string_view name) {
      return unsaved != nullptr &&
             std::any_of(unsaved->items.begin(), unsaved->items.end(),
                         [&](PickleRef item) { return pickle_[item].text == name; });
    };
    for (const char* kind : {"_parameters", "_buffers"}) {
      const PickleValue* weights = scripted ? nullptr : pickle_.find(state, kind);
      if (weights == nullptr) continue;
      for_each(*weights, [&](std::string_view name, const PickleValue& entry) {
        if (tensors_.is_tensor(entry) && !is_unsaved(name)) add_tensor(joined(path, name), entry);
      });
    }
    if (const PickleValue* modules = scripted ? nullptr : pickle_.find(state, "_modules"))
      for_each(*modules, [&](std::string_view name, const PickleValue& entry) {
        if (is_module(entry)) inner.emplace_back(joined(path, name), &entry);
      });
    for (const auto& [name, entry] : inner) add_module(*entry, name, depth + 1);
  }
  // Files before 1.6 carry the source text of each class. It is its author's, and dropped; only
  // which of these words are in it is kept, because they tell forks apart whose tensors are equal.
  json words_of_source(const PickleValue& module) {
    // Of a class with several objects the first alone has the source.
    json& words = words_[std::string(pickle_.class_name(module))];
    if (words.is_null()) words = json::array();
    const PickleValue& callable = pickle_[pickle_.objects[module.object].callable];
    if (!callable.is(PickleKind::kPersistent)) return words;
    const PickleValue& id = pickle_[callable.items[0]];
    if (id.items.size() < 4 || !pickle_[id.items[3]].is(PickleKind::kText)) return words;
    for (const std::string_view word : {"matrix_mul", "apply_tanh=False", "tanh"})
      if (pickle_[id.items[3]].text.find(word) != std::string_view::npos) words.push_back(word);
    return words;
  }

  const Pickle& pickle_;
  TorchTensors tensors_;
  Contents contents_;
  std::vector<Network> networks_;
  std::set<std::string> names_;
  std::map<std::string, json> words_;  // of each class's source
  std::size_t budget_ = kPlainValues;
  std::size_t work_ = kMostEntries;
  std::size_t modules_ = 0;
};

// The folder of a torch archive: what precedes "data.pkl". Null where there is none.
const ZipMember* data_pickle(const ZipArchive& archive) {
  const ZipMember* found = nullptr;
  for (const ZipMember& member : archive.members())
    if (member.name == "data.pkl" || member.name.ends_with("/data.pkl"))
      if (found == nullptr || member.name.size() < found->name.size()) found = &member;
  return found;
}

// What torch.save before 1.6 begins with: the pickle of its magic number 0x1950a86a20f9469cfc6c.
constexpr std::string_view kMagicPickle(
    "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
    ".",
    15);

}  // namespace

bool is_pytorch_zip(const ZipArchive& archive) {
  return data_pickle(archive) != nullptr;
}

bool is_pytorch_pickles(std::span<const std::byte> bytes) {
  return bytes.size() >= kMagicPickle.size() &&
         std::memcmp(bytes.data(), kMagicPickle.data(), kMagicPickle.size()) == 0;
}

Contents read_pytorch_zip(const MappedFile& file, const ZipArchive& archive,
                          const std::string& name, const std::string& key) {
  const ZipMember* root = data_pickle(archive);
  require(root != nullptr, "{}: the archive has no data.pkl; expected one of torch.save", name);
  const std::string folder(root->name.substr(0, root->name.size() - std::strlen("data.pkl")));
  const auto text_of = [&](const char* member, std::string& text) -> std::string_view {
    constexpr std::size_t kMostBytes = 64;
    const ZipMember* found = archive.find(folder + member);
    if (found == nullptr) return {};
    const auto content = archive.content(*found, kMostBytes, text);
    return {reinterpret_cast<const char*>(content.data()), content.size()};
  };
  std::string text;
  require(text_of("byteorder", text) != "big",
          "{}: its numbers are big-endian; save it again on a little-endian machine", name);
  const bool scripted = std::any_of(
      archive.members().begin(), archive.members().end(),
      [&](const ZipMember& member) { return member.name.starts_with(folder + "code/"); });

  std::string inflated;
  const std::span<const std::byte> bytes = archive.content(*root, kMaxPickleBytes, inflated);
  const Pickle pickle = Pickle::read(bytes, name);
  std::map<std::string, std::shared_ptr<std::string>, std::less<>> storages;  // the inflated ones
  std::size_t left = kMaxInflated;
  const auto bytes_of = [&](const TorchStorage& storage, std::size_t unit) {
    const std::string path = fmt::format("{}data/{}", folder, storage.key);
    const ZipMember* member = archive.find(path);
    require(member != nullptr, "{}: it has no member {}; get it again", name, in_quotes(path));
    std::span<const std::byte> content = member->bytes;
    if (!member->is_stored()) {
      std::shared_ptr<std::string>& kept = storages[path];
      if (kept == nullptr) {
        kept = std::make_shared<std::string>();
        archive.content(*member, left, *kept);
        left -= kept->size();
      }
      content = std::as_bytes(std::span(*kept));
    }
    std::size_t expected = 0;
    require(!__builtin_mul_overflow(static_cast<std::size_t>(storage.elements), unit, &expected) &&
                expected <= content.size(),
            "{}: its member {} has {} bytes, {} elements of {} were expected; get it again", name,
            in_quotes(path), content.size(), storage.elements, unit);
    return content.first(expected);
  };
  Contents contents = TorchCheckpoint(pickle, name, bytes_of)
                          .read(key, scripted ? "PyTorch (TorchScript)" : "PyTorch");
  contents.owners.push_back(file.owner());
  for (auto& [path, kept] : storages) contents.owners.push_back(kept);
  return contents;
}

Contents read_pytorch_pickles(const MappedFile& file, const std::string& name,
                              const std::string& key) {
  std::span<const std::byte> rest = file.bytes();
  const auto next = [&] {
    Pickle pickle = Pickle::read(rest, name);
    rest = rest.subspan(pickle.consumed);
    return pickle;
  };
  next();  // the magic number
  const Pickle protocol = next();
  constexpr std::int64_t kProtocol = 1001;
  require(
      protocol[protocol.root].is(PickleKind::kInt) && protocol[protocol.root].integer == kProtocol,
      "{}: it is of torch.save, in a form that is not known; load it and save it again", name);
  const Pickle machine = next();
  const PickleValue* little = machine.find(machine[machine.root], "little_endian");
  require(little == nullptr || little->integer != 0,
          "{}: its numbers are big-endian; save it again on a little-endian machine", name);
  const Pickle pickle = next();
  const Pickle keys = next();

  // Then the storages, in the order of their keys: a count of elements and the bytes of each.
  std::unordered_map<std::string_view, std::size_t> units;
  for (const PickleValue& value : pickle.values)
    if (const std::optional<TorchStorage> storage = torch_storage(pickle, value))
      if (storage->type) units.emplace(storage->key, size_of(*storage->type));
  std::unordered_map<std::string_view, std::span<const std::byte>> storages;
  require(keys[keys.root].is_sequence(), "{}: its list of storages is none; get it again", name);
  for (const PickleRef item : keys[keys.root].items) {
    const std::string_view storage = keys[item].text;
    const auto unit = units.find(storage);
    require(unit != units.end(),
            "{}: its storage {} has no type that is read; convert the network with .float() and "
            "save it again",
            name, in_quotes(storage));
    std::uint64_t count = 0;
    require(rest.size() >= sizeof count, "{}: it ends before its storage {}; get it again", name,
            in_quotes(storage));
    std::memcpy(&count, rest.data(), sizeof count);
    rest = rest.subspan(sizeof count);
    require(count <= rest.size() / unit->second,
            "{}: its storage {} has {} elements of {} bytes, but {} bytes are left; get it again",
            name, in_quotes(storage), count, unit->second, rest.size());
    storages[storage] = rest.first(static_cast<std::size_t>(count) * unit->second);
    rest = rest.subspan(storages[storage].size());
  }
  const auto bytes_of = [&](const TorchStorage& storage, std::size_t) {
    const auto found = storages.find(storage.key);
    require(found != storages.end(), "{}: its storage {} is missing; get it again", name,
            in_quotes(storage.key));
    return found->second;
  };
  Contents contents = TorchCheckpoint(pickle, name, bytes_of).read(key, "PyTorch (before 1.6)");
  contents.owners.push_back(file.owner());
  return contents;
}

}  // namespace tessera
