// The options of `tessera train`, whose values models/train.h checks.
#include <fmt/ranges.h>

#include <charconv>
#include <optional>

#include "models/networks/registry.h"
#include "tools/program/document_options.h"
#include "tools/program/image_data.h"
#include "tools/program/train.h"

namespace tessera {

namespace {

CLI::Option* add_choice(CLI::App& command, const std::string& name, std::string& into,
                        const std::string& help, const std::vector<std::string>& choices) {
  return command.add_option(name, into, fmt::format("{}: {}", help, fmt::join(choices, ", ")))
      ->type_name("NAME")
      ->check(CLI::IsMember(choices))
      ->capture_default_str();
}

template <class Field>
struct NumberIn {
  using Type = Field;
};
template <class Number>
struct NumberIn<std::optional<Number>> {
  using Type = Number;
};

template <class Field>
CLI::Option* add_number(CLI::App& command, const std::string& name, Field& into,
                        const std::string& help) {
  using Number = typename NumberIn<Field>::Type;
  constexpr bool kWhole = std::is_integral_v<Number>;
  const auto is_number = [](const std::string& text) {
    Number value{};
    const char* const end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(text.data(), end, value);
    if (error == std::errc() && stop == end) return std::string();
    return fmt::format("expected a {}; found '{}'", kWhole ? "whole number" : "number", text);
  };
  CLI::Option* option =
      command.add_option(name, into, help)->type_name(kWhole ? "N" : "X")->check(is_number);
  if constexpr (std::is_same_v<Field, Number>) option->capture_default_str();
  return option;
}

// The heading in the help of the options that are added from here on.
void begin_group(CLI::App& command, const char* title) {
  command.option_defaults()->group(title);
}

// What both networks are told. `score`: what --best takes besides loss and accuracy.
void add_common(CLI::App& command, TrainOptions& into, std::string& recipe, ReportOptions& report,
                const char* score) {
  command.add_option("-o,--output", into.output, "the model file to write")
      ->type_name("FILE")
      ->required();
  command.add_option("--recipe", recipe, "JSON file of options; those given here win")
      ->type_name("FILE");
  command
      .add_option("--metrics", into.metrics,
                  "folder of checkpoints, metrics.jsonl and learning curves; else OUTPUT.run")
      ->type_name("FOLDER");
  command.add_flag("--check", into.check, "look at all the data, then end");
  command.add_flag("--resume", into.resume, "go on from the folder's last checkpoint");
  command.add_flag("--bf16", into.bf16, "the model file stores weights in half the bytes");
  command.add_option("--device", into.device, "cpu, cuda, cuda:N or auto (a GPU if there is one)")
      ->type_name("NAME");
  command
      .add_option(
          "--precision", into.precision,
          "fp32 or auto; on a GPU also tf32 and bf16, which is mixed: weights, sums and the "
          "optimiser stay fp32")
      ->type_name("NAME")
      ->check(CLI::IsMember({"fp32", "tf32", "bf16", "auto"}));
  command
      .add_option("--threads", into.threads,
                  "of the CPU; 0: all, of which ranks of one machine get a share")
      ->type_name("N");
  into.ranks = "auto";
  add_choice(command, "--ranks", into.ranks,
             "processes that share each step's batches, the result is that of one: those of Open "
             "MPI's mpirun (auto: if it started this)",
             {"auto", "mpi", "none"});

  begin_group(command, "Length");
  add_number(command, "--epochs", into.epochs, "to train");
  add_number(command, "--steps", into.steps, "optimiser steps, instead of epochs");
  add_number(command, "--batch", into.batch, "tiles or documents of one run");
  add_number(command, "--accumulate", into.accumulate,
             "batches of one optimiser step, shared by the ranks");
  add_number(command, "--validate-every", into.validate_every, "steps; 0: each epoch");
  add_number(command, "--early-stop", into.early_stop,
             "validations without a better one that end it; 0: never");
  add_choice(command, "--best", into.best, "by what the best validation, and so the model, is told",
             {"loss", "accuracy", score})
      ->default_str("loss");
  add_number(command, "--average", into.average,
             "decay of a moving average of the weights, which the model gets; 0: none");
  command.add_flag("--checkpoint-activations", into.checkpoint_activations,
                   "compute activations twice instead of keeping them");

  begin_group(command, "Optimiser");
  add_choice(command, "--optimiser", into.optimiser, "what takes the steps",
             {"adam", "adamw", "sgd"});
  add_number(command, "--rate", into.rate, "learning rate");
  add_number(command, "--momentum", into.momentum, "of sgd");
  command.add_flag("--nesterov", into.nesterov, "of sgd");
  add_number(command, "--weight-decay", into.weight_decay, "L2 penalty; of adamw decoupled");
  add_number(command, "--clip", into.clip, "greatest norm of the gradient; 0: any");
  add_choice(command, "--schedule", into.schedule, "of the rate", {"constant", "cosine", "step"});
  add_number(command, "--warmup", into.warmup, "steps over which the rate rises");
  add_number(command, "--final-factor", into.final_factor, "of the rate at the cosine's end");
  add_number(command, "--step-every", into.step_every, "steps of the step schedule");
  add_number(command, "--step-factor", into.step_factor, "of the rate at each of them");
  begin_group(command, "What is shown");
  report.add_to(command);
}

void add_switch(CLI::App& command, const char* name, bool& into) {
  command.add_option(name, into, "true or false")->type_name("BOOL")->capture_default_str();
}

}  // namespace

void add_options(CLI::App& command, TrainCommand<UNetTrainOptions>& into) {
  UNetTrainOptions& options = into.options;
  command.add_option("data", options.source.data,
                     "a folder with images/ and masks/, or a list of image<TAB>mask");
  add_common(command, options, into.recipe, into.report, "mean_iou");
  begin_group(command, "Data");
  add_image_data_options(command, options.source, options.seed);

  command.add_option("--classes", options.classes, "their names")
      ->type_name("A,B,..")
      ->delimiter(',')
      ->default_str("background,foreground");
  add_number(command, "--min-area", options.min_area,
             "pixels of the least object: what eval and segment take, unless they are told")
      ->default_str("1");
  begin_group(command, "Network");
  command
      .add_option("--from", options.from,
                  "a model to go on from, of any program that is read: its network, weights, "
                  "classes and pixels")
      ->type_name("FILE");
  add_choice(command, "--network", options.network,
             "a published one, instead of this program's own; what is given besides wins",
             names_in(named_unets()));
  command.add_option("--channels", options.channels, "1: grey, 3: RGB")
      ->type_name("N")
      ->check(CLI::IsMember({1, 3}))
      ->default_str("1");
  add_choice(command, "--scale", options.scale, "of pixels",
             {"none", "unit", "standardize", "min_max"})
      ->default_str("unit");
  add_range_option(command, options.range);
  add_number(command, "--depth", options.depth, "poolings")->default_str("4");
  add_number(command, "--base", options.base, "channels of the first level")->default_str("64");
  add_choice(command, "--padding", options.padding, "of convolutions", {"same", "valid"})
      ->default_str("same");
  add_choice(command, "--norm", options.norm, "batch normalisation",
             {"none", "before_relu", "after_relu"})
      ->default_str("none");
  add_choice(command, "--up", options.up, "sampling", {"transposed2", "transposed3", "bilinear"})
      ->default_str("transposed2");
  add_choice(command, "--head", options.head, "the last layer", {"conv1", "conv3"})
      ->default_str("conv1");
  command.add_flag("--up-relu", options.up_relu, "a ReLU after a transposed convolution");
  add_number(command, "--dropout", options.dropout,
             "at the end of the contracting path while it trains (the paper's place)");
  add_number(command, "--norm-momentum", options.norm_momentum,
             "share of a batch in the running statistics of batch normalisation");
  command.add_flag("--sigmoid", options.sigmoid, "one output for two classes");
  into.foreign.add_to(command);

  begin_group(command, "Tiles and loss");
  add_number(command, "--tile", options.tile, "pixels of the output that one tile teaches");
  add_number(command, "--tiles", options.tiles, "of an epoch; 0: as many as cover the images");
  add_choice(command, "--loss", options.loss, "of pixels", {"cross_entropy", "dice", "both"});
  command
      .add_option("--class-weights", options.class_weights,
                  "balanced, or one for each class; with them a pixel's loss is weighted")
      ->type_name("W,W,..");
  add_number(command, "--border-weight", options.border_weight,
             "w0 of the weight map between objects (the paper's: 10); 0: none");
  add_number(command, "--border-sigma", options.border_sigma, "of that map, pixels");

  begin_group(command, "Augmentation");
  Augmentation& augmentation = options.augmentation;
  command.add_flag("--no-augmentation", into.plain, "tiles as they are");
  add_number(command, "--elastic", augmentation.elastic_sigma, "pixels of deformation");
  add_number(command, "--rotation", augmentation.rotation, "degrees, both ways");
  add_switch(command, "--quarter-turns", augmentation.quarter_turns);
  add_switch(command, "--flip-horizontal", augmentation.flip_horizontal);
  add_switch(command, "--flip-vertical", augmentation.flip_vertical);
  add_number(command, "--shift", augmentation.shift, "pixels");
  add_number(command, "--zoom", augmentation.scale, "by 1 + X, both ways");
  add_number(command, "--brightness", augmentation.brightness, "share of the image's range");
  add_number(command, "--contrast", augmentation.contrast, "by 1 + X, both ways");
  add_number(command, "--gamma", augmentation.gamma, "by 1 + X, both ways");
  add_number(command, "--noise", augmentation.noise, "share of the image's range");
  command
      .add_option("--contact-sheet", options.contact_sheet, "a picture of the first tiles, .png")
      ->type_name("FILE");
  command.footer(
      "Examples:\n"
      "  tessera train unet data -o cells.safetensors --check\n"
      "  tessera train unet data --from net.onnx -o cells.safetensors --rate 1e-4\n"
      "  tessera train unet data -o cells.safetensors --base 16 --norm before_relu --epochs 50\n"
      "  tessera train unet data -o cells.safetensors --border-weight 10 --min-area 15\n"
      "  tessera train unet data -o cells.safetensors --recipe isbi2012_unet.json --resume");
}

void add_options(CLI::App& command, TrainCommand<HanTrainOptions>& into) {
  HanTrainOptions& options = into.options;
  command
      .add_option("data", options.data,
                  "labelled documents: .tsv, .csv, .json or .jsonl, also compressed")
      ->required();
  add_common(command, options, into.recipe, into.report, "mean_f1");
  begin_group(command, "Data");
  add_document_options(command, options.files, {"tsv", "csv", "jsonl", "json"});
  command
      .add_option("--validation", options.validation,
                  "a share of each class, or a file of documents")
      ->type_name("RULE")
      ->capture_default_str();
  command.add_option("--seed", options.seed, "of what is drawn")
      ->type_name("N")
      ->capture_default_str();
  command.add_flag("--skip-bad", options.skip_bad, "leave out bad records instead of ending");

  begin_group(command, "Words");
  add_number(command, "--max-features", options.max_features, "word ids; 0: all words");
  add_number(command, "--max-sentences", options.max_sentences, "of a document; 0: by quantile");
  add_number(command, "--max-words", options.max_words, "of a sentence; 0: by quantile");
  add_number(command, "--min-count", options.min_count, "rarer words are unknown");
  add_number(command, "--quantile", options.quantile, "of documents that the limits leave whole");
  command.add_option("--vectors", options.vectors, "word vectors as text (GloVe), also .gz")
      ->type_name("FILE");
  command.add_flag("--tune-embedding", options.tune_embedding,
                   "train the vectors too; without --vectors always");
  begin_group(command, "Network");
  add_choice(command, "--network", options.network,
             "a published one, instead of this program's own; what is given besides wins",
             names_in(named_hans()));
  add_number(command, "--features", options.features, "of the embedding, without --vectors")
      ->default_str("100");
  add_choice(command, "--cell", options.cell, "of the recurrences", {"gru", "lstm"})
      ->default_str("gru");
  add_number(command, "--units", options.units, "of each direction")->default_str("50");
  add_number(command, "--attention", options.attention, "units of its hidden layer")
      ->default_str("100");
  add_number(command, "--dense", options.dense, "units between recurrence and attention; 0: none")
      ->default_str("0");
  add_number(command, "--dropout", options.dropout, "before the output layer");
  command.add_flag("--unmasked", options.unmasked, "padding takes part, as in the Keras tutorial");
  command.footer(
      "Examples:\n"
      "  tessera train han train.tsv -o han.safetensors --check\n"
      "  tessera train han train.tsv.gz -o han.safetensors --vectors glove.6B.100d.txt.gz\n"
      "  tessera train han reviews.jsonl -o han.safetensors --cell lstm --early-stop 2");
}

}  // namespace tessera
