#include "models/import/bioimage.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "engine/files/safetensors.h"
#include "kernels/error.h"
#include "models/import/bioimage_description.h"
#include "models/import/bioimage_steps.h"
#include "models/import/numpy_file.h"
#include "models/import/sha256.h"

namespace tessera {
namespace {

// Best first: a graph needs no guesses.
constexpr std::array<std::string_view, 5> kReadable{"onnx", "keras_hdf5", "keras_v3",
                                                    "pytorch_state_dict", "torchscript"};
constexpr std::int64_t kMostMultiple = 1 << 12;  // of sizes in a model file

// A file is not the one that the package means: no other weights are tried then.
class WrongDigest : public Error {
 public:
  using Error::Error;
};

void check_digest(const MappedFile& file, const BioimageFile& said, const std::string& path) {
  if (said.sha256.empty()) return;
  const std::string found = sha256_of(file.bytes());
  if (found == said.sha256) return;
  throw WrongDigest(
      fmt::format("{}: its SHA-256 is {}, but the package says {}: it is another file or a damaged "
                  "one; get the "
                  "package again",
                  path, found, said.sha256));
}

// The choices that are for the package itself, taken out of those for its weights.
class PackageChoices {
 public:
  explicit PackageChoices(const ImportOptions& options) : inner_(options) {}

  std::optional<std::string> take(const std::string& name) {
    const auto found = inner_.choices.find(name);
    if (found == inner_.choices.end()) return std::nullopt;
    std::string value = found->second;
    inner_.choices.erase(found);
    return value;
  }
  // Whether steps of this name are left out.
  bool ignores(const std::string& name) {
    const std::string value = take(name).value_or("package");
    require(value == "package" || value == "ignore", "--set {}={}: expected package or ignore",
            name, in_quotes(value));
    if (value == "ignore") guesses.push_back({name, value, "chosen"});
    return value == "ignore";
  }
  bool has(const std::string& name) const { return inner_.choices.contains(name); }
  const ImportOptions& inner() const { return inner_; }

  std::vector<Guess> guesses;

