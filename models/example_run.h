// Tensors that a model brings along to be tried with: what an image becomes.
#pragma once

#include <memory>
#include <string>

#include "engine/device/device.h"
#include "engine/run/compiled.h"
#include "engine/train/float_tensor.h"
#include "models/model_file.h"

namespace tessera {

struct Example {
  // Which value of the network is expected: its own, behind the activation, or the mask.
  enum class Answer : std::uint8_t { kNetwork, kProbabilities, kMask };

  std::string input, output;  // the files, for messages
  FloatTensor image;          // (n, h, w, c), before preprocessing
  FloatTensor expected;       // (n, h, w, c)
  Answer answer = Answer::kNetwork;
};

struct ExampleResult {
  double largest = 0, mean = 0;  // differences
  double scale = 0;              // largest value that is expected

  // Relative to `scale`; infinite where a value is not finite.
  double relative() const;
  // "largest difference 2.1e-06, mean 3.1e-08, of values up to 1"
  std::string to_string() const;
};

// Of numbers beside those that are expected, as many. Differences that are not finite count as
// infinite.
ExampleResult compare(std::span<const float> answer, std::span<const float> expected);

// Runs the network of images on each image of the example, as a whole. Throws Error where its shape
// does not fit the network.
ExampleResult run_example(const ModelConfig& config, const WeightSource& weights,
                          const Example& example, const std::shared_ptr<const Device>& device);

}  // namespace tessera
