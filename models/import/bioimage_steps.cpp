#include "models/import/bioimage_steps.h"

#include <algorithm>
#include <cmath>

#include "engine/files/safetensors.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using nlohmann::json;
using Kind = PixelStep::Kind;

// A step's argument, or nothing where it is absent or null.
const json* argument(const BioimageStep& step, const char* name) {
  const auto found = step.arguments.find(name);
  return found != step.arguments.end() && !found->is_null() ? &*found : nullptr;
}

double number_of(const BioimageStep& step, const char* name, std::optional<double> otherwise) {
  const json* const given = argument(step, name);
  require(given != nullptr || otherwise, "{}: {} is missing", step.name, name);
  if (given == nullptr) return *otherwise;
  require(given->is_number() && std::isfinite(given->get<float>()),
          "{}: {} is {}, expected a finite number", step.name, name, given->type_name());
  return given->get<double>();
}

// One number, or one for each channel.
std::vector<double> numbers_of(const BioimageStep& step, const char* name, std::int64_t channels,
                               std::optional<double> otherwise) {
  const json* const given = argument(step, name);
  if (given == nullptr || given->is_number()) return {number_of(step, name, otherwise)};
  bool fits = given->is_array() && (given->size() == 1 || std::cmp_equal(given->size(), channels));
  for (std::size_t i = 0; fits && i < given->size(); ++i)
    fits = (*given)[i].is_number() && std::isfinite((*given)[i].get<float>());
  require(fits, "{}: {} is {} of {}, expected a finite number, or one for each of {} channel(s)",
          step.name, name, given->type_name(), given->size(), channels);
  return given->get<std::vector<double>>();
}

[[noreturn]] void refuse(const BioimageStep& step, const char* where, const std::string& why) {
  fail(
      "the {} step {} {}; --set {}=ignore imports the network without these steps, and without "
      "trying the package's own tensors",
      where, in_quotes(step.name), why, where);
}

// Whether statistics are of each channel alone. Throws where they are of lines or single pixels.
bool is_per_channel(const BioimageTensor& input, const BioimageStep& step) {
  const std::string axes = input.axes_of(step);
  if (axes.empty()) return false;
  if (axes.find('y') == axes.npos || axes.find('x') == axes.npos)
    refuse(step, "preprocessing", fmt::format("measures along \"{}\", expected y and x", axes));
  return axes.find('c') == axes.npos && input.axes.find('c') != input.axes.npos;
}

// (x - mean) / std of x * gain + offset.
PixelStep linear_step(const BioimageStep& step, std::int64_t channels) {
  const std::vector<double> gain = numbers_of(step, "gain", channels, 1),
                            offset = numbers_of(step, "offset", channels, 0);
  PixelStep result{.kind = Kind::kDivide};
  for (std::size_t c = 0; c < std::max(gain.size(), offset.size()); ++c) {
    const double g = gain[gain.size() > 1 ? c : 0], o = offset[offset.size() > 1 ? c : 0];
    const double mean = -o / g, std = 1 / g;
    if (!std::isfinite(static_cast<float>(mean)) || !std::isfinite(static_cast<float>(std)) ||
        static_cast<float>(std) == 0)
      refuse(step, "preprocessing", fmt::format("has the gain {} and the offset {}", g, o));
    result.mean.push_back(static_cast<float>(mean));
    result.std.push_back(static_cast<float>(std));
  }
  return result;
}

PixelStep fixed_step(const BioimageStep& step, std::int64_t channels) {
  PixelStep result{.kind = Kind::kDivide};
  const double eps = number_of(step, "eps", 1e-6);
  for (const double mean : numbers_of(step, "mean", channels, std::nullopt))
    result.mean.push_back(static_cast<float>(mean));
  for (const double std : numbers_of(step, "std", channels, std::nullopt)) {
    if (!(static_cast<float>(std + eps) > 0))
      refuse(step, "preprocessing", fmt::format("has the std {}, expected more than 0", std));
    result.std.push_back(static_cast<float>(std + eps));
  }
  return result;
}

void note_statistics(const BioimageStep& step, std::vector<Guess>& guesses) {
  const json* const mode = argument(step, "mode");
  const bool known =
      std::ranges::any_of(guesses, [](const Guess& guess) { return guess.name == "statistics"; });
  if (mode != nullptr && *mode == "per_dataset" && !known)
    guesses.push_back({"statistics", "per_sample",
                       "the package measures a whole data set; here each image is by itself"});
}

