// Training through Tessera's C++ interface: a UNet from images and masks, a HAN from labelled
// documents.
//
//   tessera::UNetTrainOptions options;
//   options.source.data = "cells";  // a folder with images/ and masks/
//   options.output = "cells.safetensors";
//   options.epochs = 30;
//   tessera::Session unet = tessera::train_unet(options).open();
//
// This is what `tessera train` runs, to the byte. The fields are its options, whose names errors
// and notes tell: --border-weight is `border_weight`. Standard C++ alone. All functions throw
// std::runtime_error, whose text says what was expected, what was found and what to do; an
// OptionError where an option has no such value or contradicts another.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "session.h"  // beside this file, wherever it is installed

namespace tessera {

class OptionError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// ---- what both networks are told ---------------------------------------------------------------

struct TrainOptions {
  std::string output;   // the model file to write
  std::string metrics;  // folder of checkpoints, metrics.jsonl and learning curves; empty: the
                        // output's name with ".run" behind it
  bool check = false;   // only look at all the data
  bool resume = false;  // go on from the folder's last checkpoint, to the bytes of one run
  bool bf16 = false;    // the model file stores weights in half the bytes
  std::string device = "auto";     // as SessionOptions has it
  std::string precision = "auto";  // "fp32"; on a GPU also "tf32" and "bf16", which is mixed:
                                   // weights, sums and the optimiser stay fp32
  int threads = 0;                 // of the CPU; 0: OMP_NUM_THREADS, else every processor, which
                                   // ranks of one machine share
  // Which processes share the batches of each step, and give the bytes of one: "none", "mpi" (those
  // that Open MPI's mpirun started with this one), "auto" (the latter, if it did). All of them are
  // told the same; the first one writes. The program's default is "auto".
  std::string ranks = "none";
  std::uint64_t seed = 0;  // of all that is drawn

  std::int64_t epochs = 10;
  std::int64_t steps = 0;           // more than 0: optimiser steps, instead of epochs
  std::int64_t batch = 1;           // tiles or documents of one run
  int accumulate = 1;               // batches of one optimiser step, one for each rank at least
  std::int64_t validate_every = 0;  // steps; 0: each epoch
  std::int64_t early_stop = 0;      // validations without a better one that end it; 0: never
  // By what the best validation, and so the model, is told: "accuracy", "mean_iou" of a UNet,
  // "mean_f1" of a HAN; empty or "loss": the loss.
  std::string best = "";
  double average = 0;  // decay of a moving average of the weights, which the model gets; 0: none
  bool checkpoint_activations = false;  // compute them twice instead of keeping them

  std::string optimiser = "adam";  // "adam", "adamw", "sgd"
  double rate = 1e-3;
  double momentum = 0.9;              // of sgd
  bool nesterov = false;              // of sgd
  double weight_decay = 0;            // L2 penalty; of adamw decoupled
  double clip = 0;                    // greatest norm of the gradient; 0: any
  std::string schedule = "constant";  // of the rate: "constant", "cosine", "step"
  std::int64_t warmup = 0;            // steps over which the rate rises
  double final_factor = 0;            // of the rate at the cosine's end
  std::int64_t step_every = 1000;     // steps of the step schedule
  double step_factor = 0.1;           // of the rate at each of them

  std::map<std::string, std::string> provenance = {};  // what else the model file says of itself
};

// ---- a UNet ------------------------------------------------------------------------------------

// Pixels with their mask: (height, width) of u8, u16 or u32, or RGB, which `mask_format` reads as
// those of files. Not owned.
struct LabelledImageView {
  ImageView image, mask;
};

// Images with the masks that say what their pixels are.
struct ImageDataOptions {
  std::string data = {};  // a folder with images/ and masks/, or a list of image<TAB>mask
  std::string images = {}, masks = {};        // instead: the two folders
  std::vector<LabelledImageView> pairs = {};  // instead: in memory; their names are 0, 1, ...
  // "auto" (decided from all masks), "ids", "binary" (0, 255), "values:V,V..",
  // "colours:#rrggbb,..", "objects" (0: background, else an object's id); ",ignore=V" behind it.
  std::string mask_format = "auto";
  // Images held out: "none", a share ("0.2"), "every:K", "fold:I/K", "names:a,b,24..29",
  // "list:FILE".
  std::string validation = "none";
};

// How strongly each deformation of a training tile acts; 0 or false switches it off. Amounts are
// drawn for each tile, evenly between -amount and amount, unless said otherwise.
struct Augmentation {
  double elastic_sigma = 10;  // pixels: deviation of the normal displacements of the grid
  int elastic_grid = 3;       // points of the grid along each axis, over the whole tile
  double rotation = 15;       // degrees
  bool quarter_turns = true;  // by 0, 90, 180 or 270 degrees
  bool flip_horizontal = true;
  bool flip_vertical = true;
  double shift = 0;    // whole pixels, along each axis, beyond the free choice of the tile's place
  double scale = 0.1;  // the factor is between 1 / (1 + scale) and 1 + scale, evenly in its
                       // logarithm

