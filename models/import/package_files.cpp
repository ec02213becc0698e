#include "models/import/package_files.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <memory>

#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

constexpr std::array<std::string_view, 2> kDescriptions{"bioimageio.yaml", "rdf.yaml"};
constexpr std::array<std::string_view, 2> kDescriptionEndings{".bioimageio.yaml", ".rdf.yaml"};
constexpr std::size_t kMostInflated = std::size_t{4} << 30;

// A name that stays in the package, without "./".
std::string inside(std::string_view source, const std::string& package) {
  require(
      source.find("://") == source.npos,
      "{}: {} lies in the net, and nothing is fetched; get it, put it into the package and write "
      "its name there",
      package, in_quotes(source));
  const std::filesystem::path path = std::filesystem::path(source).lexically_normal();
  require(!source.empty() && path.is_relative() && *path.begin() != ".." && path != "." &&
              source.find('\\') == source.npos && source.find('\0') == source.npos,
          "{}: the file {} leads out of the package; expected a name in it", package,
          in_quotes(source));
  return path.generic_string();
}

bool is_description(std::string_view name) {
  return std::ranges::count(kDescriptions, name) > 0 ||
         std::ranges::any_of(kDescriptionEndings,
                             [&](std::string_view ending) { return name.ends_with(ending); });
}

// The one to take of the descriptions `names`: one of the usual names, or the only one.
std::optional<std::string> choose_description(std::vector<std::string> names,
                                              const std::string& package) {
  for (const std::string_view usual : kDescriptions)
    if (std::ranges::count(names, usual) > 0) return std::string(usual);
  if (names.empty()) return std::nullopt;
  std::ranges::sort(names);
  require(names.size() == 1, "{}: it has {} descriptions: {}; name the one to read", package,
          names.size(), fmt::join(names, ", "));
  return names[0];
}

}  // namespace

bool may_be_description(std::span<const std::byte> bytes) {
  constexpr std::size_t kMostBytes = 1 << 20;
  if (bytes.size() > kMostBytes) return false;
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto has_key = [&](std::string_view key) {
    for (std::size_t at = text.find(key); at != text.npos; at = text.find(key, at + 1))
      if (at == 0 || text[at - 1] == '\n') return true;
    return false;
  };
  return has_key("format_version:") && has_key("weights:");
}

std::optional<std::filesystem::path> description_in(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    if (is_description(entry.path().filename().string()))
      names.push_back(entry.path().filename().string());
  const auto found = choose_description(std::move(names), folder.string());
  return found ? std::optional(folder / *found) : std::nullopt;
}

PackageFiles PackageFiles::folder(const std::filesystem::path& description) {
  PackageFiles files;
  files.folder_ = description.parent_path();
  files.description_ = description.filename().string();
  return files;
}

std::optional<PackageFiles> PackageFiles::archive(const MappedFile& file, const ZipArchive& archive,
                                                  const std::string& name) {
  // The folder that all members share, if there is one.
  std::string prefix;
  if (!archive.members().empty()) {
    const std::string_view first = archive.members()[0].name;
    prefix = first.substr(0, first.find('/') + 1);
    for (const ZipMember& member : archive.members())
      if (!member.name.starts_with(prefix)) prefix.clear();
  }
  std::vector<std::string> names;
  for (const ZipMember& member : archive.members()) {
    const std::string_view rest = member.name.substr(prefix.size());
    if (rest.find('/') == rest.npos && is_description(rest)) names.emplace_back(rest);
  }
  const auto description = choose_description(std::move(names), name);
  if (!description) return std::nullopt;
  PackageFiles files;
  files.folder_ = name;
  files.description_ = *description;
  files.archive_ = archive;
  files.file_ = file;
  files.prefix_ = prefix;
  return files;
}

std::string PackageFiles::path(std::string_view source) const {
  return (folder_ / source).string();
}

bool PackageFiles::contains(std::string_view source) const {
  const std::string name = inside(source, folder_.string());
  std::error_code missing;
  return archive_ ? archive_->find(prefix_ + name) != nullptr
                  : std::filesystem::is_regular_file(folder_ / name, missing);
}

MappedFile PackageFiles::open(std::string_view source, std::string_view expected) const {
  const std::string name = inside(source, folder_.string());
  if (!archive_) return MappedFile::open(folder_ / name, expected);
  const ZipMember* const member = archive_->find(prefix_ + name);
  require(member != nullptr, "{}: the package names the file {}, but has it not; expected {}",
          folder_.string(), in_quotes(name), expected);
  const auto inflated = std::make_shared<std::string>();
  const std::span<const std::byte> content = archive_->content(*member, kMostInflated, *inflated);
  require(!content.empty(), "{} is empty; expected {}", path(name), expected);
  return MappedFile::part(content, member->is_stored() ? file_.owner() : inflated);
}

}  // namespace tessera
