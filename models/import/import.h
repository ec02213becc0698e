// Models that other programs made, read as they are: PyTorch, Keras, ONNX, safetensors,
// packages of bioimage.io.
//
//   ModelFile model = open_model("checkpoint.pth");
//
// A file is recognised by its content, never by its name. One that carries its graph (ONNX, Keras'
// whole models) is read by that; one of names and shapes alone by the table of families.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/example_run.h"
#include "models/import/contents.h"
#include "models/model_file.h"

namespace tessera {

struct ImportOptions {
  std::string family;                // the only one to try; empty: all
  std::string key;                   // of several networks in one file, the entry to take
  std::filesystem::path vocabulary;  // of a HAN, where its file has none
  // What a file does not say, by the name of the guess: {"concat": "up_first"}.
  std::map<std::string, std::string> choices;
};

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

// Throws Error, with a remedy, for what cannot be read. Safe for hostile files.
Imported import_model(const std::filesystem::path& path, const ImportOptions& options = {});

// A model file of our own, or any that import_model takes.
ModelFile open_model(const std::filesystem::path& path, const ImportOptions& options = {});

}  // namespace tessera
