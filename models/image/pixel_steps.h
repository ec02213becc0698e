// The steps of a Preprocessing (image.h): their JSON, and what they do.
#pragma once

#include <functional>
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

// Whether what a step does to a pixel depends on the other pixels of its image.
bool measures(const PixelStep& step);

using SeeValues = std::function<void(std::span<const float> values)>;

// The step of an image that a step comes to, once what it measures is known: one that measures
// nothing. `show` gives whole pixels of `channels` values, those of the image in their order, some
// at a time, and the same whenever it is called. Statistics are accumulated in double.
PixelStep measured(const PixelStep& step, int64_t channels,
                   const std::function<void(const SeeValues& see)>& show);

// `values` are (.., channels); the step measures nothing.
void apply(const PixelStep& step, int64_t channels, std::span<float> values);

}  // namespace tessera
