// Tensors that a model brings along to be tried with: what an image becomes.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "engine/device/device.h"
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

// Of numbers from those that are expected.
struct Difference {
  double largest = 0, mean = 0;  // infinite where one is not finite
  double scale = 0;              // largest value that is expected

  // Whether `largest` is at most `tolerance` of `scale`.
  bool is_within(double tolerance) const { return largest <= tolerance * scale; }
  // "largest error 2.1e-06, mean 3.1e-08, of values up to 1"
  std::string to_string() const;
};

// `answer` has at least as many numbers as are expected.
Difference difference_of(std::span<const float> answer, std::span<const float> expected);

// Runs the network of images on the example. Throws Error where its shape does not fit the network.
Difference run_example(const ModelConfig& config, Weights& weights, const Example& example,
                       const std::shared_ptr<Device>& device);

}  // namespace tessera
