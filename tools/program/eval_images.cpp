// `tessera eval` of a UNet: masks against masks.
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>

#include "engine/device/machine.h"
#include "models/image/mask_source.h"
#include "models/training/labelled_images.h"
#include "models/training/segmentation_metrics.h"
#include "tools/program/eval.h"
#include "tools/program/eval_windows.h"
#include "tools/program/labels.h"
#include "tools/program/segment_files.h"

namespace tessera {

using nlohmann::json;

namespace {

class ImageEvaluation {
 public:
  ImageEvaluation(const EvalOptions& options, const std::string& model, Session session)
      : options_(options),
        model_(model),
        session_(std::move(session)),
        names_(class_names(session_)),
        trained_(trained_masks(session_)),
        membrane_(find_membrane()),
        all_(find_images()),
        rules_(find_rules()),
        counts_objects_(options.objects || rules_.kind == MaskRules::Kind::kObjects),
        object_options_(options.object_options),
        pairs_(held_out()),
        confusion_(names_.size()),
        report_(options.report, "images", pairs_.size()) {
    if (!options.min_area_given && trained_) object_options_.min_area = trained_->min_area;
  }

  int run() {
    for (const std::string& note : found_.notes()) report_.note(note);
    for (const DataProblem& problem : found_.problems())
      report_.failure(problem.file, problem.to_string());
    for (std::size_t i = 0; i < pairs_.size() && interrupted() == 0; ++i) {
      report_.advance(static_cast<double>(i));
      try {
        evaluate(pairs_[i]);
        report_.success();
      } catch (const std::exception& error) {
        report_.failure(pairs_[i].image.string(), error.what());
      }
    }
    if (white_is_zero_ > 0) report_.note(white_is_zero_note(white_is_zero_));
    if (confusion_.total() > 0) {
      if (options_.report.json) {
        report_.result(to_json().dump(2, ' ', false, json::error_handler_t::replace));
      } else {
        print();
      }
    }
    return report_.finish();
  }

 private:
  std::optional<std::size_t> find_membrane() const {
    if (options_.membrane.empty()) return std::nullopt;
    const auto found = find_class(session_.classes(), options_.membrane);
    if (!found)
      throw UsageError(fmt::format("--membrane: '{}' is none of the model's {} classes: {}",
                                   options_.membrane, names_.size(), fmt::join(names_, ", ")));
    return found->place;
  }

  ImagePairs find_images() {
    if (options_.inputs.size() > 1)
      throw UsageError("several folders of images; give one, or a list of image<TAB>mask");
    given_rules(options_.data, names_.size());  // a format that is none is said before the walk
    return find_pairs(options_.data, found_);
  }

  // From all masks, also those that are not held out.
  MaskRules find_rules() {
    MaskHints hints{
        .classes = names_.size(), .classes_are_known = true, .trained = {}, .class_colours = {}};
    if (trained_) hints.trained = trained_->rules;
    for (const ClassInfo& one : session_.classes()) hints.class_colours.push_back(one.colour);
    return mask_rules(options_.data, all_, hints, session_.threads(), found_);
  }

  ImagePairs held_out() const {
    if (options_.data.validation == "none") return all_;
    ImagePairs pairs;
    for (const std::size_t i : split_pairs(all_, options_.data, options_.seed).validation)
      pairs.push_back(all_[i]);
    return pairs;
  }

  void evaluate(const ImagePair& pair) {
    ImageReader image = open_page(pair.image, pair.page);
    MaskSource mask(pair);
    ConfusionMatrix confusion(names_.size());
    std::optional<ObjectEvaluation> found;
    if (is_large(image)) {
      compare_rows(pair, PixelSource(std::move(image)), mask, confusion, found);
    } else {
      const Image pixels = image.read();
      const Mask truth =
          true_mask(pair, pixels.height, pixels.width, mask, {0, 0, mask.height(), mask.width()});
      const Segmentation answer = session_.segment(view_of(pixels));
      confusion.add(truth.classes, answer.mask, kIgnoredClass);
      if (counts_objects_) found = objects(truth, answer);
      if (membrane_) add_membranes(truth, answer);
    }
    white_is_zero_ += mask.white_is_zero() ? 1 : 0;
    confusion_.add(confusion);
    json entry = {{"name", pair.name},
                  {"accuracy", confusion.accuracy()},
                  {"mean_iou", confusion.mean(&ConfusionMatrix::iou)}};
    std::string line =
        fmt::format("{}: accuracy {}, mean IoU {}", pair.name, figure(confusion.accuracy()),
                    figure(confusion.mean(&ConfusionMatrix::iou)));
    if (found) {
      entry["objects"] = found->json();
      line += fmt::format(", {} objects of {}, F1 {}", found->predictions(), found->truths(),
                          figure(found->at(kHalf).f1()));
    }
    images_.push_back(std::move(entry));
    if (options_.per_image && !options_.report.json) report_.result(line);
  }

