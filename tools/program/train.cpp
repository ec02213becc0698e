// `tessera train`: a UNet from images and masks, a HAN from labelled documents.
#include "tools/program/train.h"
#include "engine/files/atomic_file.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <memory>
#include <optional>

#include "engine/device/machine.h"
#include "tools/program/program.h"
#include "tools/program/train_recipe.h"

namespace tessera {

using nlohmann::json;
namespace fs = std::filesystem;

namespace {

// One of the names that CLI::IsMember has checked.
template <class Enum>
Enum chosen(const std::string& name, std::initializer_list<std::pair<const char*, Enum>> choices) {
  for (const auto& [known, value] : choices) {
    if (name == known) return value;
  }
  throw UsageError(fmt::format("'{}' is no choice", name));
}

CLI::Option* add_choice(CLI::App& command, const std::string& name, std::string& into,
                        const std::string& help, const std::vector<std::string>& choices) {
  return command.add_option(name, into, fmt::format("{}: {}", help, fmt::join(choices, ", ")))
      ->type_name("NAME")
      ->check(CLI::IsMember(choices))
      ->capture_default_str();
}

template <class Number>
CLI::Option* add_number(CLI::App& command, const std::string& name, Number& into,
                        const std::string& help, double least = 0,
                        std::optional<double> most = std::nullopt) {
  constexpr bool kWhole = std::is_integral_v<Number>;
  const auto in_range = [=](const std::string& text) {
    Number value{};
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    const bool sound = error == std::errc() && stop == end && static_cast<double>(value) >= least &&
                       static_cast<double>(value) <= most.value_or(INFINITY);
    if (sound) return std::string();
    return fmt::format("expected a {} from {}{}; found '{}'", kWhole ? "whole number" : "number",
                       least, most ? fmt::format(" to {}", *most) : "", text);
  };
  return command.add_option(name, into, help)
      ->type_name(kWhole ? "N" : "X")
      ->check(in_range)
      ->capture_default_str();
}

// The heading in the help of the options that are added from here on.
void begin_group(CLI::App& command, const char* title) {
  command.option_defaults()->group(title);
}

}  // namespace

void TrainOptions::add_to(CLI::App& command, const char* score) {
  command.add_option("-o,--output", output, "the model file to write")
      ->type_name("FILE")
      ->required();
  command.add_option("--recipe", recipe, "JSON file of options; those given here win")
      ->type_name("FILE");
  command
      .add_option("--metrics", folder,
                  "folder of checkpoints, metrics.jsonl and learning curves; else OUTPUT.run")
      ->type_name("FOLDER");
  command.add_flag("--check", check, "look at all the data, then end");
  command.add_flag("--resume", resume, "go on from the folder's last checkpoint");
  command.add_flag("--bf16", bf16, "the model file stores weights in half the bytes");
  command.add_option("--device", device, "cpu, cuda, cuda:N or auto (a GPU if there is one)")
      ->type_name("NAME");
  command
      .add_option(
          "--precision", precision,
          "fp32 or auto; on a GPU also tf32 and bf16, which is mixed: weights, sums and the "
          "optimiser stay fp32")
      ->type_name("NAME")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16", "auto"}));
  command.add_option("--threads", threads, "of the CPU; 0: all")
      ->type_name("N")
      ->check(CLI::Range(0, kMaxThreads));

  begin_group(command, "Length");
  add_number(command, "--epochs", epochs, "to train", 1);
  add_number(command, "--steps", steps, "optimiser steps, instead of epochs");
  add_number(command, "--batch", batch, "tiles or documents of one run", 1, 1 << 20);
  add_number(command, "--accumulate", accumulate, "batches of one optimiser step", 1, 1 << 20);
  add_number(command, "--validate-every", validate_every, "steps; 0: each epoch");
  add_number(command, "--early-stop", patience,
             "validations without a better one that end it; 0: never");
  best_option =
      add_choice(command, "--best", best, "by what the best validation, and so the model, is told",
                 {"loss", "accuracy", score});
  add_number(command, "--average", average,
             "decay of a moving average of the weights, which the model gets; 0: none", 0,
             0.999999);
  command.add_flag("--checkpoint-activations", recompute,
                   "compute activations twice instead of keeping them");

  begin_group(command, "Optimiser");
  add_choice(command, "--optimiser", optimiser, "what takes the steps", {"adam", "adamw", "sgd"});
  add_number(command, "--rate", rate, "learning rate");
  add_number(command, "--momentum", momentum, "of sgd", 0, 1);
  command.add_flag("--nesterov", nesterov, "of sgd");
  add_number(command, "--weight-decay", weight_decay, "L2 penalty; of adamw decoupled");
  add_number(command, "--clip", clip, "greatest norm of the gradient; 0: any");
  add_choice(command, "--schedule", schedule, "of the rate", {"constant", "cosine", "step"});
  add_number(command, "--warmup", warmup, "steps over which the rate rises");
  add_number(command, "--final-factor", final_factor, "of the rate at the cosine's end", 0, 1);
  add_number(command, "--step-every", step_every, "steps of the step schedule", 1);
  add_number(command, "--step-factor", step_factor, "of the rate at each of them", 0, 1);
  begin_group(command, "What is shown");
  report.add_to(command);
}

void TrainOptions::require_validation(bool there_is) const {
  if (there_is) return;
  const char* const option = patience > 0                                         ? "--early-stop"
                             : best_option != nullptr && best_option->count() > 0 ? "--best"
                                                                                  : nullptr;
  if (option == nullptr) return;
  throw UsageError(
      fmt::format("{} needs a validation, and nothing is held out; give --validation, or leave {} "
                  "out",
                  option, option));
}

int TrainOptions::thread_count() const {
  return threads > 0 ? threads : default_threads();
}

TrainingOptions TrainOptions::training_options(const TrainingTask& task,
                                               const std::vector<std::string>& data,
                                               std::uint64_t seed) const {
  TrainingOptions options;
  options.optimiser.kind = chosen<Optimiser::Kind>(optimiser, {{"adam", Optimiser::Kind::kAdam},
                                                               {"adamw", Optimiser::Kind::kAdamW},
                                                               {"sgd", Optimiser::Kind::kSgd}});
  if (optimiser == "sgd") {
    options.optimiser.momentum = momentum;
    options.optimiser.nesterov = nesterov;
  }
  options.optimiser.weight_decay = weight_decay;
  options.optimiser.clip_norm = clip;
  options.rate = rate;
  options.epochs = epochs;
  options.steps = steps;
  options.accumulate = accumulate;
  options.validate_every = validate_every;
  options.best = best;
  options.patience = patience;
  options.recompute = recompute;
  options.average = average;
  options.schedule.kind = chosen<Schedule::Kind>(schedule, {{"constant", Schedule::Kind::kConstant},
                                                            {"cosine", Schedule::Kind::kCosine},
                                                            {"step", Schedule::Kind::kStep}});
  options.schedule.warmup_steps = warmup;
  if (schedule == "cosine") {
    options.schedule.total_steps = total_steps(task, options);
    options.schedule.final_factor = final_factor;
  } else if (schedule == "step") {
    options.schedule.step_size = step_every;
    options.schedule.gamma = step_factor;
  }
  if (std::error_code ignored; fs::exists(output, ignored) && AtomicFile(output).is_direct())
    throw UsageError(
        fmt::format("-o {}: a model is written more than once, and its checkpoints lie beside it; "
                    "name a file",
                    output));
  options.model = output;
  options.folder = folder.empty() ? output + ".run" : folder;
  options.resume = resume;
  options.storage = bf16 ? WeightStorage::kBF16 : WeightStorage::kF32;
  json names = json::array();
  for (const std::string& name : data) names.push_back(last_name(name));
  options.provenance = {{"program", program_version()},
                        {"command", command_line()},
                        {"data", std::move(names)},
                        {"seed", seed}};
  if (!recipe.empty()) options.provenance["recipe"] = last_name(recipe);
  return options;
}

void ImageTrainOptions::add_to(CLI::App& command) {
  command.add_option("data", data, "a folder with images/ and masks/, or a list of image<TAB>mask");
  run.add_to(command, "mean_iou");
  begin_group(command, "Data");
  source.add_to(command);

  classes_option = command.add_option("--classes", classes, "their names")
                       ->type_name("A,B,..")
                       ->delimiter(',')
                       ->default_str("background,foreground");
  add_number(command, "--min-area", min_area,
             "pixels of the least object: what eval and segment take, unless they are told");
  begin_group(command, "Network");
  command
      .add_option("--from", from,
                  "a model to go on from, of any program that is read: its network, weights, "
                  "classes and pixels")
      ->type_name("FILE");
  const auto of_network = [&](CLI::Option* option) {
    network_options.push_back(option);
    return option;
  };
  of_network(
      add_choice(command, "--network", network,
                 "a published one, instead of this program's own; what is given besides wins",
                 names_in(named_unets())));
  of_network(command.add_option("--channels", channels, "1: grey, 3: RGB"))
      ->type_name("N")
      ->check(CLI::IsMember({1, 3}))
      ->capture_default_str();
  of_network(add_choice(command, "--scale", scale, "of pixels",
                        {"none", "unit", "standardize", "min_max"}));
  add_range_option(command, range);
  of_network(add_number(command, "--depth", depth, "poolings", 1, 8));
  of_network(add_number(command, "--base", base, "channels of the first level", 1, 1 << 14));
  of_network(add_choice(command, "--padding", padding, "of convolutions", {"same", "valid"}));
  of_network(add_choice(command, "--norm", norm, "batch normalisation",
                        {"none", "before_relu", "after_relu"}));
  of_network(
      add_choice(command, "--up", up, "sampling", {"transposed2", "transposed3", "bilinear"}));
  of_network(add_choice(command, "--head", head, "the last layer", {"conv1", "conv3"}));
  of_network(command.add_flag("--up-relu", up_relu, "a ReLU after a transposed convolution"));
  add_number(command, "--dropout", dropout,
             "at the end of the contracting path while it trains (the paper's place)", 0, 0.99);
  add_number(command, "--norm-momentum", norm_momentum,
             "share of a batch in the running statistics of batch normalisation", 1e-6, 1);
  of_network(command.add_flag("--sigmoid", sigmoid, "one output for two classes"));
  foreign.add_to(command);

  begin_group(command, "Tiles and loss");
  add_number(command, "--tile", tile, "pixels of the output that one tile teaches", 1, 1 << 16);
  add_number(command, "--tiles", tiles, "of an epoch; 0: as many as cover the images");
  add_choice(command, "--loss", loss, "of pixels", {"cross_entropy", "dice", "both"});
  command
      .add_option("--class-weights", class_weights,
                  "balanced, or one for each class; with them a pixel's loss is weighted")
      ->type_name("W,W,..");
  add_number(command, "--border-weight", border_weight,
             "w0 of the weight map between objects (the paper's: 10); 0: none");
  add_number(command, "--border-sigma", border_sigma, "of that map, pixels", 1e-3);

  begin_group(command, "Augmentation");
  command.add_flag("--no-augmentation", plain, "tiles as they are");
  add_number(command, "--elastic", augmentation.elastic_sigma, "pixels of deformation");
  add_number(command, "--rotation", augmentation.rotation, "degrees, both ways", 0, 180);
  command.add_option("--quarter-turns", augmentation.quarter_turns, "true or false")
      ->type_name("BOOL")
      ->capture_default_str();
  command.add_option("--flip-horizontal", augmentation.flip_horizontal, "true or false")
      ->type_name("BOOL")
      ->capture_default_str();
  command.add_option("--flip-vertical", augmentation.flip_vertical, "true or false")
      ->type_name("BOOL")
      ->capture_default_str();
  add_number(command, "--shift", augmentation.shift, "pixels");
  add_number(command, "--zoom", augmentation.scale, "by 1 + X, both ways");
  add_number(command, "--brightness", augmentation.brightness, "share of the image's range");
  add_number(command, "--contrast", augmentation.contrast, "by 1 + X, both ways", 0, 1);
  add_number(command, "--gamma", augmentation.gamma, "by 1 + X, both ways");
  add_number(command, "--noise", augmentation.noise, "share of the image's range");
  command.add_option("--contact-sheet", contact_sheet, "a picture of the first tiles, .png")
      ->type_name("FILE");
  command.footer(
      "Examples:\n"
      "  tessera train unet data -o cells.safetensors --check\n"
      "  tessera train unet data --from net.onnx -o cells.safetensors --rate 1e-4\n"
      "  tessera train unet data -o cells.safetensors --base 16 --norm before_relu --epochs 50\n"
      "  tessera train unet data -o cells.safetensors --border-weight 10 --min-area 15\n"
      "  tessera train unet data -o cells.safetensors --recipe isbi2012_unet.json --resume");
}

bool ImageTrainOptions::classes_are_given() const {
  return classes_option != nullptr && classes_option->count() > 0;
}

void DocumentTrainOptions::add_to(CLI::App& command) {
  command
      .add_option("data", data, "labelled documents: .tsv, .csv, .json or .jsonl, also compressed")
      ->required();
  run.add_to(command, "mean_f1");
  begin_group(command, "Data");
  files.add_to(command, {"tsv", "csv", "jsonl", "json"});
  command.add_option("--validation", validation, "a share of each class, or a file of documents")
      ->type_name("RULE")
      ->capture_default_str();
  command.add_option("--seed", seed, "of what is drawn")->type_name("N")->capture_default_str();
  command.add_flag("--skip-bad", skip_bad, "leave out bad records instead of ending");

  begin_group(command, "Words");
  add_number(command, "--max-features", max_features, "word ids; 0: all words");
  add_number(command, "--max-sentences", max_sentences, "of a document; 0: by quantile");
  add_number(command, "--max-words", max_words, "of a sentence; 0: by quantile");
  add_number(command, "--min-count", min_count, "rarer words are unknown", 1);
  add_number(command, "--quantile", quantile, "of documents that the limits leave whole", 0, 1);
  command.add_option("--vectors", vectors, "word vectors as text (GloVe), also .gz")
      ->type_name("FILE");
  command.add_flag("--tune-embedding", tune_embedding,
                   "train the vectors too; without --vectors always");
  begin_group(command, "Network");
  add_choice(command, "--network", network,
             "a published one, instead of this program's own; what is given besides wins",
             names_in(named_hans()));
  add_number(command, "--features", features, "of the embedding, without --vectors", 1, 1 << 14);
  add_choice(command, "--cell", cell, "of the recurrences", {"gru", "lstm"});
  add_number(command, "--units", units, "of each direction", 1, 1 << 14);
  add_number(command, "--attention", attention, "units of its hidden layer", 1, 1 << 14);
  add_number(command, "--dense", dense, "units between recurrence and attention; 0: none", 0,
             1 << 14);
  add_number(command, "--dropout", dropout, "before the output layer", 0, 0.99);
  command.add_flag("--unmasked", unmasked, "padding takes part, as in the Keras tutorial");
  command.footer(
      "Examples:\n"
      "  tessera train han train.tsv -o han.safetensors --check\n"
      "  tessera train han train.tsv.gz -o han.safetensors --vectors glove.6B.100d.txt.gz\n"
      "  tessera train han reviews.jsonl -o han.safetensors --cell lstm --early-stop 2");
}

void settle(const DataReport& found, Report& report) {
  for (const std::string& note : found.notes()) report.note(note);
  found.require_none();
}

int run_training(TrainingTask& task, const TrainOptions& options, TrainingOptions training) {
  OpenedDevice opened = open_device(device_options(task.config().is_of_images(), options.device,
                                                   options.precision, options.thread_count()));
  Report report(options.report, "steps", static_cast<std::size_t>(total_steps(task, training)));
  if (!opened.note.empty()) report.note(opened.note);
  training.provenance["device"] = opened.device->name();
  training.provenance["precision"] = name_of(opened.device->precision());
  bool first = true;
  TrainingEvents events;
  events.step = [&](const TrainingEvents::Step& step) {
    if (first) report.begin_at(static_cast<double>(step.step - 1));
    first = false;
    report.success();
    report.advance(
        static_cast<double>(step.step),
        fmt::format("epoch {}, loss {:.4f}, rate {:.3g}", step.epoch + 1, step.loss, step.rate));
  };
  events.note = [&](const std::string& line) { report.note(line); };
  events.stop = [] { return interrupted() != 0; };
  catch_interrupts();
  const TrainingResult result = train(task, training, std::move(opened.device), events);
  if (result.end == TrainingResult::End::kStopped) {
    return report.finish(fmt::format("interrupted at step {}; go on with --resume", result.step));
  }
  if (options.report.json) {
    json line{{"model", options.output}, {"step", result.step}, {"train_loss", result.train_loss}};
    if (result.best) {
      line["validation_" + options.best] = *result.best;
      line["best_epoch"] = result.best_epoch;
    }
    report.result(line.dump(2, ' ', false, json::error_handler_t::replace));
  } else if (!options.report.quiet) {
    report.result(fmt::format("{}: {} steps{}, {}", options.output, result.step,
                              result.end == TrainingResult::End::kEarly ? ", stopped early" : "",
                              result.best
                                  ? fmt::format("validation {} {:.4f} in epoch {}", options.best,
                                                *result.best, result.best_epoch)
                                  : fmt::format("training loss {:.4f}", result.train_loss)));
  }
  return report.finish();
}

Verb make_train_verb(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("train", "a model from labelled data");
  command.require_subcommand(1);
  command.get_formatter()->label("SUBCOMMAND", "NETWORK");
  const auto images = std::make_shared<ImageTrainOptions>();
  const auto documents = std::make_shared<DocumentTrainOptions>();
  CLI::App& unet = *command.add_subcommand("unet", "from images and masks");
  CLI::App& han = *command.add_subcommand("han", "from labelled documents");
  images->add_to(unet);
  documents->add_to(han);
  command.footer("'tessera train unet --help' and 'tessera train han --help' show the options.");
  return {&command, [images, documents, &unet, &han] {
            if (unet.parsed()) {
              if (!images->run.recipe.empty()) apply_recipe(unet, images->run.recipe);
              if (!images->network.empty())
                apply_network(unet, to_json(named_unet(images->network)));
              return train_on_images(*images);
            }
            if (!documents->run.recipe.empty()) apply_recipe(han, documents->run.recipe);
            if (!documents->network.empty())
              apply_network(han, to_json(named_han(documents->network)));
            return train_on_documents(*documents);
          }};
}

}  // namespace tessera
