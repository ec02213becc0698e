// `tessera run` and `tessera verify`: a network by itself, on arrays of numpy.
#include <fmt/ranges.h>

#include <cmath>
#include <iostream>
#include <map>
#include <memory>

#include "models/import/import.h"
#include "models/import/numpy_file.h"
#include "models/import/onnx_model.h"
#include "models/network_run.h"
#include "tools/program/inputs.h"
#include "tools/program/program.h"
#include "tools/program/verify_layers.h"

namespace tessera {
namespace {

struct RunOptions {
  std::string model;
  std::vector<std::string> inputs, outputs, expected;  // "NAME=FILE", or "FILE"
  std::string activations, against;
  std::string device = "auto", precision = "auto";
  int threads = 0;
  ForeignOptions foreign;
  double tolerance = 1e-4;
};

using Paths = std::map<std::string, std::string>;

// The files by the tensors' names; a name may be left out where there is one tensor.
Paths by_name(const std::vector<std::string>& words, const std::vector<NetworkTensor>& tensors,
              std::string_view option) {
  std::string known;
  for (const NetworkTensor& tensor : tensors)
    known += fmt::format("{}{}{}{}", known.empty() ? "" : ", ", tensor.name,
                         tensor.axes.empty() ? "" : " ", tensor.axes);
  Paths paths;
  for (const std::string& word : words) {
    // A name may itself hold "=", so names that are known come first.
    std::string name;
    for (const NetworkTensor& tensor : tensors)
      if (word.starts_with(tensor.name + "=")) name = tensor.name;
    const bool named = !name.empty();
    if (!named) {
      if (tensors.size() != 1)
        throw UsageError(fmt::format("{}: expected NAME=FILE with one of the names {}, found '{}'",
                                     option, known, word));
      name = tensors[0].name;
    }
    if (!paths.emplace(name, named ? word.substr(name.size() + 1) : word).second)
      throw UsageError(fmt::format("{}: {} is named twice", option, name));
  }
  return paths;
}

std::map<std::string, NetworkAnswer> compute(const RunOptions& options, ModelConfig& config) {
  std::map<std::string, NumpyArray> arrays;
  ImportOptions import = options.foreign.read();
  const MappedFile file = MappedFile::open(model_path(options.model), "a model file");
  if (may_be_onnx(file.bytes())) {
    // The names of the inputs come before their shapes: they stand in the file itself.
    const OnnxModel onnx =
        read_onnx(file.bytes(), options.model, std::filesystem::path(options.model).parent_path());
    std::vector<NetworkTensor> inputs;
    for (const OnnxValueInfo& input : onnx.inputs) inputs.push_back({input.name, ""});
    for (const auto& [name, path] : by_name(options.inputs, inputs, "--input")) {
      const NumpyArray array = read_numpy(path);
      import.choices["shape." + name] = fmt::format("{}", fmt::join(array.tensor.shape, "x"));
    }
  }
  ModelFile model = open_model(options.model, import, print_note);
  std::map<std::string, StoredTensor> tensors;
  for (const auto& [name, path] :
       by_name(options.inputs, network_inputs(model.config), "--input")) {
    arrays[name] = read_numpy(path);
    tensors[name] = arrays[name].tensor;
  }
  OpenedDevice opened = open_device(device_options(model.config.is_of_images(), options.device,
                                                   options.precision, options.threads));
  if (!opened.note.empty()) fmt::print(stderr, "{}\n", opened.note);
  config = model.config;
  return run_network(model, tensors, opened.device);
}

// A line about an answer's numbers.
std::string summary(const NetworkAnswer& answer) {
  double least = INFINITY, most = -INFINITY, sum = 0;
  const std::vector<float> values = floats_of(answer);
  for (const double value : values)
    least = std::min(least, value), most = std::max(most, value), sum += value;
  return fmt::format("{}  {:.6g} to {:.6g}, mean {:.6g}", answer.type, least, most,
                     sum / static_cast<double>(values.size()));
}

int run(const RunOptions& options) {
  ModelConfig config;
  const auto answers = compute(options, config);
  const Paths paths = by_name(options.outputs, network_outputs(config), "--output");
  std::vector<std::string> read{options.model};
  for (const auto& [name, path] : by_name(options.inputs, network_inputs(config), "--input"))
    read.push_back(path);
  for (const auto& [name, path] : paths) require_no_input("--output", path, read);
  for (const auto& [name, answer] : answers)
    std::cout << fmt::format("{}  {}\n", name, summary(answer));
  for (const auto& [name, path] : paths) write_numpy(path, answers.at(name).view());
  return kExitDone;
}

// The same but for axes of one element.
bool same_shape(std::span<const std::int64_t> a, std::span<const std::int64_t> b) {
  const auto without_ones = [](std::span<const std::int64_t> shape) {
    std::vector<std::int64_t> kept;
    for (const std::int64_t extent : shape)
      if (extent != 1) kept.push_back(extent);
    return kept;
  };
  return without_ones(a) == without_ones(b);
}

int verify(const RunOptions& options) {
  const LayerOptions layers{options.model,    options.foreign.read(), options.activations,
                            options.against,  options.inputs,         options.threads,
                            options.tolerance};
  if (!options.activations.empty() || !options.against.empty()) {
    if (!options.expected.empty())
      throw UsageError("--expect is for --input alone, without --activations and --against");
    return verify_layers(layers);
  }
  if (options.inputs.empty() && options.expected.empty()) return verify_example(layers);
  if (options.inputs.empty() || options.expected.empty())
    throw UsageError("--input and --expect go together");
  ModelConfig config;
  const auto answers = compute(options, config);
  bool agrees = true;
  for (const auto& [name, path] : by_name(options.expected, network_outputs(config), "--expect")) {
    const NumpyArray expected = read_numpy(path);
    const TensorType& type = answers.at(name).type;
    const auto dims = type.shape.dims();
    require(same_shape(dims, expected.tensor.shape), "{}: it is {}, but the network gives {}", path,
            shape_text(expected.tensor.shape), shape_text(dims));
    const Difference difference =
        difference_of(floats_of(answers.at(name)), read_floats(expected.tensor).values);
    agrees = agrees && difference.is_within(options.tolerance);
    std::cout << fmt::format("{}  {}  {}\n", name, type, verdict(difference, options.tolerance));
  }
  return agrees ? kExitDone : kExitFailed;
}

CLI::App& command_of(CLI::App& program, const std::string& name, const std::string& what,
                     RunOptions& options) {
  CLI::App& command = *program.add_subcommand(name, what);
  command.add_option("model", options.model, "model file, of any program that is read")->required();
  command
      .add_option("-i,--input", options.inputs,
                  "a .npy file; with its name where there are several inputs")
      ->type_name("[NAME=]FILE");
  add_device_options(command, options.device, options.precision);
  options.foreign.add_to(command);
  command.add_option("--threads", options.threads, "0: OMP_NUM_THREADS, else every processor")
      ->type_name("N")
      ->check(CLI::Range(0, kMaxThreads));
  return command;
}

constexpr const char* kAxes =
    "Nothing is scaled, mirrored or tokenised. Images are (n, h, w, c) or (n, c, h, w), which "
    "their\n"
    "channels tell; of a model from ONNX as in its file ('tessera info' says \"NCHW\"). Answers "
    "have\n"
    "the axes of the images. A HAN takes word ids.\n";

}  // namespace

Verb make_run_verb(CLI::App& program) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App& command = command_of(program, "run", "a network by itself, on numpy arrays", *options);
  command.get_option("--input")->required();
  command.add_option("-o,--output", options->outputs, "where an output goes, a .npy file")
      ->type_name("[NAME=]FILE");
  command.footer(std::string(kAxes) +
                 "Examples:\n"
                 "  tessera run unet.onnx --input in.npy --output out.npy\n"
                 "  tessera run two.onnx -i left=l.npy -i right=r.npy -o depth=out.npy");
  return {&command, [options] { return run(*options); }};
}