  Mask true_mask(const ImagePair& pair, std::int64_t height, std::int64_t width, MaskSource& mask,
                 const ImageWindow& part) const {
    require(mask.height() == height && mask.width() == width,
            "its mask '{}' is {} x {}, the image is {} x {} (height x width)", pair.mask.string(),
            mask.height(), mask.width(), height, width);
    try {
      return mask.read(part, rules_);
    } catch (const Error& error) {
      fail("'{}': {}", pair.mask.string(), error.what());
    }
  }

  // Whether image, masks and what is counted of them do not fit into the memory that is allowed.
  bool is_large(ImageReader& image) {
    if (!image.reads_parts()) return false;
    constexpr std::size_t kBytesOfPixel = 32;  // true and predicted ids, as they are decoded
    const ImageLayout layout = image.layout();
    if (layout.height > kMaxSamples / layout.width / layout.channels) return true;
    const std::int64_t pixels = layout.height * layout.width;
    const std::size_t limit = options_.model.max_memory.empty()
                                  ? available_bytes() / 2
                                  : parse_bytes(options_.model.max_memory);
    return static_cast<std::size_t>(pixels) > limit / kBytesOfPixel;
  }

  // Row by row, neither image nor masks lie in memory; the figures are the same.
  void compare_rows(const ImagePair& pair, PixelSource image, MaskSource& mask,
                    ConfusionMatrix& confusion, std::optional<ObjectEvaluation>& found) {
    require(!membrane_,
            "--membrane thins and warps whole pictures, and this one of {} x {} pixels does not "
            "fit into memory; leave it out, or cut out the part that matters",
            image.layout().height, image.layout().width);
    const std::int64_t width = image.layout().width;
    InstanceOptions known = object_options_;
    known.background.push_back(kIgnoredClass);
    InstanceOptions whole = known;
    whole.min_area = 1;
    ObjectRows rows(width, whole, known);
    const auto before = static_cast<double>(images_.size());
    segment_rows(
        session_, image, [&](double done) { report_.advance(before + done); },
        [&](std::int64_t y, std::span<const std::uint8_t> predicted) {
          const std::int64_t height = std::ssize(predicted) / width;
          const Mask truth =
              true_mask(pair, image.layout().height, width, mask, {y, 0, y + height, width});
          confusion.add(truth.classes, predicted, kIgnoredClass);
          for (std::int64_t row = 0; counts_objects_ && row < height; ++row)
            rows.add_row(truth.classes.data() + row * width,
                         truth.objects.empty() ? nullptr : truth.objects.data() + row * width,
                         predicted.data() + row * width, kIgnoredClass);
        });
    if (!counts_objects_) return;
    const std::vector<Overlap> pairs = rows.finish();
    objects_.add(pairs);
    found.emplace().add(pairs);
  }

  // Of one image, which also joins the whole.
  ObjectEvaluation objects(const Mask& truth, const Segmentation& answer) {
    const auto ids = [&](const Mask& mask, const InstanceOptions& options) {
      return objects_of(mask, answer.height, answer.width, options);
    };
    // Objects that have ids in the file count as they are there, touching or not.
    InstanceOptions whole = object_options_;
    whole.min_area = 1;
    std::vector<std::uint32_t> true_ids = truth.objects.empty() ? ids(truth, whole) : truth.objects;
    std::vector<std::uint32_t> predicted = ids({answer.mask, {}}, object_options_);
    for (std::size_t i = 0; i < predicted.size(); ++i) {
      if (truth.classes[i] == kIgnoredClass) predicted[i] = true_ids[i] = 0;
    }
    objects_.add(true_ids, predicted);
    ObjectEvaluation one;
    one.add(true_ids, predicted);
    return one;
  }

  void add_membranes(const Mask& truth, const Segmentation& answer) {
    std::vector<std::uint8_t> cells(truth.classes.size());
    std::vector<float> probability(cells.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
      cells[i] = truth.classes[i] == kIgnoredClass ? MembraneEvaluation::kIgnored
                 : truth.classes[i] == *membrane_  ? 0
                                                   : 1;
      const auto outputs = static_cast<std::size_t>(answer.outputs);
      // A sigmoid gives the probability of the second class alone.
      probability[i] = outputs > 1       ? 1 - answer.probabilities[i * outputs + *membrane_]
                       : *membrane_ == 0 ? answer.probabilities[i]
                                         : 1 - answer.probabilities[i];
    }
    membranes_.add(cells, probability, answer.height, answer.width);
  }

