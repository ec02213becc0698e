// Models that other programs made, read as they are: PyTorch, Keras, ONNX, safetensors,
// packages of bioimage.io.
//
//   ModelFile model = open_model("checkpoint.pth");
//
// A file is recognised by its content, never by its name. One that carries its graph (ONNX, Keras'
// whole models) is read by that; one of names and shapes alone by the table of families.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/example_run.h"
#include "models/import/contents.h"
#include "models/model_file.h"
#include "models/session.h"

namespace tessera {

// Something that the file does not say.
struct Guess {
  std::string name;   // "concat": what --set NAME=VALUE overrules
  std::string value;  // what was taken
  std::string why;    // "the family's; other values: up_first"
};

struct Imported {
  std::string family;   // "milesial/Pytorch-UNet", "ONNX graph", ...
  ModelConfig config;   // provenance is filled in by import_model
  TensorViews tensors;  // those of the network, f32, by their names in the model file
  std::optional<Vocabulary> vocabulary;  // of a HAN
  std::vector<Guess> guesses;
  std::vector<std::string> unused;  // tensors of the file that the network does not have
  std::vector<std::string> notes;
  std::vector<std::shared_ptr<const void>> owners;  // of the tensors' memory
  std::shared_ptr<const Example> example;           // that the model brings along, or none

  // What its network makes of the example that it brings along, which there must be.
  Difference run_example(const std::shared_ptr<Device>& device) const;

  // Adds a tensor in memory of its own.
  void add(const std::string& name, FloatTensor tensor);
  // Adds a tensor of the file as it is: in place where it lies there as dense, aligned f32.
  void add(const std::string& name, const StoredTensor& tensor);
};

// A network known by its tensors' names and shapes. `match` returns nothing where the names are
// those of another, with the reason in `why` where it was close; it throws Error where the names
// are its own and the file cannot be taken.
struct Family {
  std::string_view name;     // the repository that wrote it: "milesial/Pytorch-UNet"
  std::string_view summary;  // a line for `tessera import --list`
  std::optional<Imported> (*match)(const Contents& contents, const ImportOptions& options,
                                   std::string& why);
};
const std::vector<Family>& families();

// The file that `path` stands for: itself, or of a folder its description or its only weights.
// Throws Error where a folder has none, or several.
std::filesystem::path model_path(const std::filesystem::path& path);

// Whether it may be a package (models/import/bioimage.h), which may bring an example along.
bool is_package(const std::filesystem::path& path);

// The one family that all tensors of the file fit, as they are or without what wrappers put before
// their names. Throws Error where there is none, which says why of those that came near.
Imported match_family(const Contents& contents, const ImportOptions& options);

// Throws Error, with a remedy, for what cannot be read. Safe for hostile files.
Imported import_model(const std::filesystem::path& path, const ImportOptions& options = {});

// A model file of our own, for which `options` say nothing, or any that import_model takes: of
// that `on_note` hears in a line or two what was taken for granted.
ModelFile open_model(const std::filesystem::path& path, const ImportOptions& options = {},
                     const std::function<void(std::string_view line)>& on_note = {});

}  // namespace tessera
