// `tessera export`: writes a model for other programs.
#include "tools/program/export.h"

#include <fmt/format.h>

#include <iostream>
#include <memory>

#include "models/export/export.h"
#include "models/import/import.h"

namespace tessera {
namespace {

struct ExportCommand {
  std::string model, output, to;
};

// --to, or what the name of the output says.
std::string format_of(const ExportCommand& command) {
  if (!command.to.empty()) return command.to;
  const std::string ending = std::filesystem::path(command.output).extension().string();
  if (ending == ".onnx") return "onnx";
  if (ending == ".pt" || ending == ".pth") return "pytorch";
  throw UsageError(
      fmt::format("{}: its ending is none of .onnx, .pt and .pth; say --to onnx or --to pytorch",
                  command.output));
}

int export_model(const ExportCommand& command) {
  const std::string format = format_of(command);
  ModelFile file = open_model(command.model);
  const std::vector<std::filesystem::path> written =
      format == "onnx" ? export_onnx(file, command.output) : export_pytorch(file, command.output);
  for (const std::filesystem::path& path : written)
    std::cout << fmt::format("written  {}\n", path.string());
  return kExitDone;
}

}  // namespace

Verb make_export_verb(CLI::App& program) {
  const auto command = std::make_shared<ExportCommand>();
  CLI::App& app = *program.add_subcommand("export", "a model for other programs");
  app.add_option("model", command->model, "model file, of any program that is read")->required();
  app.add_option("-o,--output", command->output, "file to write (.onnx, .pt, .pth)")
      ->type_name("FILE")
      ->required();
  app.add_option("--to", command->to, "what to write, where the name does not say it")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"onnx", "pytorch"}));
  app.footer(
      "onnx: opset 17, maps are (n, c, h, w), a HAN takes ids and lengths. Weights beyond 2 GB "
      "lie\n"
      "  in FILE.data. pytorch: a state dict, and beside it the module that loads it (.py).\n"
      "The words of a HAN are written beside both (.words.json). What prepares images and texts\n"
      "stays outside of the network; 'tessera info' tells it.\n"
      "Examples:\n"
      "  tessera export unet.safetensors -o unet.onnx\n"
      "  tessera export han.safetensors -o han.pth");
  return {&app, [command] { return export_model(*command); }};
}

}  // namespace tessera
