#include "models/import/import.h"

#include <utility>

#include <fmt/format.h>

#include "engine/files/mapped_file.h"
#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/bioimage.h"
#include "models/import/foreign_safetensors.h"
#include "models/import/hdf5.h"
#include "models/import/keras_file.h"
#include "models/import/keras_han.h"
#include "models/import/keras_image.h"
#include "models/import/nnunet_folder.h"
#include "models/import/onnx_model.h"
#include "models/import/onnx_network.h"
#include "models/import/package_files.h"
#include "models/import/pytorch.h"
#include "models/import/zip.h"

namespace tessera {
namespace {

bool begins_with(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() &&
         std::string_view(reinterpret_cast<const char*>(bytes.data()), magic.size()) == magic;
}

bool is_tar(std::span<const std::byte> bytes) {
  constexpr std::size_t kMagicAt = 257;
  return bytes.size() > kMagicAt && begins_with(bytes.subspan(kMagicAt), "ustar");
}

// What made a file, as its content tells. kNone: our own, or nothing known.
enum class Container {
  kNone,
  kSafetensors,
  kIndex,
  kHdf5,
  kZip,
  kPyTorchPickles,
  kDescription,
  kOnnx
};

Container container_of(std::span<const std::byte> bytes, const std::string& file) {
  if (may_be_safetensors(bytes))
    return is_own_safetensors(bytes, file) ? Container::kNone : Container::kSafetensors;
  if (begins_with(bytes, "{") && file.ends_with(".index.json")) return Container::kIndex;
  if (begins_with(bytes, kHdf5Magic)) return Container::kHdf5;
  if (begins_with(bytes, "PK\3\4")) return Container::kZip;
  if (is_pytorch_pickles(bytes)) return Container::kPyTorchPickles;
  if (may_be_description(bytes)) return Container::kDescription;
  if (may_be_onnx(bytes)) return Container::kOnnx;
  return Container::kNone;
}

Contents with_config(Contents contents) {
  add_config(std::filesystem::path(contents.file).parent_path(), contents);
  return contents;
}

Contents with_plans(Contents contents) {
  add_nnunet_plans(contents);
  return contents;
}

Imported read_keras(const Contents& contents, const ImportOptions& options) {
  if (!contents.said.contains("config")) return match_family(contents, options);
  const KerasModel model = read_keras_model(contents);
  return is_keras_han(model) ? read_keras_han(model, contents, options)
                             : read_keras_image(model, contents, options);
}

Imported read_any(const MappedFile& file, const std::string& name, const ImportOptions& options);

// One file of weights, which is no package itself.
Imported read_weights(const MappedFile& file, const std::string& name,
                      const ImportOptions& options) {
  require(!may_be_description(file.bytes()), "{}: a description, expected weights", name);
  return read_any(file, name, options);
}

// By the names of the archive's members.
Imported read_zip(const MappedFile& file, const std::string& name, const ImportOptions& options) {
  const ZipArchive archive = ZipArchive::read(file.bytes(), name);
  if (is_keras_archive(archive)) return read_keras(read_keras_archive(archive, name), options);
  if (is_pytorch_zip(archive))
    return match_family(with_plans(read_pytorch_zip(file, archive, name, options.key)), options);
  if (const auto package = PackageFiles::archive(file, archive, name))
    return import_bioimage(*package, options, read_weights);
  fail(
      "{}: a zip file of {} members, none of which makes it a model: expected one of PyTorch, "
      "Keras "
      "or bioimage.io",
      name, archive.members().size());
}

Imported read_any(const MappedFile& file, const std::string& name, const ImportOptions& options) {
  switch (container_of(file.bytes(), name)) {
    case Container::kSafetensors:
      return match_family(with_config(read_safetensors(file, name)), options);
    case Container::kIndex:
      return match_family(with_config(read_sharded_safetensors(name)), options);
    case Container::kHdf5:
      return read_keras(read_keras_hdf5(file.bytes(), name), options);
    case Container::kZip:
      return read_zip(file, name, options);
    case Container::kPyTorchPickles:
      return match_family(read_pytorch_pickles(file, name, options.key), options);
    case Container::kDescription:
      return import_bioimage(PackageFiles::folder(name), options, read_weights);
    case Container::kOnnx:
      return import_onnx(file, name, options);
    case Container::kNone:
      break;
  }
  fail(
      "{}: no model of another program that Tessera reads: expected one of PyTorch, Keras, ONNX, "
      "safetensors or bioimage.io{}",
      name,
      is_tar(file.bytes()) ? "; a tar file of PyTorch before 0.1.10 is to be loaded and saved once "
                             "with PyTorch 1.6 or later"
                           : "");
}

// What was taken for granted, in a line, and what else is to be known, in another.
std::vector<std::string> summary_of(const Imported& imported, const ImportOptions& options) {
  std::string guessed;
  for (const Guess& guess : imported.guesses)
    if (!options.choices.contains(guess.name))
      guessed += fmt::format("{}{}={}", guessed.empty() ? "" : ", ", guess.name, guess.value);
  std::vector<std::string> lines{
      guessed.empty() ? fmt::format("read as {}", imported.family)
                      : fmt::format("read as {}; the file does not say, so taken: {} (--set "
                                    "NAME=VALUE overrules)",
                                    imported.family, guessed)};
  std::vector<std::string> notes = imported.notes;
  if (!imported.unused.empty())
    notes.push_back(fmt::format("{} tensor(s) of it are not used", imported.unused.size()));
  if (!notes.empty())
    lines.push_back(notes.size() == 1 ? notes[0]
                                      : fmt::format("{}; 'tessera import --dry-run' says {} more",
                                                    notes[0], notes.size() - 1));
  return lines;
}

}  // namespace

Difference Imported::run_example(const std::shared_ptr<Device>& device) const {
  Weights weights = Weights::from_views(tensors, family);
  return tessera::run_example(config, weights, *example, device);
}

std::filesystem::path model_path(const std::filesystem::path& path) {
  std::error_code unreadable;  // which opening it will name
  if (!std::filesystem::is_directory(path, unreadable)) return path;
  if (const auto description = description_in(path)) return *description;
  const auto checkpoint = nnunet_checkpoint_in(path);
  return checkpoint ? *checkpoint : weights_in(path);
}

bool is_package(const std::filesystem::path& path) {
  const MappedFile file = MappedFile::open(model_path(path), "a model file");
  const Container container = container_of(file.bytes(), path.string());
  return container == Container::kDescription || container == Container::kZip;
}

Imported import_model(const std::filesystem::path& given, const ImportOptions& options) {
  const std::filesystem::path path = model_path(given);
  const MappedFile file = MappedFile::open(path, "a model file");
  Imported imported = read_any(file, path.string(), options);
  imported.owners.push_back(file.owner());
  nlohmann::json& origin = imported.config.provenance["imported"];
  origin = {{"file", path.filename().string()}, {"family", imported.family}};
  for (const Guess& guess : imported.guesses) origin["guesses"][guess.name] = guess.value;
  return imported;
}

ModelFile open_model(const std::filesystem::path& given, const ImportOptions& options,
                     const std::function<void(std::string_view line)>& on_note) {
  const std::filesystem::path path = model_path(given);
  const MappedFile file = MappedFile::open(path, "a model file");
  if (container_of(file.bytes(), path.string()) == Container::kNone) {
    require(options.family.empty() && options.key.empty() && options.vocabulary.empty() &&
                options.choices.empty(),
            "{}: no file of another program, so that its family, key, vocabulary and choices are "
            "not to be told: leave them out",
            path.string());
    return ModelFile::open(path);
  }
  Imported imported = import_model(path, options);
  if (on_note)
    for (const std::string& line : summary_of(imported, options))
      on_note(fmt::format("{}: {}", path.string(), line));
  return {std::move(imported.config),
          Weights::from_views(imported.tensors, path.string(), std::move(imported.owners)),
          std::move(imported.vocabulary)};
}

}  // namespace tessera
