// The description of a model in a package of bioimage.io, formats 0.4 and 0.5, checked and in one
// form. Specification: bioimage-io/spec-bioimage-io; formulas: bioimage-io/core-bioimage-io-python.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tessera {

struct BioimageFile {
  std::string source;
  std::string sha256;  // 64 digits, or empty where it is not said
};

struct BioimageStep {
  std::string name;  // "zero_mean_unit_variance"
  nlohmann::json arguments = nlohmann::json::object();
};

// Along rows or columns.
struct BioimageExtent {
  std::int64_t least = 1;
  std::int64_t step = 0;  // 0: this size alone
};

struct BioimageTensor {
  std::string name;
  std::string axes;                     // a letter each: b c y x, z, t (time), i (index)
  std::optional<BioimageExtent> y, x;   // none: as another tensor's, or as the data has it
  std::vector<std::string> channels;    // their names, or none
  std::vector<BioimageStep> steps;      // before the network, or behind it
  std::optional<BioimageFile> example;  // the test tensor

  // Of a step's argument "axes", in letters; empty where it names none: all.
  std::string axes_of(const BioimageStep& step) const;

  nlohmann::json ids;  // of 0.5: {"y": "y", "channel": "c"}
};

struct BioimageWeights {
  std::string kind;  // "onnx", "pytorch_state_dict", ...
  BioimageFile file;
  nlohmann::json arguments = nlohmann::json::object();  // of the architecture, for PyTorch's
};

struct BioimageDescription {
  std::string name, version;  // of the model; of the format
  BioimageTensor input, output;
  std::vector<BioimageWeights> weights;
};

// Throws Error that names the field, for all that is missing or wrong, other formats, and models of
// several inputs or outputs.
BioimageDescription read_bioimage(std::string_view yaml, const std::string& file);

}  // namespace tessera
