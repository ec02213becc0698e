// A package: a folder or a zip archive of files that belong together, described by one of them.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/files/mapped_file.h"
#include "models/import/zip.h"

namespace tessera {

class PackageFiles {
 public:
  // The folder around `description`, a file that was found to be one.
  static PackageFiles folder(const std::filesystem::path& description);
  // An archive with a description among its files, in the outermost folder or the only one there;
  // nothing where it has none. `file` is the whole archive, `name` its path.
  static std::optional<PackageFiles> archive(const MappedFile& file, const ZipArchive& archive,
                                             const std::string& name);

  // The path of a package's file, for errors, and for readers which look for more beside it.
  std::string path(std::string_view source) const;
  bool contains(std::string_view source) const;
  // A file's content: mapped, used in place or inflated. Throws Error where it is missing, and for
  // what leads out of the package or into the net.
  MappedFile open(std::string_view source, std::string_view expected) const;

  const std::string& description() const { return description_; }  // its name in the package

 private:
  std::filesystem::path folder_;  // or of an archive its path
  std::string description_;
  // Of an archive:
  std::optional<ZipArchive> archive_;
  MappedFile file_;
  std::string prefix_;  // of its members
};

// Whether a file's content is a description of a model of bioimage.io.
bool may_be_description(std::span<const std::byte> bytes);

// A folder's description: bioimageio.yaml, rdf.yaml or the only file of such an ending. Nothing
// where there is none. Throws Error where there are several.
std::optional<std::filesystem::path> description_in(const std::filesystem::path& folder);

}  // namespace tessera