  // Of the grey values, in units of the image's own range (its greatest minus its least value):
  double brightness = 0.1;  // added
  double contrast = 0.1;    // 1 + amount multiplies the distance from the tile's mean
  double gamma = 0.1;       // the exponent, drawn as the scale is
  double noise = 0.01;      // deviation of the normal noise of each pixel

  static Augmentation none() {
    return {.elastic_sigma = 0,
            .rotation = 0,
            .quarter_turns = false,
            .flip_horizontal = false,
            .flip_vertical = false,
            .shift = 0,
            .scale = 0,
            .brightness = 0,
            .contrast = 0,
            .gamma = 0,
            .noise = 0};
  }

  bool operator==(const Augmentation&) const = default;
};

struct UNetTrainOptions : TrainOptions {
  ImageDataOptions source{.validation = "0.2"};
  std::vector<std::string> classes = {};      // their names; none: background, foreground
  std::optional<std::int64_t> min_area = {};  // pixels of the least object: what `tessera eval` and
                                              // `segment` take unless they are told; else 1

  // The network and its pixels. A model to go on from, of any program that is read, brings its own,
  // and classes; what follows it has no say then.
  std::string from;
  ImportOptions foreign = {};        // of that
  std::string range;                 // as SessionOptions has it
  std::string network;               // a published one, whose settings stand for those not given:
                                     // "unet-2015", "tf_unet", ... ; empty: this program's own
  std::optional<int> channels = {};  // 1 (default): grey, 3: RGB
  std::string scale;  // of pixels: "none", "unit" (default), "standardize", "min_max"
  std::optional<int> depth = {}, base = {};  // poolings (4), channels of the first level (64)
  std::string padding;                       // of convolutions: "same" (default), "valid"
  std::string norm;      // batch normalisation: "none" (default), "before_relu", "after_relu"
  std::string up;        // sampling: "transposed2" (default), "transposed3", "bilinear"
  std::string head;      // the last layer: "conv1" (default), "conv3"
  bool up_relu = false;  // a ReLU after a transposed convolution
  bool sigmoid = false;  // one output for two classes

  double dropout = 0;                  // at the end of the contracting path while it trains
  double norm_momentum = 0.1;          // share of a batch in the running statistics of batch norms
  std::int64_t tile = 256;             // pixels of the output that one tile teaches
  std::int64_t tiles = 0;              // of an epoch; 0: as many as cover the images
  std::string loss = "cross_entropy";  // "cross_entropy", "dice", "both"
  std::string class_weights;  // of a pixel's loss, by its class: "W,W,..", or "balanced": all
                              // classes weigh the same; empty: 1
  double border_weight = 0;   // w0 of the weight map between objects (the paper's: 10); 0: none
  double border_sigma = 5;    // of that map, pixels
  Augmentation augmentation = {};
  std::string contact_sheet;  // a picture of the first tiles to write, .png; empty: none
};

// ---- a HAN -------------------------------------------------------------------------------------

// How files of documents are read.
struct DocumentFileOptions {
  std::string format = "auto";  // by name and content; "tsv", "csv", "json", "jsonl", ...
  std::optional<std::size_t> text_column = {}, label_column = {};  // of TSV and CSV, from 0
  bool skip_header = false;  // pass over the first line of a TSV or CSV
  // Of JSON, or the column that the first line names; else "text" and "label", where they are
  // there.
  std::optional<std::string> text_field = {}, label_field = {};
};

// A text in UTF-8, and the name of its class. Not owned.
struct LabelledText {
  std::string_view label, text;
};

struct HanTrainOptions : TrainOptions {
  HanTrainOptions() { batch = 64; }