 private:
  ImportOptions inner_;
};

// The file of these weights, or one in the package that stands for it: of its name where it is
// said to lie in the net, or the same tensors as safetensors.
std::optional<BioimageFile> find_weights(const PackageFiles& files, const BioimageFile& said,
                                         std::string& why) {
  const auto has = [&](const std::string& source) {
    try {
      return files.contains(source);
    } catch (const Error& error) {
      if (why.empty()) why = error.what();
      return false;
    }
  };
  if (has(said.source)) return said;
  const std::string name = std::filesystem::path(said.source).filename().string();
  const bool in_net = said.source.find("://") != said.source.npos;
  if (in_net && !name.empty() && has(name)) return BioimageFile{name, said.sha256};
  const std::string same =
      std::filesystem::path(said.source).filename().replace_extension(".safetensors").string();
  if (!name.empty() && has(same)) return BioimageFile{same, ""};
  if (why.empty()) why = fmt::format("the file {} is not in the package", in_quotes(said.source));
  return std::nullopt;
}

std::vector<BioimageWeights> candidates(const PackageFiles& files,
                                        const BioimageDescription& description,
                                        const std::optional<std::string>& chosen) {
  std::vector<BioimageWeights> found;
  std::vector<std::string> kinds;
  for (const BioimageWeights& weights : description.weights) kinds.push_back(weights.kind);
  for (const std::string_view kind : kReadable)
    for (const BioimageWeights& weights : description.weights)
      if (weights.kind == kind && (!chosen || *chosen == kind)) found.push_back(weights);
  if (found.empty() && chosen && files.contains(*chosen)) found.push_back({*chosen, {*chosen, ""}});
  require(!found.empty() || !chosen,
          "--set weights={}: expected one of {}, or the name of a file in the package",
          in_quotes(chosen.value_or("")), fmt::join(kinds, ", "));
  require(!found.empty(),
          "its weights are {}, expected one of {}; bioimageio.core converts them (`bioimageio "
          "add-weights`)",
          fmt::join(kinds, ", "), fmt::join(kReadable, ", "));
  return found;
}

struct TakenWeights {
  Imported imported;
  BioimageWeights weights;
};

TakenWeights take_weights(const PackageFiles& files, const BioimageDescription& description,
                          PackageChoices& choices, const WeightsReader& read_weights) {
  const std::optional<std::string> chosen = choices.take("weights");
  std::string reasons;
  std::vector<std::string> skipped;
  const std::vector<BioimageWeights> all = candidates(files, description, chosen);
  for (const BioimageWeights& weights : all) {
    std::string why;
    try {
      if (const auto file = find_weights(files, weights.file, why)) {
        const MappedFile bytes = files.open(file->source, "weights");
        check_digest(bytes, *file, files.path(file->source));
        TakenWeights taken{read_weights(bytes, files.path(file->source), choices.inner()), weights};
        taken.imported.owners.push_back(bytes.owner());
        taken.imported.notes.insert(taken.imported.notes.begin(), skipped.begin(), skipped.end());
        if (file->source != weights.file.source && file->sha256.empty())
          taken.imported.notes.push_back(
              fmt::format("{} is not in the package; {} stands for it, and no digest says that it "
                          "is the same",
                          in_quotes(weights.file.source), in_quotes(file->source)));
        std::vector<std::string> others;
        for (const BioimageWeights& other : all)
          if (other.kind != weights.kind) others.push_back(other.kind);
        if (chosen || !others.empty())
          choices.guesses.push_back(
              {"weights", weights.kind,
               chosen ? "chosen"
                      : fmt::format("the package has also {}", fmt::join(others, ", "))});
        taken.weights.file = *file;
        return taken;
      }
    } catch (const WrongDigest&) {
      throw;
    } catch (const Error& error) {
      why = error.what();
    }
    skipped.push_back(fmt::format("its weights {} are not taken: {}", weights.kind, why));
    reasons += fmt::format("\n  {}: {}", weights.kind, why);
  }
  fail("none of its weights can be read:{}", reasons);
}

// The activation that PyTorch's class is told to end in.
std::optional<Head::Output> final_activation(const BioimageWeights& weights) {
  const auto found = weights.arguments.find("final_activation");
  if (found == weights.arguments.end() || !found->is_string()) return std::nullopt;
  std::string name = found->get<std::string>();
  std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
  require(name == "sigmoid" || name == "softmax",
          "the network ends in the activation {}, expected Sigmoid or Softmax; --set "
          "postprocessing=ignore imports it as it is",
          in_quotes(name));
  return name == "sigmoid" ? Head::Output::kSigmoid : Head::Output::kSoftmax;
}

// The network's answer as (n, h, w, classes) of this activation.
void set_activation(Imported& imported, Head::Output activation) {
  NetworkOutput& output = imported.config.graph->network.outputs.at(0);
  require(output.kind == NetworkOutput::Kind::kLogits,
          "the package applies {} to the network's answer, which is of the kind {} already; --set "
          "postprocessing=ignore takes it as it is",
          names_of(Head::Output())[static_cast<std::size_t>(activation)],
          names_of(NetworkOutput::Kind())[static_cast<std::size_t>(output.kind)]);
  output.activation = activation;
  std::erase_if(imported.guesses, [](const Guess& guess) { return guess.name == "output"; });
}

// Sizes that are said to run: least, least + step, ...
void set_sizes(Imported& imported, const BioimageTensor& input) {
  ImageNetwork& image = *imported.config.graph;
  for (const auto& [name, extent] : {std::pair{"height", input.y}, {"width", input.x}}) {
    if (!extent) continue;
    if (extent->step == 0) {
      imported.notes.push_back(
          fmt::format("the package tells of a {} of {} alone; the network takes "
                      "others as well",
                      name, extent->least));
      continue;
    }
    const std::int64_t multiple = std::lcm(image.multiple, extent->step);
    if (extent->least % extent->step == 0 && multiple <= kMostMultiple) image.multiple = multiple;
  }
  check_segmentation(image);
  std::erase_if(imported.guesses, [](const Guess& guess) { return guess.name == "multiple"; });
}

void name_classes(ModelConfig& config, const std::vector<std::string>& channels) {
  if (channels.size() == config.classes.size()) {
    for (std::size_t i = 0; i < channels.size(); ++i) config.classes[i].name = channels[i];
  } else if (channels.size() == 1 && config.classes.size() == 2) {
    config.classes[0].name = "background";
    config.classes[1].name = channels[0];
  }
}

// As (n, h, w, c), from the axes that the package says.
FloatTensor to_nhwc(const StoredTensor& stored, const BioimageTensor& tensor,
                    const std::string& path) {
  require(stored.shape.size() == tensor.axes.size(), "{}: it is {}, expected the axes \"{}\"", path,
          shape_text(stored.shape), tensor.axes);
  std::vector<int> order;
  std::array<std::int64_t, 4> extents{1, 1, 1, 1};
  for (const char letter : std::string_view("bitzyxc")) {
    const std::size_t axis = tensor.axes.find(letter);
    if (axis == tensor.axes.npos) continue;
    order.push_back(static_cast<int>(axis));
    const std::size_t ours = std::string_view("byxc").find(letter);
    require(ours != std::string_view::npos || stored.shape[axis] == 1,
            "{}: it is {} along \"{}\", and 2-D images are read; expected 1 along {}", path,
            shape_text(stored.shape), tensor.axes, letter);
    if (ours != std::string_view::npos) extents[ours] = stored.shape[axis];
  }
  FloatTensor result = read_floats(stored, order);
  result.shape = Shape(extents);
  require(result.shape.elements() > 0, "{}: it is {}, expected elements", path,
          shape_text(stored.shape));
  return result;
}

FloatTensor read_example(const PackageFiles& files, const BioimageTensor& tensor,
                         std::string& path) {
  path = files.path(tensor.example->source);
  const MappedFile file = files.open(tensor.example->source, "a test tensor (.npy)");
  check_digest(file, *tensor.example, path);
  return to_nhwc(parse_numpy(file.bytes(), path), tensor, path);
}

// How `tessera run` takes tensors: as the package has them.
std::string axes_of_arrays(const BioimageTensor& tensor) {
  return tensor.axes == "bcyx" ? "NCHW" : "";
}

}  // namespace

Imported import_bioimage(const PackageFiles& files, const ImportOptions& options,
                         const WeightsReader& read_weights) {
  const std::string path = files.path(files.description());
  const MappedFile text = files.open(files.description(), "a description of a model");
  const BioimageDescription description = read_bioimage(
      {reinterpret_cast<const char*>(text.bytes().data()), text.bytes().size()}, path);
  try {
    PackageChoices choices(options);
    const bool no_steps = choices.ignores("preprocessing");
    const bool no_ending = choices.ignores("postprocessing");
    auto [imported, weights] = take_weights(files, description, choices, read_weights);
    ModelConfig& config = imported.config;
    require(
        config.graph && config.graph->network.outputs.at(0).kind != NetworkOutput::Kind::kTensor,
        "its network is none that segments images of 1 or 3 channels: {}; `tessera run` computes "
        "{} by itself",
        imported.notes.empty() ? "it reads texts" : imported.notes.back(),
        files.path(weights.file.source));

    BioimageEnding ending;
    if (!no_ending) {
      ending = steps_behind(description.output,
                            weights.kind == "onnx" ? std::nullopt : final_activation(weights));
      if (ending.activation && !choices.has("output")) set_activation(imported, *ending.activation);
    }
    if (!no_steps && !choices.has("input") && !choices.has("scale")) {
      const std::int64_t channels = image_channels(config);
      config.preprocessing = {.channels = channels, .scale = Scale::kNone};
      config.preprocessing.steps = steps_before(description.input, channels, imported.guesses);
      std::erase_if(imported.guesses, [](const Guess& guess) {
        return guess.name == "input" || guess.name == "scale";
      });
    }
    set_sizes(imported, description.input);
    name_classes(config, description.output.channels);
    if (description.input.example && description.output.example && !no_steps && !no_ending) {
      Example example;
      example.image = read_example(files, description.input, example.input);
      example.expected = read_example(files, description.output, example.output);
      example.answer = ending.answer;
      require(example.image.shape[3] == image_channels(config),
              "{}: it has {} channel(s) along \"{}\", the network reads {}", example.input,
              example.image.shape[3], description.input.axes, image_channels(config));
      imported.example = std::make_shared<const Example>(std::move(example));
    }
    imported.guesses.insert(imported.guesses.begin(), choices.guesses.begin(),
                            choices.guesses.end());
    imported.family =
        fmt::format("bioimage.io {}, {}: {}", description.version, weights.kind, imported.family);
    config.provenance["bioimageio"] = {
        {"name", description.name},
        {"format_version", description.version},
        {"weights", weights.kind},
        {"axes",
         {{config.graph->network.graph.values[config.graph->network.graph.inputs.at(0)],
           axes_of_arrays(description.input)},
          {config.graph->network.outputs[0].name, axes_of_arrays(description.output)}}}};
    return std::move(imported);
  } catch (const WrongDigest&) {
    throw;
  } catch (const Error& error) {
    const std::string_view what = error.what();
    if (what.starts_with(files.path(""))) throw;
    fail("{}: {}", path, what);
  }
}

}  // namespace tessera
