// `tessera eval`, in parts: what both kinds of model share, and one run for each.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "models/image/instances.h"
#include "models/training/confusion_matrix.h"
#include "tools/program/document_options.h"
#include "tools/program/image_data.h"
#include "tools/program/program.h"
#include "tools/program/report.h"

namespace tessera {

struct EvalOptions {
  std::vector<std::string> inputs;
  ModelOptions model;
  ReportOptions report;

  ImageDataOptions data;   // of a UNet
  std::uint64_t seed = 0;  // of the images held out
  bool objects = false;
  InstanceOptions object_options;
  bool min_area_given = false;  // else the model's
  std::string membrane;         // a class
  bool per_image = false;

  DocumentFileOptions files;  // of a HAN
};

// Each evaluates a model that is open already and returns the exit code.
int evaluate_images(const EvalOptions& options, const std::string& model, Session session);
int evaluate_documents(const EvalOptions& options, const std::string& model, Session session);

// "0.9034", "-" for NaN.
std::string figure(double value);
// A column of the classes' table.
struct Figure {
  const char* title;
  double (ConfusionMatrix::*of_class)(std::size_t) const;
};
// A line for each class, and their mean; `counted` is the title of how many there truly are.
std::vector<std::string> class_table(const ConfusionMatrix& confusion,
                                     const std::vector<std::string>& names,
                                     std::span<const Figure> figures, std::string_view counted);
std::vector<std::string> class_names(const Session& session);
// Program, model, device and failures: what every result says besides its figures.
nlohmann::json eval_summary(const std::string& model, const Session& session, const Report& report);

}  // namespace tessera
