#include "models/image/pixel_steps.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "engine/files/json_fields.h"
#include "kernels/error.h"

namespace tessera {
namespace {

using StepKind = PixelStep::Kind;

constexpr std::array<std::pair<StepKind, const char*>, 4> kStepNames{
    {{StepKind::kStandardize, "standardize"},
     {StepKind::kPercentiles, "percentiles"},
     {StepKind::kDivide, "divide"},
     {StepKind::kClip, "clip"}}};
constexpr std::size_t kMostSteps = 64;

// numpy's percentile: linear between the two nearest ranks. Reorders `values`.
double percentile(std::vector<float>& values, double percent) {
  const double place = percent / 100 * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(std::floor(place));
  std::nth_element(values.begin(), values.begin() + below, values.end());
  const double low = values[static_cast<std::size_t>(below)];
  if (std::cmp_equal(below + 1, values.size())) return low;
  const double high = *std::min_element(values.begin() + below + 1, values.end());
  return low + (place - static_cast<double>(below)) * (high - low);
}

PixelStep step_from_json(const nlohmann::json& object, int64_t channels, const std::string& where) {
  JsonFields fields(object, where);
  std::string name;
  fields.read("step", name);
  const auto* found = std::find_if(kStepNames.begin(), kStepNames.end(),
                                   [&](const auto& entry) { return name == entry.second; });
  require(found != kStepNames.end(),
          "{}: the step is {}, expected standardize, percentiles, divide or clip", where,
          JsonFields::shown(name));
  PixelStep step{.kind = found->first};
  const auto number = [&](const char* key, double& value) {
    const nlohmann::json* given = fields.take(key);
    if (given == nullptr) return;
    require(given->is_number() && std::isfinite(given->get<float>()),
            "{}: {} is {}, expected a finite number", where, key, JsonFields::shown(*given));
    value = given->get<double>();
  };
  const auto numbers = [&](const char* key, std::vector<float>& values) {
    const nlohmann::json& given = fields.take_required(key);
    const bool fits = given.is_array() &&
                      (given.size() == 1 || std::cmp_equal(given.size(), channels)) &&
                      std::all_of(given.begin(), given.end(), [](const nlohmann::json& one) {
                        return one.is_number() && std::isfinite(one.get<float>());
                      });
    require(fits, "{}: {} is {}, expected a finite number, or one for each of {} channel(s)", where,
            key, JsonFields::shown(given), channels);
    values = given.get<std::vector<float>>();
  };
  if (step.kind == StepKind::kStandardize || step.kind == StepKind::kPercentiles) {
    fields.read("per_channel", step.per_channel);
    number("eps", step.eps);
    require(step.eps >= 0, "{}: eps is {}, expected 0 or more", where, step.eps);
  }
  if (step.kind == StepKind::kPercentiles || step.kind == StepKind::kClip) {
    number("low", step.low);
    number("high", step.high);
    const bool inside = step.kind == StepKind::kClip || (step.low >= 0 && step.high <= 100);
    require(step.low < step.high && inside, "{}: low and high are {} and {}, expected {}", where,
            step.low, step.high,
            step.kind == StepKind::kClip ? "the first one to be smaller"
                                         : "the first one to be smaller, within 0 and 100");
  }
  if (step.kind == StepKind::kDivide) {
    numbers("mean", step.mean);
    numbers("std", step.std);
    require(std::find(step.std.begin(), step.std.end(), 0.0f) == step.std.end(),
            "{}: std has a 0, expected other numbers", where);
  }
  fields.refuse_unknown();
  return step;
}

}  // namespace

std::vector<PixelStep> pixel_steps_from_json(const nlohmann::json& json, int64_t channels) {
  require(json.is_array() && json.size() <= kMostSteps,
          "preprocessing: steps are {} of {}, expected a list of at most {}", json.type_name(),
          json.size(), kMostSteps);
  std::vector<PixelStep> steps;
  for (std::size_t i = 0; i < json.size(); ++i)
    steps.push_back(step_from_json(json[i], channels, fmt::format("preprocessing: steps[{}]", i)));
  return steps;
}

nlohmann::json to_json(const std::vector<PixelStep>& steps) {
  nlohmann::json list = nlohmann::json::array();
  for (const PixelStep& step : steps) {
    const auto* name = std::find_if(kStepNames.begin(), kStepNames.end(),
                                    [&](const auto& entry) { return entry.first == step.kind; });
    nlohmann::json& json = list.emplace_back(nlohmann::json{{"step", name->second}});
    if (step.kind == StepKind::kDivide) {
      json["mean"] = step.mean;
      json["std"] = step.std;
      continue;
    }
    if (step.kind != StepKind::kClip) {
      json["per_channel"] = step.per_channel;
      json["eps"] = step.eps;
    }
    if (step.kind != StepKind::kStandardize) {
      json["low"] = step.low;
      json["high"] = step.high;
    }
  }
  return list;
}

bool measures(const PixelStep& step) {
  return step.kind == StepKind::kStandardize || step.kind == StepKind::kPercentiles;
}

PixelStep measured(const PixelStep& step, int64_t channels,
                   const std::function<void(const SeeValues& see)>& show) {
  if (!measures(step)) return step;
  const auto groups = static_cast<std::size_t>(step.per_channel ? channels : 1);
  PixelStep result{.kind = StepKind::kDivide};
  const auto add = [&](double offset, double divisor) {
    result.mean.push_back(static_cast<float>(offset));
    result.std.push_back(static_cast<float>(divisor));
  };
  if (step.kind == StepKind::kPercentiles) {
    std::vector<std::vector<float>> values(groups);
    show([&](std::span<const float> some) {
      for (std::size_t i = 0; i < some.size(); ++i) values[i % groups].push_back(some[i]);
    });
    for (std::vector<float>& group : values) {
      const double low = percentile(group, step.low), high = percentile(group, step.high);
      add(low, high - low + step.eps);
    }
    return result;
  }
  std::vector<double> sums(groups), squares(groups);
  double count = 0;
  show([&](std::span<const float> some) {
    for (std::size_t i = 0; i < some.size(); ++i) sums[i % groups] += some[i];
    count += static_cast<double>(some.size() / groups);
  });
  show([&](std::span<const float> some) {
    for (std::size_t i = 0; i < some.size(); ++i) {
      const double apart = some[i] - sums[i % groups] / count;
      squares[i % groups] += apart * apart;
    }
  });
  for (std::size_t c = 0; c < groups; ++c)
    add(sums[c] / count, std::sqrt(squares[c] / count) + step.eps);
  return result;
}

void apply(const PixelStep& step, int64_t channels, std::span<float> values) {
  if (step.kind == StepKind::kClip) {
    const auto low = static_cast<float>(step.low), high = static_cast<float>(step.high);
    for (float& value : values) value = std::clamp(value, low, high);
    return;
  }
  const auto of_channel = [](const std::vector<float>& numbers, std::size_t c) {
    return numbers[numbers.size() > 1 ? c : 0];
  };
  const auto each = static_cast<std::size_t>(channels);
  for (std::size_t c = 0; c < each; ++c) {
    const float offset = of_channel(step.mean, c), divisor = of_channel(step.std, c);
    for (std::size_t i = c; i < values.size(); i += each)
      values[i] = (values[i] - offset) / divisor;
  }
}

}  // namespace tessera