PixelStep step_before(const BioimageTensor& input, const BioimageStep& step, std::int64_t channels,
                      std::vector<Guess>& guesses) {
  if (argument(step, "reference_tensor") != nullptr &&
      step.arguments["reference_tensor"] != input.name)
    refuse(step, "preprocessing", "measures another tensor");
  note_statistics(step, guesses);
  const json* const mode = argument(step, "mode");
  if (step.name == "fixed_zero_mean_unit_variance" ||
      (step.name == "zero_mean_unit_variance" && mode != nullptr && *mode == "fixed"))
    return fixed_step(step, channels);
  if (step.name == "zero_mean_unit_variance")
    return {.kind = Kind::kStandardize,
            .per_channel = is_per_channel(input, step),
            .eps = number_of(step, "eps", 1e-6)};
  if (step.name == "scale_range") {
    PixelStep result{.kind = Kind::kPercentiles,
                     .per_channel = is_per_channel(input, step),
                     .eps = number_of(step, "eps", 1e-6),
                     .low = number_of(step, "min_percentile", 0),
                     .high = number_of(step, "max_percentile", 100)};
    if (!(result.low >= 0 && result.low < result.high && result.high <= 100))
      refuse(step, "preprocessing",
             fmt::format("has the percentiles {} and {}", result.low, result.high));
    return result;
  }
  if (step.name == "scale_linear") return linear_step(step, channels);
  if (step.name == "clip" && argument(step, "min_percentile") == nullptr &&
      argument(step, "max_percentile") == nullptr) {
    constexpr double kMost = std::numeric_limits<float>::max();
    PixelStep result{.kind = Kind::kClip,
                     .low = number_of(step, "min", -kMost),
                     .high = number_of(step, "max", kMost)};
    if (!(result.low < result.high))
      refuse(step, "preprocessing", fmt::format("clips at {} and {}", result.low, result.high));
    return result;
  }
  refuse(step, "preprocessing",
         "is none that images of ours take: those are zero_mean_unit_variance, scale_range, "
         "scale_linear, clip and ensure_dtype to floats");
}

// Whether a step leaves floats as they are.
bool is_float_type(const BioimageStep& step) {
  const json* const type = argument(step, "dtype");
  return step.name == "ensure_dtype" && type != nullptr && type->is_string() &&
         type->get_ref<const std::string&>().starts_with("float");
}

}  // namespace

std::vector<PixelStep> steps_before(const BioimageTensor& input, std::int64_t channels,
                                    std::vector<Guess>& guesses) {
  std::vector<PixelStep> steps;
  for (const BioimageStep& step : input.steps) {
    if (is_float_type(step)) continue;
    steps.push_back(step_before(input, step, channels, guesses));
  }
  return steps;
}

BioimageEnding steps_behind(const BioimageTensor& output, std::optional<Head::Output> own) {
  using Answer = Example::Answer;
  BioimageEnding ending{own, own ? Answer::kProbabilities : Answer::kNetwork};
  for (const BioimageStep& step : output.steps) {
    const auto other = [&](const std::string& why) { refuse(step, "postprocessing", why); };
    if (step.name == "ensure_dtype") continue;  // numbers that are compared and shown stay the same
    if (step.name == "sigmoid" || step.name == "softmax") {
      if (ending.activation) other("follows another activation");
      const json* const axis = argument(step, "axis");
      if (step.name == "softmax" && axis != nullptr && *axis != "channel" && *axis != "c")
        other("is along another axis than the channels");
      ending = {step.name == "sigmoid" ? Head::Output::kSigmoid : Head::Output::kSoftmax,
                Answer::kProbabilities};
    } else if (step.name == "binarize") {
      // A mask of ours is where a probability exceeds 1/2, and that is where a logit exceeds 0.
      const double threshold = number_of(step, "threshold", std::nullopt);
      if (ending.answer == Answer::kMask || threshold != (ending.activation ? 0.5 : 0.0))
        other(fmt::format("has the threshold {}, expected {}", threshold,
                          ending.activation ? "0.5 behind an activation" : "0 without one"));
      if (!ending.activation) ending.activation = Head::Output::kSigmoid;
      ending.answer = Answer::kMask;
    } else if (step.name == "clip" && ending.activation) {
      if (number_of(step, "min", 0) > 0 || number_of(step, "max", 1) < 1)
        other("cuts probabilities off");
    } else if (step.name == "scale_linear") {
      if (numbers_of(step, "gain", 1, 1)[0] != 1 || numbers_of(step, "offset", 1, 0)[0] != 0)
        other("changes the answer, which a model of ours does not");
    } else {
      other(
          "is none that answers of ours take: those are sigmoid, softmax, and binarize where "
          "the mask is cut anyway");
    }
  }
  return ending;
}

}  // namespace tessera