Verb make_verify_verb(CLI::App& program) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App& command =
      command_of(program, "verify", "a network's answer against one that is known", *options);
  command.add_option("--expect", options->expected, "what an output should be, a .npy file")
      ->type_name("[NAME=]FILE");
  command
      .add_option("--activations", options->activations,
                  "what every layer should give: .npz or safetensors of tools/dump_torch.py or "
                  "tools/dump_keras.py")
      ->type_name("FILE");
  command
      .add_option("--against", options->against,
                  "another model, whose layers are to give the same; without --input to a made-up "
                  "input")
      ->type_name("MODEL");
  command
      .add_option("--tolerance", options->tolerance,
                  "largest error that is accepted, of the largest value expected")
      ->type_name("X")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.footer(
      std::string(kAxes) +
      "A package is held against its own test tensors where nothing else is named. Layers\n"
      "run on the CPU in f32; where one diverges, usual reasons are tried, each by a run.\n"
      "Exit code 1 where something differs by more.\n"
      "Examples:\n"
      "  tessera verify weights.onnx --input test_input.npy --expect test_output.npy\n"
      "  tessera verify checkpoint.pth --activations dump.npz\n"
      "  tessera verify unet.safetensors --against unet.onnx");
  return {&command, [options] { return verify(*options); }};
}

}  // namespace tessera
