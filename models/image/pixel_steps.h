// The steps of a Preprocessing (image.h): their JSON, and what they do.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <span>
#include <vector>

#include "models/image/image.h"

namespace tessera {

// A list of {"step": "standardize", "per_channel": true, "eps": 1e-6},
// {"step": "percentiles", "per_channel": false, "low": 1, "high": 99.8, "eps": 1e-6},
// {"step": "divide", "mean": [..], "std": [..]} and {"step": "clip", "low": 0, "high": 1}. Throws
// Error on an unknown key or bad value.
std::vector<PixelStep> pixel_steps_from_json(const nlohmann::json& json, int64_t channels);
nlohmann::json to_json(const std::vector<PixelStep>& steps);

// `values` are (height, width, channels). Statistics are accumulated in double.
void apply(const PixelStep& step, int64_t channels, std::span<float> values);

}  // namespace tessera