  std::string data;                          // a file, also compressed
  std::vector<LabelledText> documents = {};  // instead: in memory
  DocumentFileOptions files = {};
  std::string validation = "0.1";  // a share of each class, or a file of documents
  bool skip_bad = false;           // leave out bad records instead of ending

  std::int64_t max_features = 0;   // word ids; 0: all words
  std::int64_t max_sentences = 0;  // of a document; 0: by quantile
  std::int64_t max_words = 0;      // of a sentence; 0: by quantile
  std::int64_t min_count = 1;      // rarer words are unknown
  double quantile = 0.95;          // of documents that the limits leave whole
  std::string vectors;             // word vectors as text (GloVe), also .gz
  bool tune_embedding = false;     // train the vectors too; without them always

  std::string network;                // as above: "han-2016", "keras-tutorial"
  std::optional<int> features = {};   // of the embedding (100), without vectors
  std::string cell;                   // of the recurrences: "gru" (default), "lstm"
  std::optional<int> units = {};      // of each direction (50)
  std::optional<int> attention = {};  // units of its hidden layer (100)
  std::optional<int> dense = {};      // units between recurrence and attention (0: none)
  double dropout = 0.5;               // before the output layer
  bool unmasked = false;              // padding takes part, as in the Keras tutorial
};

// ---- a run -------------------------------------------------------------------------------------

// What is heard of a run, on the thread that trains; `data` comes from any, one at a time. What
// `step`, `epoch` and `note` throw ends the run and reaches the caller; the last checkpoint is then
// still there.
struct TrainEvents {
  struct Step {
    std::int64_t step = 0, total = 0;  // done, planned
    std::int64_t epoch = 0;            // from 0
    double loss = 0;                   // of this step
    double rate = 0;
  };
  struct Figures {
    double loss = 0;
    double accuracy = 0;
    std::map<std::string, double> more = {};  // "mean_iou", "iou/CLASS", "mean_f1"
  };
  // A line of metrics.jsonl: after each epoch, or as often as `validate_every` says.
  struct Epoch {
    std::int64_t step = 0;
    double epoch = 0;                        // epochs done
    Figures training;                        // since the last one
    std::optional<Figures> validation = {};  // where images or documents are held out
    bool best = false;                       // the best validation so far
    double rate = 0;
    double seconds = 0;  // since the run began
  };

  // Images that were looked at before the training, and all.
  std::function<void(std::int64_t done, std::int64_t all)> data = [](std::int64_t, std::int64_t) {};
  std::function<void(const Step&)> step = [](const Step&) {};
  // False saves the run's state and ends it; `resume` goes on.
  std::function<bool(const Epoch&)> epoch = [](const Epoch&) { return true; };
  // A line for a person: the data, the memory it takes, a validation, a resumed run.
  std::function<void(const std::string&)> note = [](const std::string&) {};
  // Asked after each image that is looked at (from any thread) and each step: true saves and ends.
  std::function<bool()> stop = [] { return false; };
};

struct TrainResult {
  enum class End : std::uint8_t {
    kDone,
    kEarly,    // by `early_stop`
    kStopped,  // by `epoch` or `stop`
    kChecked,  // nothing was trained, because `check` was set
  };
  End end = End::kDone;
  std::string model = {};           // the file
  std::int64_t step = 0;            // 0: stopped before anything was written
  double train_loss = 0;            // of the epoch or interval that ended last
  std::optional<double> best = {};  // what TrainOptions::best names, of the best validation
  std::int64_t best_epoch = 0;      // from 1
  int rank = 0;                     // which of the ranks this process is; the first one wrote

  // The trained model. Throws where none was written.
  Session open(const SessionOptions& options = {}) const;
};

// Each looks at all the data first: what is wrong with any of it is one error, before the training.
TrainResult train_unet(const UNetTrainOptions& options, const TrainEvents& events = {});
TrainResult train_han(const HanTrainOptions& options, const TrainEvents& events = {});

}  // namespace tessera