  json to_json() const {
    json result = eval_summary(model_, session_, report_);
    result["pixels"] = confusion_.json(names_);
    result["pixel_error"] = 1 - confusion_.accuracy();
    result["mask_format"] = rules_.to_string();
    result["images"] = images_;
    if (counts_objects_) {
      result["objects"] = objects_.json();
      result["min_area"] = object_options_.min_area;
    }
    if (membrane_) {
      const std::vector<MembraneScore> scores = membranes_.scores();
      result["membranes"] = best_scores(scores);
      for (const MembraneScore& score : scores) {
        result["membranes"]["thresholds"].push_back(
            {{"threshold", score.threshold},
             {"rand_f_score", score.rand.f_score()},
             {"rand_f_score_thinned", score.rand_thinned.f_score()},
             {"warping_error", score.warping.total()},
             {"splits_and_merges", score.warping.splits_and_merges()},
             {"pixel_error", score.pixel_error}});
      }
    }
    return result;
  }

  void print() {
    for (const std::string& line : class_table(confusion_, names_, kFigures, "true pixels"))
      report_.result(line);
    report_.result(fmt::format("{} images, pixel accuracy {}, pixel error {}", images_.size(),
                               figure(confusion_.accuracy()), figure(1 - confusion_.accuracy())));
    if (counts_objects_) print_objects();
    if (membrane_) print_membranes();
  }

  void print_objects() {
    report_.result(fmt::format("objects: {} predicted, {} true; mean IoU of matches {}, SEG {}",
                               objects_.predictions(), objects_.truths(),
                               figure(objects_.mean_matched_iou()), figure(objects_.seg())));
    const ObjectScore half = objects_.at(kHalf);
    report_.result(fmt::format("  at IoU 0.5: precision {}, recall {}, F1 {}, TP / (TP+FP+FN) {}",
                               figure(half.precision()), figure(half.recall()), figure(half.f1()),
                               figure(half.average_precision())));
    report_.result(fmt::format("  mean over IoU 0.5 .. 0.95: F1 {}, TP / (TP+FP+FN) {}",
                               figure(objects_.mean_f1()),
                               figure(objects_.mean_average_precision())));
  }

  void print_membranes() {
    const json best = best_scores(membranes_.scores());
    const auto value = [&](const char* key, const char* part) {
      const json& number = best[key][part];
      return number.is_number() ? number.get<double>() : std::numeric_limits<double>::quiet_NaN();
    };
    report_.result("membranes, each figure at its best threshold on the probability of a cell:");
    for (const auto& [key, title] : {std::pair{"rand_f_score_thinned", "Rand F-score, thinned"},
                                     std::pair{"rand_f_score", "Rand F-score, as it is"}}) {
      report_.result(fmt::format("  {:<22} {} at {:.1f} (split {}, merge {})", title,
                                 figure(value(key, "value")), value(key, "threshold"),
                                 figure(value(key, "split")), figure(value(key, "merge"))));
    }
    for (const auto& [key, title] :
         {std::pair{"splits_and_merges", "warping: split, merged"},
          std::pair{"warping_error", "warping: all"}, std::pair{"pixel_error", "pixel error"}}) {
      report_.result(fmt::format("  {:<22} {:.6f} at {:.1f}", title, value(key, "value"),
                                 value(key, "threshold")));
    }
  }

  static constexpr double kHalf = 0.5;
  static constexpr Figure kFigures[] = {{"precision", &ConfusionMatrix::precision},
                                        {"recall", &ConfusionMatrix::recall},
                                        {"Dice", &ConfusionMatrix::f1},
                                        {"IoU", &ConfusionMatrix::iou}};

  const EvalOptions& options_;
  const std::string& model_;
  Session session_;
  std::vector<std::string> names_;
  std::optional<TrainedMasks> trained_;
  std::optional<std::size_t> membrane_;
  DataReport found_;
  ImagePairs all_;
  MaskRules rules_;
  bool counts_objects_;
  InstanceOptions object_options_;
  ImagePairs pairs_;  // of all_, those held out
  std::size_t white_is_zero_ = 0;
  ConfusionMatrix confusion_;
  ObjectEvaluation objects_;
  MembraneEvaluation membranes_;
  json images_ = json::array();
  Report report_;
};

}  // namespace

int evaluate_images(const EvalOptions& options, const std::string& model, Session session) {
  return ImageEvaluation(options, model, std::move(session)).run();
}

}  // namespace tessera
