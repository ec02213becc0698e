// `tessera eval`: a model against labelled data, in figures.
#include "tools/program/eval.h"

#include <algorithm>
#include <cmath>

namespace tessera {

namespace {

int evaluate(const EvalOptions& options) {
  const bool given_images = !options.data.images.empty() || !options.data.masks.empty();
  if (options.inputs.empty() && !given_images)
    throw UsageError("no data: give a folder with images/ and masks/, a list, or documents");
  if (given_images) require_source(options.data);
  const auto is_folder = [](const std::string& path) {
    std::error_code ignored;
    return std::filesystem::is_directory(path, ignored);
  };
  if (options.model.path.empty() && !std::ranges::all_of(options.inputs, is_folder))
    throw UsageError("a list of images or a file of documents? name the model with -m");
  const std::string model = options.model.path_or_demo(kDemoUNet);
  SessionOptions session = options.model.session_options(options.report.quiet);
  session.probabilities = !options.membrane.empty();
  Session opened = Session::open(model, session);
  require_one_device(opened);
  catch_interrupts();
  if (opened.task() == Session::Task::kClassify) {
    if (given_images || options.objects || !options.membrane.empty())
      throw UsageError(
          fmt::format("'{}' classifies documents; give a UNet for images and masks", model));
    if (options.data.validation != "none")
      throw UsageError(
          fmt::format("--validation holds out images, and '{}' classifies documents; give the "
                      "documents to be judged as a file of their own",
                      model));
    return evaluate_documents(options, model, std::move(opened));
  }
  return evaluate_images(options, model, std::move(opened));
}

}  // namespace

std::string figure(double value) {
  return std::isnan(value) ? "-" : fmt::format("{:.4f}", value);
}

std::vector<std::string> class_names(const Session& session) {
  std::vector<std::string> names;
  for (const ClassInfo& one : session.classes()) names.push_back(one.name);
  return names;
}

std::vector<std::string> class_table(const ConfusionMatrix& confusion,
                                     const std::vector<std::string>& names,
                                     std::span<const Figure> figures, std::string_view counted) {
  std::size_t width = std::string_view("class").size();
  for (const std::string& name : names) width = std::max(width, name.size());
  const auto row = [&](std::string_view name, const auto& cell, const auto& count) {
    std::string line = fmt::format("{:<{}}", name, width);
    for (const Figure& one : figures) line += fmt::format("  {:>9}", cell(one));
    return line + fmt::format("  {:>12}", count);
  };
  std::vector<std::string> lines{row(
      "class", [](const Figure& one) { return one.title; }, counted)};
  for (std::size_t c = 0; c < names.size(); ++c) {
    const auto of_class = [&](const Figure& one) { return figure((confusion.*one.of_class)(c)); };
    lines.push_back(row(names[c], of_class, confusion.of_truth(c)));
  }
  const auto mean = [&](const Figure& one) { return figure(confusion.mean(one.of_class)); };
  lines.push_back(row("mean", mean, confusion.total()));
  return lines;
}

nlohmann::json eval_summary(const std::string& model, const Session& session,
                            const Report& report) {
  nlohmann::json failed = nlohmann::json::array();
  for (const Report::Failure& failure : report.failures())
    failed.push_back({{"input", failure.input}, {"error", failure.line}});
  return {{"program", program_version()},
          {"model", model},
          {"device", session.device()},
          {"precision", session.precision()},
          {"failed", std::move(failed)}};
}

Verb make_eval_verb(CLI::App& program) {
  const auto options = std::make_shared<EvalOptions>();
  CLI::App& command = *program.add_subcommand("eval", "a model against labelled data, in figures");
  command.add_option("data", options->inputs,
                     "of a UNet: a folder with images/ and masks/, or a list of image<TAB>mask; "
                     "of a HAN: labelled .tsv, .csv, .json or .jsonl files");
  add_image_data_options(command, options->data, options->seed);
  command.add_flag("--objects", options->objects,
                   "count objects too (always where masks are read as objects)");
  command.add_option("--connectivity", options->object_options.connectivity, "of objects: 4 or 8")
      ->check(CLI::IsMember({4, 8}));
  const CLI::Option* const min_area =
      command
          .add_option("--min-area", options->object_options.min_area,
                      "of predicted objects, pixels; smaller ones are specks and do not count; "
                      "else what the model was trained with")
          ->type_name("N")
          ->check(at_least(0));
  command
      .add_option("--membrane", options->membrane,
                  "this class (name or number) separates cells: Rand and warping errors")
      ->type_name("CLASS");
  command.add_flag("--per-image", options->per_image, "a line for each image too");
  add_document_options(command, options->files, {"tsv", "csv", "jsonl", "json"});
  options->model.add_to(command, true);
  options->report.add_to(command);
  command.footer(
      "Of a UNet: pixel accuracy, precision, recall, Dice and IoU of each class, objects by IoU,\n"
      "membranes as in the ISBI 2012 challenge. Of a HAN: accuracy, loss, precision, recall, F1.\n"
      "With --validation only the images are used that training with that rule holds out.\n"
      "Examples:\n"
      "  tessera eval data -m unet.safetensors --validation every:5\n"
      "  tessera eval --images raw --masks truth --mask-format binary --membrane membrane --json\n"
      "  tessera eval pairs.tsv -m cells.safetensors --mask-format objects --min-area 15\n"
      "  tessera eval test.tsv.gz -m han.safetensors");
  return {&command, [options, min_area] {
            options->min_area_given = min_area->count() > 0;
            if (!options->inputs.empty()) options->data.data = options->inputs[0];
            return evaluate(*options);
          }};
}

}  // namespace tessera
